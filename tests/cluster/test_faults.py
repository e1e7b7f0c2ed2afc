"""Drivers that are stopped and killed in the middle, as a user's shell would do it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from tests.cluster import landscape
from tests.cluster.landscape import (
    ages,
    commits,
    descendants,
    lay_out,
    lossatlas,
    numbers,
    running,
    title,
    wait_for_tiles,
    workers,
)

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slow landscape's folder, rendered in one go by the serial executor."""
    folder = tmp_path_factory.mktemp("undisturbed")
    lay_out(folder, call_seconds=0.02)
    assert main.run(["render", str(folder / "spec.yaml"), "--executor", "serial"]) == 0
    return folder


@pytest.fixture
def folder(undisturbed: Path, tmp_path: Path) -> Path:
    """The same landscape, not yet rendered."""
    place = tmp_path / "landscape"
    shutil.copytree(undisturbed, place, ignore=shutil.ignore_patterns("*.zarr"))
    return place


@pytest.fixture
def start() -> Iterator[Start]:
    """Start drivers that do not outlive the test."""
    drivers: list[subprocess.Popen[str]] = []

    def begin(*arguments: object, folder: Path) -> subprocess.Popen[str]:
        drivers.append(landscape.start(*arguments, folder=folder))
        return drivers[-1]

    yield begin
    for driver in drivers:
        if driver.poll() is None:
            driver.kill()
        driver.communicate(timeout=20)


def finish(folder: Path, undisturbed: Path, before: set[str]) -> None:
    """Resume, and check that the numbers are the undisturbed ones and nothing was done twice."""
    store = folder / "tiny.zarr"
    then = ages(store, before)
    assert main.run(["resume", str(store), "--executor", "serial"]) == 0
    assert numbers(store) == numbers(undisturbed / "tiny.zarr")
    assert ages(store, before) == then
    assert list(store.rglob("*.partial")) == []


def gone(pids: set[int], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while running(pids) and time.monotonic() < limit:
        time.sleep(0.1)
    return not running(pids)


@pytest.mark.ray
def test_a_killed_driver_leaves_nobody_behind_and_is_resumed_at_once(
    folder: Path, start: Start, undisturbed: Path
) -> None:
    driver = start("render", "spec.yaml", "--workers", 2, folder=folder)
    wait_for_tiles(folder / "tiny.zarr", 3)
    # Ray's two agents, idle, need another minute to notice; who computes must be gone now.
    family = {pid for pid in descendants(driver.pid) if b"Agent" not in title(pid)}
    assert len(workers(driver.pid)) == 2
    driver.kill()
    driver.communicate(timeout=20)
    assert gone(family, 15)
    before = commits(folder / "tiny.zarr")
    assert len(before) < 16
    finish(folder, undisturbed, before)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_serial_driver_is_resumable(
    folder: Path, start: Start, undisturbed: Path, number: signal.Signals
) -> None:
    driver = start("render", "spec.yaml", "--executor", "serial", folder=folder)
    before = wait_for_tiles(folder / "tiny.zarr", 2)
    os.kill(driver.pid, number)
    out, _ = driver.communicate(timeout=20)
    assert driver.returncode == 130
    assert "Go on with: lossatlas resume tiny.zarr" in out
    finish(folder, undisturbed, before)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_driver_ends_within_seconds_and_takes_its_workers_along(
    folder: Path, start: Start, undisturbed: Path, number: signal.Signals
) -> None:
    driver = start("render", "spec.yaml", "--workers", 2, folder=folder)
    before = wait_for_tiles(folder / "tiny.zarr", 3)
    family = descendants(driver.pid)
    # ^C reaches the whole group, as in a terminal; SIGTERM the driver alone.
    if number is signal.SIGINT:
        os.killpg(driver.pid, number)
    else:
        os.kill(driver.pid, number)
    began = time.monotonic()
    out, err = driver.communicate(timeout=30)
    assert time.monotonic() - began < 15
    assert driver.returncode == 130
    assert "Go on with: lossatlas resume tiny.zarr" in out
    assert "Traceback" not in out + err
    assert gone(family, 10)
    assert not (folder / "tiny.zarr" / ".lossatlas" / "lease.json").exists()
    finish(folder, undisturbed, before)


@pytest.mark.ray
@pytest.mark.slow
def test_a_second_signal_ends_the_driver_at_once(folder: Path, start: Start) -> None:
    driver = start("render", "spec.yaml", "--workers", 2, folder=folder)
    wait_for_tiles(folder / "tiny.zarr", 2)
    family = descendants(driver.pid)
    os.kill(driver.pid, signal.SIGINT)
    time.sleep(0.5)
    os.kill(driver.pid, signal.SIGINT)
    driver.communicate(timeout=5)
    assert driver.returncode == 130
    assert gone(family, 10)


@pytest.mark.ray
@pytest.mark.slow
def test_killed_workers_are_replaced_and_the_render_is_the_same(
    folder: Path, start: Start, undisturbed: Path
) -> None:
    driver = start("render", "spec.yaml", "--workers", 2, folder=folder)
    for count in (2, 5):
        wait_for_tiles(folder / "tiny.zarr", count)
        os.kill(workers(driver.pid)[0], signal.SIGKILL)
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 0, err
    assert err.count("is lost: its process died") == 2
    assert "16 tiles done" in out
    assert numbers(folder / "tiny.zarr") == numbers(undisturbed / "tiny.zarr")


@pytest.mark.ray
@pytest.mark.slow
def test_a_second_driver_is_refused_while_the_first_works(tmp_path: Path, start: Start) -> None:
    folder = tmp_path
    landscape.lay_out(folder, call_seconds=0.5)
    driver = start("render", "spec.yaml", "--workers", 1, folder=folder)
    wait_for_tiles(folder / "tiny.zarr", 1)
    second = lossatlas("resume", "tiny.zarr", "--executor", "serial", folder=folder)
    assert second.returncode == 2
    assert "is being rendered by process" in second.stderr
    status = lossatlas("status", "tiny.zarr", folder=folder)
    assert f"running  process {driver.pid} on" in status.stdout
    os.kill(driver.pid, signal.SIGINT)
    driver.communicate(timeout=30)


@pytest.mark.slow
def test_a_store_whose_permission_is_lost_stops_the_render(
    folder: Path, start: Start, undisturbed: Path
) -> None:
    """The folder of one tile's commits is a file: nothing can be written there."""
    store = folder / "tiny.zarr"
    driver = start("render", "spec.yaml", "--executor", "serial", folder=folder)
    wait_for_tiles(store, 1)
    before = commits(store)
    blocked = store / "done" / "c" / "0" / "3"
    blocked.write_text("in the way")
    out, err = driver.communicate(timeout=180)
    assert driver.returncode == 2, out + err
    assert "the store cannot be read or written" in err
    assert "lossatlas resume tiny.zarr goes on" in err
    blocked.unlink()
    finish(folder, undisturbed, before)


@pytest.mark.ray
@pytest.mark.slow
def test_a_render_joins_a_cluster_and_leaves_it_running(
    ray: Any, folder: Path, undisturbed: Path
) -> None:
    address = ray.get_runtime_context().gcs_address
    done = lossatlas("render", "spec.yaml", "--address", address, "--workers", 2, folder=folder)
    assert done.returncode == 0, done.stderr
    assert numbers(folder / "tiny.zarr") == numbers(undisturbed / "tiny.zarr")
    assert ray.cluster_resources()["CPU"] == 3
