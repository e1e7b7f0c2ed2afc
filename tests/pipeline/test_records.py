"""The records of a refinement's steps: written once, read whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.geometry.grid import Extent, Grid, Step, Tile
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.refinement import records
from pipeline.refinement.records import Points, Records
from pipeline.store.errors import StoreError
from pipeline.store.store import Store
from tests.deaths import Killed, dying

GRID = Grid(width=10, height=7, tile=4, frames=2)
FRAME = FrameFacts(Extent(-1, 1, -1, 1), (Anchor("θ", 0, 0, 0),), None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    where = str(tmp_path / "a.zarr")
    return Store.create(where, GRID, ["train"], ["loss", "error"], [FRAME] * 2, {}, True)


def some_points(step: Step, share: float = 0.4) -> Points:
    """Points in the tile of a step, with two values each."""
    generator = np.random.default_rng(step)
    rows, columns = GRID.window(step.tile)
    y, x = np.nonzero(generator.random(GRID.shape(step.tile)) < share)
    return Points(y + rows.start, x + columns.start, generator.random((2, len(y)), "f4"))


def same(one: Points, other: Points) -> None:
    for name in ("y", "x", "values"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_records_read_back_exactly(store: Store) -> None:
    steps = [Step(n, *tile) for n, tile in enumerate(GRID.tiles())]
    written = Records(store)
    for step in steps:
        written.commit(step, some_points(step), seconds=2.5, worker=7)
    read = Records(Store.open(store.url))
    assert read.committed() == set(steps)
    for step, points in zip(steps, read.points_of(steps), strict=True):
        same(points, some_points(step))
        assert read.facts(step) == records.StepFacts(len(points.y), 2.5, 7)
    assert read.counts(steps) == [len(some_points(step).y) for step in steps]


def test_a_writer_that_dies_at_any_write_has_committed_nothing_or_all(store: Store) -> None:
    for writes in itertools.count():
        step = Step(writes, 0, 1, 1)
        with contextlib.suppress(Killed), dying(writes) as written:
            Records(store).commit(step, some_points(step), 2.5, 7)
        read = Records(Store.open(store.url))
        if step in read.committed():
            break
        assert len(written) == writes
    # The commit was the last of all writes.
    assert [key.split("/")[1] for key in written] == ["points", "values", "steps"]
    assert read.committed() == {step}
    same(read.points(step), some_points(step))
    assert read.facts(step).seconds == 2.5


def test_steps_that_are_half_withdrawn_are_pending(store: Store) -> None:
    """Their commits go first, all of them: a record that is read has all its chunks."""
    steps = [Step(0, *tile) for tile in itertools.islice(GRID.tiles(), 3)]
    for deletions in range(1 + 3 * 3 + 1):
        for step in steps:
            Records(store).commit(step, some_points(step), 2.5, 7)
        with contextlib.suppress(Killed), dying(deletions) as deleted:
            Records(store).withdraw(steps)
        read = Records(Store.open(store.url))
        for step in read.committed():
            same(read.points(step), some_points(step))
    assert [key.split("/")[1] for key in deleted[1:4]] == ["steps"] * 3
    assert read.committed() == set()


@pytest.fixture
def noted(store: Store) -> Store:
    """A store whose first pass is through, and noted, and whose second is not."""
    made = Records(store)
    for number, tile in [*((0, t) for t in GRID.tiles()), (1, Tile(0, 0, 0))]:
        step = Step(number, *tile)
        made.commit(step, some_points(step), seconds=number + 0.123456, worker=tile.column)
    made.note_pass(0)
    made.note_pass(1)
    return store


def test_what_a_pass_cost_is_read_in_one_piece(
    noted: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Records(noted)
    asked = []
    one_by_one = Records.facts
    monkeypatch.setattr(
        Records, "facts", lambda self, step: (asked.append(step), one_by_one(self, step))[1]
    )
    steps = sorted(read.committed())
    found = read.costs(steps)
    assert asked == [Step(1, 0, 0, 0)]
    assert (read.is_noted(0), read.is_noted(1)) == (True, False)
    for step, cost in found.items():
        exact = one_by_one(read, step)
        assert (cost.points, cost.worker) == (exact.points, exact.worker)
        assert cost.seconds == pytest.approx(exact.seconds, abs=1e-4)


@pytest.mark.parametrize("harm", ["cut", "column", "short", "withdrawn"])
def test_a_note_of_costs_that_is_not_whole_is_done_without(noted: Store, harm: str) -> None:
    expected = Records(noted).costs(Records(noted).committed())
    path = Path(noted.url, ".lossatlas/costs/pass-0.json")
    columns = json.loads(path.read_text())
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif harm == "column":
        path.write_text(json.dumps({"points": columns["points"]}))
    elif harm == "short":
        path.write_text(json.dumps(columns | {"seconds": columns["seconds"][1:]}))
    else:
        gone = Step(0, *next(iter(GRID.tiles())))
        Records(noted).withdraw([gone])
        assert not path.exists()
        del expected[gone]
    read = Records(noted)
    found = read.costs(read.committed())
    assert {step: each.points for step, each in found.items()} == {
        step: each.points for step, each in expected.items()
    }


def test_a_record_that_two_have_mixed_is_damaged(store: Store) -> None:
    made, step = Records(store), Step(0, 0, 0, 0)
    values = np.ones((2, 2), "f4")
    made.commit(step, Points(np.array([0, 1]), np.array([0, 0]), values), 1.0, 0)
    points = Path(store.url, "evaluated/points/c/0/0/0/0")
    first = points.read_bytes()
    made.commit(step, Points(np.array([0, 2]), np.array([0, 0]), values), 1.0, 1)
    points.write_bytes(first)
    with pytest.raises(StoreError, match="do not agree"):
        Records(store).points(step)


def test_a_part_of_a_frame_is_what_the_passes_before_left(store: Store) -> None:
    kept = Records(store)
    steps = [Step(number, 1, row, 1) for number in range(3) for row in range(2)]
    for step in steps:
        kept.commit(step, some_points(step), 1.0, 0)
    rows, columns = slice(2, 6), slice(5, 8)
    values, passes = kept.evaluated(1, rows, columns, before=2, committed=steps)
    expected = np.full((7, 10), -1)
    for step in steps[:4]:
        points = some_points(step)
        expected[points.y, points.x] = step.number
    np.testing.assert_array_equal(passes, expected[rows, columns])
    assert (np.isnan(values) == (passes < 0)).all()
    # Where nobody says what counts, everything has to be there.
    kept.withdraw([Step(2, 1, 0, 1)])
    with pytest.raises(StoreError, match=r"step 1/0/1, pass 2.*its commit is missing"):
        Records(store).evaluated(1, rows, columns, before=3)


def test_passes_that_found_nothing_and_results_that_are_no_number(store: Store) -> None:
    kept = Records(store)
    nothing, nan = Step(0, 0, 0, 0), Step(1, 0, 0, 0)
    kept.commit(nothing, some_points(nothing, share=0), 1.0, 0)
    points = some_points(nan)
    diverged = Points(points.y, points.x, np.full_like(points.values, np.nan))
    kept.commit(nan, diverged, 1.0, 0)
    read = Records(store)
    assert len(read.points(nothing).y) == 0
    same(read.points(nan), diverged)
    # Zarr reads what is gone as NaN: that is no result.
    chunk(store, "values", nan).unlink()
    with pytest.raises(StoreError, match=r"step 0/0/0, pass 1: evaluated/values is missing"):
        Records(store).points(nan)


def chunk(store: Store, name: str, step: Step) -> Path:
    number, frame, row, column = step
    place = {
        "points": f"{number}/{frame}/{row}/{column}",
        "values": f"{number}/{frame}/0/{row}/{column}",
        "steps": f"0/{number}/{frame}/{row}/{column}",
    }[name]
    return Path(store.url, "evaluated", name, "c", place)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 0x10
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("name", ["points", "values", "steps"])
@pytest.mark.parametrize("harm", [flip, cut, Path.unlink])
def test_no_damage_is_read(store: Store, name: str, harm: Callable[[Path], None]) -> None:
    """At the tiles of a grid's edge, whose chunks reach beyond it, as elsewhere."""
    for step in (Step(3, 1, 0, 1), Step(3, 1, 1, 2)):
        Records(store).commit(step, some_points(step), 1.0, 0)
        harm(chunk(store, name, step))
        with pytest.raises(StoreError, match=f"step {step}"):
            Records(store).points(step)
        # What is there is no reason not to write it anew.
        Records(store).commit(step, some_points(step), 1.0, 0)
        same(Records(store).points(step), some_points(step))


def test_a_commit_that_says_more_than_its_record_is_refused(store: Store) -> None:
    step = Step(0, 0, 1, 1)
    kept = Records(store)
    kept.commit(step, some_points(step), 1.0, 0)
    count = len(some_points(step).y)
    store.group["evaluated/steps"][0, 0, 0, 1, 1] = count + 1
    with pytest.raises(StoreError, match=f"has {count} points, its commit {count + 1}"):
        Records(store).points(step)


def test_withdrawn_steps_are_gone_with_all_they_wrote(store: Store) -> None:
    kept = Records(store)
    step, other = Step(0, 0, 1, 1), Step(1, 0, 1, 1)
    for each in (step, other):
        kept.commit(each, some_points(each), 1.0, 0)
    assert len(kept.points(step).y)
    kept.withdraw([step])
    assert kept.committed() == {other}
    assert not any(chunk(store, name, step).exists() for name in ("points", "values", "steps"))
    with pytest.raises(StoreError, match="its commit is missing"):
        kept.points(step)
    with pytest.raises(StoreError, match="its commit is missing"):
        kept.counts([step])
    kept.withdraw([step])  # once more does no harm


def test_half_written_commits_are_none(store: Store) -> None:
    step = Step(0, 0, 1, 1)
    Records(store).commit(step, some_points(step), 1.0, 0)
    path = chunk(store, "steps", step)
    path.with_name("2.0123456789abcdef.partial").touch()
    assert Records(store).committed() == {step}


def test_what_was_read_is_kept_up_to_so_many_points(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = list(GRID.tiles())
    steps = [Step(0, *tile) for tile in tiles]
    kept = Records(store)
    for step in steps:
        kept.commit(step, some_points(step, share=1), 1.0, 0)
    monkeypatch.setattr(records, "_CACHED_POINTS", 2 * (16 + records._RECORD_POINTS))
    first, second = kept.points(steps[0]), kept.points(steps[3])
    assert kept.points(steps[0]) is first
    kept.points(steps[6])
    assert kept.points(steps[0]) is first
    assert kept.points(steps[3]) is not second


def test_the_tiles_of_a_part() -> None:
    found = records.tiles_in(GRID, 1, slice(3, 5), slice(4, 9))
    assert found == [Tile(1, row, column) for row in (0, 1) for column in (1, 2)]
