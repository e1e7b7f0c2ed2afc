"""From a spec to a finished store, without Ray."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from pipeline import opening, plan, prepare, spec
from pipeline.errors import LossatlasError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.examples import EvaluateError
from pipeline.geometry.grid import Grid
from pipeline.geometry.plane_checkpoints import PlanesError
from pipeline.plan import PlanError
from pipeline.prepare import PrepareError
from pipeline.problem import network
from pipeline.spec import RenderSpec
from pipeline.store.store import Store
from pipeline.task import TileRenderer

MakeSpec = Callable[..., RenderSpec]


def _render(read: RenderSpec) -> Store:
    prepared = prepare.prepare(read)
    store, _ = opening.create(prepared, plan.resolve_grid(prepared, 1e-3, 2))
    renderer = TileRenderer(prepared.inputs, store.url)
    for tile in store.pending():
        renderer(tile)
    return store


def test_a_quadratic_bowl_goes_through_the_whole_pipeline(bowl: MakeSpec) -> None:
    store = _render(bowl())
    weights = prepare.prepare(bowl()).first_plane()
    x, y = store.grid.axes(store.extent())
    expected = [[np.mean(weights.weights(a, b) ** 2) for a in x] for b in y]
    np.testing.assert_allclose(store.read("loss", "train"), expected, rtol=1e-6)
    assert store.quantities == ("loss", "loss_stderr")
    assert not store.read("loss_stderr", "train").any()


def test_tile_size_does_not_change_one_bit(bowl: MakeSpec, tmp_path: Path) -> None:
    stores = [
        _render(bowl(grid={"width": 7, "height": 5, "tile": tile}, store=str(tmp_path / f"{tile}")))
        for tile in (1, 3, 50)
    ]
    for store in stores[1:]:
        np.testing.assert_array_equal(store.read("loss", "train"), stores[0].read("loss", "train"))


def test_a_driver_and_a_worker_build_the_network_once_each(
    bowl: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, built = network.build, []

    def counted(*given: Any, **how: Any) -> Any:
        # The crosscheck builds fresh networks, and leaves them in training mode to load them.
        if how.get("in_eval", True):
            built.append(given)
        return build(*given, **how)

    monkeypatch.setattr(network, "build", counted)
    prepared = prepare.prepare(bowl())
    grid = plan.resolve_grid(prepared, plan.measure(prepared), 2)
    store, _ = opening.create(prepared, grid)
    assert len(built) == 1
    renderer = TileRenderer(prepared.inputs, store.url)
    for tile in store.pending():
        renderer(tile)
    assert len(built) == 2


def test_the_same_spec_matches_its_store_and_resumes(bowl: MakeSpec) -> None:
    store = _render(bowl())
    again = prepare.prepare(bowl())
    matched = opening.match(again)
    assert matched.pending() == []
    resumed = prepare.prepare_resume(store)
    assert resumed.fingerprint == store.attrs["fingerprint"]
    assert resumed.spec.store == store.url


def test_a_tile_larger_than_the_grid_is_the_grid(bowl: MakeSpec) -> None:
    read = bowl(grid={"width": 7, "height": 5, "tile": 64})
    assert _render(read).grid.tile == 7
    matched = opening.match(prepare.prepare(read))
    assert matched.grid.tile_count == 1


def test_moving_the_files_does_not_change_the_fingerprint(bowl: MakeSpec, tmp_path: Path) -> None:
    here = prepare.prepare(bowl())
    (tmp_path / "bowl").rename(tmp_path / "moved")
    assert prepare.prepare(spec.read(tmp_path / "moved/bowl.yaml")).fingerprint == here.fingerprint


def test_another_spec_is_refused_with_the_differences(bowl: MakeSpec) -> None:
    _render(bowl())
    other = bowl(
        grid={"width": 8, "height": 5, "tile": 3},
        data={"source": "data.npz", "splits": {"train": 5}},
    )
    with pytest.raises(PrepareError) as error:
        opening.match(prepare.prepare(other))
    assert "grid.width: 7 in the store, 8 here" in str(error.value)
    assert "data.train: " in str(error.value)
    other = bowl(grid={"width": 7, "height": 5, "tile": 2})
    with pytest.raises(PrepareError, match=r"grid.tile: 3 in the store, 2 here"):
        opening.match(prepare.prepare(other))


def test_changed_checkpoints_cannot_be_resumed_but_own_code_is_kept(bowl: MakeSpec) -> None:
    read = bowl()
    store = _render(read)
    folder = Path(read.plane.weights[0]).parent
    (folder / "bowl.py").unlink()
    assert prepare.prepare_resume(store).fingerprint == store.attrs["fingerprint"]
    changed = torch.arange(6.0)
    save_file({"theta": changed}, folder / "b.safetensors")
    with pytest.raises(PrepareError, match=r"inputs have changed: .*plane.weights\[1\]: "):
        prepare.prepare_resume(store)


@pytest.mark.parametrize(
    ("plane", "expected"),
    [
        ({"kind": "points", "weights": ["a.safetensors"] * 3}, "identical"),
        (
            {"kind": "points", "weights": ["a.safetensors", "b.safetensors", "a.safetensors"]},
            "lie on a line",
        ),
        ({"kind": "random", "weights": ["none.safetensors"]}, "none.safetensors"),
        ({"kind": "curve", "weights": ["a.safetensors"]}, "is no curve checkpoint"),
    ],
)
def test_planes_that_cannot_be(bowl: MakeSpec, plane: dict[str, object], expected: str) -> None:
    read = bowl(plane=plane)
    with pytest.raises(LossatlasError, match=expected):
        prepare.prepare(read)
    assert not Path(read.store).exists()


def test_a_line_is_a_grid_of_height_one(bowl: MakeSpec) -> None:
    read = bowl(
        plane={"kind": "interpolation", "weights": ["a.safetensors", "b.safetensors"]},
        grid={"width": 9, "height": 1},
    )
    store = _render(read)
    line = prepare.prepare(read).first_plane()
    x, _ = store.grid.axes(store.extent())
    expected = [np.mean(line.weights(a, 0) ** 2) for a in x]
    np.testing.assert_allclose(store.read("loss", "train")[0], expected, rtol=1e-6)
    assert [anchor.name for anchor in store.anchors()] == ["start", "end"]


def test_the_plan_counts_what_the_render_will_write(bowl: MakeSpec) -> None:
    prepared = prepare.prepare(bowl())
    seconds = plan.measure(prepared)
    assert 0 < seconds < 1
    grid = plan.resolve_grid(prepared, seconds, 2)
    made = plan.plan(prepared, grid, seconds, 2, "cpu")
    assert (made.points, made.tiles, made.tile) == (35, 6, 3)
    # 2 quantities and 3 facts of each tile are a file each, and a file takes a block at least.
    assert made.disk_bytes == 6 * 5 * 4096
    assert made.seconds == pytest.approx(35 * seconds / 2)


def test_auto_tiles_cost_about_ten_seconds_but_keep_all_workers_busy(bowl: MakeSpec) -> None:
    prepared = prepare.prepare(bowl(grid={"width": 1000, "height": 1000}))
    assert plan.resolve_grid(prepared, 0.1, 2).tile == 10
    assert plan.resolve_grid(prepared, 100, 2).tile == 1
    assert plan.resolve_grid(prepared, 1e-6, 2).tile == 250
    large = prepare.prepare(bowl(grid={"width": 10_000, "height": 10_000}))
    assert plan.resolve_grid(large, 1.0, 2).tile_count == 1_000_000
    small = prepare.prepare(bowl(grid={"width": 8, "height": 8}))
    assert plan.resolve_grid(small, 1e-3, 2).tile == 2


def test_tiles_of_a_refined_render_are_larger_and_take_more_room(bowl: MakeSpec) -> None:
    grid = {"width": 1000, "height": 1000}
    full = prepare.prepare(bowl(grid=grid))
    refined = prepare.prepare(bowl(grid=grid, evaluate={"loss": "mse", "refine": {}}))
    # 4,096 points on the first two lattices at 0.1 s each: ten seconds are one tile of 41.
    assert plan.resolve_grid(refined, 0.1, 2).tile == pytest.approx(1000 / 41**0.5, abs=1)
    assert plan.resolve_grid(refined, 1e-6, 2).tile == 250, "all workers have something to do"
    own = plan.resolve_grid(full, 0.1, 2)
    costs = [plan.plan(each, own, 0.1, 2, "cpu").disk_bytes for each in (full, refined)]
    assert costs[1] > 2 * costs[0]


def test_an_absurd_grid_is_refused_with_its_cost(bowl: MakeSpec) -> None:
    prepared = prepare.prepare(bowl(grid={"width": 10**6, "height": 10**6}))
    grid = plan.resolve_grid(prepared, 0.5, 2)
    with pytest.raises(PlanError, match=r"8.1 TB of disk .* memory and 7,922 years on 2 workers"):
        plan.plan(prepared, grid, 0.5, 2, "cpu")


def test_inputs_survive_pickling(bowl: MakeSpec) -> None:
    import pickle

    prepared = prepare.prepare(bowl())
    sent = pickle.loads(pickle.dumps(prepared.inputs))
    np.testing.assert_array_equal(sent.planes.plane.u, prepared.first_plane().u)
    assert copy.copy(sent).problem.network_code == prepared.inputs.problem.network_code


CNN = {"width": 4, "batch_norm": True, "classes": 3}


def _of_cnn(folder: Path, plane: dict[str, Any]) -> dict[str, Any]:
    """What a spec for a small network with batch norms says, but for grid and store."""
    images = np.random.default_rng(0).standard_normal((45, 3, 8, 8)).astype("f4")
    np.savez(folder / "data.npz", x=images, y=np.arange(45) % 3)
    return {
        "name": "cnn",
        "network": {"factory": "cnn", "kwargs": CNN},
        "plane": plane,
        "data": {"source": str(folder / "data.npz"), "splits": {"train": 30}},
    }


def test_neither_tiles_nor_workers_change_one_bit_of_a_network_with_batch_norm(
    tmp_path: Path,
) -> None:
    weights = tmp_path / "cnn.safetensors"
    save_file(network.build("cnn", CNN).state_dict(), weights)
    content = _of_cnn(tmp_path, {"kind": "random", "weights": [str(weights)]})
    stores = []
    for edge, workers in ((1, 3), (2, 2), (5, 1)):
        grid = {"width": 5, "height": 4, "tile": edge}
        read = spec.parse(content | {"grid": grid, "store": str(tmp_path / f"{edge}.zarr")})
        prepared = prepare.prepare(read)
        store, _ = opening.create(prepared, Grid(**grid))
        team = [TileRenderer(prepared.inputs, store.url, worker=n) for n in range(workers)]
        for turn, tile in enumerate(reversed(store.pending())):
            team[turn % workers](tile)
        stores.append(store)
    for store in stores[1:]:
        for quantity in store.quantities:
            np.testing.assert_array_equal(
                store.read(quantity, "train"), stores[0].read(quantity, "train")
            )


def test_statistics_that_a_curve_lacks_cannot_be_frozen(tmp_path: Path) -> None:
    parameters = dict(network.build("cnn", CNN).named_parameters())
    curve = {f"{n}_{k}": torch.randn(p.shape) for n, p in parameters.items() for k in range(3)}
    save_file(curve, tmp_path / "curve.safetensors")
    paths = [str(tmp_path / "curve.safetensors")]
    grid = {"grid": {"width": 3, "height": 3}, "store": str(tmp_path / "cnn.zarr")}
    content = _of_cnn(tmp_path, {"kind": "curve", "weights": paths}) | grid
    film = {"kind": "curve", "frames": paths}
    for changes in ({}, {"plane": film}):
        prepare.prepare(spec.parse(content | changes))
        with pytest.raises(PlanesError, match=r"curve.safetensors.* holds no statistics .*frozen"):
            prepare.prepare(spec.parse(content | changes | {"evaluate": {"batch_norm": "frozen"}}))


def test_what_a_store_would_give_back_as_text_is_refused(bowl: MakeSpec) -> None:
    kwargs = {"day": datetime.date(2026, 11, 25)}
    content = bowl().model_dump() | {"network": {"factory": "bowl.py:Bowl", "kwargs": kwargs}}
    with pytest.raises(ValidationError, match="day is a date; wanted text.*Put it in quotes"):
        RenderSpec.model_validate(content)


def test_what_user_code_cannot_open_says_nothing_of_the_store(
    bowl: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare.prepare(bowl())
    store, _ = opening.create(prepared, Grid(7, 5, 3))
    renderer = TileRenderer(prepared.inputs, store.url)

    def fails(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "lexicon.json")

    monkeypatch.setattr(Evaluator, "evaluate", fails)
    with pytest.raises(EvaluateError, match=r"FileNotFoundError: .*lexicon\.json"):
        renderer(store.pending()[0])


def test_a_store_says_what_its_network_loss_and_selection_are(bowl: MakeSpec) -> None:
    store = _render(bowl())
    assert store.attrs["network"]["label"] == "Bowl (bowl.py)"
    assert store.attrs["data"]["train"]["select"] == "seeded"  # of targets that are no classes
    assert store.attrs["unit"] == ""
    assert "units" not in store.group["loss"].attrs
    assert "units" not in store.group["loss_stderr"].attrs
    assert [a.shown for a in store.anchors()] == ["w₀", "w₁", "w₂"]


def test_targets_with_a_sequence_axis_are_measured_by_token(bowl: MakeSpec) -> None:
    folder = Path(bowl().plane.weights[0]).parent
    (folder / "tokens.py").write_text(
        "import torch\n\nclass Tokens(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.theta = torch.nn.Parameter(torch.zeros(6))\n\n"
        "    def forward(self, x):\n        return self.theta.expand(len(x), 5, -1)\n"
    )
    read = bowl(network={"factory": "tokens.py:Tokens"}, evaluate={})
    np.savez(folder / "data.npz", x=np.zeros((8, 1), "f4"), y=np.zeros((8, 5), "i8"))
    facts = prepare.prepare(read).facts
    assert facts["unit"] == "nats per token"
    assert facts["data"]["train"]["select"] == "seeded"


def test_words_are_no_part_of_a_render_and_may_change(bowl: MakeSpec) -> None:
    store = _render(bowl())
    weights = [f"{name}.safetensors" for name in "abc"]
    renamed = bowl(
        network={"factory": "bowl.py:Bowl", "label": "A bowl"},
        plane={"kind": "points", "weights": weights, "labels": ["bend", "SGD", "Adam"]},
    )
    again = prepare.prepare(renamed)
    assert again.fingerprint == store.attrs["fingerprint"]
    opening.match(again)
    opened = Store.open(store.url)
    assert opened.words == {"network": "A bowl", "labels": ["bend", "SGD", "Adam"], "unit": ""}
    assert [a.name for a in opened.anchors()] == ["w₀", "w₁", "w₂"]
    assert [a.shown for a in opened.anchors()] == ["bend", "SGD", "Adam"]
    # And back again.
    opening.match(prepare.prepare(bowl()))
    assert [a.shown for a in Store.open(store.url).anchors()] == ["w₀", "w₁", "w₂"]


def test_a_store_made_before_there_were_words_opens_and_resumes(bowl: MakeSpec) -> None:
    store = _render(bowl())
    attrs = store.group.attrs
    for key in ("unit", "labels"):
        attrs.pop(key, None)
    old = dict(attrs["network"])
    del old["label"]
    attrs["network"] = old
    plain = dict(attrs["spec"])
    plain["network"] = {"factory": plain["network"]["factory"], "kwargs": {}}
    attrs["spec"] = plain
    opened = Store.open(store.url)
    assert opened.words == {"network": "Bowl (bowl.py)", "labels": [], "unit": ""}
    assert prepare.prepare_resume(opened).fingerprint == store.attrs["fingerprint"]
