"""Spreading work: an ordered `map` with several at work and few results waiting.

Whoever paints takes a `Spread`, and does not know what is behind it: the threads of this machine,
or the workers of a cluster (`cluster.workers.spread`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Spread(Protocol):
    """`map` over more than one worker."""

    def __call__(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """What `work` gives for every item, in order; memory is bounded by a few results.

        Args:
            work: a pure function, picklable where the workers are other processes.
            items: taken a few ahead of what is asked for.
        """


def over_threads(threads: int | None = None) -> Spread:
    """Spread over so many threads of this process, the cores by default."""
    count = threads or os.cpu_count() or 1

    def spread(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        running: deque[Future[R]] = deque()
        with ThreadPoolExecutor(count) as pool:
            try:
                for item in items:
                    running.append(pool.submit(work, item))
                    # As many again may wait: a worker need not stop where the first is slow.
                    if len(running) >= 2 * count:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for future in running:
                    future.cancel()

    return spread
