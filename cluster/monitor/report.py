"""The cost of a render: one entry for each driver, in a note of the store."""

from __future__ import annotations

import heapq
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.jobs.client import ID_VARIABLE
from cluster.scheduling.events import Done
from cluster.scheduling.scheduler import Scheduler
from pipeline import format
from pipeline.geometry.grid import Work
from pipeline.store.notes import Amount
from pipeline.store.store import Store

NOTE = "report.json"
_SLOWEST = 10
_WORKERS = 100
_SESSIONS = 50


@dataclass(frozen=True)
class _Worker:
    points: Amount
    seconds: Amount


@dataclass(frozen=True)
class _Slow:
    tile: str
    seconds: Amount


@dataclass(frozen=True)
class _Entry:
    """The part of a driver's entry that `lines` uses."""

    seconds: Amount
    busy_seconds: Amount
    write_seconds: Amount
    worker_hours: Amount
    gpu_hours: Amount
    retries: Amount
    workers_lost: Amount
    workers: dict[str, _Worker]
    slowest: list[_Slow]


_ENTRY = TypeAdapter(_Entry)


class Report:
    """Adds up one driver's time on a store.

    Args:
        gpus: share of a GPU that one worker holds.
        clock: seconds, never going back.
    """

    def __init__(self, gpus: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._gpus = gpus
        self._clock = clock
        self._began = self._ticked = clock()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._job = os.environ.get(ID_VARIABLE)
        self._worker_seconds = 0.0
        self._write_seconds = 0.0
        self._workers: dict[int, list[float]] = {}  # tiles, points, seconds
        self._slowest: list[tuple[float, str, int]] = []
        self._lost = self._retries = self._quarantined = 0
        self._earlier: list[dict[str, Any]] | None = None

    def rendered(self, work: Work, done: Done) -> None:
        counts = self._workers.setdefault(done.worker, [0, 0, 0.0])
        counts[0] += 1
        counts[1] += done.points
        counts[2] += done.seconds
        self._write_seconds += done.write_seconds
        entry = (done.seconds, str(work), done.worker)
        (heapq.heappush if len(self._slowest) < _SLOWEST else heapq.heappushpop)(
            self._slowest, entry
        )

    def ticked(self, scheduler: Scheduler) -> None:
        now = self._clock()
        self._worker_seconds += scheduler.alive * (now - self._ticked)
        self._ticked = now
        self._lost, self._retries = scheduler.lost_count, scheduler.retries
        self._quarantined = len(scheduler.quarantined)

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON; times in seconds; workers and GPUs count from start to end."""
        tiles, points, seconds = (sum(c[i] for c in self._workers.values()) for i in range(3))
        busiest = sorted(self._workers.items(), key=lambda item: -item[1][1])[:_WORKERS]
        return {
            "started": self._started,
            "job": self._job,
            "seconds": round(self._clock() - self._began, 3),
            "tiles": int(tiles),
            "points": int(points),
            "busy_seconds": round(seconds, 3),
            "write_seconds": round(self._write_seconds, 3),
            "worker_hours": self._worker_seconds / 3600,
            "gpu_hours": self._gpus * self._worker_seconds / 3600,
            "retries": self._retries,
            "workers_lost": self._lost,
            "quarantined": self._quarantined,
            "workers": {
                str(worker): {"tiles": int(n), "points": int(p), "seconds": round(s, 3)}
                for worker, (n, p, s) in busiest
            },
            "slowest": [
                {"tile": tile, "seconds": round(took, 3), "worker": worker}
                for took, tile, worker in sorted(self._slowest, reverse=True)
            ],
        }

    def sessions(self) -> list[dict[str, Any]]:
        """The entries of all drivers that `write` found, and this driver's last."""
        return [*(self._earlier or ()), self.as_dict()][-_SESSIONS:]

    def write(self, store: Store, entry: dict[str, Any] | None = None) -> None:
        """Write `entry`, by default this driver's present one, after those of earlier drivers."""
        if self._earlier is None:
            self._earlier = read(store)
        sessions = [*self._earlier, entry or self.as_dict()][-_SESSIONS:]
        store.write_note(NOTE, {"sessions": sessions})


def read(store: Store) -> list[dict[str, Any]]:
    """The entries of all drivers, the oldest first."""
    sessions = (store.read_note(NOTE) or {}).get("sessions")
    if not isinstance(sessions, list):
        return []
    return [entry for entry in sessions if isinstance(entry, dict)]


def _is_entry(entry: object) -> bool:
    try:
        _ENTRY.validate_python(entry)
    except ValidationError:
        return False
    return True


def lines(sessions: list[dict[str, Any]]) -> list[str]:
    """The report for people on all drivers together; empty if there are no entries.

    Entries of another shape are left out.
    """
    sessions = [entry for entry in sessions if _is_entry(entry)]
    if not sessions:
        return []

    def total(key: str) -> float:
        return float(sum(entry[key] for entry in sessions))

    rates = [
        (worker["points"] / worker["seconds"], name)
        for entry in sessions
        for name, worker in entry["workers"].items()
        if worker["seconds"] > 0
    ]
    gpu = f", {_hours(total('gpu_hours'))} GPU-hours" if total("gpu_hours") else ""
    out = [
        f"{format.plural(len(sessions), 'driver')}, {format.duration(total('seconds'))}, "
        f"{_hours(total('worker_hours'))} worker-hours{gpu}; writing took "
        f"{_share(total('write_seconds'), total('busy_seconds'))} of the tiles' time",
        f"{format.plural(int(total('retries')), 'retry', 'retries')}, "
        f"{format.plural(int(total('workers_lost')), 'worker')} lost",
    ]
    if rates:
        (slow, slowest), (fast, fastest) = min(rates), max(rates)
        to = f" (worker {slowest}) to {format.rate(fast)} (worker {fastest})" if rates[1:] else ""
        out.append(f"a worker: {format.rate(slow)}{to}")
    slow_tiles = sorted(
        ((item["seconds"], item["tile"]) for entry in sessions for item in entry["slowest"]),
        reverse=True,
    )[:3]
    if slow_tiles:
        noun = "steps" if "pass" in slow_tiles[0][1] else "tiles"
        told = ", ".join(f"{_named(tile)} {format.duration(took)}" for took, tile in slow_tiles)
        out.append(f"slowest {noun}: {told}")
    return out


def _named(work: str) -> str:
    """The name of a tile or step for a list: `0/1/2`, or `0/1/2 (pass 3)` for `0/1/2, pass 3`."""
    tile, _, its_pass = work.partition(", ")
    return f"{tile} ({its_pass})" if its_pass else tile


def _hours(hours: float) -> str:
    """Hours with two digits at least, and with hundredths: `0.0043`, `1.30`, `1,204.25`."""
    return f"{hours:.2g}" if 0 < hours < 0.1 else f"{hours:,.2f}"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole > 0 and math.isfinite(whole) else "0 %"
