"""The actor of a worker process: one tile renderer on one device.

The class is pickled by value (see `cluster.workers.packages`), because it must start and report
which packages its process runs before any of our modules are imported there.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cluster.workers.packages import pin, running

if TYPE_CHECKING:
    from collections.abc import Callable


class TileWorker:
    """Renders tiles one at a time. It writes the numbers to the store and returns small facts."""

    def __init__(self, root: str) -> None:
        pin(root)
        self._renderer: Any = None

    def report(self) -> dict[str, Any]:
        """The packages of this process (`Running`, as a dict); the driver compares them."""
        return asdict(running())

    def load(
        self,
        renderer: Callable[..., Any],
        inputs: Any,
        store_url: str,
        device: str,
        worker: int,
        threads: int | None,
    ) -> None:
        """Build the network, the data and the planes on the device."""
        self._renderer = renderer(inputs, store_url, device, worker, threads)

    def render(self, tile: Any) -> tuple[int, float, float]:
        """Evaluate, write and commit one tile; returns points, seconds, seconds of writing."""
        facts = self._renderer(tile)
        return facts.points, facts.seconds, facts.write_seconds
