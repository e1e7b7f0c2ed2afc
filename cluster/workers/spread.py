"""Painting on a cluster: the pieces of a large picture as Ray tasks, put together here.

Ray tries a piece again where its worker or its node is lost. Whoever asks writes the file, so the
machines need no folder in common.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.errors import ClusterError
from cluster.workers import local, packages
from cluster.workers.packages import Running, pin, running
from cluster.workers.workers import check_same

if TYPE_CHECKING:
    from renders.spread import Spread

T = TypeVar("T")
R = TypeVar("R")

_BATCH = 8
"""Pieces a task: one takes some ten milliseconds, and a task costs about one."""


@contextlib.contextmanager
def over_cluster(address: str) -> Iterator[Spread]:
    """Spread over the Ray cluster at `address`.

    Raises:
        ClusterError: there is no cluster there, it runs another lossatlas, or it is lost.
        LossatlasError: what the work itself raises.
    """
    with local.joined(address) as ray:
        for module in (packages, sys.modules[__name__]):
            ray.cloudpickle.register_pickle_by_value(module)
        task = ray.remote(num_cpus=1, max_retries=3)(_done)
        ours = running("renders")

        def spread(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
            # Pickled once, and fetched once by each worker: a landscape's spline is megabytes.
            packed = ray.put(ray.cloudpickle.dumps(work))
            waiting: deque[Any] = deque()
            most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
            try:
                for batch in _batches(items):
                    waiting.append(task.remote(packages.ROOT, ours, [packed], batch))
                    if len(waiting) >= most:
                        yield from _heard(ray, waiting.popleft(), address)
                while waiting:
                    yield from _heard(ray, waiting.popleft(), address)
            finally:
                for reference in waiting:
                    ray.cancel(reference)

        yield spread


def _done(root: str, ours: Running, packed: list[Any], items: list[Any]) -> list[Any]:
    """On a worker: the results of a few items."""
    pin(root)
    work = _unpacked(ours, packed[0])
    return [work(item) for item in items]


@functools.lru_cache(maxsize=4)
def _unpacked(ours: Running, packed: Any) -> Callable[[Any], Any]:
    import ray

    check_same(running(ours.package), ours)
    work: Callable[[Any], Any] = ray.cloudpickle.loads(ray.get(packed))
    return work


def _heard(ray: Any, reference: Any, address: str) -> list[Any]:
    try:
        found: list[Any] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"a piece of the picture was lost on {address} again and again "
            f"({type(error).__name__}); wanted workers that stay. Paint it here: leave --address "
            "out"
        ) from None
    return found


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, _BATCH)):
        yield batch
