"""^C and SIGTERM while something is exported."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import click

from cluster.terminal import warn
from cluster.workers.interrupts import EXIT_CODE, Interrupts


@contextlib.contextmanager
def stoppable(kept: Callable[[], str]) -> Iterator[None]:
    """Say what an interrupted export leaves, and let it end with exit code 130.

    Args:
        kept: what is there now, asked when it was stopped.

    Raises:
        Exit: it was.
    """
    with Interrupts():
        try:
            yield
        except KeyboardInterrupt:
            if sys.stderr.isatty():  # the count of pictures is on this line
                sys.stderr.write("\r\x1b[K")
            warn(f"stopped; {kept()}")
            raise click.exceptions.Exit(EXIT_CODE) from None


def one_place(out: str) -> Callable[[], str]:
    """For a file or a folder that is replaced whole or not at all."""
    from cluster import format

    before = os.path.exists(out)

    def kept() -> str:
        place = format.place(out)
        return f"{place} is as it was before" if before else f"{place} was not written"

    return kept
