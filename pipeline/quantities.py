"""Names of quantities: the three that every render knows, and those of a user's own functions."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

KNOWN = ("loss", "error", "loss_stderr")

# Arrays and coordinates of a store and of what `lossatlas.open` gives; `mark_…` are of marks.
_TAKEN = {
    *("anchor", "anchor_index", "bound", "component", "curve", "curve_point", "done", "evaluated"),
    *("explained", "extent", "finished", "frame", "level", "mark", "predicted_error"),
    *("quantity", "seconds", "split", "tile_x", "tile_y", "worker", "x", "y"),
}


def quantity(name: str) -> str:
    """`name`, if a quantity may have it; for pydantic."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,39}", name):
        raise ValueError(
            f"{name!r} is no name of a quantity; wanted a letter, then letters, digits and _, such "
            "as top5"
        )
    if name in _TAKEN or name.startswith("mark_"):
        raise ValueError(f"{name} is the name of an array of every store; wanted another name")
    return name


def own_quantity(name: str) -> str:
    """`name`, if a quantity of a user's own function may have it; for pydantic."""
    if name in KNOWN:
        raise ValueError(f"{name} is a quantity that lossatlas computes; wanted another name")
    return quantity(name)


Quantity = Annotated[str, AfterValidator(quantity)]
OwnQuantity = Annotated[str, AfterValidator(own_quantity)]
