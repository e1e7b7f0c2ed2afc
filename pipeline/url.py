"""Places: a local path, or the URL of anything fsspec reaches (`s3://…`), and what fails there.

Credentials come from the machine's own configuration (environment, profile, role), never from a
URL: a store's URL is written into manifests, logs and notes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import LossatlasError, one_line

# What says that content is wrong, not that a place cannot be reached.
_NOT_THE_PLACE = (LossatlasError, FileNotFoundError, ValueError, RuntimeError, TypeError, KeyError)


class PlaceError(LossatlasError):
    """A place that is written wrongly or cannot be used."""


class UnreachableError(PlaceError, OSError):
    """A place that does not answer or does not let us in now: worth another try."""


def is_url(path: str) -> bool:
    """Whether `path` names a place on a remote or virtual file system (`s3://…`)."""
    return "://" in path


def check(path: str) -> str:
    """`path` itself, if it may be written down.

    Raises:
        PlaceError: it is a URL with credentials in it; the message does not repeat them.
    """
    if is_url(path):
        parts = urlsplit(path)
        if "@" in parts.netloc or "?" in path:
            kept = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
            raise PlaceError(
                f"{kept} was given with credentials or a query in the URL; wanted the plain URL, "
                "which is written into the store and the logs. Put credentials into the "
                "environment or the machine's configuration"
            )
    return path


def store_url(run: str | Path) -> str:
    """Where a run is: a URL as it is, a path made absolute.

    Raises:
        PlaceError: a URL with credentials in it.
    """
    text = str(run)
    return check(text) if is_url(text) else os.path.abspath(os.path.expanduser(text))


@contextlib.contextmanager
def reached(where: str) -> Iterator[None]:
    """Turn whatever a remote file system's library raises at the URL `where` into one error.

    Raises:
        UnreachableError: where something else than a missing or wrong content was raised.
    """
    try:
        yield
    except _NOT_THE_PLACE:
        raise
    except Exception as error:
        if not is_url(where):
            raise
        raise UnreachableError(
            f"{where} cannot be reached ({one_line(error, 300)}); wanted a place that answers "
            "and lets us in. Check the network, the endpoint and the credentials"
        ) from error
