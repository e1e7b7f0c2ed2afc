"""A training on a cluster: one task on one device, followed and stopped by this process.

Its inputs are sent by value. Its checkpoints are written to the folder of the spec on the machine
that trains: a folder that both machines share, or one of that machine alone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from cluster.errors import ClusterError
from cluster.workers import local, packages
from cluster.workers.packages import pin, running
from cluster.workers.workers import check_same

if TYPE_CHECKING:
    from pipeline.training.session import Outcome, Progress

_LOOK_SECONDS = 0.5
_STOP_SECONDS = 60.0

Train = Callable[..., Any]
"""`pipeline.training.connect.connect` or `pipeline.training.fit.fit`."""


class Trainer:
    """The remote side. It travels by value, as `cluster.workers.actor.TileWorker` does."""

    def __init__(self, root: str) -> None:
        pin(root)
        self._latest: Any = None
        self._stopping = False

    def report(self) -> dict[str, Any]:
        """What this process runs (`Running`, as a dict)."""
        return asdict(running())

    def train(self, train: Train, prepared: Any, device: str) -> Any:
        """Train to the end, or until `stop`; returns the outcome, or None if it was stopped."""
        with contextlib.suppress(KeyboardInterrupt):
            return train(prepared, device, self._note)
        return None

    def progress(self) -> Any:
        """The latest `Progress`, or None."""
        return self._latest

    def stop(self) -> None:
        """End the training between two steps; it goes on from its last checkpoint."""
        self._stopping = True

    def _note(self, progress: Any) -> None:
        self._latest = progress
        if self._stopping:
            raise KeyboardInterrupt


def train_on(
    address: str,
    train: Train,
    prepared: Any,
    device: Literal["auto", "cpu", "cuda"],
    on_progress: Callable[[Progress], None] | None,
) -> Outcome:
    """Train on the Ray cluster at `address`, on one of its GPUs if it has any.

    Args:
        address: host:port of its head.
        train: `pipeline.training.connect.connect` or `pipeline.training.fit.fit`.
        prepared: what to train, from `prepare` of the same module.
        device: to compute on; auto takes a GPU if there is one.
        on_progress: called about twice a second.

    Raises:
        ClusterError: no such cluster, no GPU although one is wanted, another lossatlas, or
            the training's process died; running it again goes on from its last checkpoint.
        LossatlasError: what the training itself raises.
        KeyboardInterrupt: passed on, after the training has stopped; running it again goes on
            from its last checkpoint.
    """
    with local.joined(address) as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        if device == "cuda" and gpus == 0:
            raise ClusterError(
                f"--device cuda: the cluster at {address} has no GPU; wanted one. Leave --device "
                "out"
            )
        use_gpu = gpus > 0 and device != "cpu"
        for module in (packages, sys.modules[__name__]):
            ray.cloudpickle.register_pickle_by_value(module)
        remote = ray.remote(
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,  # progress is asked for while it trains
            num_cpus=1,
            num_gpus=1 if use_gpu else 0,
        )(Trainer)
        handle = remote.remote(packages.ROOT)
        try:
            check_same(packages.Running(**ray.get(handle.report.remote())), packages.running())
            outcome = handle.train.remote(train, prepared, "cuda" if use_gpu else "cpu")
            return _watched(ray, handle, outcome, on_progress)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError:
            raise ClusterError(
                f"the training's process on {address} died; its last checkpoint is kept. Run the "
                "same command again to go on"
            ) from None


def _watched(
    ray: Any, handle: Any, outcome: Any, on_progress: Callable[[Progress], None] | None
) -> Outcome:
    try:
        while not ray.wait([outcome], timeout=_LOOK_SECONDS)[0]:
            latest = ray.get(handle.progress.remote())
            if latest is not None and on_progress is not None:
                on_progress(latest)
    except KeyboardInterrupt:
        handle.stop.remote()
        ray.wait([outcome], timeout=_STOP_SECONDS)
        raise
    found: Outcome = ray.get(outcome)
    latest = ray.get(handle.progress.remote())
    if latest is not None and on_progress is not None:
        on_progress(latest)
    return found
