"""The way in to a cluster: every wrong address, and every refusal, is one clear line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from cluster.jobs import dashboard
from cluster.jobs.dashboard import DashboardError, asking, checked, connect

ADDRESS = "http://127.0.0.1:8265"


@pytest.fixture
def server() -> Iterator[tuple[socket.socket, str]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening, f"http://127.0.0.1:{listening.getsockname()[1]}"


def answering(listening: socket.socket, answer: bytes) -> None:
    """Give every connection the same answer, from a thread of its own."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:8265", "--address 127.0.0.1:8265 is no Jobs API; wanted http://HOST:8265"),
        ("ray://h:1", "--address ray://h:1 is no Jobs API"),
        ("http://", "--address http:// is no Jobs API"),
        ("http://h:99999", "--address http://h:99999 is no Jobs API"),
        ("http://h:port", "--address http://h:port is no Jobs API"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1 cannot be reached (Connection refused)"),
        ("http://nowhere.invalid:1", "http://nowhere.invalid:1 cannot be reached ("),
        ("http://me:s3cret@h:1", "--address http://h:1 was given with a password in it"),
        ("ftp://me:s3cret@h:1", "--address ftp://h:1 was given with a password in it"),
        ("http://me:s3cret@h:99999", "--address … was given with a password in it"),
    ],
)
def test_a_wrong_address_is_told_and_no_password_repeated(address: str, message: str) -> None:
    with pytest.raises(DashboardError) as caught:
        checked(address)
    assert str(caught.value).startswith(message)
    assert "s3cret" not in str(caught.value)


def test_a_path_behind_the_address_is_left_out(server: tuple[socket.socket, str]) -> None:
    assert checked(f"{server[1]}/#/jobs") == server[1]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "no Ray"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "(HTTP 500)"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<p/>",
            "answers, but is no Ray dashboard; wanted http://HOST:8265",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot be reached (ConnectionError)"),
    ],
)
def test_a_stranger_is_no_dashboard(
    server: tuple[socket.socket, str],
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    message: str,
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 64)
    answering(server[0], answer)
    with pytest.raises(DashboardError) as caught:
        connect(server[1])
    assert message in str(caught.value)
    assert server[1] in str(caught.value)


@pytest.mark.parametrize(
    ("told", "message", "found"),
    [
        ("Request failed with status code 404: Job x does not exist", "knows no job x", "refused"),
        ("status code 503: no upstream", "its agent does not answer", "silent"),
        ("status code 500: File aiohttp/connector.py", "its agent does not answer", "silent"),
        ("No available agent to submit job", "no agent answers", "no agent"),
        ("Job with submission_id x already exists", "has a job of that name", "taken"),
        ("status code 500:\n  Traceback", "does not do that: status code 500: Trace", "refused"),
    ],
)
def test_what_a_dashboard_refuses_is_told_apart(told: str, message: str, found: str) -> None:
    with pytest.raises(DashboardError, match=message) as caught, asking(ADDRESS, "x"):
        raise RuntimeError(told)
    assert caught.value.found == found
    assert "\n" not in str(caught.value)


def test_a_dashboard_that_is_gone_may_come_back() -> None:
    with pytest.raises(DashboardError, match="cannot be reached") as caught, asking(ADDRESS):
        raise ConnectionError("Failed to connect to Ray")
    assert caught.value.found == "silent"


def test_the_token_is_looked_for_where_ray_looks(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    assert dashboard._token() == ""
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("from home\n")
    assert dashboard._token() == "from home"
    (home / "elsewhere").write_text(" from a file ")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "elsewhere"))
    assert dashboard._token() == "from a file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from the environment")
    assert dashboard._token() == "from the environment"
