"""Coroutines for code that cannot yield: tasks that run in turn and meet half-way.

A network's forward pass is a plain call, so it cannot be suspended where a batch norm needs the
statistics of examples that another call is still on the way to. Each call gets a thread of its
own, but only one runs at any time: every task goes as far as the next meeting, then hands over.
So the tasks' order is fixed, each works on data that is still in the cache, and no lock is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from threading import Semaphore
from typing import Any, TypeVar

from pipeline.errors import LossatlasError, one_line

T = TypeVar("T")
Combine = Callable[[list[Any]], Any]
Meet = Callable[[Any, Combine], Any]


class LockstepError(LossatlasError):
    """The tasks do not all meet equally often."""


def lockstep(tasks: Sequence[Callable[[Meet], T]], threads: Executor) -> list[T]:
    """Run `tasks` in turn, from meeting to meeting, and return their results in order.

    Args:
        tasks: each is called with `meet(value, combine)`, which returns, once every task has
            come to it, `combine` of all their values in the order of the tasks.
        threads: at least as many as tasks.

    Raises:
        LockstepError: a task ended while another still wanted to meet, or there is no thread for
            one.
        Exception: the first one that a task raised.
    """
    if len(tasks) == 1:
        return [tasks[0](lambda value, combine: combine([value]))]
    line = _Line(len(tasks))
    futures = []
    try:
        for place, task in enumerate(tasks):
            futures.append(threads.submit(line.run, place, task))
    except RuntimeError as error:
        line.abandon(
            LockstepError(
                f"no thread for each of {len(tasks)} chunks ({one_line(error)}); wanted one. Use "
                "fewer examples in the calibrating split, or allow more threads"
            )
        )
    results = [future.result() for future in futures]
    if line.failure is not None:
        raise line.failure
    return results


class _Abandoned(BaseException):
    """Unwinds the other tasks once one has failed."""


class _Line:
    """One round after another of tasks handing over in a fixed order."""

    def __init__(self, count: int) -> None:
        self.failure: Exception | None = None
        self._turns = [Semaphore(1 if place == 0 else 0) for place in range(count)]
        self._brought: list[Any] = []
        self._combined: Any = None
        self._meetings = 0

    def run(self, place: int, task: Callable[[Meet], T]) -> Any:
        result = None
        self._turns[place].acquire()
        try:
            if self.failure is None:
                result = task(lambda value, combine: self._meet(place, value, combine))
        except _Abandoned:
            pass
        except Exception as error:
            self.failure = error
        self._hand_over(place)
        return result

    def abandon(self, failure: Exception) -> None:
        """Let everybody go, also those that wait for tasks which never began."""
        self.failure = failure
        for turn in self._turns:
            turn.release()

    def _meet(self, place: int, value: Any, combine: Combine) -> Any:
        meetings = self._meetings
        self._brought.append(value)
        if place == len(self._turns) - 1 and len(self._brought) == len(self._turns):
            self._combined = combine(self._brought)
            self._brought = []
            self._meetings += 1
        self._hand_over(place)
        self._turns[place].acquire()
        if self.failure is not None:
            raise _Abandoned
        if self._meetings == meetings:
            raise LockstepError(
                "the network meets a different number of batch norms for different examples; "
                "wanted the same for all. Use batch_norm: frozen"
            )
        return self._combined

    def _hand_over(self, place: int) -> None:
        self._turns[(place + 1) % len(self._turns)].release()
