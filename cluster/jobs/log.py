"""Following a job's log: each line of the driver once, although connections may break."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable

from cluster.jobs.dashboard import DashboardError

_POLL_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 8.0
_PATIENCE_SECONDS = 120.0
# A dead tunnel looks like a driver that prints nothing.
_SILENCE_SECONDS = 60.0

# The lines that Ray writes before the driver's first line.
_PREAMBLE = re.compile(
    r"\d{4}-\d\d-\d\d [\d:,]+\tINFO job_manager\.py:\d+ -- .*\n|Running entrypoint for job .*\n"
)


class JobLog:
    """Prints the new part of a log, which may be sent from its beginning several times."""

    def __init__(self, print_text: Callable[[str], None]) -> None:
        self._print_text = print_text
        self._told = self._seen = 0
        self._held: str | None = ""  # Ray's own lines go first; None once they are over

    def again(self) -> None:
        """Expect the log from its beginning."""
        self._seen = 0

    def feed(self, text: str) -> None:
        new = text[max(0, self._told - self._seen) :]
        self._seen += len(text)
        self._told = max(self._told, self._seen)
        if new:
            self._pass_on(new)

    def flush(self) -> None:
        """End the log; an unfinished first line is printed too."""
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
    """A whole log without the lines of Ray."""
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
    """Print a log until its job has ended.

    Args:
        alive: whether the job has not ended.
        tail: a new connection, which sends the log from its beginning, and what is added. It may
            end, break or stop sending while the job runs.
        whole: the log so far.
        print_text: takes the text.
        warn: takes a line when the cluster does not answer.
        patience_seconds: how long the cluster may fail to answer.
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
            # Print what the connection did not send; without a connection, this is everything.
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
    """Read one connection until it ends or fails."""
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
