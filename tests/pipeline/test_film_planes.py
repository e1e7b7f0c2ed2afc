"""Films: planes that turn with the bend and never jump."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline import opening, plan, prepare
from pipeline.checkpoints.files import CheckpointFilesError
from pipeline.errors import InputsChangedError, LossatlasError
from pipeline.geometry import film_planes
from pipeline.geometry.film_planes import Film, FilmPlanesError, Survey
from pipeline.problem import network
from pipeline.problem.layout import Layout
from pipeline.spec import RenderSpec
from pipeline.task import TileRenderer

MakeSpec = Callable[..., RenderSpec]


class Theta(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(size))


THETA = Layout.of(Theta(6))


START, END = np.zeros(6), np.array([4.0, 0, 0, 0, 0, 0])
# On the line first; then the bend rises, swings through −v, and lies on the line once more.
BENDS = [
    [2, 0, 0, 0, 0, 0],
    [2, 1, 0, 0, 0, 0],
    [2, 2, 1, 0, 0, 0],
    [2, -1, -0.5, 0, 0, 0],
    [1, 0, 0, 0, 0, 0],
    [2, -2, 0, 0, 0, 0],
]


def _write(folder: Path, bends: list[list[float]] = BENDS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, bend in enumerate(bends):
        tensor = torch.tensor(bend, dtype=torch.float32)
        save_file({"theta": tensor}, folder / f"frame-{index}.safetensors")
    return folder


def _survey(folder: Path, extent: object = "common", margin: float | None = 0.0) -> Survey:
    return film_planes.survey(
        film_planes.listing(str(folder)),
        (START, END),
        THETA,
        "bezier",
        extent,
        margin,
    )


def test_bases_never_jump_and_u_stays(tmp_path: Path) -> None:
    film = _survey(_write(tmp_path / "f")).film
    planes = [film.of_frame(frame, THETA) for frame in range(len(BENDS))]
    for before, after in itertools.pairwise(planes):
        np.testing.assert_array_equal(before.u, after.u)
        assert before.v @ after.v >= 0


def test_bends_keep_their_side_and_one_on_the_line_takes_the_limit(tmp_path: Path) -> None:
    found = _survey(_write(tmp_path / "f"))
    heights = [frame.anchors[1].y for frame in found.frames]
    assert heights[0] == pytest.approx(0)
    assert heights[1] == pytest.approx(1)
    assert heights[2] == pytest.approx(np.sqrt(5))
    assert heights[3] == pytest.approx(-np.sqrt(1.25))
    assert heights[4] == pytest.approx(0)
    assert [basis.frame for basis in found.film.bases] == [1, 1, 2, 3, 3, 5]
    assert found.frames[0].anchors[1].off_plane == pytest.approx(0)
    for frame in found.frames:
        curve = frame.curve
        assert curve is not None
        np.testing.assert_allclose(curve[0, :2], [0, 0], atol=1e-9)
        np.testing.assert_allclose(curve[-1, :2], [4, 0], atol=1e-9)


def test_a_common_extent_holds_every_frame(tmp_path: Path) -> None:
    found = _survey(_write(tmp_path / "f"))
    assert len({frame.extent for frame in found.frames}) == 1
    extent = found.frames[0].extent
    assert (extent.x0, extent.x1) == pytest.approx((0, 4))
    heights = [frame.anchors[1].y for frame in found.frames]
    assert (extent.y0, extent.y1) == pytest.approx((min(heights), max(heights)))


def test_an_extent_of_its_own_for_each_frame(tmp_path: Path) -> None:
    found = _survey(_write(tmp_path / "f"), extent="frame", margin=0.5)
    assert found.frames[1].extent.y1 == pytest.approx(1.5)
    assert found.frames[0].extent == found.frames[1].extent
    assert found.frames[2].extent.y1 == pytest.approx(1.5 * np.sqrt(5))


def test_frames_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    folder = _write(tmp_path / "f", [[2.0, k, 0, 0, 0, 0] for k in range(12)])
    assert [Path(p).stem for p in film_planes.listing(str(folder))] == [
        f"frame-{k}" for k in range(12)
    ]


def test_a_pattern_takes_some_of_a_folder(tmp_path: Path) -> None:
    folder = _write(tmp_path / "f", [[2.0, k, 0, 0, 0, 0] for k in range(3)])
    (folder / "mode-2.safetensors").write_bytes((folder / "frame-2.safetensors").read_bytes())
    with pytest.raises(FilmPlanesError, match=r"have the same number; .*/f/frame-\*$"):
        film_planes.listing(str(folder))
    found = film_planes.listing(str(folder / "frame-*"))
    assert [Path(p).stem for p in found] == ["frame-0", "frame-1", "frame-2"]
    with pytest.raises(CheckpointFilesError, match="no checkpoint in"):
        film_planes.listing(str(folder / "none-*"))


def test_a_place_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(CheckpointFilesError, match=r"foo://x/\* cannot be read .*Check the path"):
        film_planes.listing("foo://x/*")
    with pytest.raises(CheckpointFilesError, match="is no folder"):
        film_planes.listing(str(tmp_path / "gone"))


def test_nothing_holds_the_weights_of_all_frames(tmp_path: Path) -> None:
    """What the driver keeps and every worker gets grows by names and geometry alone."""
    values = 4000
    start, end = np.zeros(values), np.eye(1, values)[0]

    def kept(count: int) -> int:
        bends = [[0.5, k + 1.0, *[0.0] * (values - 2)] for k in range(count)]
        paths = film_planes.listing(str(_write(tmp_path / str(count), bends)))
        layout = Layout.of(Theta(values))
        found = film_planes.survey(paths, (start, end), layout, "bezier", "common", None)
        return len(pickle.dumps(found))

    a_frame = (kept(22) - kept(2)) / 20
    assert a_frame < values  # bytes; its weights are four times as many in float32


def test_what_makes_no_film_is_refused(tmp_path: Path) -> None:
    folder = _write(tmp_path / "f")
    paths = film_planes.listing(str(folder))
    with pytest.raises(
        FilmPlanesError, match="frame-0.safetensors comes after frame-1.safetensors"
    ):
        film_planes.listing((paths[1], paths[0]))
    with pytest.raises(CheckpointFilesError, match="is no folder"):
        film_planes.listing(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointFilesError, match="no checkpoint in"):
        film_planes.listing(str(tmp_path / "empty"))
    with pytest.raises(FilmPlanesError, match="every frame lies on the line"):
        _survey(_write(tmp_path / "flat", [BENDS[0], BENDS[4]]))
    with pytest.raises(LossatlasError, match="identical"):
        film_planes.survey(paths, (START, START), THETA, "bezier", "common", None)
    with pytest.raises(LossatlasError, match="not the same network"):
        film_planes.survey(paths, (START, END), Layout.of(Theta(7)), "bezier", "common", None)
    several = {f"net.theta_{k}": torch.ones(6) for k in (1, 2)}
    save_file(several, tmp_path / "bends.safetensors")
    paths_of_several = (str(tmp_path / "bends.safetensors"),)
    with pytest.raises(
        FilmPlanesError, match="bends.safetensors is of a curve with 2 bends, which"
    ):
        film_planes.survey(paths_of_several, (START, END), THETA, "bezier", "common", None)
    with pytest.raises(FilmPlanesError, match="one set of weights"):
        film_planes.survey(paths, None, THETA, "bezier", "common", None)


@pytest.mark.parametrize("extent", ["common", "frame"])
def test_a_film_of_bowls_renders_every_frame(bowl: MakeSpec, tmp_path: Path, extent: str) -> None:
    read = _film_spec(bowl, tmp_path, BENDS, extent=extent)
    prepared = prepare.prepare(read)
    store, _ = opening.create(prepared, plan.resolve_grid(prepared, 1e-3, 2))
    renderer = TileRenderer(prepared.inputs, store.url)
    for tile in store.pending():
        renderer(tile)
    assert store.frames == len(BENDS)
    assert isinstance(prepared.inputs.planes, Film)
    for frame in range(store.frames):
        spanned = prepared.inputs.planes.of_frame(frame, prepared.evaluator.layout)
        x, y = store.grid.axes(store.extent(frame))
        expected = [[np.mean(spanned.weights(a, b) ** 2) for a in x] for b in y]
        found = store.read("loss", "train", frame)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
    assert prepare.prepare_resume(store).fingerprint == prepared.fingerprint


def _film_spec(bowl: MakeSpec, tmp_path: Path, bends: list[list[float]], **plane: object) -> Any:
    """The spec of a film of bowls over the folder `frames`."""
    _write(tmp_path / "frames", bends)
    for name, weights in (("s", START), ("e", END)):
        tensor = torch.tensor(weights, dtype=torch.float32)
        save_file({"theta": tensor}, tmp_path / f"{name}.safetensors")
    ends = [str(tmp_path / f"{name}.safetensors") for name in "se"]
    folder = {"kind": "curve", "weights": ends, "frames": str(tmp_path / "frames")}
    return bowl(plane=folder | plane)


@pytest.mark.parametrize(
    ("tensor", "found"),
    [([2.0, 9, 0, 0, 0, 0], "its weights differ"), ([1.0, 2.0], "not the same network")],
)
def test_a_frame_that_was_replaced_meanwhile_is_not_committed(
    bowl: MakeSpec, tmp_path: Path, tensor: list[float], found: str
) -> None:
    prepared = prepare.prepare(_film_spec(bowl, tmp_path, BENDS))
    store, _ = opening.create(prepared, plan.resolve_grid(prepared, 1e-3, 2))
    save_file({"theta": torch.tensor(tensor)}, tmp_path / "frames/frame-2.safetensors")
    renderer = TileRenderer(prepared.inputs, store.url)
    told = rf"^frame 2 \(.*/frame-2.safetensors\) was replaced .*{found}.* render to a new store$"
    for tile in store.pending():
        if tile.frame == 2:
            with pytest.raises(InputsChangedError, match=told):
                renderer(tile)
        else:
            renderer(tile)
    assert {tile.frame for tile in store.pending()} == {2}


@pytest.mark.parametrize("unknown", [None, {}, {"facts": "[]"}, {"facts": '{"epoch": "x"}'}])
def test_frames_of_connect_know_their_epochs(
    bowl: MakeSpec, tmp_path: Path, unknown: dict[str, str] | None
) -> None:
    read = _film_spec(bowl, tmp_path, BENDS[:3])
    for index, bend in enumerate(BENDS[:3]):
        facts = {"facts": json.dumps({"frame": index, "epoch": 2.5 * index})}
        path = tmp_path / f"frames/frame-{index}.safetensors"
        save_file({"theta": torch.tensor(bend, dtype=torch.float32)}, path, facts)
    assert prepare.prepare(read).facts["plane"]["epochs"] == [0, 2.5, 5]
    save_file({"theta": torch.ones(6)}, tmp_path / "frames/frame-1.safetensors", unknown)
    known = prepare.prepare(read)
    assert "epochs" not in known.facts["plane"]


def test_the_real_film(shared_data: Path) -> None:
    folder = shared_data / "checkpoints/preresnet20"
    paths = film_planes.listing(tuple(str(folder / f"bezier-{e}.pt") for e in (0, 1, 2, 14)))
    layout = Layout.of(network.build("preresnet20", {"classes": 10}))
    found = film_planes.survey(paths, None, layout, "bezier", "common", 0.2)
    heights = [frame.anchors[1].y for frame in found.frames]
    assert heights[0] == pytest.approx(0, abs=1e-4)
    assert (np.diff(heights) > 0).all()
    assert found.dx == pytest.approx(47.3387, abs=1e-3)
    assert heights[-1] == pytest.approx(7.2765, abs=1e-3)
