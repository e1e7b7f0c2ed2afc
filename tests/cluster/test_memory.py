"""Renders take the memory that their plan says, within a fifth."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from pipeline.problem import network
from tests.cluster import landscape

ALLOWED = 0.2


def lay_out(folder: Path, name: str, examples: int) -> None:
    """A spec of four points of a built-in network on random images, in four tiles."""
    random = np.random.default_rng(0)
    for seed in range(3):
        net, noise = network.build(name, {}), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter += 0.01 * torch.randn(parameter.shape, generator=noise)
        save_file(net.state_dict(), folder / f"{seed}.safetensors")
    x = random.standard_normal((examples, 3, 32, 32)).astype("f4")
    np.savez(folder / "data.npz", x=x, y=random.integers(0, 10, examples))
    spec = {
        "network": {"factory": name},
        "plane": {"kind": "points", "weights": [f"{seed}.safetensors" for seed in range(3)]},
        "grid": {"width": 4, "height": 4, "tile": 2},
        "data": {"source": "data.npz", "splits": {"train": examples}},
        "store": "run.zarr",
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))


def peaks(process: subprocess.Popen[str]) -> tuple[int, int]:
    """The peaks of resident memory of a driver and of its worker, in bytes, until it ends."""
    driver = worker = 0
    while process.poll() is None:
        driver = max(driver, peak(process.pid))
        worker = max([worker, *map(peak, landscape.workers(process.pid))])
        time.sleep(0.1)
    _, err = process.communicate()
    assert process.returncode == 0, err
    return driver, worker


def peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("examples", [512, 2048])
@pytest.mark.parametrize("name", ["resnet20", "preresnet32"])
def test_a_plan_tells_the_memory_of_worker_and_driver(
    tmp_path: Path, name: str, examples: int
) -> None:
    lay_out(tmp_path, name, examples)
    planned = landscape.lossatlas("plan", "spec.yaml", "--workers", 1, "--json", folder=tmp_path)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    options = ("render", "spec.yaml", "--quiet")
    driver, worker = peaks(landscape.start(*options, "--workers", 1, folder=tmp_path))
    print(f"{name} {examples}: worker {plan['worker_bytes']:,} {worker:,}, driver "
          f"{plan['driver_bytes']:,} {driver:,}")  # fmt: skip
    assert plan["worker_bytes"] == pytest.approx(worker, rel=ALLOWED)
    assert plan["driver_bytes"] == pytest.approx(driver, rel=ALLOWED)
