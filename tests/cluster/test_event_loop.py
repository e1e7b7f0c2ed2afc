"""The loop with simulated workers: the same seam as Ray's, no processes and no waiting."""

from __future__ import annotations

import heapq
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.event_loop import run
from cluster.scheduling.events import Done, Event, Failed, Joined, Lost
from cluster.scheduling.scheduler import Rules, Scheduler
from pipeline.geometry.grid import Tile
from tests.cluster.watcher import Watcher


class SimulatedWorkers:
    """Workers of a simulated machine park; `wait` moves its clock to the next event."""

    def __init__(self, fates: list[str], tile_seconds: float = 30.0) -> None:
        self.now = 0.0
        self.busy_seconds = 0.0
        self._fates = fates
        self._tile_seconds = tile_seconds
        self._events: list[tuple[float, int, Event]] = []
        self._count = 0
        self._alive: set[int] = set()

    def clock(self) -> float:
        return self.now

    def start(self, worker: int) -> None:
        self._alive.add(worker)
        self._at(5.0, Joined(worker))

    def render(self, worker: int, tile: Tile) -> None:
        fate = self._fates.pop() if self._fates else "done"
        match fate:
            case "done":
                self.busy_seconds += self._tile_seconds
                self._at(self._tile_seconds, Done(worker, 1, self._tile_seconds))
            case "raise":
                self._at(1.0, Failed(worker, "bad"))
            case "die":
                self._at(1.0, Lost(worker, "died"))
            case "preempt":
                self._at(1.0, Lost(worker, "node went", preempted=True))
            case "hang":
                pass

    def kill(self, worker: int) -> None:
        self._alive.discard(worker)

    def wait(self, seconds: float) -> list[Event]:
        limit = self.now + seconds
        if not self._events or self._events[0][0] > limit:
            self.now = limit
            return []
        self.now = max(self.now, self._events[0][0])
        news = []
        while self._events and self._events[0][0] <= self.now:
            news.append(heapq.heappop(self._events)[2])
        return [item for item in news if item.worker in self._alive]

    def obstacle(self) -> str:
        return ""

    def close(self) -> None:
        self._alive.clear()

    def _at(self, seconds: float, news: Event) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, news))


FATES = st.lists(st.sampled_from(["done", "raise", "die", "preempt", "hang"]), max_size=25)


@given(fates=FATES, workers=st.integers(1, 5))
def test_whatever_happens_every_tile_ends_once(fates: list[str], workers: int) -> None:
    tiles = [Tile(0, row, 0) for row in range(12)]
    simulated, watcher = SimulatedWorkers(fates), Watcher()
    scheduler = Scheduler(tiles, workers, Rules(hopeless_tries=10**6))
    run(scheduler, simulated, watcher, lambda: simulated.now > 10**6, simulated.clock)
    assert scheduler.finished
    assert max(Counter(watcher.tiles).values(), default=1) == 1
    assert sorted([*watcher.tiles, *watcher.given_up]) == tiles


def test_many_workers_are_kept_busy() -> None:
    tiles = (Tile(0, row, 0) for row in range(20_000))
    simulated, watcher = SimulatedWorkers([]), Watcher()
    run(Scheduler(tiles, 1000), simulated, watcher, lambda: False, simulated.clock)
    assert len(watcher.tiles) == 20_000
    assert simulated.busy_seconds / (1000 * simulated.now) > 0.98


def test_it_stops_when_asked() -> None:
    simulated, watcher = SimulatedWorkers([]), Watcher()
    scheduler = Scheduler([Tile(0, row, 0) for row in range(100)], 2)
    run(scheduler, simulated, watcher, lambda: len(watcher.tiles) >= 10, simulated.clock)
    assert 10 <= len(watcher.tiles) < 14
    assert not scheduler.finished


def test_who_finished_while_the_store_held_the_driver_up_is_not_taken_for_late() -> None:
    simulated, watcher = SimulatedWorkers([]), Watcher()
    held_up: list[float] = []

    def hold_up(scheduler: Scheduler) -> None:
        if simulated.now > 100.0 and not held_up:
            held_up.append(simulated.now)
            simulated.now += 400.0

    watcher.ticked = hold_up  # type: ignore[method-assign]
    scheduler = Scheduler([Tile(0, row, 0) for row in range(12)], 2)
    run(scheduler, simulated, watcher, lambda: False, simulated.clock)
    assert held_up
    assert (len(watcher.tiles), scheduler.lost_count, watcher.warnings) == (12, 0, [])


def test_nor_while_the_store_held_up_what_follows_a_tile() -> None:
    """Twice: while the second worker's tile is heard of, the first has finished its next one."""
    # One worker is a second behind the other.
    simulated, watcher = (
        SimulatedWorkers(["raise"]),
        Watcher(),
    )
    rendered = watcher.rendered

    def hold_up(tile: Tile, done: Done) -> None:
        rendered(tile, done)
        if 4 <= len(watcher.tiles) < 6:
            simulated.now += 400.0

    watcher.rendered = hold_up  # type: ignore[method-assign]
    scheduler = Scheduler([Tile(0, row, 0) for row in range(12)], 2)
    run(scheduler, simulated, watcher, lambda: False, simulated.clock)
    assert simulated.now > 800.0
    assert (len(watcher.tiles), scheduler.lost_count, watcher.warnings) == (12, 0, [])
