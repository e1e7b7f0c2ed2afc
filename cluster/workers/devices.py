"""How many workers on which devices: one per GPU, or one per CPU core with one thread each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

from cluster.errors import ClusterError
from cluster.workers.workers import Device

DeviceChoice = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class WorkerPlan:
    """The workers of a render: how many, each on `device`; together they share `gpus` GPUs."""

    count: int
    device: Device
    gpus: int = 0


def plan_workers(workers: int | None, device: DeviceChoice, ray: Any = None) -> WorkerPlan:
    """Plan the workers; what the user left open follows from the hardware.

    The hardware is this machine, or the cluster of `ray`. A cluster may have no GPU yet: if both
    `workers` and `device` are given, the workers wait for one.

    Raises:
        ClusterError: the user asks for a GPU and there is none.
    """
    if ray is None:
        cores, gpus = _cores(), _gpus()
    else:
        resources = ray.cluster_resources()
        cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if device == "cuda" and gpus == 0 and not (ray and workers):
        raise ClusterError(
            "--device cuda: found no GPU that torch can use; wanted at least one. Check the "
            "driver and the torch build, or use --device cpu"
        )
    if device == "cuda" or (device == "auto" and gpus > 0):
        count = workers or gpus
        # A cluster may add GPUs later; one machine has no others.
        share = 1.0 if ray or count <= gpus else gpus / count
        return WorkerPlan(count, Device("cuda", gpus=share), gpus)
    return WorkerPlan(workers or max(1, cores), Device("cpu"))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def torch_device(asked: str) -> str:
    """The device that a training computes on: cpu, or cuda.

    Raises:
        ClusterError: it is cuda, and there is no GPU.
    """
    import torch

    found = torch.cuda.is_available()
    if asked == "cuda" and not found:
        raise ClusterError("--device cuda: torch sees no GPU here; wanted one. Leave --device out")
    return "cuda" if found and asked != "cpu" else "cpu"
