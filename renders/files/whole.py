"""Files and folders that appear under their name whole, or not at all.

Until then they are called `.NAME.PID.partial` and are locked. A lock ends with its process, so that
what a killed export left can be told from what a living one is writing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import LossatlasError


@contextlib.contextmanager
def whole_file(path: Path, error: type[LossatlasError]) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well, else removed.

    Args:
        path: the final name; its folder must exist.
        error: what to raise when the disk refuses; the caller's own.

    Raises:
        LossatlasError: `error`, when a write fails.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _locked(partial) as handle:
            yield partial
            os.fsync(handle)
            partial.replace(path)
    except OSError as failure:
        raise refused(path, failure, error) from None
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path, error: type[LossatlasError]) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it when the block ends well, else removed.

    A folder that is already at `path` is replaced at the last moment; whether it may be is for the
    caller to decide beforehand.

    Raises:
        LossatlasError: `error`, when a write fails.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        with _locked(partial, is_folder=True):
            yield partial
            if path.exists():
                path.rename(old)
            partial.rename(path)
    except OSError as failure:
        raise refused(path, failure, error) from None
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)


def checked_place(path: Path, error: type[LossatlasError]) -> Path:
    """`path`, if a file or folder of that name could be made; `sweep` has been there.

    Raises:
        LossatlasError: `error`: its parent is missing or closed.
    """
    if not path.parent.is_dir():
        raise error(f"{path.parent} is no folder: wanted one to write into; create it first")
    if not os.access(path.parent, os.W_OK):
        raise error(f"{path.parent} cannot be written: wanted permission; choose another")
    sweep(path.parent, re.escape(path.name))
    return path


def sweep(folder: Path, names: str) -> None:
    """Delete what killed exports left half-written in `folder`.

    Args:
        folder: of the files.
        names: a regular expression of what they were to be called.
    """
    ours = re.compile(rf"\.({names})\.(\d+)\.(?:partial|old)")
    with contextlib.suppress(OSError):
        found = {match.groups() for each in os.listdir(folder) if (match := ours.fullmatch(each))}
        for name, pid in found:
            _sweep(folder / name, *(folder / f".{name}.{pid}.{end}" for end in ("partial", "old")))


def refused(path: Path, failure: OSError, error: type[LossatlasError]) -> LossatlasError:
    """The one line for a disk that says no."""
    return error(
        f"{path} cannot be written ({failure.strerror or failure}): wanted room and permission "
        "there; choose another folder"
    )


@contextlib.contextmanager
def _locked(partial: Path, is_folder: bool = False) -> Iterator[int]:
    """Make a file or folder and hold it until the block ends; its descriptor."""
    while True:
        if is_folder:
            partial.mkdir()
        handle = os.open(partial, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # Not every network file system has locks; nothing is swept up there.
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            if partial.exists():  # and was not swept up before it was locked
                yield handle
                return
        finally:
            os.close(handle)


def _sweep(path: Path, partial: Path, old: Path) -> None:
    """Delete what one export of `path` left, if its process is dead."""
    handle = None
    try:
        if partial.exists():
            handle = os.open(partial, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A folder that was to be replaced just then comes back.
        if old.exists() and not path.exists():
            old.rename(path)
        for rest in (partial, old):
            if rest.is_dir():
                shutil.rmtree(rest)
            else:
                rest.unlink(missing_ok=True)
    except BlockingIOError:
        pass
    finally:
        if handle is not None:
            os.close(handle)
