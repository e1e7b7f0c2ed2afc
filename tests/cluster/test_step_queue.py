"""Which steps of a refinement may be taken when, with simulated workers."""

from __future__ import annotations

import itertools
import shutil
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cluster.errors import ClusterError
from cluster.scheduling.events import Done
from cluster.scheduling.refinement_progress import RefinementReader
from cluster.scheduling.step_queue import StepQueue, decide, finished
from pipeline.geometry.grid import Grid, Step, Tile
from pipeline.refinement.records import Points, Records
from pipeline.refinement.scale import Scale
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.step import Refinement
from pipeline.store.store import Store
from pipeline.url import UnreachableError
from pipeline.verify import verify, withdraw
from tests.cluster import hills as hill_module
from tests.cluster.hills import (
    ASKED,
    AUDIT,
    COMPOSE,
    GRID,
    HillRenderer,
    HillWorkers,
    content,
    create,
    evaluated_points,
    hills,
    refine,
)
from tests.cluster.test_event_loop import SimulatedWorkers

TIGHTER = ASKED.model_copy(update={"tolerance": 0.001})


POINT = np.array([0]), np.array([0])
# Tiles that do not all look at each other.
NINE = Grid(width=65, height=65, tile=22)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What one worker makes of the hills, step by step."""
    store = create(tmp_path_factory.mktemp("done") / "a.zarr")
    refine(store, HillWorkers(store), workers=1)
    assert finished(store)
    return store


@pytest.fixture(scope="module")
def undisturbed(done: Store) -> dict[str, bytes]:
    return content(done)


@pytest.fixture
def store(done: Store, tmp_path: Path) -> Store:
    """A copy of it."""
    shutil.copytree(done.url, tmp_path / "copy.zarr")
    return Store.open(str(tmp_path / "copy.zarr"), writable=True)


@pytest.fixture
def begun(tmp_path: Path) -> Store:
    """A store in which about half of the steps are done."""
    store = create(tmp_path / "begun.zarr")
    refine(store, HillWorkers(store), stop=lambda observer: len(observer.tiles) > 11)
    return store


def test_a_refinement_predicts_some_points_and_evaluates_others(store: Store) -> None:
    assert verify(store) == []
    level = store.group["level"][0]
    assert 0.05 < (level >= 0).mean() < 0.95
    exact = exactly(store)
    found = store.read("loss", "train")
    np.testing.assert_array_equal(found[level >= 0], exact[level >= 0])
    assert np.abs(np.log(found / exact)).max() < 0.1


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_neither_order_nor_accidents_change_a_bit(tmp_path: Path, seed: int) -> None:
    """Workers die before and after their commits, stragglers come late, drivers are replaced."""
    alone, store = (create(tmp_path / f"{name}.zarr", NINE) for name in "ab")
    refine(alone, HillWorkers(alone), workers=1)
    for goal in (7, 20):
        simulated = HillWorkers(store, seed, accidents=0.1)
        refine(store, simulated, workers=2 + seed, stop=lambda o, goal=goal: len(o.tiles) >= goal)  # type: ignore[misc]
    refine(store, HillWorkers(store, seed + 10, accidents=0.1), keep_schedule=True)
    assert content(store) == content(alone)


def test_what_steps_cost_is_read_once_whoever_asks(
    begun: Store, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that goes on counts for its user; the draw of the audit needs the same."""
    steps = StepQueue(begun, ASKED, keep_schedule=True)
    steps.refinement_reader.read(())
    monkeypatch.setattr(steps.refinement_reader.refinement.records, "facts", None)
    renderer, waiting = HillRenderer(begun), deque(steps.begin())
    while waiting:
        step = waiting.popleft()
        assert isinstance(step, Step)
        facts = renderer(step)
        waiting.extend(steps.after(step, Done(0, facts.points, facts.seconds)))
    progress = steps.refinement_reader.read(begun.committed())
    assert progress.summary.evaluated == evaluated_points(begun)
    assert content(begun) == undisturbed


def test_a_straggler_undoes_nothing(store: Store, undisturbed: dict[str, bytes]) -> None:
    late = HillRenderer(store)
    for number in range(COMPOSE + 1):
        late(Step(number, 0, 1, 0))
    assert content(store) == undisturbed


def test_a_lost_commit_is_made_up_for_before_anybody_needs_it(
    begun: Store, undisturbed: dict[str, bytes]
) -> None:
    """Others are further on already, and would read what is not there."""
    holes = [Step(0, 0, 1, 1), Step(1, 0, 0, 0)]
    Records(begun).withdraw(holes)
    observer = refine(begun, HillWorkers(begun), keep_schedule=True)
    assert observer.tiles[:1] == holes[:1]
    assert set(holes) < set(observer.tiles)
    assert not observer.given_up
    assert content(begun) == undisturbed


def test_a_killed_driver_is_made_up_for_wherever_it_was(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies at each write of its own: of what was decided, twice each, and of the sample."""
    store = create(tmp_path / "a.zarr")
    write, left, died = Store.write_note, [0], []

    def write_or_die(store: Store, name: str, note: dict[str, object]) -> None:
        if name.startswith("refine") and "/0-" not in name:
            left[0] -= 1
            if not left[0]:
                died.append(name)
                raise KeyboardInterrupt
        write(store, name, note)

    monkeypatch.setattr(Store, "write_note", write_or_die)
    # Each one that goes on writes twice what it found.
    for nth in (1, 2, 3, 4, 5, 4, 4):
        left[0] = nth
        with pytest.raises(KeyboardInterrupt):
            refine(store, HillWorkers(store))
        assert not finished(store)
    note, copy, sample = "refine.json", "refine/copy.json", f"refine/audit-{AUDIT}.json"
    assert died == [copy, note, copy, note, sample, copy, note]
    refine(store, HillWorkers(store))
    assert content(store) == undisturbed


def test_what_is_decided_is_read_from_its_copy(begun: Store, undisturbed: dict[str, bytes]) -> None:
    note = Path(begun.url, ".lossatlas", "refine.json")
    note.write_bytes(note.read_bytes()[:100])
    refine(begun, HillWorkers(begun), keep_schedule=True)
    assert content(begun) == undisturbed


def test_steps_without_what_was_decided_for_them_are_refused_until_verify_puts_them_back(
    begun: Store, undisturbed: dict[str, bytes]
) -> None:
    for name in ("refine.json", "refine/copy.json"):
        Path(begun.url, ".lossatlas", name).write_text("{")
    with pytest.raises(ClusterError, match=r"has 1\d steps .* lossatlas verify, then resume"):
        StepQueue(begun, ASKED, keep_schedule=True).begin()
    damages = verify(begun)
    assert len(damages) == 4
    assert "refine.json, is missing or damaged" in damages[0].reason
    withdraw(begun, damages)
    refine(begun, HillWorkers(begun))
    assert content(begun) == undisturbed


def test_a_store_that_was_never_begun_goes_by_its_own_spec(tmp_path: Path) -> None:
    store = create(tmp_path / "a.zarr")
    assert not finished(store)
    with pytest.raises(ClusterError, match="was not begun; wanted the spec"):
        StepQueue(store, None, keep_schedule=True).begin()
    store.attrs["spec"] = {"evaluate": {"refine": ASKED.model_dump()}}
    assert len(StepQueue(store, None, keep_schedule=True).begin()) == 4
    assert Schedule.read(store).asked == (ASKED,)  # type: ignore[union-attr]
    other = create(tmp_path / "b.zarr")
    other.attrs["spec"] = store.attrs["spec"]
    StepQueue(other, None, keep_schedule=False).begin()
    assert Schedule.read(other).asked == (ASKED, None)  # type: ignore[union-attr]


# Asking for more


def test_a_tighter_tolerance_adds_points_and_keeps_all_there_were(
    store: Store, undisturbed: dict[str, bytes]
) -> None:
    schedule, evaluated = Schedule.read(store), evaluated_points(store)
    assert schedule is not None
    observer = refine(store, HillWorkers(store), TIGHTER)
    assert min(step.number for step in observer.tiles) == schedule.last + 1  # type: ignore[attr-defined]
    after = content(store)
    records = [key for key in undisturbed if key.startswith("evaluated/")]
    assert {key: after[key] for key in records} == {key: undisturbed[key] for key in records}
    points, again = evaluated_points(store), Schedule.read(store)
    assert again is not None
    assert evaluated < points == int((store.group["level"][:] >= 0).sum())
    assert len(again.certificates) > len(schedule.certificates)
    assert again.certificates[-1].tolerance["loss"] == 0.001
    assert verify(store) == []
    # What was asked for before, or less, has nothing to do.
    for asked in (TIGHTER, ASKED, ASKED.model_copy(update={"tolerance": 0.1})):
        assert StepQueue(store, asked, keep_schedule=False).complete


def test_everything_is_evaluated_where_nothing_may_be_predicted_any_more(store: Store) -> None:
    refine(store, HillWorkers(store), None)
    assert finished(store)
    np.testing.assert_array_equal(store.read("loss", "train"), exactly(store))
    assert evaluated_points(store) == GRID.points
    assert (store.group["predicted_error"][:] == 0).all()
    assert StepQueue(store, ASKED, keep_schedule=False).complete
    assert verify(store) == []


def test_what_takes_long_is_evaluated_in_parts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.scheduling.decisions._PART_SECONDS", 1e-9)
    monkeypatch.setattr("cluster.scheduling.decisions._MOST_PARTS", 5)
    before, composed = evaluated_points(store), COMPOSE
    observer = refine(store, HillWorkers(store, seed=3), None)
    facts = Refinement(store).records.facts
    points = [facts(step).points for step in observer.tiles if step.number > composed]  # type: ignore[attr-defined]
    assert len(points) == (5 + 1) * GRID.tile_count
    assert sum(points) == GRID.points - before
    assert max(points) <= 33 * 33 / 5 + 1
    np.testing.assert_array_equal(store.read("loss", "train"), exactly(store))
    assert verify(store) == []
    # A tile that is lost is put together from all parts again.
    store.withdraw(Tile(0, 1, 0))
    refine(store, HillWorkers(store), None)
    assert finished(store)


def test_no_more_passes_than_a_store_has_room_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.scheduling.decisions._PART_SECONDS", 1e-9)
    monkeypatch.setattr("cluster.scheduling.decisions.PASSES", COMPOSE + 2)
    steps = StepQueue(store, None, keep_schedule=False)
    with pytest.raises(ClusterError, match=rf"{COMPOSE + 3} passes; wanted at most {COMPOSE + 2},"):
        steps.begin()
    assert len(store.committed()) == GRID.tile_count  # nothing was put back
    assert finished(store)
    monkeypatch.setattr("cluster.scheduling.decisions.PASSES", COMPOSE + 5)
    steps.begin()
    schedule = Schedule.read(store)
    assert schedule is not None
    assert [each.parts for each in schedule.passes[COMPOSE + 1 :]] == [3, 3, 3, 1]


def test_on_a_line_a_tile_is_no_square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.scheduling.decisions._PART_SECONDS", 10.0)
    store = create(tmp_path / "a.zarr", Grid(width=40, height=1, tile=40))
    steps = StepQueue(store, ASKED, keep_schedule=False)
    (step,) = steps.begin()
    assert isinstance(step, Step)
    facts = HillRenderer(store)(step)
    steps.after(step, Done(0, facts.points, float(facts.points)))  # a second each
    assert steps.expected_seconds == pytest.approx(0.3 * 40)
    Records(store).withdraw([step])
    Records(store).commit(step, Points(*POINT, np.zeros((2, 1), "f4")), 1.0, 0)
    StepQueue(store, None, keep_schedule=False).begin()
    schedule = Schedule.read(store)
    assert schedule is not None
    assert schedule.passes[-2].parts == 4


def test_a_note_of_costs_that_cannot_be_written_or_read_stops_nobody(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, read, tried = Store.write_note, Store.read_note, list[str]()

    def full(store: Store, name: str, note: dict[str, object]) -> None:
        if name.startswith("costs/"):
            tried.append(name)
            raise OSError(28, "No space left on device")
        write(store, name, note)

    def gone(store: Store, name: str) -> dict[str, object] | None:
        if name == "costs/pass-0.json":
            raise UnreachableError("no answer")
        return read(store, name)

    monkeypatch.setattr("cluster.scheduling.work_queue._PATIENCE", ())
    monkeypatch.setattr(Store, "write_note", full)
    store = create(tmp_path / "a.zarr")
    refine(store, HillWorkers(store), workers=1)
    assert tried == [f"costs/pass-{number}.json" for number in range(COMPOSE + 1)]
    assert content(store) == undisturbed
    monkeypatch.setattr(Store, "read_note", gone)
    StepQueue(store, ASKED, keep_schedule=True).begin()


def test_composing_is_given_up_where_more_is_asked_for(tmp_path: Path) -> None:
    """Its steps count as done, without points: what follows waits for nobody."""
    store = create(tmp_path / "a.zarr")
    refine(store, HillWorkers(store), workers=1, stop=lambda _: len(store.committed()) >= 2)
    ready = StepQueue(store, TIGHTER, keep_schedule=False).begin()
    assert {step.number for step in ready} == {COMPOSE + 1}  # type: ignore[union-attr]
    assert store.committed() == set()
    records = Records(store)
    composing = [Step(COMPOSE, *tile) for tile in GRID.tiles()]
    assert records.committed() >= set(composing)
    assert records.counts(composing) == [0] * 4


@pytest.mark.slow
@pytest.mark.parametrize("done", [2, 4 * COMPOSE + 2])
def test_more_may_be_asked_for_at_any_time(tmp_path: Path, done: int) -> None:
    """In the first pass, and while composing, which is then given up."""
    store = create(tmp_path / "a.zarr")
    refine(store, HillWorkers(store), stop=lambda observer: len(observer.tiles) >= done)
    composed = len(store.committed())
    observer = refine(store, HillWorkers(store), TIGHTER)
    assert not observer.given_up
    assert finished(store)
    assert verify(store) == []
    if composed:
        assert not [s for s in observer.tiles if s.number == COMPOSE]  # type: ignore[attr-defined]
        facts = [Records(store).facts(Step(COMPOSE, *tile)) for tile in GRID.tiles()]
        assert [each.points for each in facts] == [0] * 4


def test_tiles_are_withdrawn_before_more_is_asked_for(
    store: Store, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that dies in between leaves what was decided, and tiles to compose again."""
    taken = itertools.count()
    put_back = Store.withdraw

    def put_back_or_die(store: Store, tile: Tile) -> None:
        if next(taken) == 3:
            raise KeyboardInterrupt
        put_back(store, tile)

    monkeypatch.setattr(Store, "withdraw", put_back_or_die)
    with pytest.raises(KeyboardInterrupt):
        StepQueue(store, TIGHTER, keep_schedule=False).begin()
    assert not finished(store)
    observer = refine(store, HillWorkers(store), keep_schedule=True)
    assert len(observer.tiles) == 3
    assert content(store) == undisturbed


@pytest.mark.slow
def test_what_is_asked_for_is_noted_for_whoever_goes_on(store: Store) -> None:
    decide(store, ASKED)
    assert finished(store)
    decide(store, TIGHTER)
    assert Schedule.read(store).asked == (ASKED, TIGHTER)  # type: ignore[union-attr]
    assert store.committed() == set()
    refine(store, HillWorkers(store), keep_schedule=True)
    assert Schedule.read(store).certificates[-1].tolerance["loss"] == 0.001  # type: ignore[union-attr]


def test_less_than_what_was_begun_is_remarked_on(begun: Store) -> None:
    assert decide(begun, ASKED.model_copy(update={"seed": 7})) == ""
    assert "(predictions within 1 % of" in decide(begun, ASKED.model_copy(update={"beyond": 0.2}))
    assert decide(begun, TIGHTER) == ""
    assert "(predictions within 0.1 % of the colour range)" in decide(begun, ASKED)
    assert decide(begun, None) == ""
    assert "(every point evaluated)" in decide(begun, TIGHTER)


def test_two_drivers_do_not_decide_at_once(tmp_path: Path) -> None:
    store = create(tmp_path / "a.zarr")
    steps = StepQueue(store, ASKED, keep_schedule=False)
    steps.begin()
    decide(store, TIGHTER)
    for step in map(Step._make, itertools.product([0], [0], range(2), range(2))):
        facts = HillRenderer(store)(step)
        if step != Step(0, 0, 1, 1):
            steps.after(step, Done(0, facts.points, 1.0))
    with pytest.raises(ClusterError, match="another driver has gone on"):
        steps.after(step, Done(0, facts.points, 1.0))


# Who may go ahead


class _Hasty(SimulatedWorkers):
    """Workers that only say that they have done it; one step takes ages."""

    def __init__(self, slow: Step) -> None:
        super().__init__([])
        self._slow = slow
        self.begun: list[tuple[float, Step]] = []

    def render(self, worker: int, step: Step) -> None:  # type: ignore[override]
        seconds = 100_000.0 if step == self._slow else 1.0
        self.begun.append((self.now, step))
        self._at(seconds, Done(worker, 1, seconds))


def test_nobody_is_idle_while_a_tile_is_slow_except_near_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tile of 625 hangs in the first pass that refines; elsewhere passes go on."""
    monkeypatch.setattr(Refinement, "ranges", lambda *_: [])
    grid = Grid(400, 400, 16)
    store = create(tmp_path / "a.zarr", grid)
    simulated = _Hasty(slow=Step(1, 0, 0, 0))
    observer = refine(store, simulated, workers=4, stop=lambda _: simulated.now > 5_000)
    schedule = Schedule.read(store)
    assert schedule is not None
    reach = Refinement(store).required_region(schedule, Tile(0, 0, 0))[0].stop // 16
    last = schedule.last - 1
    assert [each.kind for each in schedule.passes] == ["lattice", *["refine"] * last, "audit"]
    # With each pass the tiles that have to wait grow by as much as one looks around.
    held = {
        Step(number, 0, row, column)
        for number in range(1, last + 1)
        for row in range((number - 1) * reach + 1)
        for column in range((number - 1) * reach + 1)
    }
    free = {Step(number, *tile) for number in range(last + 1) for tile in grid.tiles()} - held
    assert len(free) > 0.4 * 625 * (last + 1)
    assert set(observer.tiles) >= free  # type: ignore[operator]
    assert max(when for when, step in simulated.begun if step in free) < 1.05 * len(free) / 3 + 10


@pytest.mark.parametrize("steps", [2, 8, 19, 22])
def test_a_film_whose_frames_were_predicted_from_others_is_audited_again(
    tmp_path: Path, steps: int
) -> None:
    """Killed in its first pass, while refining, in the audit, and while composing."""
    store = create(tmp_path / "a.zarr", Grid(65, 65, 65, frames=3))
    refine(store, HillWorkers(store), workers=1, stop=lambda o: len(o.tiles) >= steps)
    begun = as_an_earlier_version_decided(store)
    assert not finished(store)
    summary = RefinementReader(store).read(store.committed()).summary
    assert summary.certificate is None
    assert "predicted frames of this film from other frames; lossatlas resume" in str(
        summary.rows()
    )
    # What its audit noted is of predictions that are not made any more.
    for name in store.notes(f"refine/audit-{AUDIT}"):
        store.write_note(name, {"errors": [[9.0]] * 2, "of_values": True})
    refine(store, HillWorkers(store), keep_schedule=True)
    schedule = Schedule.read(store)
    assert schedule is not None
    assert (schedule.stride, schedule.asked) == (1, (ASKED, ASKED))
    assert schedule.passes[: len(begun.passes)] == begun.passes
    assert schedule.certificates[-1].passed
    assert max(schedule.certificates[-1].quantiles["loss"]["train"].values()) < 0.01
    assert finished(store)
    assert verify(store) == []
    # All of the first two lattices is evaluated, as of a still.
    assert (np.asarray(store.group["level"])[:, ::2, ::2] >= 0).all()


def test_a_film_whose_frames_were_predicted_from_others_stays_as_it_was_finished(
    tmp_path: Path,
) -> None:
    store = create(tmp_path / "a.zarr", Grid(65, 65, 65, frames=3))
    refine(store, HillWorkers(store))
    as_an_earlier_version_decided(store)
    before = content(store)
    assert finished(store)
    assert StepQueue(store, ASKED, keep_schedule=False).complete
    refine(store, HillWorkers(store))
    assert content(store) == before
    refine(store, HillWorkers(store), TIGHTER)
    assert finished(store)
    assert Schedule.read(store).stride == 1  # type: ignore[union-attr]


def as_an_earlier_version_decided(store: Store) -> Schedule:
    """Make the schedule that of a film whose every second frame is predicted from others."""
    schedule = Schedule.read(store)
    assert schedule is not None
    replace(schedule, stride=2).write(store)
    return schedule


@pytest.mark.slow
def test_a_driver_takes_over_a_film(tmp_path: Path) -> None:
    grid = Grid(32, 32, 32, frames=8)
    store, other = (create(tmp_path / f"{name}.zarr", grid) for name in "ab")
    refine(store, HillWorkers(store))
    for goal in (12, 10):
        refine(other, HillWorkers(other), stop=lambda o, goal=goal: len(o.tiles) > goal)  # type: ignore[misc]
    refine(other, HillWorkers(other))
    assert content(other) == content(store)


def test_what_a_step_costs_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each tile of ten thousand waits for a hundred around it: no two milliseconds."""
    monkeypatch.setattr(Refinement, "ranges", lambda *_: [])
    store = create(tmp_path / "a.zarr", Grid(6400, 6400, 64))
    steps = StepQueue(store, ASKED, keep_schedule=False)
    ready = deque(steps.begin())
    assert len(ready) == 10_000
    for _ in range(10_000):
        ready += steps.after(ready.popleft(), Done(0, 1, 1.0))
    began = time.process_time()
    for _ in range(4_000):
        ready += steps.after(ready.popleft(), Done(0, 1, 1.0))
    cost = (time.process_time() - began) / 4_000
    assert len(ready) > 6_000  # the next pass has begun
    assert cost < 0.002


def exactly(store: Store) -> NDArray[np.float32]:
    """The hills at every point of the grid."""
    columns, rows = GRID.axes(store.extent())
    return hills(0, columns[None], rows[:, None]).astype("f4")


def test_what_an_earlier_version_certified_in_vain_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A negative loss, refined on clamped logarithms and audited by them, as it was once."""
    monkeypatch.setattr(hill_module, "hills", lambda frame, x, y: hills(frame, x, y) - 9)
    store = create(tmp_path / "a.zarr")
    begun = Schedule.begin(GRID, ASKED)
    replace(begun, passes=tuple(replace(p, logs="clamped") for p in begun.passes)).write(store)
    with monkeypatch.context() as patch:
        patch.setattr(Scale, "off", lambda self, p, v: np.abs(self.units(p) - self.units(v)))
        patch.setattr(Refinement, "note_log", lambda *_: None)
        refine(store, HillWorkers(store), keep_schedule=True)
    schedule = Schedule.read(store)
    assert schedule is not None
    assert [each.beyond for each in schedule.certificates] == [0]
    unsaid = tuple(replace(each, of_values=False) for each in schedule.certificates)
    replace(schedule, certificates=unsaid).write(store)
    x, y = np.meshgrid(*GRID.axes(store.extent(0)))
    truth, found = hills(0, x, y) - 9, store.read("loss", "train")
    allowed = 0.01 * (np.percentile(truth, 99) - truth.min())
    assert (np.abs(found - truth) > 20 * allowed).mean() > 0.5
    assert not finished(store)
    before = evaluated_points(store)
    refine(store, HillWorkers(store), keep_schedule=True)
    assert finished(store)
    found, level = store.read("loss", "train"), store.level(0)
    assert level is not None
    assert 0 < (level < 0).sum() < GRID.points - before
    assert (np.abs(found - truth)[level < 0] > allowed).mean() <= 0.1
