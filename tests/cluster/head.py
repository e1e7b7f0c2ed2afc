"""A Ray head of our own on loopback, with its Jobs API and token authentication."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.landscape import descendants

_PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "runtime-env-agent-port",
    "ray-client-server-port",
)


@dataclass
class Head:
    """A head that a test may also end; `environment` is what a client of it needs."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    address: str = ""
    log: Path = Path()

    @property
    def environment(self) -> dict[str, str]:
        return {"RAY_AUTH_TOKEN": self.token}

    def start(self, here: Path, environment: Mapping[str, str]) -> None:
        """Start it with `here` as its current folder."""
        ports = _free_ports()
        self.address = f"http://127.0.0.1:{ports['dashboard-port']}"
        self.log = self.folder / "head.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "LOSSATLAS_"))}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--head"),
                    *("--block", "--disable-usage-stats", "--num-cpus=3", "--num-gpus=0"),
                    *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"),
                    *("--object-store-memory=100000000", f"--temp-dir={self.folder / 'ray'}"),
                    *(f"--{name}={port}" for name, port in ports.items()),
                ],
                cwd=here,
                env={
                    **kept,
                    **environment,
                    "RAY_AUTH_MODE": "token",
                    "RAY_AUTH_TOKEN": self.token,
                    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_for_agent(ports["dashboard-agent-listen-port"])

    def stop(self) -> None:
        """End it and everything it started, by their own process ids."""
        family = {self._process.pid, *descendants(self._process.pid)}
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def written(self) -> Iterator[tuple[Path, bytes]]:
        """Every file of Ray's session: logs of jobs, workers and agents."""
        for path in (self.folder / "ray").rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()

    def _wait_for_agent(self, port: int) -> None:
        """The agent starts jobs, and is the last to come up."""
        limit = time.monotonic() + 90
        while time.monotonic() < limit and self._process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            time.sleep(0.1)
        raise TimeoutError(f"the head does not come up: {self.log.read_text()[-2000:]}")


@contextlib.contextmanager
def running(here: Path, environment: Mapping[str, str]) -> Iterator[Head]:
    """A head with `here` as its current folder; Ray's sockets want a short path of their own."""
    head = Head(Path(tempfile.mkdtemp(prefix="head-", dir="/tmp")))
    try:
        head.start(here, environment)
        try:
            yield head
        finally:
            head.stop()
    finally:
        shutil.rmtree(head.folder, ignore_errors=True)


def _free_ports() -> dict[str, int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in _PORTS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return {name: probe.getsockname()[1] for name, probe in zip(_PORTS, probes, strict=True)}
