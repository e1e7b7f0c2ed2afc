"""The event loop: carries the scheduler's decisions to the workers, and their events back.

`Workers` is the interface: Ray's actors, the driver's own process (serial) and simulated workers
implement it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from cluster.scheduling.actions import Kill, Quarantine, Render, Stalled, Start, Warn
from cluster.scheduling.events import Done, Event, Failed, Joined, Lost, Unwritable
from cluster.scheduling.scheduler import Scheduler
from cluster.scheduling.successors import NoSuccessors, Ready, Successors
from pipeline.geometry.grid import Work

TICK_SECONDS = 0.25


class Workers(Protocol):
    """Workers that render one tile at a time each, and report events."""

    def start(self, worker: int) -> None:
        """Start a worker; `Joined` or `Lost` follows."""

    def render(self, worker: int, work: Work) -> None:
        """Give work to an idle worker; `Done`, `Failed`, `Unwritable` or `Lost` follows."""

    def kill(self, worker: int) -> None:
        """End a worker; no event of it follows."""

    def wait(self, seconds: float) -> list[Event]:
        """Return the events so far, waiting at most `seconds` for the first."""

    def obstacle(self) -> str:
        """Why no worker starts, as the end of a warning; empty if that is not known."""

    def close(self) -> None:
        """End every worker at once."""


class Observer(Protocol):
    """Receives what happens in a render. It adds no work, and its methods return quickly."""

    def rendered(self, work: Work, done: Done) -> None: ...

    def advanced(self, ready: Ready) -> None: ...

    def quarantined(self, work: Work, reasons: tuple[str, ...]) -> None: ...

    def warn(self, text: str) -> None: ...

    def ticked(self, scheduler: Scheduler) -> None: ...


def run(
    scheduler: Scheduler,
    workers: Workers,
    observer: Observer,
    stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    successors: Successors | None = None,
) -> None:
    """Render until every tile is settled, the scheduler gives up, or `stop()` is true.

    Args:
        scheduler: holds the tiles, and afterwards how they ended.
        workers: are left running at the end.
        observer: receives every finished tile and every warning.
        stop: called several times a second.
        clock: seconds, never going back.
        successors: finds the work that a committed step makes ready; None if nothing follows.
    """
    successors = successors or NoSuccessors()
    while True:
        for action in scheduler.decide(clock()):
            match action:
                case Start(worker):
                    workers.start(worker)
                case Render(worker, tile):
                    workers.render(worker, tile)
                case Kill(worker, reason):
                    workers.kill(worker)
                    observer.warn(f"worker {worker} is lost: it {reason}")
                case Quarantine(tile, reasons):
                    observer.quarantined(tile, reasons)
                case Stalled(text):
                    observer.warn(f"{text}{workers.obstacle()}")
                case Warn(text):
                    observer.warn(text)
        is_done = scheduler.finished and not successors.pending
        if is_done or scheduler.stopped is not None or stop():
            return
        events = workers.wait(TICK_SECONDS)
        began = clock()
        for event in events:
            _handle(scheduler, observer, successors, event, clock())
        for ready in successors.collect(TICK_SECONDS):
            scheduler.add(ready.work)
            scheduler.expect(ready.expected_seconds)
            observer.advanced(ready)
        observer.ticked(scheduler)
        # If anything above took long, handle what workers finished meanwhile, before the scheduler
        # takes them for late. Handling that may take long as well.
        while clock() - began > TICK_SECONDS and (events := workers.wait(0.0)):
            began = clock()
            for event in events:
                _handle(scheduler, observer, successors, event, clock())


def _handle(
    scheduler: Scheduler, observer: Observer, successors: Successors, event: Event, now: float
) -> None:
    match event:
        case Joined(worker):
            scheduler.joined(worker, now)
        case Done(worker, points):
            tile = scheduler.done(worker, now, points)
            if tile is not None:
                observer.rendered(tile, event)
                successors.completed(tile, event)
        case Failed(worker, reason):
            scheduler.failed(worker, reason, now)
        case Unwritable(worker, reason):
            scheduler.unwritable(worker, reason, now)
        case Lost(worker, reason, preempted):
            observer.warn(f"worker {worker} is lost: {reason}")
            scheduler.lost(worker, reason, now, preempted)
