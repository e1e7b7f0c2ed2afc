"""The lines that a render logs: text for people, or one JSON object a line (`--log json`)."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from pipeline.naming import shown


class _Formatter(logging.Formatter):
    """Formats a record as one line; its `event` and `facts` become the JSON object."""

    def __init__(self, run: str, as_json: bool) -> None:
        super().__init__()
        self._run = run
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        if self._as_json:
            facts: dict[str, Any] = record.__dict__["facts"]
            return event_line(self._run, record.__dict__["event"], **facts)
        prefix = "lossatlas" if record.levelno >= logging.WARNING else self._run
        return f"{prefix}: {shown(record.getMessage())}"


class _Handler(logging.Handler):
    """Writes lines to a stream. An error of the stream is raised, not printed to stderr."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        self._stream.write(f"{self.format(record)}\n")
        self._stream.flush()


class RenderLog:
    """Logs the progress and the warnings of one run.

    Args:
        run: its name.
        as_json: whether each line is a JSON object.
        stream: where the lines go; stderr by default.
    """

    def __init__(self, run: str, as_json: bool, stream: TextIO | None = None) -> None:
        handler = _Handler(stream or sys.stderr)
        handler.setFormatter(_Formatter(run, as_json))
        self._logger = logging.Logger("lossatlas")  # not registered: it belongs to this run
        self._logger.addHandler(handler)

    def progress(self, text: str, event: str, facts: dict[str, Any]) -> None:
        """Log how far the run is: `text` for people, or `event` with its facts."""
        self._logger.info("%s", text, extra={"event": event, "facts": facts})

    def warn(self, text: str, event: str, facts: dict[str, Any]) -> None:
        """Log a line that a user should read, or `event` with its facts."""
        self._logger.warning("%s", text, extra={"event": event, "facts": facts})


def event_line(run: str, event: str, **facts: Any) -> str:
    """One JSON object: time in seconds since the epoch, run, event and its facts."""
    return json.dumps({"time": round(time.time(), 3), "run": run, "event": event} | facts)


def line_printer(
    print_line: Callable[[str], None], run: str, as_json: bool
) -> Callable[[str], None]:
    """`print_line`, or a function that prints each line as a JSON event of `run`."""
    if not as_json:
        return print_line
    return lambda text: print_line(event_line(run, "message", text=text))
