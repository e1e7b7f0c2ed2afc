"""Atomic creation of a store: of several creators one succeeds, and its store appears whole."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.url import is_url

_ABANDONED_SECONDS = 3600.0
_OURS = re.compile(r"\.lossatlas-[0-9a-f]{8}\.partial")


class TakenByOther(Exception):  # noqa: N818
    """Another creator made the store first."""


@contextlib.contextmanager
def atomic_create(url: str) -> Iterator[str]:
    """Gives the place to create a store in; at the end that folder is moved to `url`.

    An empty folder at `url` is replaced. Where a folder cannot be moved to `url`, the store is
    created at `url` itself: on an object store, on a disk that is mounted there, or over the
    remains of a creation that was interrupted.

    Raises:
        TakenByOther: another creator made something at `url` meanwhile.
    """
    target = Path(os.path.realpath(url))  # follow links
    if is_url(url) or not _is_free(target):
        yield url
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    made = target.with_name(f".lossatlas-{secrets.token_hex(4)}.partial")
    try:
        yield str(made)
        try:
            os.rename(made, target)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise TakenByOther from None
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _is_free(target: Path) -> bool:
    """Whether a folder can be moved to `target`."""
    if not target.exists():
        return True
    is_empty = target.is_dir() and not any(target.iterdir())
    return is_empty and not os.path.ismount(target) and os.access(target.parent, os.W_OK)


def _sweep(folder: Path) -> None:
    """Delete the remains of creators that were killed more than an hour ago."""
    with contextlib.suppress(OSError):
        for path in filter(lambda path: _OURS.fullmatch(path.name), folder.iterdir()):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
