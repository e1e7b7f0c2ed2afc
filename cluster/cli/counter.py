"""Counting on stderr while something is made."""

from __future__ import annotations

import sys
import time

_LINE_SECONDS = 10.0


class Counter:
    """`film: 12/240 pictures 5 %`: in place on a terminal, a line now and then elsewhere.

    Args:
        what: is being made.
        things: that are counted.
        quiet: count and say nothing.
    """

    def __init__(self, what: str, things: str, quiet: bool = False) -> None:
        self._what, self._things, self._quiet = what, things, quiet
        self._printed_at = time.monotonic()
        self.done = 0

    def __call__(self, done: int, of: int) -> None:
        self.done = done
        if self._quiet:
            return
        now = time.monotonic()
        text = f"{self._what}: {done:,}/{of:,} {self._things} {100 * done // of} %"
        if sys.stderr.isatty():
            end = "\n" if done == of else ""
            print(f"\r{text}", end=end, file=sys.stderr, flush=True)
        elif now - self._printed_at >= _LINE_SECONDS:
            self._printed_at = now
            print(text, file=sys.stderr, flush=True)
