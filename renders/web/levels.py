"""The levels of a map, as pictures.

Each is painted for itself, not halved from the one below: contours keep the width of a hairline at
every zoom, and grow more as one comes closer. Only levels coarser than the grid are halved, where
painting would first have to average the grid. See docs/decisions/013-gigapixel.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from renders.box import Box
from renders.colour import rgb
from renders.map.canvas import Map
from renders.map.field import field_of
from renders.map.holes import Hatch
from renders.map.light import Light
from renders.map.tone import Tone
from renders.page.inks import isolines
from renders.page.theme import Theme
from renders.picture import Picture
from renders.source.surface import Surface


@dataclass(frozen=True)
class Look:
    """What is drawn into the tiles: theme, light, contours."""

    theme: Theme
    light: bool = True
    contours: bool = True


def level_picture(surface: Surface, tone: Tone, look: Look, width: int, height: int) -> Picture:
    """One level as a picture: the map alone."""
    layer = level_map(surface, tone, look, width, height)
    return Picture(width, height, rgb(look.theme.paper), (layer,))


def level_map(surface: Surface, tone: Tone, look: Look, width: int, height: int) -> Map:
    """The map on one level, its lines as wide as on any other."""
    theme = look.theme
    lines = None
    if look.contours:
        count = _contour_count(max(width, height))
        lines = isolines(tone, theme, (1.0, 1.7), (0.26, 0.50), count)
    at = Box(0, 0, width, height)
    hatch = Hatch(theme.hatch_ground, theme.hatch_line, 9.0, 1.2)
    field = field_of(surface, tone, width, height)
    return Map(at, field, tone, hatch, Light() if look.light else None, lines)


def _contour_count(size: int) -> int:
    # A screen shows about a thousand pixels: twice the lines each time it shows a quarter as much.
    doublings = max(0, math.ceil(math.log2(max(size, 1) / 2_048) / 2))
    return 16 << doublings
