"""Work that becomes ready: added by the event loop, found while the event loop goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.driver.note_writer import NoteWriter
from cluster.errors import ClusterError
from cluster.scheduling.event_loop import run
from cluster.scheduling.events import Done
from cluster.scheduling.scheduler import Scheduler
from cluster.scheduling.step_queue import StepQueue
from cluster.scheduling.successors import BackgroundSuccessors, Ready
from cluster.scheduling.work_queue import patiently
from pipeline.geometry.grid import Step, Tile, Work
from pipeline.store.store import Store
from tests.cluster.hills import ASKED, HillRenderer, create
from tests.cluster.test_event_loop import SimulatedWorkers
from tests.cluster.watcher import Watcher


class ChainQueue:
    """Tiles of which each makes the next one ready, as soon as the store answers."""

    phase = "a phase"
    expected_seconds = 7.0

    def __init__(self, total: int) -> None:
        self.total = total
        self.answers = threading.Event()
        self.answers.set()
        self.threads: set[str] = set()

    def after(self, work: Work, done: Done) -> list[Work]:
        self.threads.add(threading.current_thread().name)
        self.answers.wait()
        following = work.row + 1
        return [Tile(0, following, 0)] if following < self.total else []

    def cancel(self) -> None:
        self.answers.set()


class Counting(Watcher):
    def __init__(self) -> None:
        super().__init__()
        self.ready: list[Ready] = []
        self.ticks = 0

    def advanced(self, ready: Ready) -> None:  # type: ignore[override]
        self.ready.append(ready)

    def ticked(self, scheduler: object) -> None:
        self.ticks += 1


@pytest.fixture
def queue() -> ChainQueue:
    return ChainQueue(total=5)


@pytest.fixture
def successors(queue: ChainQueue) -> Iterator[BackgroundSuccessors]:
    with BackgroundSuccessors(queue) as made:  # type: ignore[arg-type]
        yield made


def test_the_loop_adds_what_follows_and_ends_when_nothing_does(
    queue: ChainQueue, successors: BackgroundSuccessors
) -> None:
    simulated, watcher = SimulatedWorkers([]), Counting()
    scheduler = Scheduler([Tile(0, 0, 0)], 2)
    run(scheduler, simulated, watcher, lambda: False, simulated.clock, successors)
    assert watcher.tiles == [Tile(0, row, 0) for row in range(5)]
    assert [ready.total for ready in watcher.ready] == [5] * 5
    assert not successors.pending
    assert all(name.startswith("successors") for name in queue.threads)


def test_the_loop_goes_on_while_the_store_does_not_answer(
    queue: ChainQueue, successors: BackgroundSuccessors
) -> None:
    """Other tiles are rendered, progress is shown, and ^C is noticed."""
    simulated, watcher = SimulatedWorkers([], tile_seconds=0.5), Counting()
    queue.answers.clear()
    others = [Tile(1, row, 0) for row in range(4)]
    scheduler = Scheduler([Tile(0, 0, 0), *others], 1)
    began = time.monotonic()
    run(scheduler, simulated, watcher, lambda: watcher.ticks > 36, simulated.clock, successors)
    assert time.monotonic() - began < 30
    assert sorted(watcher.tiles) == [Tile(0, 0, 0), *others]
    assert scheduler.finished
    assert successors.pending
    assert watcher.ready == []


def test_what_fails_in_the_thread_ends_the_loop(
    queue: ChainQueue, successors: BackgroundSuccessors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(work: Work, done: Done) -> list[Work]:
        raise ClusterError("the store cannot be reached")

    monkeypatch.setattr(queue, "after", fails)
    simulated = SimulatedWorkers([])
    scheduler = Scheduler([Tile(0, 0, 0)], 1)
    with pytest.raises(ClusterError, match="cannot be reached"):
        run(scheduler, simulated, Watcher(), lambda: False, simulated.clock, successors)


def test_a_driver_that_stops_does_not_wait_for_a_store_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would wait for half a minute."""
    store = create(tmp_path / "a.zarr")
    steps, renderer = StepQueue(store, ASKED, keep_schedule=False), HillRenderer(store)
    first = steps.begin()
    done = [(step, renderer(step)) for step in first if isinstance(step, Step)]
    asked = threading.Event()

    def gone(*_: object) -> None:
        asked.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Store, "write_note", gone)
    began = time.monotonic()
    with BackgroundSuccessors(steps) as successors:
        for step, facts in done:
            successors.completed(step, Done(0, facts.points, 1.0))
        assert asked.wait(20)
        assert successors.pending
    assert time.monotonic() - began < 20


def test_waiting_for_the_store_can_be_cancelled() -> None:
    cancelled, tries = threading.Event(), list[int]()

    def gone() -> None:
        tries.append(1)
        cancelled.set()
        raise OSError(5, "Input/output error")

    with pytest.raises(ClusterError, match="Input/output error"):
        patiently(gone, cancelled)
    assert len(tries) == 2


def test_notes_are_written_in_order_and_nobody_waits_for_them() -> None:
    written, may_write = list[int](), threading.Event()

    def write(number: int) -> None:
        may_write.wait()
        written.append(number)
        if number == 1:
            raise OSError(28, "No space left on device")

    notes = NoteWriter()
    for number in range(3):
        notes.submit(lambda number=number: write(number), f"note {number}")  # type: ignore[misc]
    assert notes.warnings() == []
    assert written == []
    may_write.set()
    assert notes.close() == ["note 1: [Errno 28] No space left on device"]
    assert written == [0, 1, 2]
