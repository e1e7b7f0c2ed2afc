"""Marks in a store: what is written, when it counts, and what is found when it is damaged."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import LossatlasError
from pipeline.geometry.grid import Extent, Grid, MarkBlock
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.errors import StoreError
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store
from pipeline.verify import verify, withdraw
from tests.deaths import Killed, dying

GRID = Grid(width=10, height=7, tile=4, frames=2)
QUANTITIES = ("loss", "error")


def group(label: str, count: int, **more: Any) -> dict[str, Any]:
    names, numbers = [f"epoch-{n}" for n in range(count)], [float(n) for n in range(count)]
    shown = {"line": False, "glyph": None, "colour": None} | more
    return {"label": label, "count": count, "names": names, "numbers": numbers, **shown}


def frame(marks: int, seed: int = 0) -> FrameFacts:
    places = np.random.default_rng(seed).normal(size=(marks, 3))
    return FrameFacts(Extent(-1, 1, -1, 1), (Anchor("start", 0, 0, 0),), None, places)


def create(path: Path, counts: tuple[int, ...] = (10, 3), grid: Grid = GRID) -> Store:
    groups = [group(f"group {n}", count) for n, count in enumerate(counts)]
    frames = [frame(sum(counts), seed) for seed in range(grid.frames)]
    return Store.create(str(path), grid, ["train", "test"], QUANTITIES, frames, {"marks": groups})


def values(block: MarkBlock) -> dict[str, np.ndarray]:
    marks = np.arange(block.start, block.stop, dtype="f4")
    return {q: np.stack([marks, marks + 0.5]) + 100 * n for n, q in enumerate(QUANTITIES)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create(tmp_path / "a.zarr")


def test_committed_marks_read_back_exactly(store: Store) -> None:
    marks = StoredMarks(store)
    assert marks.count == 13
    assert list(marks.blocks()) == [MarkBlock(0, 8), MarkBlock(8, 13)]
    assert [g.label for g in marks.groups] == ["group 0", "group 1"]
    marks.commit(MarkBlock(8, 13), values(MarkBlock(8, 13)))
    again = StoredMarks(Store.open(store.url))
    assert again.committed() == {MarkBlock(8, 13)}
    assert again.pending() == [MarkBlock(0, 8)]
    np.testing.assert_array_equal(again.finished(), np.arange(13) >= 8)
    for number, quantity in enumerate(QUANTITIES):
        found = again.values(quantity)
        assert found.shape == (2, 13)
        assert np.isnan(found[:, :8]).all()
        np.testing.assert_array_equal(found[0, 8:], np.arange(8, 13) + 100 * number)
    for number in range(2):
        np.testing.assert_array_equal(again.places(number), frame(13, number).marks)
    assert again.names[-1] == "epoch-2"


def test_a_block_has_no_more_marks_than_a_tile_has_points(tmp_path: Path) -> None:
    made = create(tmp_path / "a.zarr", grid=Grid(10, 7, 2))
    assert [block.stop for block in StoredMarks(made).blocks()] == [4, 8, 12, 13]
    made = create(tmp_path / "b.zarr", (3,))
    assert list(StoredMarks(made).blocks()) == [MarkBlock(0, 3)]


def test_a_store_without_marks_says_nothing_of_them(tmp_path: Path) -> None:
    bare = FrameFacts(Extent(-1, 1, -1, 1), (Anchor("start", 0, 0, 0),), None)
    made = Store.create(str(tmp_path / "a.zarr"), Grid(4, 4, 2), ["train"], ["loss"], [bare], {})
    assert not [name for name in made.group.array_keys() if name.startswith("mark")]
    marks = StoredMarks(made)
    assert (marks.count, marks.pending(), marks.committed()) == (0, [], set())
    assert marks.places().shape == (0, 3)
    assert marks.values("loss").shape == (1, 0)


def test_a_writer_that_dies_at_any_write_has_committed_nothing_or_all(tmp_path: Path) -> None:
    block = MarkBlock(8, 13)
    for writes in itertools.count():
        store = create(tmp_path / f"{writes}.zarr")
        with contextlib.suppress(Killed), dying(writes) as written:
            StoredMarks(store).commit(block, values(block))
        again = StoredMarks(Store.open(store.url))
        if block in again.committed():
            break
        assert again.pending() == list(again.blocks())
        assert len(written) == writes
    assert len(written) == len(QUANTITIES) + 1
    again.check(block)


@pytest.mark.parametrize("name", ["mark_loss/c/0/1", "mark_error/c/0/1", "mark_done/c/1"])
@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_damage_is_found_and_put_back(store: Store, name: str, how: str) -> None:
    marks, block = StoredMarks(store), MarkBlock(8, 13)
    for each in marks.blocks():
        marks.commit(each, values(each))
    path = Path(store.url, name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if how == "gone":
        path.unlink()
    again = StoredMarks(Store.open(store.url, writable=True))
    again.check(MarkBlock(0, 8))
    with pytest.raises(StoreError, match=name.partition("/")[0]):
        again.check(block)
    if name.startswith("mark_loss"):
        with pytest.raises(StoreError, match=r"mark_loss cannot be read .*lossatlas verify"):
            again.values("loss")
    again.withdraw(block)
    assert again.pending() == [block]
    again.commit(block, values(block))
    again.check(block)


def test_nan_is_a_result(store: Store) -> None:
    marks, block = StoredMarks(store), MarkBlock(0, 8)
    marks.commit(block, {q: np.full((2, 8), np.nan, "f4") for q in QUANTITIES})
    again = StoredMarks(Store.open(store.url))
    again.check(block)
    assert again.committed() == {block}


def test_what_marks_are_called_may_change_later(store: Store) -> None:
    words = dict(store.words)
    words["marks"] = [{**each, "label": "SGD", "glyph": "plus"} for each in words["marks"]]
    store.rename(words)
    again = StoredMarks(Store.open(store.url))
    assert [(g.label, g.glyph, g.count) for g in again.groups] == [
        ("SGD", "plus", 10),
        ("SGD", "plus", 3),
    ]
    store.rename({**words, "marks": [{"label": 3}]})  # a note that somebody else wrote
    assert [g.label for g in StoredMarks(Store.open(store.url)).groups] == ["group 0", "group 1"]


def test_groups_that_do_not_fit_the_arrays_are_damage(tmp_path: Path) -> None:
    made = create(tmp_path / "a.zarr")
    for wrong in (
        [group("a", 12)],
        [group("a", 13) | {"names": ["b"]}],
        [group("a", 13) | {"count": "13"}],
        [group("a", 13) | {"names": ["../x"] * 13}],
    ):
        made.group.attrs["marks"] = wrong
        with pytest.raises(LossatlasError, match="mark"):
            Store.open(made.url)


def test_damage_of_coordinates_is_found(store: Store) -> None:
    """A flipped bit of a place would be another place, so those arrays have checksums too."""
    assert verify(store) == []
    for name in ("mark", "anchor", "extent", "x", "y", "split", "frame"):
        path = next(path for path in Path(store.url, name, "c").rglob("*") if path.is_file())
        content = path.read_bytes()
        for place in range(0, len(content), 16):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            (damage,) = verify(store)
            assert (damage.work, damage.reason.partition("/c/")[0]) == (name, name)
        path.unlink()
        (damage,) = verify(store)
        assert damage.reason == f"{path.relative_to(store.url)} is missing"
        withdraw(store, [damage])
        path.write_bytes(content)
    assert verify(store) == []
