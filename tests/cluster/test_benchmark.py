"""The benchmark of the driver runs, tiny, and its figures are what they are called."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import scheduler


@pytest.mark.ray
def test_workers_are_measured_busy_while_they_sleep(ray: Any, tmp_path: Path) -> None:
    ray.cloudpickle.register_pickle_by_value(scheduler)
    found = scheduler.dispatch(ray, tmp_path, workers=6, rounds=3, seconds=0.5)
    assert found["tiles"] == 18
    assert 0.3 < found["busy_overall"] <= found["busy"] < 1
    assert found["wall"] > 1.5


@pytest.mark.parametrize(("case", "pending"), [("plan", 2_500), ("resume", 1_000)])
def test_a_store_comes_to_its_first_tile(case: str, pending: int, tmp_path: Path) -> None:
    found = getattr(scheduler, case)(tmp_path, workers=3, tiles=2_500)
    assert (found["tiles"], found["pending"]) == (2_500, pending)
    assert found["wall"] > 0
    assert found["peak_gb"] > 0.01


def test_a_bucket_is_listed() -> None:
    """In a process of its own: file systems keep the endpoint that they were made with."""
    command = [sys.executable, "-m", "benchmarks.scheduler", "--case", "bucket", "--tiles", "12500"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["tiles"] == 2_500
    assert found["cpu"] > 0
