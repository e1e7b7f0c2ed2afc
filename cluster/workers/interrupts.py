"""^C and SIGTERM: the first stops a command cleanly, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Any

from cluster.workers import processes

EXIT_CODE = 130
_SAME_PRESS_SECONDS = 0.3


class Interrupts:
    """Handles both signals; a context manager.

    While `raising` is true, the first signal raises KeyboardInterrupt. Otherwise it only sets
    `requested`, which the event loop checks.
    """

    def __init__(self) -> None:
        self.requested = False
        self.raising = True
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested:
            # A terminal and a parent process may both send a signal for one key press.
            if now - self._since < _SAME_PRESS_SECONDS:
                return
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")
            processes.end()
            os._exit(EXIT_CODE)
        self.requested = True
        self._since = now
        if self.raising:
            raise KeyboardInterrupt
