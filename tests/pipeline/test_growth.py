"""Films whose folder comes to hold more frames: added, or refused with what keeps the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from safetensors.torch import save_file
from zarr.storage import LocalStore

from pipeline import opening, plan, prepare
from pipeline.prepare import PrepareError
from pipeline.spec import RenderSpec
from pipeline.store import growth
from pipeline.store.growth import GrowthError
from pipeline.store.store import Store
from pipeline.task import TileRenderer

MakeSpec = Callable[..., RenderSpec]
FIXED = [-1.0, 5.0, -1.0, 9.0]


class KilledError(Exception):
    """In place of a kill."""


class Film:
    """A film of bowls over a folder of frames, and its store."""

    def __init__(self, bowl: MakeSpec, folder: Path, frames: int, **changes: Any) -> None:
        self.bowl, self.folder = bowl, folder
        self.plane = {
            "kind": "curve",
            "weights": [str(folder / f"{name}.safetensors") for name in ("start", "end")],
            "frames": str(folder / "frames"),
            "extent": changes.pop("extent", FIXED),
        }
        self.changes = changes
        (folder / "frames").mkdir()
        _save(folder / "start.safetensors", 0, 0)
        _save(folder / "end.safetensors", 4, 0)
        self.add(*range(frames))

    def add(self, *numbers: int) -> None:
        for k in numbers:
            _save(self.folder / f"frames/frame-{k:04d}.safetensors", 2, 1 + k, (k > 1) * 0.5)

    def prepared(self, **changes: Any) -> prepare.Prepared:
        return prepare.prepare(self.bowl(plane=self.plane, **(self.changes | changes)))

    def matched(self, held: Any = None, **changes: Any) -> Store:
        return _matched(self.prepared(**changes), held)

    def render(self, **changes: Any) -> Store:
        """Everything that is pending; the store."""
        store = self.matched(**changes)
        renderer = TileRenderer(self.prepared(**changes).inputs, store.url)
        for tile in store.pending():
            renderer(tile)
        return store


def _matched(prepared: prepare.Prepared, held: Any = None) -> Store:
    given = () if held is None else (held,)
    return opening.create(prepared, plan.resolve_grid(prepared, 1e-3, 2), *given)[0]


def _save(path: Path, *theta: float) -> None:
    save_file({"theta": torch.tensor([*theta, 0, 0, 0, 0, 0][:6], dtype=torch.float32)}, path)


def _same(store: Store, other: Store) -> None:
    """Both hold the same render, to the bit."""
    with xarray.open_zarr(store.url) as one, xarray.open_zarr(other.url) as two:
        for each in (one, two):
            del each["seconds"]
        xarray.testing.assert_identical(one.drop_attrs(), two.drop_attrs())
    for key in ("parts", "fingerprint", "plane", "grid", "anchors"):
        assert store.attrs[key] == other.attrs[key], key
    assert store.pending() == other.pending() == []


@pytest.mark.parametrize("extent", [FIXED, pytest.param("frame", marks=pytest.mark.slow)])
def test_a_grown_film_is_the_film_that_had_all_frames_at_once(
    bowl: MakeSpec, tmp_path: Path, extent: Any
) -> None:
    film = Film(bowl, tmp_path, 3, extent=extent)
    before = film.render()
    known = before.read("loss", "train", 1)
    for frames in (4, 6):  # within a chunk of the labels, and beyond
        film.add(*range(frames))
        held: list[str] = []

        @contextmanager
        def hold(store: Store, held: list[str] = held) -> Iterator[None]:
            held.append(store.url)
            store.write_note("lease.json", {})
            yield

        grown = film.matched(hold)
        assert held == [grown.url]
        assert grown.frames == frames
        first = min(tile.frame for tile in grown.pending())
        assert first == {4: 3, 6: 4}[frames], "what was rendered is kept"
        film.render()
        assert film.matched(hold).pending() == []
        assert held == [grown.url], "nothing is left to add"
    # Whoever had the store open before sees the film that it was.
    assert {tile.frame for tile in before.committed()} == {0, 1, 2}
    np.testing.assert_array_equal(before.read("loss", "train", 1), known)
    whole = film.render(store=str(tmp_path / "whole.zarr"))
    grown = Store.open(before.url)
    _same(grown, whole)
    film.add(6)
    assert prepare.prepare_resume(grown).fingerprint == whole.attrs["fingerprint"]


@pytest.mark.slow
def test_a_kill_at_any_write_leaves_a_store_that_opens_and_grows(
    bowl: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = Film(bowl, tmp_path, 2)
    film.render()
    film.add(2, 3, 4)
    prepared, write = film.prepared(), LocalStore.set
    left = 0

    async def killed(self: LocalStore, key: str, *rest: Any, **named: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError
        await write(self, key, *rest, **named)

    for survived in range(99):
        left = survived
        monkeypatch.setattr(LocalStore, "set", killed)
        try:
            _matched(prepared)
        except KilledError:
            pass
        else:
            break
        finally:
            monkeypatch.setattr(LocalStore, "set", write)
        store = Store.open(str(tmp_path / "bowl/bowl.zarr"))
        assert (store.frames, store.pending()) == (2, [])
        assert np.isfinite(store.read("loss", "train", 1)).all()
        assert len(store.attrs["plane"]["frames"]) == 2
        with xarray.open_zarr(store.url) as found:
            assert found.sizes["frame"] in (2, 5)
    assert survived > 10
    _same(film.render(), film.render(store=str(tmp_path / "whole.zarr")))


@pytest.mark.slow
def test_a_film_behind_a_url_grows_too(bowl: MakeSpec, tmp_path: Path) -> None:
    film = Film(bowl, tmp_path, 2, store="memory://films/bowl.zarr")
    film.render()
    film.add(2)
    assert film.render().frames == 3
    _same(Store.open("memory://films/bowl.zarr"), film.render(store=str(tmp_path / "b.zarr")))


def test_tiles_beyond_the_frames_are_of_nothing_that_is_known(
    bowl: MakeSpec, tmp_path: Path
) -> None:
    film = Film(bowl, tmp_path, 2)
    film.render()
    left = tmp_path / "bowl/bowl.zarr/done/c/2/0"
    left.mkdir(parents=True)
    (left / "1").write_bytes((left.parents[1] / "0/0/1").read_bytes())
    film.add(2)
    grown = film.matched()
    assert {tile.frame for tile in grown.pending()} == {2}
    assert len(grown.pending()) == grown.grid.tile_rows * grown.grid.tile_columns


def test_what_would_change_what_is_rendered_is_refused(bowl: MakeSpec, tmp_path: Path) -> None:
    film = Film(bowl, tmp_path, 2, extent="common")
    store = film.render()
    film.add(2)
    with pytest.raises(GrowthError) as caught:
        film.matched()
    assert str(caught.value) == (
        f"{store.url} has 2 of the 3 frames that plane.frames has now: the extent that they "
        "have in common would move from [-0.8, 4.8, -0.4, 2.4] to [-0.8, 4.8, -0.6083, 3.65], and "
        f"every point with it. lossatlas resume {store.url} finishes those that it has; for all 3 "
        "change store in the spec; with plane.extent: [x0, x1, y0, y1] frames can be added to "
        "that one"
    )
    # That is true: a resumed film is of the frames that it has.
    store.withdraw(next(store.grid.tiles()))
    again = prepare.prepare_resume(store)
    assert again.fingerprint == store.attrs["fingerprint"]
    TileRenderer(again.inputs, store.url)(next(store.grid.tiles()))
    assert store.pending() == []
    # Another spec is another render, however many frames it has.
    with pytest.raises(PrepareError, match="belongs to another render.* grid.width: 7"):
        film.matched(grid={"width": 8, "height": 5, "tile": 3})


def test_a_common_extent_that_stays_is_no_obstacle(bowl: MakeSpec, tmp_path: Path) -> None:
    film = Film(bowl, tmp_path, 4, extent="common")
    film.render()
    _save(tmp_path / "frames/frame-0004.safetensors", 2, 2)
    assert film.render().frames == 5


def test_frames_of_a_refined_render_and_of_one_extent_are_refused(
    bowl: MakeSpec, tmp_path: Path
) -> None:
    refined = {"evaluate": {"loss": "mse", "refine": {}}, "store": str(tmp_path / "refined.zarr")}
    film = Film(bowl, tmp_path, 1)
    film.matched(**refined)
    film.plane["extent"] = "frame"
    film.matched(store=str(tmp_path / "own.zarr"))
    film.add(1)
    with pytest.raises(GrowthError, match=r"own.zarr has 1 of the 2 frames .* x and y are"):
        film.matched(store=str(tmp_path / "own.zarr"))
    film.plane["extent"] = FIXED
    with pytest.raises(GrowthError, match=r"audited in a refined render .* none can be added"):
        film.matched(**refined)


@pytest.mark.slow
def test_a_list_of_frames_grows_by_its_last_ones(bowl: MakeSpec, tmp_path: Path) -> None:
    film = Film(bowl, tmp_path, 3)
    paths = [str(path) for path in sorted((tmp_path / "frames").iterdir())]
    film.plane["frames"] = paths[:2]
    film.render()
    film.plane["frames"] = paths
    grown = film.render()
    assert grown.frames == 3
    assert prepare.prepare_resume(grown).fingerprint == grown.attrs["fingerprint"]


def test_a_frame_in_between_is_another_render(bowl: MakeSpec, tmp_path: Path) -> None:
    film = Film(bowl, tmp_path, 0)
    film.add(0, 2)
    film.render()
    film.add(1)
    with pytest.raises(PrepareError, match=r"belongs to another render: plane.weights\[1\]"):
        film.matched()
    film.add(3)
    store = Store.open(str(tmp_path / "bowl/bowl.zarr"))
    assert not growth.has_fewer_frames(store, store.attrs["parts"], film.prepared().parts)
