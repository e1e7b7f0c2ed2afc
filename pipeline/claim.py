"""The place of a new store, which one of several creators gets: all of it, and at once."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.place import is_url

_ABANDONED_SECONDS = 3600.0


@contextlib.contextmanager
def beside(url: str) -> Iterator[str]:
    """Where to create what belongs at `url`; it is moved there in the end, if nothing is by then.

    What cannot be moved (a place on an object store, or a folder that is there already and may be
    a mounted disk) is created where it belongs.

    Raises:
        OSError: something has come to be at `url` meanwhile (ENOTEMPTY), or it cannot be written.
    """
    target = Path(url)
    if is_url(url) or os.path.lexists(target):
        yield url
        return
    _sweep(target)
    made = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
    try:
        yield str(made)
        os.rename(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Delete what creators of `target` left who were killed, long ago."""
    with contextlib.suppress(OSError):
        for path in target.parent.glob(f"{target.name}.*.partial"):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
