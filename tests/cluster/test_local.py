"""The private Ray is private."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import ClusterError
from cluster.workers import local
from tests.cluster.landscape import descendants

pytestmark = pytest.mark.ray
LISTEN = "0A"
# As the test run was started, before any Ray: in the background SIGINT is ignored.
HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def listening(pids: set[int]) -> list[tuple[str, int]]:
    """The addresses (hex, as in /proc) and ports on which any of `pids` listens."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].rpartition(":")
            if fields[9] in inodes and (fields[3] == LISTEN or table.startswith("udp")):
                found.append((address, int(port, 16)))
    return found


def test_nothing_listens_beyond_loopback(ray: Any) -> None:
    sockets = listening({os.getpid(), *descendants(os.getpid())})
    assert len(sockets) >= 5
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "0" * 24 + "01000000"}
    assert {address for address, _ in sockets} <= loopback


def test_it_is_ours_alone(ray: Any) -> None:
    assert ray.cluster_resources()["CPU"] == 3
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_signal_handlers_and_folder_are_as_before(ray: Any) -> None:
    assert {number: signal.getsignal(number) for number in HANDLERS} == HANDLERS
    assert signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.SIG_IGN)
    assert os.listdir(os.getcwd()) != []


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("127.0.0.1:1", "cannot be reached"),
        ("auto", "is no host:port"),
        ("ray://127.0.0.1:1x", "is no host:port"),
    ],
)
def test_a_wrong_address_is_said_at_once(address: str, found: str) -> None:
    with pytest.raises(ClusterError, match=found), local.joined(address):
        pass


def test_a_machine_too_busy_for_ray_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy:
        def init(self, *_: Any, **__: Any) -> None:
            # As Ray words it, in a plain Exception.
            raise Exception("The current node timed out during startup.")

        def shutdown(self) -> None: ...

    monkeypatch.setattr(local, "_ray", Busy)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.setenv(name, "")  # so that they are put back: other tests' Ray has its own
    with (
        pytest.raises(ClusterError, match=r"does not start here \(The current node timed out"),
        local.private(1, 0, 0),
    ):
        pass


def test_what_a_killed_driver_left_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(local, "_LONGEST_TEMP", 1_000)
    code = (
        "import os, signal; from cluster.workers import local\n"
        "with local._private_folder() as folder:\n"
        "    print(folder, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    left = Path(shutil.move(killed.stdout.strip(), tmp_path))
    old = time.time() - 3600
    with local._private_folder() as alive:
        assert left.exists()  # it may be one that is just being made
        for folder in (left, alive):
            os.utime(folder / "held", (old, old))
        with local._private_folder():
            assert not left.exists()
            assert alive.exists()
    assert list(tmp_path.iterdir()) == []
