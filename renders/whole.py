"""Files and folders that appear under their name whole, or not at all."""

from __future__ import annotations

import contextlib
import os
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
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
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
        partial.mkdir()
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
    """`path`, if a file or folder of that name could be made.

    Raises:
        LossatlasError: `error`: its parent is missing or closed.
    """
    if not path.parent.is_dir():
        raise error(f"{path.parent} is no folder: wanted one to write into; create it first")
    if not os.access(path.parent, os.W_OK):
        raise error(f"{path.parent} cannot be written: wanted permission; choose another")
    return path


def refused(path: Path, failure: OSError, error: type[LossatlasError]) -> LossatlasError:
    """The one line for a disk that says no."""
    return error(
        f"{path} cannot be written ({failure.strerror or failure}): wanted room and permission "
        "there; choose another folder"
    )
