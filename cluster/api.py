"""Renders and trainings from Python: what the commands do, as functions.

They print nothing but what `tell` is given, and say with exceptions what commands say with exit
codes. `cluster` is told apart from this machine by `address`, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cluster.errors import ClusterError
from cluster.options import from_command_line
from cluster.workers.devices import DeviceChoice
from pipeline.url import store_url

if TYPE_CHECKING:
    from cluster.monitor.status import Status
    from cluster.options import Options
    from pipeline.plan import Plan
    from pipeline.spec import RenderSpec

Tell = Callable[[str], None]


def plan(
    spec: RenderSpec | str | Path, *, workers: int | None = None, device: DeviceChoice = "auto"
) -> Plan:
    """What a render will cost; writes nothing.

    Args:
        spec: what to render, or the file that says it.
        workers: how many; None is one a GPU, or one a CPU core.
        device: auto, cpu or cuda.

    Returns:
        Points, tiles, seconds, and bytes of disk and memory.

    Raises:
        LossatlasError: one line on whatever is missing or does not fit.
    """
    from cluster.workers import devices
    from pipeline import plan as plans
    from pipeline import prepare

    prepared = prepare.prepare(_spec(spec))
    worker_plan = devices.plan_workers(workers, device)
    return plans.estimate(prepared, worker_plan.count, worker_plan.device.name)[1]


def render(
    spec: RenderSpec | str | Path,
    *,
    workers: int | None = None,
    device: DeviceChoice = "auto",
    executor: Literal["ray", "serial"] = "ray",
    address: str | None = None,
    frames: str | None = None,
    every: int = 1,
    other_versions: bool = False,
    tell: Tell | None = None,
) -> Status:
    """Render a spec, or go on with it where its store exists. Call it in the main thread.

    Args:
        spec: what to render, or the file that says it.
        workers, device: as for `plan`.
        executor: ray, in processes of their own; serial, in this one, for tiny grids.
        address: HOST:PORT of a Ray cluster to use instead of this machine.
        frames, every: of a film: a range such as "100:200", and every n-th of them.
        other_versions: go on although the store was begun with another torch or numpy.
        tell: takes the lines that the command prints with --quiet, such as how to go on.

    Returns:
        How far the store is.

    Raises:
        KeyboardInterrupt: it was stopped; what is finished is kept.
        ClusterError: tiles are quarantined, or a certificate failed.
        LossatlasError: one line on whatever is missing or does not fit.
    """
    from cluster.driver import drive

    asked = _spec(spec)
    options = _options(workers, device, executor, address, frames, every, other_versions)
    return _finished(asked.store, lambda say: drive.render(asked, options, say), tell)


def resume(
    run: str | Path,
    *,
    workers: int | None = None,
    device: DeviceChoice = "auto",
    executor: Literal["ray", "serial"] = "ray",
    address: str | None = None,
    frames: str | None = None,
    every: int = 1,
    other_versions: bool = False,
    trust: str | None = None,
    tell: Tell | None = None,
) -> Status:
    """Go on with a render that was stopped. Call it in the main thread.

    Args:
        run: its store: a path or a URL.
        trust: the digest of the code in the store, which you have looked at.
        workers, device, executor, address, frames, every, other_versions, tell: as for `render`.

    Returns, Raises: as `render`.
    """
    from cluster.driver import drive

    url = store_url(run)
    options = _options(workers, device, executor, address, frames, every, other_versions)
    return _finished(url, lambda say: drive.resume(url, options, say, trust), tell)


def status(run: str | Path) -> Status:
    """How far a render is, read from its store alone.

    Args:
        run: a path or a URL.

    Raises:
        LossatlasError: there is no such store, or it cannot be read.
    """
    from cluster.monitor.status import read_status
    from pipeline.store.store import Store

    return read_status(Store.open(store_url(run)))


def fit(spec: str | Path, *, device: DeviceChoice = "auto") -> Path:
    """Train one mode from fresh weights, or go on where it stopped.

    Args:
        spec: a file as for `lossatlas fit`.
        device: auto, cpu or cuda.

    Returns:
        The folder with mode.safetensors.

    Raises:
        LossatlasError: one line on whatever is missing or does not fit.
    """
    from cluster.workers.devices import torch_device
    from pipeline.training import fit as fitting
    from pipeline.training.spec import read_fit

    read = read_fit(spec)
    fitting.fit(fitting.prepare(read), torch_device(device))
    return Path(read.out)


def connect(spec: str | Path, *, device: DeviceChoice = "auto") -> Path:
    """Find a curve of low loss between two modes, or go on where it stopped.

    Args:
        spec: a file as for `lossatlas connect`.
        device: auto, cpu or cuda.

    Returns:
        The folder with curve.safetensors and frames/.

    Raises:
        LossatlasError: one line on whatever is missing or does not fit.
    """
    from cluster.workers.devices import torch_device
    from pipeline.training import connect as connecting
    from pipeline.training.spec import read_connect

    read = read_connect(spec)
    connecting.connect(connecting.prepare(read), torch_device(device))
    return Path(read.out)


def _spec(spec: RenderSpec | str | Path) -> RenderSpec:
    from pipeline.spec import RenderSpec, read

    return spec if isinstance(spec, RenderSpec) else read(spec)


def _options(
    workers: int | None,
    device: DeviceChoice,
    executor: Literal["ray", "serial"],
    address: str | None,
    frames: str | None,
    every: int,
    other_versions: bool,
) -> Options:
    asked = {
        "workers": workers, "device": device, "executor": executor, "address": address,
        "frames": frames, "every": every, "other_versions": other_versions, "quiet": True,
        "log": "text",
    }  # fmt: skip
    return from_command_line(asked)


def _finished(url: str, work: Callable[[Tell], int], tell: Tell | None) -> Status:
    """Run `work`, which gives an exit code; raise where that is not 0."""
    from cluster.workers.interrupts import EXIT_CODE

    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if tell is not None:
            tell(line)

    code = work(say)
    if code == EXIT_CODE:
        raise KeyboardInterrupt
    if code:
        raise ClusterError("; ".join(lines) or f"{url} is not finished: see lossatlas status {url}")
    return status(url)
