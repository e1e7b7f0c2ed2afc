"""Glyphs: the shapes of marks, as outlines in pixels."""

from __future__ import annotations

import functools
import math

import numpy as np
from matplotlib.path import Path

from renders.colour import FloatArray

_ARM = 0.36
"""Half the width of a cross's arms, in radii."""
_HOLE = 0.42
"""Radius of a ring's hole, in radii."""
_AREA = {
    "ring": 1.06, "square": 1.22, "diamond": 1.24, "triangle": 1.46, "cross": 1.2, "plus": 1.22,
}  # fmt: skip
"""Sizes at which glyphs look as large as a disc of radius 1."""


@functools.lru_cache(256)
def outline(glyph: str, radius: float, grown: float = 0.0) -> Path:
    """The outline of a glyph about (0, 0), y downwards, filled by the non-zero rule.

    Args:
        glyph: one of `renders.source.marks.GLYPHS`.
        radius: of a disc that looks as large, pixels.
        grown: pixels that the outline lies outside the glyph; negative lies inside, where a glyph
            keeps at least a hair of itself.
    """
    size = radius * _AREA.get(glyph, 1.0)
    match glyph:
        case "circle":
            return Path.circle((0, 0), max(size + grown, 0.05 * radius))
        case "ring":
            return _ring(size, grown)
        case "square":
            return _regular(4, size, grown, math.pi / 4)
        case "diamond":
            return _regular(4, size, grown, 0.0)
        case "triangle":
            return _regular(3, size, grown, math.pi / 2)
        case "plus":
            return Path(_cross(size, grown), closed=False)
    turn = math.cos(math.pi / 4)
    return Path(_cross(size, grown) @ np.array([[turn, turn], [-turn, turn]]), closed=False)


def _regular(corners: int, size: float, grown: float, first: float) -> Path:
    """A regular polygon whose sides are moved outwards by `grown`; `first` is a corner's angle."""
    inner = size * math.cos(math.pi / corners)
    scale = max(1 + grown / inner, 0.05)
    turn = first + 2 * math.pi * np.arange(corners + 1) / corners
    points = scale * size * np.stack([np.cos(turn), -np.sin(turn)], axis=1)
    # A triangle's middle is that of its height, or it would seem to hang.
    points[:, 1] += 0.12 * size if corners == 3 else 0.0
    return Path(points, closed=False)


def _ring(size: float, grown: float) -> Path:
    outer, hole = max(size + grown, 0.1 * size), max(_HOLE * size - grown, 0.0)
    if hole <= 0:
        return Path.circle((0, 0), outer)
    inside = Path.circle((0, 0), hole)
    # Turned the other way round, or the non-zero rule would fill it.
    inside = Path(np.asarray(inside.vertices) * (1, -1), inside.codes)
    return Path.make_compound_path(Path.circle((0, 0), outer), inside)


def _cross(size: float, grown: float) -> FloatArray:
    """The twelve corners of an upright cross, and the first again."""
    arm, reach = max(_ARM * size + grown, 0.04 * size), max(size + grown, 0.1 * size)
    a, r = arm, reach
    corners = [
        (a, a), (r, a), (r, -a), (a, -a), (a, -r), (-a, -r),
        (-a, -a), (-r, -a), (-r, a), (-a, a), (-a, r), (a, r), (a, a),
    ]  # fmt: skip
    return np.array(corners, dtype=np.float64)
