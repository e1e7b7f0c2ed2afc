"""The rim: round coordinates along the model's two near edges, on the floor before them."""

from __future__ import annotations

import numpy as np

from renders.colour import FloatArray
from renders.page.sheet import Sheet
from renders.page.text import Type, cap_height
from renders.relief.camera import Shot
from renders.relief.terrain import PLINTH, Ground
from renders.ticks import axis_ticks, label

_GAP = 0.040
"""How far from the model's foot figures stand, world units."""


def near_edges(ground: Ground, shot: Shot) -> tuple[tuple[str, int], ...]:
    """The axes along which the model is cut towards the camera, and the side, −1 or 1, of each."""
    x, y = shot.position[0], shot.position[1]
    found = []
    # An edge that is seen at a glancing angle has no room for figures.
    if abs(y) > ground.half[1] and abs(y) > 0.25 * abs(x):
        found.append(("x", 1 if y > 0 else -1))
    if abs(x) > ground.half[0] and abs(x) > 0.25 * abs(y):
        found.append(("y", 1 if x > 0 else -1))
    return tuple(found)


def draw_rim(
    sheet: Sheet,
    ground: Ground,
    shot: Shot,
    size_px: float,
    names: tuple[str, str] = ("x", "y"),
) -> None:
    """Figures at round coordinates along the near edges, and the axes' `names` at their ends."""
    if size_px < 6:
        return
    kind, named, theme = Type(size_px), Type(size_px, "It"), sheet.theme
    for axis, values, feet, out in _marks(ground, shot):
        x, y, _ = shot.project(feet + _GAP * out)
        for value, px, py in zip(values, x.tolist(), y.tolist(), strict=True):
            words = label(value) if value is not None else names[axis == "y"]
            how, colour = (named, theme.ink) if value is None else (kind, theme.muted)
            sheet.text(words, how, px, py + cap_height(kind) / 2, "centre", colour)


def _marks(
    ground: Ground, shot: Shot
) -> list[tuple[str, list[float | None], FloatArray, FloatArray]]:
    """Per near edge: its axis, values (None is the axis' name), feet, and the way outwards."""
    found = []
    x0, x1, y0, y1 = ground.extent
    wide, high = ground.half
    for axis, side in near_edges(ground, shot):
        low, high_end, half = (x0, x1, wide) if axis == "x" else (y0, y1, high)
        end = low + (1 - 0.025 / half) * (high_end - low)
        values: list[float | None] = list(axis_ticks(low, high_end, max(3.0, 16 * half), end))
        places = [(2 * (v - low) / (high_end - low) - 1) * half for v in values if v is not None]
        # The name stands at the end, in place of a figure that would touch it.
        keep = [k for k, place in enumerate(places) if place < half - 0.05]
        values = [*(values[k] for k in keep), None]
        along = np.array([*(places[k] for k in keep), half])
        feet = np.empty((len(along), 3))
        feet[:, 2] = -PLINTH
        if axis == "x":
            feet[:, 0], feet[:, 1], out = along, side * high, np.array([0.0, side, 0.0])
        else:
            feet[:, 0], feet[:, 1], out = side * wide, along, np.array([side, 0.0, 0.0])
        found.append((axis, values, feet, out))
    return found
