"""The loop: carries the scheduler's decisions to the workers, and their news back.

`Crew` is the seam: Ray's actors, the driver itself (serial) and simulated workers look the same
from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cluster.scheduling.scheduler import Kill, Quarantine, Render, Scheduler, Stalled, Start, Warn
from pipeline.geometry.grid import Work

TICK_SECONDS = 0.25


@dataclass(frozen=True)
class Joined:
    """A worker is ready for its first tile."""

    worker: int


@dataclass(frozen=True)
class Done:
    """A worker committed its tile of `points` grid points in `seconds`, writing included."""

    worker: int
    points: int
    seconds: float
    write_seconds: float = 0.0


@dataclass(frozen=True)
class Failed:
    """The evaluation of a worker's tile raised."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Unwritable:
    """The store did not take a worker's tile, or did not give what that needs."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Lost:
    """A worker is gone; `preempted` where its machine was taken away."""

    worker: int
    reason: str
    preempted: bool = False


News = Joined | Done | Failed | Unwritable | Lost


class Crew(Protocol):
    """Workers that render tiles one at a time each, and bring news."""

    def start(self, worker: int) -> None:
        """Bring up a worker; `Joined` or `Lost` follows."""

    def render(self, worker: int, work: Work) -> None:
        """Give an idle worker something; `Done`, `Failed`, `Unwritable` or `Lost` follows."""

    def kill(self, worker: int) -> None:
        """End a worker; no news of it follows."""

    def wait(self, seconds: float) -> list[News]:
        """The news there is, waiting at most `seconds` for the first."""

    def obstacle(self) -> str:
        """Why no worker comes up, where that is known: what to add to a warning; or nothing."""

    def close(self) -> None:
        """End every worker, at once."""


class Observer(Protocol):
    """Who watches a render: the progress display and the notes in the store."""

    def rendered(self, work: Work, done: Done) -> None: ...

    def quarantined(self, work: Work, reasons: tuple[str, ...]) -> None: ...

    def warned(self, text: str) -> None: ...

    def ticked(self, scheduler: Scheduler) -> None: ...


def run(
    scheduler: Scheduler,
    crew: Crew,
    observer: Observer,
    stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Render until every tile is settled, the scheduler gives up, or `stop()` says so.

    Args:
        scheduler: holds the tiles, and afterwards how they ended.
        crew: the workers; left running.
        observer: told of every tile and warning.
        stop: asked several times a second.
        clock: seconds, never going back.
    """
    while True:
        for action in scheduler.decide(clock()):
            match action:
                case Start(worker):
                    crew.start(worker)
                case Render(worker, tile):
                    crew.render(worker, tile)
                case Kill(worker, reason):
                    crew.kill(worker)
                    observer.warned(f"worker {worker} is lost: it {reason}")
                case Quarantine(tile, reasons):
                    observer.quarantined(tile, reasons)
                case Stalled(text):
                    observer.warned(f"{text}{crew.obstacle()}")
                case Warn(text):
                    observer.warned(text)
        if scheduler.finished or scheduler.stopped is not None or stop():
            return
        heard = crew.wait(TICK_SECONDS)
        began = clock()
        for news in heard:
            _tell(scheduler, observer, news, clock())
        observer.ticked(scheduler)
        # A store that does not answer holds the observer up: hear who finished meanwhile, before
        # the scheduler takes them for late. Hearing them may take as long again.
        while clock() - began > TICK_SECONDS and (heard := crew.wait(0.0)):
            began = clock()
            for news in heard:
                _tell(scheduler, observer, news, clock())


def _tell(scheduler: Scheduler, observer: Observer, news: News, now: float) -> None:
    match news:
        case Joined(worker):
            scheduler.joined(worker, now)
        case Done(worker, points):
            tile = scheduler.done(worker, now, points)
            if tile is not None:
                observer.rendered(tile, news)
        case Failed(worker, reason):
            scheduler.failed(worker, reason, now)
        case Unwritable(worker, reason):
            scheduler.unwritable(worker, reason, now)
        case Lost(worker, reason, preempted):
            observer.warned(f"worker {worker} is lost: {reason}")
            scheduler.lost(worker, reason, now, preempted)
