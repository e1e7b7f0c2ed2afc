"""The place of a new store, which one of several creators gets: all of it, and at once."""

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


class Taken(Exception):  # noqa: N818
    """Another creator has the place."""


@contextlib.contextmanager
def beside(url: str) -> Iterator[str]:
    """Where to create what belongs at `url`; it is moved there at the end, if nothing is by then.

    An empty folder is nothing. What cannot be moved is created where it belongs: on an object
    store, on a disk mounted right there, over the remains of a creation that was cut short.

    Raises:
        Taken: something has come to be at `url` meanwhile.
    """
    target = Path(os.path.realpath(url))  # where links lead
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
                raise Taken from None
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
    """Delete what creators left there who were killed, long ago."""
    with contextlib.suppress(OSError):
        for path in filter(lambda path: _OURS.fullmatch(path.name), folder.iterdir()):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
