"""Where a run is."""

from __future__ import annotations

import os


def place_of(run: str) -> str:
    """A URL as it is, a path made absolute.

    Raises:
        PlaceError: a URL with credentials in it.
    """
    from pipeline.place import check, is_url

    return check(run) if is_url(run) else os.path.abspath(os.path.expanduser(run))
