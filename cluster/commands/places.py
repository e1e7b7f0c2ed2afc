"""Where a run is."""

from __future__ import annotations

import os


def place_of(run: str) -> str:
    """A URL as it is, a path made absolute."""
    from pipeline.spec import is_url

    return run if is_url(run) else os.path.abspath(os.path.expanduser(run))
