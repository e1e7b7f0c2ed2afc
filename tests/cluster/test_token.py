"""The cluster's token goes where the user said, and nowhere that a store or an answer says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.cli import find_job, main
from cluster.jobs.client import NOTE, Jobs
from cluster.jobs.dashboard import DashboardError, connect
from pipeline import machine_notes
from pipeline.geometry.grid import Extent, Grid
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.store import Store

TOKEN = "t0ken" * 13
JOB = {
    "type": "SUBMISSION",
    "entrypoint": "x",
    "submission_id": "tiny-1",
    "status": "SUCCEEDED",
    "metadata": {"lossatlas_run": "tiny", "lossatlas_store": "/nowhere.zarr"},
    "driver_exit_code": 0,
}
ANSWERS = {
    "/api/version": {"ray_version": "2.60.0", "version": "4", "ray_commit": "x"},
    "/api/jobs/tiny-1": JOB,
    "/api/jobs/tiny-1/logs": {"logs": "first\n\x1b]0;owned\x07\x9b2Jlast\r\nend\n"},
}


class Server(ThreadingHTTPServer):
    """Answers as a dashboard does, or sends who asks elsewhere; remembers what it was asked."""

    def __init__(self, elsewhere: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.elsewhere = elsewhere
        self.asked: list[tuple[str, str | None]] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        content = json.dumps(ANSWERS.get(self.path, {})).encode()
        self.send_response(302 if self.server.elsewhere else 200)
        if self.server.elsewhere:
            self.send_header("Location", f"{self.server.elsewhere}{self.path}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(elsewhere: str = "") -> Iterator[Server]:
    with Server(elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def store_of(path: Path, id_: str, address: str) -> Store:
    frame = FrameFacts(Extent(0, 1, 0, 1), (Anchor("θ", 0, 0, 0),), None)
    store = Store.create(str(path), Grid(2, 1, 1), ["train"], ["loss"], [frame], {})
    store.write_note(NOTE, {"id": id_, "address": address, "submitted": 0.0})
    return store


@pytest.mark.parametrize("command", ["logs", "stop"])
def test_an_address_that_only_the_store_names_is_not_asked(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        store = store_of(tmp_path / "x.zarr", "tiny-1", server.address)
        assert main.run([command, store.url]) == 2
        assert capsys.readouterr().err == (
            f"lossatlas: x.zarr says that its job ran at {server.address}, which nobody gave here, "
            "and was not asked: the cluster's token would go there; wanted the address from you. "
            f"If that one is right, add --address {server.address}\n"
        )
        assert server.asked == []


def test_an_address_from_the_flag_the_environment_or_our_own_submit_gets_the_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server, serving() as attacker:
        store = store_of(tmp_path / "x.zarr", "tiny-1", server.address)
        machine_notes.write(f"job of {store.url}", address=server.address)
        assert main.run(["logs", store.url]) == 0
        # What a log holds does nothing to the terminal.
        assert capsys.readouterr().out == "first\n\\u001b]0;owned\\u0007\\u009b2Jlast\nend\n"
        store = store_of(tmp_path / "y.zarr", "tiny-1", attacker.address)
        assert main.run(["logs", store.url, "--address", server.address]) == 0
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", server.address)
        assert main.run(["logs", store.url]) == 0
        assert {token for _, token in server.asked} == {f"Bearer {TOKEN}"}
        assert attacker.asked == []


def test_the_end_of_the_usual_tunnel_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`list` and `submit` ask there without a word too: a store that names it adds nothing."""
    with serving() as server:
        monkeypatch.setattr(find_job, "_DEFAULT", server.address)
        store = store_of(tmp_path / "x.zarr", "tiny-1", server.address)
        assert main.run(["logs", store.url]) == 0


@pytest.mark.parametrize("id_", ["../version?x=", "tiny-1/../../x", "a b", "..", "x" * 300, ""])
def test_an_id_is_no_path(id_: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        store = store_of(tmp_path / "x.zarr", id_, server.address)
        assert main.run(["stop", store.url, "--address", server.address]) == 2
        assert "is no job's id; wanted letters, digits, dots" in capsys.readouterr().err
        assert {path for path, _ in server.asked} == {"/api/version"}


def test_nobody_is_sent_elsewhere() -> None:
    with serving() as other, serving(other.address) as server:
        with pytest.raises(DashboardError, match="sends us to another address, where the token"):
            connect(server.address)
        assert {path for path, _ in server.asked} == {"/api/version"}
        server.elsewhere = ""
        jobs = Jobs(server.address)
        server.elsewhere = other.address
        with pytest.raises(DashboardError, match="sends us to another address"):
            jobs.find("tiny-1")
        assert other.asked == []


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated")  # Ray's call
def test_a_log_that_is_sent_elsewhere_takes_no_token_along() -> None:
    """It is read by aiohttp, which follows."""
    with serving() as other, serving() as server:
        jobs = Jobs(server.address)
        server.elsewhere = other.address

        async def tail() -> None:
            async for _ in jobs._client.tail_job_logs("tiny-1"):
                pass

        with pytest.raises(Exception, match="Invalid response status"):
            asyncio.run(tail())
        assert [token for _, token in other.asked] == [None]
