"""`--log json`: one object a line, with the same keys for the same event."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.monitor.progress import ProgressView
from cluster.scheduling.events import Done
from cluster.scheduling.scheduler import Scheduler
from pipeline.geometry.grid import Tile
from tests.cluster.landscape import lay_out

COMMON = ["time", "run", "event"]
KEYS = {
    "progress": [
        "tiles_done",
        "tiles",
        "points_per_second",
        "eta_seconds",
        "workers",
        "workers_starting",
        "retries",
        "quarantined",
    ],
    "warning": ["text"],
    "quarantined": ["tile", "reasons"],
    "message": ["text"],
}


def events(text: str) -> list[dict[str, Any]]:
    """Every line as an event, its keys checked."""
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        assert list(event) == COMMON + KEYS[event["event"]]
        assert isinstance(event["time"], float)
    return found


def test_each_event_is_one_line() -> None:
    out, now = io.StringIO(), [0.0]
    tiles = [Tile(0, 0, column) for column in range(4)]
    scheduler = Scheduler(tiles, 2)
    with ProgressView("bowl", 0, 4, 36, False, True, out, lambda: now[0]) as view:
        scheduler.joined(0, 0.0)
        view.ticked(scheduler)
        now[0] = 11.0
        view.ticked(scheduler)
        view.rendered(tiles[0], Done(0, 9, 2.0))
        now[0] = 22.0
        view.ticked(scheduler)
        view.warn('a "quoted" text\nof two lines')
        view.quarantined(tiles[1], ("no", "no", "never"))
    first, second, warning, quarantined = events(out.getvalue())
    assert (first["tiles_done"], first["eta_seconds"], first["workers"]) == (0, None, 1)
    assert (second["tiles_done"], second["points_per_second"]) == (1, round(9 / 22, 3))
    assert second["eta_seconds"] == pytest.approx(66.0)
    assert warning["text"] == 'a "quoted" text\nof two lines'
    assert quarantined["tile"] == "0/0/1"
    assert quarantined["reasons"] == ["no", "no", "never"]
    assert {event["run"] for event in (first, second, warning, quarantined)} == {"bowl"}


def test_all_that_a_render_prints_is_events(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = str(lay_out(tmp_path))
    how = ["--executor", "serial", "--log", "json"]
    assert main.run(["render", spec, *how]) == 0
    out, err = capfd.readouterr()
    events(err)
    assert [event["event"] for event in events(out)] == ["message", "message"]
    assert main.run(["resume", str(tmp_path / "tiny.zarr"), *how]) == 0
    out, err = capfd.readouterr()
    assert "nothing to do" in events(out)[0]["text"]
    assert err == ""


def test_what_a_job_says_is_an_event_and_not_an_event_in_an_event(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main.run(["render", str(lay_out(tmp_path)), "--executor", "serial", "--quiet"]) == 0
    capfd.readouterr()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # nobody: a finished store asks for none
    assert main.run(["drive", str(tmp_path / "tiny.zarr"), "--log", "json"]) == 0
    said = events(capfd.readouterr().out)
    assert [event["event"] for event in said] == ["message", "message"]
    assert said[0]["text"].endswith("16 tiles are done; nothing to do")
