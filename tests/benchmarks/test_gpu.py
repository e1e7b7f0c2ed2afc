"""The benchmark for a GPU, the same way on a CPU and with torch and numpy alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# Runs the module where nothing of what lossatlas otherwise needs can be imported.
BARE = """
import re, runpy, sys
from pathlib import Path

names = re.findall(r'^    "([A-Za-z0-9_-]+)[>\\\\[]', Path("pyproject.toml").read_text(), re.M)
blocked = {name.lower().replace("-", "_") for name in names} - {"torch", "numpy"}
blocked |= {"yaml", "PIL", "renders", "cluster"}
assert {"zarr", "ray", "pydantic", "fsspec", "safetensors", "xarray"} <= blocked, blocked

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.argv = ["benchmarks.gpu", "--device", "cpu", "--points", "few", "--json", *sys.argv[1:]]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


@pytest.mark.timeout(280)
def test_one_gpu_is_measured_with_torch_and_numpy_alone() -> None:
    found = _measured("--no-compile")
    assert set(found["ways"]) == {"float32", "tf32", "bf16"}
    exact = found["ways"]["float32"]["fidelity"]
    assert (exact["largest"], exact["faithful"], exact["points"]) == (0.0, True, 2)
    assert found["ways"]["tf32"]["fidelity"]["largest"] == 0.0  # what it is on a CPU
    assert found["ways"]["bf16"]["fidelity"]["largest"] > 1e-6
    best = found["ways"][found["best"]]["points_a_second"]
    assert found["poster_minutes"] == pytest.approx(1e6 / best / 60)
    assert found["film_gpu_hours"] == pytest.approx(54e6 / best / 3600)


@pytest.mark.slow
def test_compiled_ways_are_measured_there_too() -> None:
    found = _measured()
    assert set(found["ways"]) == {
        way for name in ("float32", "tf32", "bf16") for way in (name, f"{name}, compiled")
    }
    assert not found["refused"]
    compiled = found["ways"]["float32, compiled"]["fidelity"]
    assert 0 < compiled["largest"] < 1e-5


def _measured(*options: str) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-c", BARE, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found
