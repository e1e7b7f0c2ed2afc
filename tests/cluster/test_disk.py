"""Disks that fill up or become read-only under a render: real ones, small and in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cli import main
from pipeline.geometry.grid import Tile
from pipeline.store.errors import StoreError
from pipeline.store.store import Store
from pipeline.verify import Damage, withdraw
from tests.cluster import landscape

pytestmark = pytest.mark.slow
# The command line, with pauses of a second in all where it has a minute's.
IMPATIENT = """
from cluster.cli import main
from cluster.driver import session
from cluster.scheduling.scheduler import Rules
session.Rules = lambda: Rules(write_first=0.02)
main.main()
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "lossatlas-test", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting is not allowed here: {error}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, bytes]:
    """The numbers of the landscape in `tmp_path`, which is laid out there unrendered."""
    landscape.lay_out(tmp_path, call_seconds=0.02)
    spec = landscape.lay_out(tmp_path / "calm", call_seconds=1e-9)
    assert main.run(["render", str(spec), "--executor", "serial", "--quiet"]) == 0
    return landscape.numbers(tmp_path / "calm" / "tiny.zarr")


def start(folder: Path) -> subprocess.Popen[str]:
    arguments = ("render", "spec.yaml", "--store", "disk/tiny.zarr", "--executor", "serial")
    return subprocess.Popen(
        [sys.executable, "-P", "-c", IMPATIENT, *arguments],
        cwd=folder,
        env=landscape.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stops(driver: subprocess.Popen[str], told: str) -> None:
    """It ends by itself, with one line for each try and one that says what to do."""
    out, err = driver.communicate(timeout=60)
    assert (driver.returncode, out) == (2, "")
    *tries, last = [line for line in err.splitlines() if not line.startswith("tiny: ")]
    assert len(tries) == 6
    assert all(told in line and "trying again in" in line for line in tries)
    assert last.startswith(f"lossatlas: the store cannot be read or written: {told}")
    assert last.endswith("Everything committed is kept; lossatlas resume disk/tiny.zarr goes on")


def goes_on(store: Path, before: set[str], undisturbed: dict[str, bytes]) -> None:
    """What was committed is sound and kept; the rest is rendered, and all of it is the same."""
    assert main.run(["verify", str(store)]) == 0
    then = landscape.ages(store, before)
    assert main.run(["resume", str(store), "--executor", "serial"]) == 0
    assert landscape.numbers(store) == undisturbed
    assert landscape.ages(store, before) == then
    assert list(store.rglob("*.partial")) == []
    assert not (store / ".lossatlas" / "lease.json").exists()


def test_a_full_disk_stops_the_render_and_room_lets_it_go_on(
    disk: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    store = disk / "tiny.zarr"
    driver = start(tmp_path)
    landscape.wait_for_tiles(store, 3)
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        fill(ballast)
    stops(driver, "No space left on device")
    assert not (store / ".lossatlas" / "lease.json").exists()
    before = landscape.commits(store)
    assert 3 <= len(before) < 16
    assert main.run(["status", str(store)]) == 0
    ballast.unlink()
    goes_on(store, before, undisturbed)


def test_a_disk_that_becomes_read_only_stops_the_render(
    disk: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = disk / "tiny.zarr"
    driver = start(tmp_path)
    landscape.wait_for_tiles(store, 3)
    while remount(disk, "ro").returncode:  # busy, while a chunk is written
        assert driver.poll() is None
    stops(driver, "Read-only file system")
    before = landscape.commits(store)
    assert 3 <= len(before) < 16
    # The lease could not be taken back, but its process is dead.
    assert (store / ".lossatlas" / "lease.json").exists()
    assert main.run(["status", str(store)]) == 0
    capsys.readouterr()
    assert main.run(["resume", str(store), "--executor", "serial", "--quiet"]) == 2
    assert capsys.readouterr().err == (
        f"lossatlas: {store} cannot be written (Read-only file system); wanted a place with room "
        "and write permission. Mend that, then lossatlas resume\n"
    )
    damaged = Damage(Tile(0, 0, 0), "it is only said to be")
    with pytest.raises(StoreError, match=r"cannot be written \(Read-only .* verify --dry-run"):
        withdraw(Store.open(str(store), writable=True), [damaged])
    assert remount(disk, "rw").returncode == 0
    goes_on(store, before, undisturbed)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def remount(disk: Path, mode: str) -> subprocess.CompletedProcess[bytes]:
    command = ["mount", "-o", f"remount,{mode}", str(disk)]
    return subprocess.run(command, capture_output=True, check=False)
