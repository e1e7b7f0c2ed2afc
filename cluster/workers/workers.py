"""Workers on Ray: one actor a device. The scheduler replaces lost actors, Ray does not."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.errors import ClusterError
from cluster.scheduling.events import Done, Event, Failed, Joined, Lost, Unwritable
from cluster.workers import actor, packages
from pipeline import format
from pipeline.errors import InputsChangedError, LossatlasError, described, one_line
from pipeline.geometry.grid import Work

_MACHINE_GONE = "its machine is gone"


@dataclass(frozen=True)
class Device:
    """The device of one worker: torch's name for it, and its share of Ray's resources."""

    name: str
    cpus: float = 1.0
    gpus: float = 0.0
    threads: int | None = 1


@dataclass(frozen=True)
class _Call:
    worker: int
    what: str


class RayWorkers:
    """The actors of one render; see `cluster.scheduling.event_loop.Workers`."""

    def __init__(
        self,
        ray: Any,
        renderer: Callable[..., Any],
        inputs: Any,
        store_url: str,
        device: Device,
    ) -> None:
        """Put the inputs into Ray's object store; no worker is started.

        Args:
            ray: the initialised module.
            renderer: `pipeline.task.TileRenderer`, or a class with the same arguments.
            inputs: for the renderer; picklable.
            store_url: of the store that tiles are committed to.
            device: the same for every worker.
        """
        self._ray = ray
        for module in (packages, actor):
            ray.cloudpickle.register_pickle_by_value(module)
        self._remote = ray.remote(
            max_restarts=0, max_task_retries=0, num_cpus=device.cpus, num_gpus=device.gpus
        )(actor.TileWorker)
        self._ours = packages.running()
        self._renderer = renderer
        self._inputs = ray.put(inputs)
        self._store_url = store_url
        self._device = device
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, _Call] = {}

    def start(self, worker: int) -> None:
        handle = self._remote.remote(packages.ROOT)
        self._actors[worker] = handle
        self._watch(handle.report.remote(), worker, "report")

    def render(self, worker: int, work: Work) -> None:
        self._watch(self._actors[worker].render.remote(work), worker, "tile")

    def kill(self, worker: int) -> None:
        handle = self._actors.pop(worker, None)
        if handle is not None:
            with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.kill(handle, no_restart=True)

    def wait(self, seconds: float) -> list[Event]:
        """The events of all calls that ended, after at most `seconds`.

        Raises:
            ClusterError: a worker runs another `pipeline` than the driver.
            InputsChangedError: a file has changed since the render began.
            LossatlasError: the user's files cannot be loaded on a worker.
        """
        if not self._calls:
            # There is nothing to wait for: the scheduler is backing off.
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=seconds)
        if not ready:
            return []
        ready, _ = self._ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0.0)
        events = [self._event_of(reference) for reference in ready]
        return [item for item in events if item is not None]

    def obstacle(self) -> str:
        """The resources that starting workers need and the cluster does not have."""
        have, free = self._ray.cluster_resources(), self._ray.available_resources()
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        if nodes == 0:
            return ". No node of the cluster is up"
        cluster = f"the cluster ({format.plural(nodes, 'node')})"
        for name, share in (("GPU", self._device.gpus), ("CPU", self._device.cpus)):
            if share > have.get(name, 0.0):
                return (
                    f". A worker wants {share:g} {name}, and {cluster} has "
                    f"{have.get(name, 0.0):g}: it waits for nodes that have them"
                )
            if share > free.get(name, 0.0):
                return (
                    f". All {have[name]:g} {name}s of {cluster} are taken, by this render's "
                    "workers or by others"
                )
        return ""

    def close(self) -> None:
        for worker in list(self._actors):
            self.kill(worker)

    # Inside

    def _watch(self, reference: Any, worker: int, what: str) -> None:
        self._calls[reference] = _Call(worker, what)

    def _event_of(self, reference: Any) -> Event | None:
        call = self._calls.pop(reference)
        worker = call.worker
        if worker not in self._actors:
            return None  # killed meanwhile: the scheduler no longer counts it
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except errors.RayTaskError as error:
            return self._event_of_exception(call, error.cause)
        except errors.RayError as error:
            self.kill(worker)
            reason = _how_it_died(error)
            # A worker that was starting on a machine that went away did not fail to start.
            starting = call.what != "tile" and reason == _MACHINE_GONE
            return Lost(worker, reason, starting or bool(getattr(error, "preempted", False)))
        match call.what:
            case "report":
                check_same(packages.Running(**answer), self._ours)
                handle = self._actors[worker]
                device = self._device
                self._watch(
                    handle.load.remote(
                        self._renderer,
                        self._inputs,
                        self._store_url,
                        device.name,
                        worker,
                        device.threads,
                    ),
                    worker,
                    "load",
                )
                return None
            case "load":
                return Joined(worker)
            case _:
                return Done(worker, *answer)

    def _event_of_exception(self, call: _Call, cause: BaseException) -> Event:
        """The event for an exception inside a worker; the worker itself goes on."""
        reason = describe(cause)
        if call.what == "tile":
            if isinstance(cause, InputsChangedError):
                raise cause
            if isinstance(cause, OSError):
                return Unwritable(call.worker, reason)
            return Failed(call.worker, reason)
        # These are no mistakes of the user: the store may answer the next worker, and another GPU
        # may have room.
        if isinstance(cause, LossatlasError) and not isinstance(cause, OSError | MemoryError):
            raise cause
        self.kill(call.worker)
        return Lost(call.worker, reason)


def check_same(theirs: packages.Running, ours: packages.Running) -> None:
    """Compare a worker's packages and versions with the driver's.

    Raises:
        ClusterError: they differ.
    """
    for name in ("python", "ray", "torch", "numpy"):
        here, there = getattr(ours, name), getattr(theirs, name)
        if here != there:
            raise ClusterError(
                f"the worker {theirs.pid} on {theirs.host} runs {name} {there} and this driver "
                f"{here}; wanted one version on every machine, or numbers differ in their last "
                "bits. Install the same environment everywhere"
            )
    if theirs.digest == ours.digest:
        return
    if theirs.folder == ours.folder:
        raise ClusterError(
            f"{ours.folder} has changed since this driver started; wanted one version all "
            "through a render. Start it again with lossatlas resume"
        )
    raise ClusterError(
        f"the worker {theirs.pid} on {theirs.host} runs another {ours.package} ({theirs.folder}, "
        f"{theirs.digest}) than this driver ({ours.folder}, {ours.digest}). Install the same "
        "lossatlas on every machine"
    )


def describe(error: BaseException) -> str:
    """One line: the error's type and message, and the line of code that raised it."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{described(error, 300)}{place}"


def _how_it_died(error: BaseException) -> str:
    text = one_line(error)
    if "running low on memory" in text:
        return "its process was killed because the machine ran low on memory"
    if getattr(error, "preempted", False):
        return "its machine was taken away"
    return _MACHINE_GONE if "node has died" in text else "its process died"
