from __future__ import annotations

import contextlib
import itertools
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray

from pipeline.geometry.grid import Extent, Grid, Tile
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.errors import StoreError, TakenError
from pipeline.store.store import Store
from pipeline.verify import verify, withdraw
from tests.deaths import Killed, dying

GRID = Grid(width=10, height=7, tile=4, frames=2)
FRAME = FrameFacts(
    Extent(-1.0, 1.0, 0.0, 3.0), (Anchor("start", 0.0, 0.0, 0.5),), np.array([[0.0, 1.0, 2.0]] * 3)
)


def _create(path: Path) -> Store:
    return Store.create(
        str(path), GRID, ["train", "test"], ["loss", "error"], [FRAME, FRAME], {"spec": {"a": 1}}
    )


def _values(tile: Tile, fill: float | None = None) -> dict[str, np.ndarray]:
    shape = (2, *GRID.shape(tile))
    generator = np.random.default_rng(hash(tile) % 2**32)
    return {
        q: generator.random(shape, "f4") if fill is None else np.full(shape, fill, "f4")
        for q in ("loss", "error")
    }


def _chunk(store: Store, tile: Tile, quantity: str = "loss", split: int = 0) -> Path:
    return Path(store.url, quantity, "c", str(split), *map(str, tile))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return _create(tmp_path / "a.zarr")


def test_committed_tiles_read_back_exactly(store: Store) -> None:
    tiles = list(GRID.tiles())[3:8]
    written = {tile: _values(tile) for tile in tiles}
    for tile, values in written.items():
        store.commit(tile, values, seconds=2.5, worker=4_000_000_000)
    again = Store.open(store.url)
    assert again.committed() == set(tiles)
    assert set(again.pending()) == set(GRID.tiles()) - set(tiles)
    for tile, values in written.items():
        rows, columns = GRID.window(tile)
        for index, split in enumerate(again.splits):
            found = again.read("error", split, tile.frame)[rows, columns]
            np.testing.assert_array_equal(found, values["error"][index])
            assert again.finished(tile.frame)[rows, columns].all()
        assert again.tile_facts(tile) == (2.5, 4_000_000_000)
    assert again.finished(0).sum() + again.finished(1).sum() == sum(map(GRID.size, tiles))


def test_a_writer_that_dies_at_any_write_has_committed_nothing_or_all(tmp_path: Path) -> None:
    tile = Tile(1, 0, 1)
    for writes in itertools.count():
        store = _create(tmp_path / f"{writes}.zarr")
        with contextlib.suppress(Killed), dying(writes) as written:
            store.commit(tile, _values(tile), seconds=2.5, worker=7)
        again = Store.open(store.url)
        if tile in again.committed():
            break
        assert again.pending() == list(GRID.tiles())
        assert len(written) == writes
    # The commit was the last of all writes: four chunks of values, and two facts before it.
    assert written[-1] == "done/c/1/0/1"
    assert len(written) == len(set(written)) == 7
    assert verify(again) == []
    assert again.tile_facts(tile) == (2.5, 7)


def test_a_tile_that_is_half_withdrawn_is_pending(tmp_path: Path) -> None:
    tile = Tile(1, 0, 1)
    store = _create(tmp_path / "a.zarr")
    for deletions in range(7):
        store.commit(tile, _values(tile), seconds=2.5, worker=7)
        with contextlib.suppress(Killed), dying(deletions) as deleted:
            store.withdraw(tile)
        again = Store.open(store.url)
        assert (tile in again.committed()) == (deletions == 0)
        assert verify(again) == []
    assert deleted[0] == "-done/c/1/0/1"
    store.withdraw(tile)
    left = [path for path in Path(store.url).rglob("c/**/1/0/1") if path.is_file()]
    assert left == []


@pytest.mark.parametrize("folder_tiles", [1, 5, 100])
def test_commits_are_listed_whole_or_folder_by_folder(
    store: Store, folder_tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.reader._FOLDER_TILES", folder_tiles)
    tiles = set(list(GRID.tiles())[1::2])
    for tile in tiles:
        store.commit(tile, _values(tile), 1, 1)
    stale = Path(store.url, "done/c/0/0/0.0123456789abcdef.partial")
    stale.touch()
    assert store.committed() == tiles
    assert store.pending() == [tile for tile in GRID.tiles() if tile not in tiles]


def test_not_a_number_and_infinity_are_results(store: Store) -> None:
    nan, infinite = Tile(0, 0, 0), Tile(0, 1, 2)
    store.commit(nan, _values(nan, np.nan), 1, 1)
    store.commit(infinite, _values(infinite, np.inf), 1, 1)
    assert store.committed() == {nan, infinite}
    # Zarr would leave an all-NaN chunk out, and then damage could not be told from a result.
    assert _chunk(store, nan).exists()
    assert verify(store) == []
    assert np.isinf(store.read("loss", "train")[GRID.window(infinite)]).all()


def test_xarray_opens_the_store_as_one_dataset(store: Store) -> None:
    tile = Tile(1, 0, 0)
    values = _values(tile)
    store.commit(tile, values, 1, 1)
    store.write_note("lease.json", {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(store.url)
    picked = data.loss.sel(split="test", frame=1).isel(y=slice(4), x=slice(4))
    np.testing.assert_array_equal(picked.values, values["loss"][1])
    assert data.loss.dims == ("split", "frame", "y", "x")
    np.testing.assert_allclose(data.x.values, np.linspace(-1, 1, 10))
    assert data.loss.attrs["units"] == "nat"
    assert data.attrs["spec"] == {"a": 1}


def test_geometry_reads_back(store: Store) -> None:
    assert store.extent(1) == FRAME.extent
    assert store.anchors() == FRAME.anchors
    np.testing.assert_array_equal(store.curve(1), FRAME.curve)


@pytest.mark.parametrize("position", [0, 5, -1])
def test_every_flipped_bit_is_found_and_mended(store: Store, position: int) -> None:
    for tile in GRID.tiles():
        store.commit(tile, _values(tile), 1, 1)
    victim = Tile(1, 1, 2)
    for quantity, split in (("loss", 1), ("error", 0)):
        path = _chunk(store, victim, quantity, split)
        data = bytearray(path.read_bytes())
        data[position] ^= 0x10
        path.write_bytes(data)
        (damage,) = verify(store)
        assert damage.work == victim
        assert quantity in damage.reason
        withdraw(store, [damage])
        assert store.pending() == [victim]
        store.commit(victim, _values(victim), 1, 1)
        assert verify(store) == []


@pytest.mark.parametrize("name", ["done", "seconds", "worker"])
def test_every_flipped_bit_of_a_tiles_facts_is_found(store: Store, name: str) -> None:
    tile = Tile(1, 1, 2)
    store.commit(tile, _values(tile), 1.5, 1)
    path = Path(store.url, name, "c", *map(str, tile))
    sound = path.read_bytes()
    for place in range(8 * len(sound)):
        data = bytearray(sound)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        assert [damage.work for damage in verify(store)] == [tile]


def test_missing_truncated_and_empty_chunks_are_found(store: Store) -> None:
    tiles = list(GRID.tiles())[:3]
    for tile in tiles:
        store.commit(tile, _values(tile), 1, 1)
    _chunk(store, tiles[0]).unlink()
    truncated = _chunk(store, tiles[1], "error")
    truncated.write_bytes(truncated.read_bytes()[:-3])
    Path(store.url, "done", "c", "0", "0", "2").write_bytes(b"")
    assert [damage.work for damage in verify(store)] == tiles


def test_half_written_files_are_no_commits_and_are_swept(store: Store) -> None:
    folder = Path(store.url, "done", "c", "0", "0")
    folder.mkdir(parents=True)
    (folder / "1.0123456789abcdef.partial").write_bytes(b"\x01")
    assert store.committed() == set()
    assert store.sweep() == 1
    assert not list(folder.iterdir())


def test_an_unfinished_creation_is_replaced(tmp_path: Path) -> None:
    import zarr

    path = tmp_path / "a.zarr"
    zarr.open_group(str(path), mode="w", attributes={"lossatlas": "creating"})
    with pytest.raises(StoreError, match="never completely created"):
        Store.open(str(path))
    assert not Store.exists(str(path))
    assert _create(path).pending()


@pytest.mark.parametrize("is_there", [False, True])
def test_a_creation_that_ends_before_its_last_write_is_replaced(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zarr

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "a.zarr"
    if is_there:  # what is left of an earlier creation is filled anew, not replaced at once
        zarr.open_group(str(path), mode="w", attributes={"lossatlas": "creating"})
    monkeypatch.setattr(zarr, "consolidate_metadata", kill)
    with pytest.raises(KeyboardInterrupt):
        _create(path)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == ([path] if is_there else [])
    with pytest.raises(StoreError, match="never completely created" if is_there else "no such"):
        Store.open(str(path))
    assert _create(path).pending()
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_creators_left_is_swept_after_an_hour(tmp_path: Path) -> None:
    old, young = (tmp_path / f".lossatlas-0123456{name}.partial" for name in "ab")
    other = tmp_path / ".lossatlas-mine.partial"
    for path in (old, young, other):
        path.mkdir()
        os.utime(path, (0, 0) if path != young else None)
    _create(tmp_path / "a.zarr")
    assert set(tmp_path.iterdir()) == {tmp_path / "a.zarr", young, other}


def test_stores_go_where_links_lead_and_into_folders_that_are_empty(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for name in ("empty", "new"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk" / "empty").mkdir()
    longest = tmp_path / f"{'x' * 250}.zarr"
    for path in (
        tmp_path / "empty",
        tmp_path / "new",
        longest,
        tmp_path / "deep" / "er" / "a.zarr",
    ):
        assert _create(path).pending()
        assert Store.open(str(path)).attrs["creation"]
    assert {path.name for path in (tmp_path / "disk").iterdir()} == {"empty", "new"}


@pytest.mark.filterwarnings("ignore:.*onsolidated")  # threads share what is ignored
def test_one_of_several_creators_gets_the_place(tmp_path: Path) -> None:
    at_once = threading.Barrier(4)

    def create(path: Path) -> str:
        at_once.wait()
        try:
            return str(_create(path).grid)
        except TakenError as error:
            return str(error)

    with ThreadPoolExecutor(4) as threads:
        for number in range(8):
            path = tmp_path / f"{number}.zarr"
            if number % 2:
                path.mkdir()
            found = list(threads.map(create, [path] * 4))
            assert found.count(str(GRID)) == 1, found
            assert Store.open(str(path)).pending() == list(GRID.tiles())
    assert len(list(tmp_path.iterdir())) == 8


def test_a_creator_that_finds_another_render_in_its_place_leaves_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On object stores nothing keeps two from writing the same keys: the last one has it."""
    path = tmp_path / "a.zarr"
    opened = Store.open

    def overtaken(url: str, writable: bool = False) -> Store:
        import zarr

        zarr.open_group(url, mode="r+").attrs["creation"] = "another's"
        return opened(url, writable)

    monkeypatch.setattr(Store, "open", overtaken)
    with pytest.raises(TakenError, match="is being created by another render at this moment"):
        _create(path)
    assert opened(str(path)).attrs["creation"] == "another's"


def test_nothing_is_overwritten(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="exists and is not empty"):
        _create(Path(store.url))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    with pytest.raises(StoreError, match="exists and is not empty"):
        _create(tmp_path / "other")


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, expected in (("none", "no such store"), ("file", "is not a render's store")):
        with pytest.raises(StoreError, match=expected):
            Store.open(str(tmp_path / path))
    with pytest.raises(StoreError, match="is not a render's store"):
        Store.open(str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="/proc refuses even root, and only root tests that")
def test_a_place_that_cannot_be_written() -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        _create(Path("/proc/a.zarr"))


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be looked for .*length"):
        _create(tmp_path / ("a" * 300))


def test_unknown_names_are_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="no quantity 'los'; wanted one of loss, error"):
        store.read("los", "train")
    with pytest.raises(StoreError, match="no split 'val'"):
        store.read("loss", "val")
    with pytest.raises(StoreError, match="no frame 2"):
        store.read("loss", "train", 2)


def test_notes(store: Store) -> None:
    assert store.read_note("lease.json") is None
    assert store.notes("quarantine") == []
    store.write_note("quarantine/0.0.1.json", {"reason": "poison"})
    assert store.notes("quarantine") == ["quarantine/0.0.1.json"]
    assert store.read_note("quarantine/0.0.1.json") == {"reason": "poison"}
    store.delete_note("quarantine/0.0.1.json")
    assert store.notes("quarantine") == []
