"""A job's log as it grows: the driver's own lines, each once, over connections that break."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable

from cluster.jobs.dashboard import DashboardError

_POLL_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 8.0
_PATIENCE_SECONDS = 120.0
# A tunnel that died without a word looks like a driver that prints nothing.
_SILENCE_SECONDS = 60.0

# What Ray itself writes before the driver's first line.
_PREAMBLE = re.compile(
    r"\d{4}-\d\d-\d\d [\d:,]+\tINFO job_manager\.py:\d+ -- .*\n|Running entrypoint for job .*\n"
)


class JobLog:
    """Passes on what is new of a log that may arrive from its beginning again and again."""

    def __init__(self, print_text: Callable[[str], None]) -> None:
        self._print_text = print_text
        self._told = self._seen = 0
        self._held: str | None = ""  # Ray's own lines go first; None once they are over

    def again(self) -> None:
        """What is fed next begins at the beginning."""
        self._seen = 0

    def feed(self, text: str) -> None:
        new = text[max(0, self._told - self._seen) :]
        self._seen += len(text)
        self._told = max(self._told, self._seen)
        if new:
            self._pass_on(new)

    def flush(self) -> None:
        """The log is at its end: an unfinished first line is one, too."""
        held, self._held = self._held, None
        if held:
            self._print_text(held)

    def _pass_on(self, text: str) -> None:
        if self._held is None:
            self._print_text(text)
            return
        self._held += text
        while "\n" in self._held:
            line, newline, rest = self._held.partition("\n")
            if not _PREAMBLE.fullmatch(line + newline):
                self.flush()
                return
            self._held = rest


def plain(text: str) -> str:
    """A whole log without what Ray wrote into it."""
    told: list[str] = []
    log = JobLog(told.append)
    log.feed(text)
    log.flush()
    return "".join(told)


def follow(
    alive: Callable[[], bool],
    tail: Callable[[], AsyncIterator[str]],
    whole: Callable[[], str],
    print_text: Callable[[str], None],
    warn: Callable[[str], None],
    patience_seconds: float = _PATIENCE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Pass on a log until its job has ended.

    Args:
        alive: whether the job has not ended.
        tail: a new connection, which gives the log from its beginning and goes on with it. It may
            end, break or fall silent while the job runs.
        whole: the log so far.
        print_text: takes the text.
        warn: takes a line when the cluster is out of reach.
        patience_seconds: how long the cluster may be out of reach.
        sleep, clock: seconds.

    Raises:
        DashboardError: the cluster does not answer for longer than that, or refuses.
    """
    log, wait, since, warned = JobLog(print_text), _POLL_SECONDS, clock(), False
    while True:
        try:
            is_running = alive()
            if is_running:
                asyncio.run(_tail(tail(), log))
            # What the connection did not bring; where none can be had, this is all there is.
            log.again()
            log.feed(whole())
            if not is_running:
                log.flush()
                return
            wait, since, warned = _POLL_SECONDS, clock(), False
        except DashboardError as error:
            if error.found != "silent" or clock() - since > patience_seconds:
                raise
            if not warned:
                warn(f"{str(error).partition(';')[0]}; trying again")
            wait, warned = min(2 * wait, _LONGEST_WAIT_SECONDS), True
        sleep(wait)


async def _tail(pieces: AsyncIterator[str], log: JobLog) -> None:
    """Read one connection to its end, however it ends."""
    import aiohttp

    log.again()
    while True:
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                piece = await anext(pieces, None)
        except (aiohttp.ClientError, OSError, RuntimeError):  # OSError: TimeoutError, too
            return
        if piece is None:
            return
        log.feed(piece)
