"""The work that becomes ready when other work is committed.

To find it, the driver of a refinement reads and writes the store. That happens in a thread, so that
the event loop goes on while the store does not answer.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from cluster.scheduling.events import Done
from cluster.scheduling.work_queue import WorkQueue
from pipeline.geometry.grid import Work


@dataclass(frozen=True)
class Ready:
    """What follows from one committed step.

    Attributes:
        work: can be rendered now.
        total: how much work there is in all, as far as that is known.
        phase: what is being done now, for people.
        expected_seconds: how long a step may take; None if nothing was measured.
    """

    work: list[Work]
    total: int
    phase: str
    expected_seconds: float | None


class Successors(Protocol):
    """Finds the successors of committed work."""

    @property
    def pending(self) -> bool:
        """Whether `collect` has not yet returned everything that follows."""

    def completed(self, work: Work, done: Done) -> None:
        """Note that `work` is committed; returns at once."""

    def collect(self, seconds: float) -> list[Ready]:
        """What was found, in the order of `completed`, waiting at most `seconds` for it."""


class NoSuccessors:
    """For renders of tiles, which do not depend on each other."""

    pending = False

    def completed(self, work: Work, done: Done) -> None: ...

    def collect(self, seconds: float) -> list[Ready]:
        return []


class BackgroundSuccessors:
    """Asks a work queue in one thread, in order; a context manager that ends the thread.

    Nothing else may use the queue meanwhile.
    """

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="successors")
        self._found: deque[Future[Ready]] = deque()

    def __enter__(self) -> BackgroundSuccessors:
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def pending(self) -> bool:
        return bool(self._found)

    def completed(self, work: Work, done: Done) -> None:
        self._found.append(self._thread.submit(self._after, work, done))

    def collect(self, seconds: float) -> list[Ready]:
        """See `Successors`.

        Raises:
            ClusterError: the store cannot be reached or written, or it holds damage.
        """
        wait(self._found, timeout=seconds)
        ready = []
        while self._found and self._found[0].done():
            ready.append(self._found.popleft().result())
        return ready

    def _after(self, work: Work, done: Done) -> Ready:
        queue = self._queue
        ready = queue.after(work, done)
        return Ready(ready, queue.total, queue.phase, queue.expected_seconds)
