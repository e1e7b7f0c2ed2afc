"""Labels: how a film's frames are called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_EPOCHS = {"", "bezier", "chain", "polychain", "curve", "checkpoint", "ckpt", "epoch", "bend"}
"""Stems of checkpoint names whose number is the epoch."""


@dataclass(frozen=True)
class Labels:
    """How a film's frames are called.

    Attributes:
        heading: of the number, in capitals.
        names: one a frame, as lettered.
        numbers: one a frame where all have one, else None.
    """

    heading: str
    names: tuple[str, ...]
    numbers: tuple[float, ...] | None

    @property
    def decimals(self) -> int:
        """Of a number between two frames: 2 where a frame's own has as many."""
        return 1 if all(round(n, 1) == round(n, 2) for n in self.numbers or ()) else 2


def labels_for(plane: Mapping[str, Any], frames: int) -> Labels:
    """Labels from a store's plane facts: the epochs it knows, else its frames' names.

    `bezier-14` is epoch 14, `frame-0007` is frame 7.
    """
    names = [str(name) for name in plane.get("frames") or []]
    epochs = plane.get("epochs")
    if isinstance(epochs, Sequence) and len(epochs) == frames:
        numbers = tuple(float(epoch) for epoch in epochs)
        named = tuple(f"{n:,.2f}".rstrip("0").rstrip(".") for n in numbers)
        return Labels("EPOCH", named, numbers)
    if len(names) != frames:
        names = [f"frame-{k + 1}" for k in range(frames)]
    parts = [re.fullmatch(r"(.*?)[\s_.-]*(\d+)", name) for name in names]
    stems = {found[1] if found else None for found in parts}
    stem = stems.pop()
    if stems or stem is None:
        return Labels("FRAME", tuple(names), None)
    numbers = tuple(float(found[2]) for found in parts if found)
    heading = "EPOCH" if stem.lower() in _EPOCHS else stem.upper()
    return Labels(heading, tuple(f"{n:,.0f}" for n in numbers), numbers)
