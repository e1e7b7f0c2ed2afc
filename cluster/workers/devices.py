"""How many workers, and on what: one a GPU, or one a CPU core with a thread each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

from cluster.errors import ClusterError
from cluster.workers.workers import Device

DeviceChoice = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Team:
    """The workers of a render: how many, each on `device`; `gpus` is how many they share."""

    workers: int
    device: Device
    gpus: int = 0


def choose(workers: int | None, device: DeviceChoice, ray: Any = None) -> Team:
    """Settle what the user left open, from this machine or, where `ray` is given, its cluster.

    A cluster may have no GPU yet: with both `workers` and `device` given, workers wait for them.

    Raises:
        ClusterError: there is no GPU and the user wants one.
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
        # On a cluster more GPUs may be on their way; on one machine there are no others.
        share = 1.0 if ray or count <= gpus else gpus / count
        return Team(count, Device("cuda", gpus=share), gpus)
    return Team(workers or max(1, cores), Device("cpu"))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
