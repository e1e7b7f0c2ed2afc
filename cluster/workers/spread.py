"""Painting on a cluster: the pieces of a large picture as Ray tasks.

Ray repeats a piece if its worker or its node is lost. The calling process writes the file, so the
machines need no shared folder.
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
"""Pieces a task: a piece takes about ten milliseconds, and the overhead of a task is about one."""


@contextlib.contextmanager
def over_cluster(address: str) -> Iterator[Spread]:
    """Spread over the Ray cluster at `address`.

    Raises:
        ClusterError: there is no cluster there, it runs another lossatlas, or it is lost.
        LossatlasError: raised by the work itself.
    """
    with local.joined(address) as ray:
        for module in (packages, sys.modules[__name__]):
            ray.cloudpickle.register_pickle_by_value(module)
        task = ray.remote(num_cpus=1, max_retries=3)(_run_batch)
        ours = running("renders")

        def spread(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
            # Pickled once, and fetched once by each worker: the spline of a landscape is megabytes.
            packed = ray.put(ray.cloudpickle.dumps(work))
            pending: deque[Any] = deque()
            most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
            try:
                for batch in _batches(items):
                    pending.append(task.remote(packages.ROOT, ours, [packed], batch))
                    if len(pending) >= most:
                        yield from _results(ray, pending.popleft(), address)
                while pending:
                    yield from _results(ray, pending.popleft(), address)
            finally:
                for reference in pending:
                    ray.cancel(reference)

        yield spread


def _run_batch(root: str, ours: Running, packed: list[Any], items: list[Any]) -> list[Any]:
    """On a worker: the results of a few items."""
    pin(root)
    work = _unpickled(ours, packed[0])
    return [work(item) for item in items]


@functools.lru_cache(maxsize=4)
def _unpickled(ours: Running, packed: Any) -> Callable[[Any], Any]:
    import ray

    check_same(running(ours.package), ours)
    work: Callable[[Any], Any] = ray.cloudpickle.loads(ray.get(packed))
    return work


def _results(ray: Any, reference: Any, address: str) -> list[Any]:
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
