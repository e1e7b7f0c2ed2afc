"""Deep zoom: a map as a pyramid of small JPEG tiles, in the layout of DZI.

Each level is painted for itself, not halved from the one below: contours keep the width of a
hairline at every zoom, and grow more as one comes closer. Only levels coarser than the grid are
halved, where painting would first have to average the grid. See docs/decisions/013-gigapixel.md.

Source: the layout is Microsoft's Deep Zoom Image, as OpenSeadragon reads it.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from renders.box import Box
from renders.colour import hex_colour, rgb
from renders.inks import ground_at, inks_on
from renders.map.canvas import Map
from renders.map.contour import Contours, round_levels
from renders.map.field import field_of
from renders.map.holes import Hatch
from renders.map.light import Light
from renders.map.tone import Tone
from renders.picture import Picture, paint
from renders.pyramid import Pixels, halved
from renders.source.surface import Surface
from renders.spread import Spread, over_threads
from renders.theme import Theme

TILE, OVERLAP = 512, 1
QUALITY = 90
_WHOLE = 2_048
"""Levels up to this size may be held in memory whole, to be halved."""


@dataclass(frozen=True)
class Look:
    """What is drawn into the tiles: theme, light, contours."""

    theme: Theme
    light: bool = True
    contours: bool = True


def deepest(width: int, height: int) -> int:
    """The number of the level that holds the whole picture; level 0 is one pixel."""
    return math.ceil(math.log2(max(width, height, 1)))


def level_size(width: int, height: int, level: int) -> tuple[int, int]:
    """Width and height of one level, pixels."""
    part = 2 ** (deepest(width, height) - level)
    return -(-width // part), -(-height // part)


def dzi(width: int, height: int) -> str:
    """The XML that describes a pyramid to any deep-zoom viewer."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpg" '
        f'Overlap="{OVERLAP}" TileSize="{TILE}"><Size Width="{width}" Height="{height}"/></Image>\n'
    )


def write_tiles(
    surface: Surface,
    tone: Tone,
    look: Look,
    width: int,
    height: int,
    folder: Path,
    spread: Spread | None = None,
) -> int:
    """Write all tiles of one surface as `folder/LEVEL/COLUMN_ROW.jpg`.

    Args:
        surface, tone, look: what is painted, and how.
        width, height: of the deepest level, pixels.
        folder: is created; its parent must exist.
        spread: who paints the tiles; the cores by default.

    Returns:
        How many tiles there are.

    Raises:
        OSError: the folder cannot be written.
    """
    rows, columns = surface.values.shape
    count = 0
    small: Pixels | None = None
    spread = spread or over_threads()
    for level in range(deepest(width, height), -1, -1):
        wide, high = level_size(width, height, level)
        place = folder / str(level)
        place.mkdir(parents=True)
        boxes = list(Box(0, 0, wide, high).tiles(TILE, TILE))
        if small is not None:
            small = halved(small)
            for box in boxes:
                (place / _name(box)).write_bytes(_jpeg(_cut(small, box)))
        else:
            picture = level_picture(surface, tone, look, wide, high)
            for box, tile in zip(boxes, spread(partial(_tile, picture), boxes), strict=True):
                (place / _name(box)).write_bytes(tile)
            coarse = (wide + 1) // 2 < columns - 1 or (high + 1) // 2 < rows - 1
            if max(wide, high) <= TILE or (coarse and max(wide, high) <= _WHOLE):
                small = paint(picture, picture.box)
        count += len(boxes)
    return count


def level_picture(surface: Surface, tone: Tone, look: Look, width: int, height: int) -> Picture:
    """One level as a picture: the map alone."""
    layer = level_map(surface, tone, look, width, height)
    return Picture(width, height, rgb(look.theme.paper), (layer,))


def level_map(surface: Surface, tone: Tone, look: Look, width: int, height: int) -> Map:
    """The map on one level, its lines as wide as on any other."""
    theme = look.theme
    lines = None
    if look.contours:
        levels, index = round_levels(tone, _contour_count(max(width, height)))
        inks = tuple(hex_colour(inks_on(ground_at(v, tone, theme), theme).pen) for v in levels)
        lines = Contours(levels, index, 1.0, 1.7, inks, 0.26, 0.50)
    at = Box(0, 0, width, height)
    hatch = Hatch(theme.hatch_ground, theme.hatch_line, 9.0, 1.2)
    field = field_of(surface, tone, width, height)
    return Map(at, field, tone, hatch, Light() if look.light else None, lines)


def _contour_count(size: int) -> int:
    # A screen shows about a thousand pixels: twice the lines each time it shows a quarter as much.
    doublings = max(0, math.ceil(math.log2(max(size, 1) / 2_048) / 2))
    return 16 << doublings


def _tile(picture: Picture, box: Box) -> bytes:
    return _jpeg(paint(picture, box.grown(OVERLAP).meet(picture.box)))


def _cut(pixels: Pixels, box: Box) -> Pixels:
    part = box.grown(OVERLAP).meet(Box(0, 0, pixels.shape[1], pixels.shape[0]))
    return np.ascontiguousarray(pixels[part.y : part.bottom, part.x : part.right])


def _name(box: Box) -> str:
    return f"{box.x // TILE}_{box.y // TILE}.jpg"


def _jpeg(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    # Full colour resolution: halved chroma smears red contours on blue ground.
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()
