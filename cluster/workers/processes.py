"""The processes of a Ray of our own: none of them outlives its driver by more than a moment.

Ray's server and raylet die with their parent. Two agents below the raylet do not: where all are
gone at once, each tries for a minute to tell the server that the raylet is.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_folders: list[str] = []  # of each Ray that runs
_leaving: list[Any] = []  # of one that is being shut down: they may be nobody's children by now


@contextlib.contextmanager
def started_in(folder: Path) -> Iterator[None]:
    """Start and use a Ray in this block that keeps its files in `folder`, an absolute path."""
    _folders.append(str(folder))
    try:
        yield
    finally:
        _folders.remove(str(folder))


def shut_down(ray: Any) -> None:
    """`ray.shutdown()` of the Ray that was started last, after which nothing of it is left."""
    folders = _folders[-1:]
    _leaving[:] = _started_in(folders)
    try:
        ray.shutdown()
    finally:
        _kill([*_started_in(folders), *_leaving])
        _leaving.clear()


def end() -> None:
    """Kill at once what Rays of our own have started and is still there."""
    _kill([*_started_in(_folders), *_leaving])


def _kill(processes: list[Any]) -> None:
    for process in processes:
        # psutil compares when a process began: another that has its number now is left alone.
        with contextlib.suppress(Exception):
            process.kill()


def _started_in(folders: list[str]) -> list[Any]:
    """What was started below this process with such a folder in its arguments, parents first."""
    # Ray carries psutil, and imports it before it starts anything.
    psutil: Any = sys.modules.get("psutil")
    found: list[Any] = []
    for child in psutil.Process().children() if psutil and folders else ():
        with contextlib.suppress(psutil.Error):
            if any(folder in part for part in child.cmdline() for folder in folders):
                found += [child, *child.children(recursive=True)]
    return found
