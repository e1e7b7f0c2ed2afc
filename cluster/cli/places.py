"""Where a run is, and what a spec asks for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.spec import RenderSpec


def place_of(run: str) -> str:
    """A URL as it is, a path made absolute.

    Raises:
        PlaceError: a URL with credentials in it.
    """
    from pipeline.url import check, is_url

    return check(run) if is_url(run) else os.path.abspath(os.path.expanduser(run))


def spec_at(path: str, store: str | None) -> RenderSpec:
    """The spec in the file `path`, with `store` in place of its own where that is given.

    Raises:
        LossatlasError: it is no spec, or the store a URL with credentials in it.
    """
    from pipeline.spec import read

    found = read(path)
    return found if store is None else found.model_copy(update={"store": place_of(store)})
