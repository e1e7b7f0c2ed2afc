"""^C and SIGTERM during an export."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import click

from cluster.terminal import warn
from cluster.workers.interrupts import EXIT_CODE, Interrupts


@contextlib.contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[None]:
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
            from cluster.monitor.progress import clear_line

            clear_line()
            warn(f"stopped; {kept()}")
            raise click.exceptions.Exit(EXIT_CODE) from None


def whole_output(out: str) -> Callable[[], str]:
    """For a file or a folder that is replaced whole or not at all."""
    from cluster import shell

    before = os.path.exists(out)

    def kept() -> str:
        place = shell.place(out)
        return f"{place} is as it was before" if before else f"{place} was not written"

    return kept
