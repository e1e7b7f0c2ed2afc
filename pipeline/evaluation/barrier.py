"""A barrier for forward passes: several wait for each other at every batch norm.

A batch norm needs the statistics of all chunks of a split before any chunk can go on, and a
forward pass is a plain call that cannot be suspended. So each chunk has a thread of its own. Only
one thread runs at any time: it goes as far as the next barrier and hands over to the next one. The
order of the chunks is therefore fixed, each works on data that is still in the cache, and no lock
is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from threading import Semaphore
from typing import Any, TypeVar

from pipeline.errors import LossatlasError, one_line

T = TypeVar("T")
Combine = Callable[[list[Any]], Any]
# barrier(value, combine) waits for all tasks and returns what `combine` makes of their values.
Barrier = Callable[[Any, Combine], Any]


class BarrierError(LossatlasError):
    """The tasks do not all reach the barrier equally often."""


def run_with_barrier(tasks: Sequence[Callable[[Barrier], T]], threads: Executor) -> list[T]:
    """Run `tasks` in turn, from barrier to barrier, and return their results in order.

    Args:
        tasks: each is called with `barrier(value, combine)`. It returns `combine` of all tasks'
            values, in the order of the tasks, once every task has reached it.
        threads: at least as many as tasks.

    Raises:
        BarrierError: a task ended while another waited at a barrier, or there are too few threads.
        Exception: the first one that a task raised.
    """
    if len(tasks) == 1:
        return [tasks[0](lambda value, combine: combine([value]))]
    turns = _Turns(len(tasks))
    futures = []
    try:
        for place, task in enumerate(tasks):
            futures.append(threads.submit(turns.run, place, task))
    except RuntimeError as error:
        turns.abandon(
            BarrierError(
                f"no thread for each of {len(tasks)} chunks ({one_line(error)}); wanted one. Use "
                "fewer examples in the calibrating split, or allow more threads"
            )
        )
    results = [future.result() for future in futures]
    if turns.failure is not None:
        raise turns.failure
    return results


class _Abandoned(BaseException):
    """Ends the other tasks once one has failed."""


class _Turns:
    """Lets one task run at a time, in a fixed order."""

    def __init__(self, count: int) -> None:
        self.failure: Exception | None = None
        self._turns = [Semaphore(1 if place == 0 else 0) for place in range(count)]
        self._values: list[Any] = []
        self._combined: Any = None
        self._barriers = 0

    def run(self, place: int, task: Callable[[Barrier], T]) -> Any:
        """Run the task at `place` in this thread, whenever it is its turn."""
        result = None
        self._turns[place].acquire()
        try:
            if self.failure is None:
                result = task(lambda value, combine: self._wait(place, value, combine))
        except _Abandoned:
            pass
        except Exception as error:
            self.failure = error
        self._hand_over(place)
        return result

    def abandon(self, failure: Exception) -> None:
        """End all tasks, also those that wait for tasks which never began."""
        self.failure = failure
        for turn in self._turns:
            turn.release()

    def _wait(self, place: int, value: Any, combine: Combine) -> Any:
        barriers = self._barriers
        self._values.append(value)
        if place == len(self._turns) - 1 and len(self._values) == len(self._turns):
            self._combined = combine(self._values)
            self._values = []
            self._barriers += 1
        self._hand_over(place)
        self._turns[place].acquire()
        if self.failure is not None:
            raise _Abandoned
        if self._barriers == barriers:
            raise BarrierError(
                "the network meets a different number of batch norms for different examples; "
                "wanted the same for all. Use batch_norm: frozen"
            )
        return self._combined

    def _hand_over(self, place: int) -> None:
        self._turns[(place + 1) % len(self._turns)].release()
