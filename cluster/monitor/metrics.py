"""Numbers for Prometheus, through Ray's own exporter: one set a run, never one a tile."""

from __future__ import annotations

from typing import Any

from cluster.scheduling.events import Done
from cluster.scheduling.scheduler import Scheduler
from pipeline.geometry.grid import Work

_SECONDS = [0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800]
_WRITE_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30]


class Metrics:
    """The metrics of one driver; Ray puts `ray_` before each name."""

    def __init__(self, run: str) -> None:
        """Make the metrics; Ray must be up.

        Args:
            run: the label that all of them carry.
        """
        from ray.util.metrics import Counter, Gauge, Histogram

        def made(kind: Any, name: str, about: str, **more: Any) -> Any:
            metric = kind(f"lossatlas_{name}", description=about, tag_keys=("run",), **more)
            metric.set_default_tags({"run": run})
            return metric

        self._tiles = made(Counter, "tiles_done", "Tiles committed")
        self._points = made(Counter, "points_done", "Grid points committed")
        self._retries = made(Counter, "retries", "Tiles that were given back for another try")
        self._lost = made(Counter, "workers_lost", "Workers that ended before the render did")
        self._quarantined = made(Gauge, "tiles_quarantined", "Tiles given up for now")
        self._left = made(Gauge, "tiles_left", "Tiles neither done nor given up")
        self._workers = made(Gauge, "workers", "Workers that are up")
        self._wanted = made(Gauge, "workers_wanted", "Workers that should be up")
        self._tile = made(Histogram, "tile_seconds", "Time of a tile", boundaries=_SECONDS)
        self._write = made(
            Histogram, "store_write_seconds", "Time to store a tile", boundaries=_WRITE_SECONDS
        )
        self._told = (0, 0)

    def rendered(self, work: Work, done: Done) -> None:
        self._tiles.inc()
        self._points.inc(done.points)
        self._tile.observe(done.seconds)
        self._write.observe(done.write_seconds)

    def ticked(self, scheduler: Scheduler) -> None:
        now = (scheduler.retries, scheduler.lost_count)
        for counter, before, value in zip(
            (self._retries, self._lost), self._told, now, strict=True
        ):
            if value > before:
                counter.inc(value - before)
        self._told = now
        self._quarantined.set(len(scheduler.quarantined))
        self._left.set(scheduler.left)
        self._workers.set(scheduler.alive)
        self._wanted.set(scheduler.wanted)
