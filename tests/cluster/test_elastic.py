"""Nodes with GPUs that join, leave and are drained under a render, through its real driver."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from cluster.cli import main
from pipeline.store.store import Store
from tests.cluster import landscape
from tests.cluster.clusters import Nodes, cluster

T = TypeVar("T")
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster of a head alone, without GPUs."""
    with cluster() as made:
        yield made


# A tile takes a second as long as the brake is there: machines may be slow to come.
LOSS = """
import os, time
from torch.nn import functional as F

def slow(outputs, targets):
    time.sleep(0.1 * os.path.exists("{brake}"))
    return F.cross_entropy(outputs, targets.long(), reduction="none")
"""


class Driver:
    """A render on the cluster's GPUs, and what it has said so far."""

    def __init__(self, nodes: Nodes, folder: Path, *arguments: object) -> None:
        landscape.lay_out(folder, width=36, call_seconds=1)
        self.brake = folder / "brake"
        self.brake.touch()
        (folder / "loss.py").write_text(LOSS.format(brake=self.brake))
        self.store = folder / "tiny.zarr"
        self.said: list[str] = []
        options = ("--address", nodes.address, "--device", "cuda", *map(str, arguments))
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "tests.cluster.fake_gpus",
                "render",
                "spec.yaml",
                *options,
            ],
            cwd=folder,
            env=nodes.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def hears(self, text: str, seconds: float = 60.0) -> str:
        """The first line with `text` in it."""

        def heard() -> str:
            ended = self._process.poll() is not None
            line = next((line for line in self.said if text in line), "")
            assert line or not ended, self.said
            return line

        return wait(heard, seconds)

    def waits_for_workers(self, count: int) -> None:
        """Until so many workers have committed a tile."""

        def enough() -> bool:
            assert self._process.poll() is None, self.said
            return Store.exists(str(self.store)) and len(self._workers()) >= count

        try:
            wait(enough)
        except TimeoutError:
            raise TimeoutError(str(self.said)) from None

    def _workers(self) -> set[int]:
        store = Store.open(str(self.store))
        return {store.tile_facts(tile)[1] for tile in store.committed()}

    def ends(self) -> int:
        """Let the render go as fast as it can; returns its exit code."""
        self.brake.unlink(missing_ok=True)
        code = self._process.wait(timeout=120)
        self._listener.join()
        return code

    def close(self) -> None:
        self._process.kill()
        self.ends()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line)
        self._process.stdout.close()


@pytest.fixture
def drive(nodes: Nodes, tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def begin(*arguments: object) -> Driver:
        drivers.append(Driver(nodes, tmp_path, *arguments))
        return drivers[-1]

    yield begin
    for driver in drivers:
        driver.close()
    for node in list(nodes.up):
        nodes.kill(node)


def wait(ask: Callable[[], T], seconds: float = 60.0) -> T:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if answer := ask():
            return answer
        time.sleep(0.1)
    raise TimeoutError(f"not within {seconds} s")


def test_a_cluster_without_gpus_says_so_and_one_that_joins_is_used(
    nodes: Nodes, drive: Callable[..., Driver]
) -> None:
    driver = drive("--workers", 1)
    told = driver.hears("no tile finished for")
    assert "0 workers busy, 0 idle, 1 starting, of 1 wanted" in told
    assert "A worker wants 1 GPU, and the cluster (1 node) has 0: it waits for nodes" in told
    nodes.add(gpus=1)
    assert driver.ends() == 0, driver.said
    assert "144 tiles done" in "".join(driver.said)


def test_a_node_that_leaves_is_missed_for_one_tile(
    nodes: Nodes, drive: Callable[..., Driver], tmp_path: Path
) -> None:
    first = nodes.add(gpus=1)
    driver = drive()
    driver.waits_for_workers(1)
    nodes.add(gpus=1)
    driver.waits_for_workers(2)
    nodes.kill(first)
    driver.hears("is lost: its ")  # machine or process, whichever Ray notices first
    # A first strike is the last here: the tile that went with the node is told apart by that.
    assert driver.ends() == 3, driver.said
    assert "1 tile quarantined:\n" in driver.said
    store = Store.open(str(driver.store))
    assert len(store.pending()) == 1
    assert main.run(["resume", str(driver.store), "--executor", "serial"]) == 0
    assert not np.isnan(store.read("loss", "train")).any()


def test_a_node_that_is_preempted_charges_no_tile(
    nodes: Nodes, drive: Callable[..., Driver]
) -> None:
    first = nodes.add(gpus=1)
    driver = drive()
    driver.waits_for_workers(1)
    nodes.drain(first, seconds=1.0)
    nodes.add(gpus=1)
    nodes.kill(first)
    driver.hears("is lost: its machine was taken away")
    # With one strike to a tile, a charged one would have been given up.
    assert driver.ends() == 0, driver.said
    assert "144 tiles done" in "".join(driver.said)


def test_a_cluster_that_loses_all_its_gpus_waits_for_others(
    nodes: Nodes, drive: Callable[..., Driver]
) -> None:
    first = nodes.add(gpus=1)
    driver = drive()
    driver.waits_for_workers(1)
    nodes.drain(first, seconds=0.0)
    nodes.kill(first)
    driver.hears("A worker wants 1 GPU, and the cluster (1 node) has 0")
    nodes.add(gpus=1)
    assert driver.ends() == 0, driver.said
