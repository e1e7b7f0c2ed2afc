"""The processes of a private Ray: all of them end with their driver.

Ray's server and its raylet end with their parent. Two agents below the raylet do not: if everything
ends at once, each of them tries for a minute to report the raylet's end to the server.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_folders: list[str] = []  # of each running Ray
_leaving: list[Any] = []  # processes of a Ray that is shutting down; their parents may be gone


@contextlib.contextmanager
def started_in(folder: Path) -> Iterator[None]:
    """Register `folder`, an absolute path, as that of the Ray that is started in this block."""
    _folders.append(str(folder))
    try:
        yield
    finally:
        _folders.remove(str(folder))


def shut_down(ray: Any) -> None:
    """Shut down the Ray that was started last, and kill what is left of it."""
    folders = _folders[-1:]
    _leaving[:] = _started_in(folders)
    try:
        ray.shutdown()
    finally:
        _kill([*_started_in(folders), *_leaving])
        _leaving.clear()


def end() -> None:
    """Kill every process of our private Rays at once."""
    _kill([*_started_in(_folders), *_leaving])


def _kill(processes: list[Any]) -> None:
    for process in processes:
        # psutil compares start times, so a new process with the same number is not killed.
        with contextlib.suppress(Exception):
            process.kill()


def _started_in(folders: list[str]) -> list[Any]:
    """Our descendants with one of `folders` in their arguments, parents first."""
    # Ray contains psutil, and imports it before it starts a process.
    psutil: Any = sys.modules.get("psutil")
    found: list[Any] = []
    for child in psutil.Process().children() if psutil and folders else ():
        with contextlib.suppress(psutil.Error):
            if any(folder in part for part in child.cmdline() for folder in folders):
                found += [child, *child.children(recursive=True)]
    return found
