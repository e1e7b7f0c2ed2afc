"""A job's log over connections that end, break, fall silent and begin again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

import aiohttp
import pytest

from cluster.jobs import log as joblog
from cluster.jobs.dashboard import DashboardError

RAYS = (
    "2026-11-25 09:07:42,247\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
    "Running entrypoint for job tiny-1: exec python -P\n"
)
LINES = [f"line {number}\n" for number in range(40)]
TEXT = RAYS + "".join(LINES)


class Cluster:
    """A job whose log is `TEXT`, and connections that bring the given pieces of it."""

    def __init__(self, *tails: Iterable[str | Exception]) -> None:
        self.tails = [list(tail) for tail in tails]
        self.outages: list[Exception] = []
        self.told: list[str] = []
        self.warned: list[str] = []
        self.now = 0.0

    def alive(self) -> bool:
        if self.outages:
            raise self.outages.pop(0)
        return bool(self.tails)

    async def tail(self) -> AsyncIterator[str]:
        for piece in self.tails.pop(0):
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def whole(self) -> str:
        return TEXT if not self.tails else RAYS

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def follow(self, print_text: Callable[[str], None] | None = None) -> str:
        joblog.follow(
            self.alive,
            self.tail,
            self.whole,
            print_text or self.told.append,
            self.warned.append,
            patience_seconds=60,
            sleep=self.sleep,
            clock=lambda: self.now,
        )
        return "".join(self.told)


def silent() -> DashboardError:
    return DashboardError("http://h:1 cannot be reached (refused); wanted a head", "silent")


def test_every_line_is_told_once_whatever_the_connections_do() -> None:
    cluster = Cluster(
        [RAYS, *LINES[:3]],  # ends while the job runs
        [TEXT[:200], aiohttp.ClientConnectionError()],  # breaks in the middle of a line
        [],
        [RuntimeError("close code 1006")],
        [TEXT[:10], TEXT[10:333], OSError()],
    )
    assert cluster.follow() == "".join(LINES)
    assert cluster.warned == []


def test_an_outage_is_waited_out_and_told_once() -> None:
    cluster = Cluster([RAYS, LINES[0]], [TEXT])
    cluster.outages = [silent() for _ in range(5)]
    assert cluster.follow() == "".join(LINES)
    assert cluster.warned == ["http://h:1 cannot be reached (refused); trying again"]


def test_an_outage_that_does_not_end_is_an_error() -> None:
    cluster = Cluster([TEXT])
    cluster.outages = [silent() for _ in range(1000)]
    with pytest.raises(DashboardError, match="cannot be reached"):
        cluster.follow()
    assert 60 < cluster.now < 120


def test_a_refusal_is_final() -> None:
    cluster = Cluster([TEXT])
    cluster.outages = [DashboardError("http://h:1 knows no job tiny-1")]
    with pytest.raises(DashboardError, match="knows no job"):
        cluster.follow()
    assert cluster.now == 0


def test_a_connection_that_fell_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblog, "_SILENCE_SECONDS", 0.01)
    cluster = Cluster([TEXT])

    async def hanging() -> AsyncIterator[str]:
        cluster.tails.pop(0)
        yield RAYS + LINES[0]
        await asyncio.sleep(60)

    monkeypatch.setattr(cluster, "tail", hanging)
    assert cluster.follow() == "".join(LINES)


def test_a_reader_that_is_gone_ends_it() -> None:
    def print_text(text: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Cluster([TEXT]).follow(print_text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (TEXT, "".join(LINES)),
        (RAYS, ""),
        ("", ""),
        ("no newline", "no newline"),
        (RAYS + "no newline", "no newline"),
        ("mine\n" + RAYS, "mine\n" + RAYS),
        (
            "2026-11-25 09:07:42,247\tERROR job_manager.py:581 -- no runtime env\n",
            "2026-11-25 09:07:42,247\tERROR job_manager.py:581 -- no runtime env\n",
        ),
    ],
)
def test_only_what_ray_wrote_first_is_left_out(text: str, kept: str) -> None:
    assert joblog.plain(text) == kept
    told: list[str] = []
    log = joblog.JobLog(told.append)
    for letter in text:
        log.feed(letter)
    log.flush()
    assert "".join(told) == kept
