"""What a render cost: added up by hand here, and read where a user looks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.cli.info_table import _plane
from cluster.jobs.client import ID_VARIABLE
from cluster.monitor import report
from cluster.monitor.report import Report
from cluster.scheduling.events import Done
from cluster.scheduling.scheduler import Scheduler
from pipeline.geometry.grid import Extent, Grid, Tile
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.store import Store


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def scheduler(alive: int, lost: int = 0, retries: int = 0, quarantined: int = 0) -> Scheduler:
    facts = SimpleNamespace(
        alive=alive, lost_count=lost, retries=retries, quarantined=dict.fromkeys(range(quarantined))
    )
    return cast("Scheduler", facts)


def driven(monkeypatch: pytest.MonkeyPatch, gpus: float = 0.5) -> Report:
    """Two workers for half an hour, then one for as long; 30 tiles, one of them slow."""
    monkeypatch.setenv(ID_VARIABLE, "tiny-7")
    clock = Clock()
    made = Report(gpus, clock)
    for number in range(30):
        seconds = 90.0 if number == 11 else 10.0
        made.rendered(Tile(0, 0, number), Done(number % 2, 9, seconds, 0.5))
    made.ticked(scheduler(0))
    clock.now += 1800
    made.ticked(scheduler(2))
    clock.now += 1800
    made.ticked(scheduler(1, lost=1, retries=4, quarantined=2))
    return made


def test_it_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = driven(monkeypatch).as_dict()
    assert entry["job"] == "tiny-7"
    assert (entry["seconds"], entry["tiles"], entry["points"]) == (3600, 30, 270)
    assert entry["worker_hours"] == pytest.approx(1.5)
    assert entry["gpu_hours"] == pytest.approx(0.75)
    assert (entry["busy_seconds"], entry["write_seconds"]) == (380, 15)
    assert (entry["retries"], entry["workers_lost"], entry["quarantined"]) == (4, 1, 2)
    assert entry["workers"] == {
        "0": {"tiles": 15, "points": 135, "seconds": 150},
        "1": {"tiles": 15, "points": 135, "seconds": 230},
    }
    assert len(entry["slowest"]) == 10
    assert entry["slowest"][0] == {"tile": "0/0/11", "seconds": 90, "worker": 1}


def test_it_is_read_in_four_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.lines([]) == []
    entry = driven(monkeypatch).as_dict()
    assert report.lines([entry, entry]) == [
        "2 drivers, 2 h 0 min, 3.00 worker-hours, 1.50 GPU-hours; writing took 4 % of the tiles' "
        "time",
        "8 retries, 2 workers lost",
        "a worker: 0.59 points/s (worker 1) to 0.90 points/s (worker 0)",
        "slowest tiles: 0/0/11 1 min 30 s, 0/0/11 1 min 30 s, 0/0/9 10 s",
    ]


def test_a_driver_that_did_nothing_has_a_report_too() -> None:
    clock = Clock()
    made = Report(1.0, clock)
    made.ticked(scheduler(1))
    clock.now += 3.6
    made.ticked(scheduler(1))
    assert report.lines([made.as_dict()]) == [
        "1 driver, 3.6 s, 0.001 worker-hours, 0.001 GPU-hours; writing took 0 % of the tiles' time",
        "0 retries, 0 workers lost",
    ]


def test_every_driver_has_one_entry_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = FrameFacts(Extent(0, 1, 0, 1), (Anchor("θ", 0, 0, 0),), None)
    store = Store.create(str(tmp_path / "x.zarr"), Grid(2, 1, 1), ["train"], ["loss"], [frame], {})
    first, second = driven(monkeypatch), driven(monkeypatch)
    for _ in range(3):
        first.write(store)
    second.write(store)
    found: list[dict[str, Any]] = report.read(store)
    assert [entry["tiles"] for entry in found] == [30, 30]
    assert [entry["tiles"] for entry in second.sessions()] == [30, 30]
    store.write_note(report.NOTE, {"sessions": ["damaged", *found]})
    assert len(report.read(store)) == 2


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"weights": ["runs/net.pt"], "seed": 3}, "of net.pt, seed 3;"),
        ({"weights": [], "frames": "runs/bezier-*.pt"}, "of bezier-*.pt;"),
        ({"weights": ["a.pt", "b.pt"], "frames": "frames/", "seed": 0}, "of a.pt, b.pt, frames, "),
    ],
)
def test_info_says_what_a_plane_was_made_from(asked: dict[str, Any], told: str) -> None:
    said = _plane({"kind": "curve", "units": "euclidean"}, asked)
    assert told in said
