"""Thousands of marks as layers of a picture, which look as those on a sheet do."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from renders.box import Box
from renders.colour import rgb
from renders.map.points import SUB, Dots, Lines, Stamp
from renders.map.tone import Tone
from renders.page.glyph import outline
from renders.page.marks import CASING, LINE, Placed, casing_of, fills, rim_of, stacked
from renders.page.theme import Theme
from renders.picture import Layer

_CASING = 2.0, 0.72
"""Width, in widths of the line, and opacity of what lies beneath it."""


def crowd_layers(
    placed: Sequence[Placed], quantity: str, tone: Tone, theme: Theme, radius_px: float, clip: Box
) -> tuple[Layer, ...]:
    """Lines first, and the marks over all of them; see `renders.page.marks.draw_marks`."""
    lines = [layer for group in placed for layer in _lines(group, theme, radius_px, clip)]
    dots = [_dots(group, quantity, tone, theme, radius_px, clip) for group in stacked(placed)]
    return *lines, *dots


def _lines(placed: Placed, theme: Theme, radius_px: float, clip: Box) -> list[Layer]:
    ways = [(s, o) for s, o in zip(placed.steps, placed.opacities, strict=True) if len(s) > 1]
    if not ways:
        return []
    gap = np.full((1, 2), np.nan)
    places = np.concatenate([piece for way, _ in ways for piece in (way, gap)])
    opacities = np.concatenate([np.full(len(way) + 1, opaque) for way, opaque in ways])
    width = max(LINE * radius_px, 1.0)
    share, part = _CASING
    casing = casing_of(placed.group, theme)
    return [
        Lines(places, part * opacities, share * width, casing, clip),
        Lines(places, opacities, width, rgb(placed.group.colour), clip),
    ]


def _dots(
    placed: Placed, quantity: str, tone: Tone, theme: Theme, radius_px: float, clip: Box
) -> Layer:
    group, seen = placed.group, placed.seen
    inside = fills(group, quantity, tone, theme)[seen]
    rim, casing = (
        np.broadcast_to(c, inside.shape) for c in (rgb(group.colour), casing_of(group, theme))
    )
    places = np.stack([placed.x[seen], placed.y[seen]], axis=1)
    colours = np.stack([casing, rim, inside], axis=1)
    return Dots(places, stamp(group.glyph, round(radius_px, 2)), colours, clip)


@functools.lru_cache(64)
def stamp(glyph: str, radius_px: float) -> Stamp:
    """Casing, rim and inside of a glyph of a radius, as layers 0, 1 and 2."""
    reach = int(np.ceil(SUB * radius_px * (1.6 + CASING)))
    side = np.arange(-reach, reach + 1)
    dx, dy = (each.ravel() for each in np.meshgrid(side, side))
    layer = np.full(dx.shape, -1)
    corners = np.stack([dx, dy], axis=1) / SUB
    for k, grown in enumerate((CASING * radius_px, 0.0, -rim_of(glyph) * radius_px)):
        # A mark never vanishes, however small it is.
        covered = outline(glyph, radius_px, grown).contains_points(corners)
        layer[covered | ((dx == 0) & (dy == 0))] = k
    inked = layer >= 0
    return Stamp(dx[inked], dy[inked], layer[inked])
