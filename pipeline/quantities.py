"""Names of quantities: those that lossatlas computes, and those of a user's own functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator

KNOWN = ("loss", "error", "loss_stderr")
CURVATURE = ("lambda_max", "lambda_min", "negative", "trace", "gradient_norm")
"""Quantities of the loss's first and second derivatives by all weights."""
OF_ENDS = ("lambda_max", "lambda_min", "negative")
"""Those of them that follow from the two ends of the spectrum."""
RESIDUALS: Mapping[str, tuple[str, ...]] = {
    "lambda_max": ("lambda_max_residual",),
    "lambda_min": ("lambda_min_residual",),
    "negative": ("lambda_max_residual", "lambda_min_residual"),
}
"""What is stored beside an eigenvalue: how far it may be from an exact one."""
STEPS = "lanczos_steps"
"""What is stored beside them: how many products they took."""
TRACE_ERROR = "trace_stderr"
COMPANIONS: tuple[str, ...] = ("lambda_max_residual", "lambda_min_residual", STEPS, TRACE_ERROR)
"""Quantities that say how good others are. They are stored with them, and never asked for."""

OF_CURVATURE = (*CURVATURE, *COMPANIONS)


def with_companions(asked: Sequence[str]) -> tuple[str, ...]:
    """The quantities of curvature to store, of those asked for: with what says how good they are.

    The order is always the same.
    """
    chosen = set(asked)
    for name in asked:
        chosen.update(RESIDUALS.get(name, ()))
        if name in OF_ENDS:
            chosen.add(STEPS)
        if name == "negative":
            chosen.update(("lambda_max", "lambda_min"))
        if name == "trace":
            chosen.add(TRACE_ERROR)
    return tuple(name for name in OF_CURVATURE if name in chosen)


# Arrays and coordinates of a store and of what `lossatlas.open` gives; `mark_…` are of marks.
_TAKEN = {
    *("anchor", "anchor_index", "bound", "component", "curve", "curve_point", "direction"),
    *("direction_index", "done", "evaluated", "explained", "extent", "finished", "frame", "level"),
    *("mark", "predicted_error", "quantity", "seconds", "split", "tile_x", "tile_y"),
    *("weight", "worker", "x", "y"),
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
    if name in (*KNOWN, *OF_CURVATURE):
        raise ValueError(f"{name} is a quantity that lossatlas computes; wanted another name")
    return quantity(name)


Quantity = Annotated[str, AfterValidator(quantity)]
OwnQuantity = Annotated[str, AfterValidator(own_quantity)]
