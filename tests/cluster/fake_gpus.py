"""lossatlas on GPUs that exist for Ray alone: its workers compute on the CPU.

Run in place of `cluster.cli.main`. It charges a tile with its first strike and looks at the cluster
every second, so that tests see in seconds what else takes minutes.
"""

from __future__ import annotations

import sys
from typing import Any

from cluster.cli import main
from cluster.driver import session
from cluster.scheduling.scheduler import Rules
from cluster.workers import local
from pipeline import task


class CpuRenderer(task.TileRenderer):
    """Travels to the workers by value: this module is on no worker's path."""

    def __init__(self, inputs: Any, store_url: str, device: str, worker: int, threads: Any) -> None:
        assert device == "cuda"
        super().__init__(inputs, store_url, "cpu", worker, threads)


def _pretend() -> None:
    ray_module = local._ray
    task.TileRenderer = CpuRenderer  # type: ignore[misc]

    def ray() -> Any:
        module = ray_module()
        module.cloudpickle.register_pickle_by_value(sys.modules[CpuRenderer.__module__])
        return module

    local._ray = ray
    session._TEAM_SECONDS = 1.0
    session._SLOW_START = Rules(strikes=1, stall=4.0, start_deadline=1800.0)


if __name__ == "__main__":
    _pretend()
    main.main()
