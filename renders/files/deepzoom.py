"""Deep zoom: a picture as a pyramid of small JPEG tiles, cut by libvips, in the layout of DZI.

Source: the layout is Microsoft's Deep Zoom Image, as OpenSeadragon reads it.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from renders.files.scratch import painted, save
from renders.picture import Picture
from renders.spread import Spread, over_threads

TILE, OVERLAP = 512, 1
# Full colour resolution: halved chroma smears red contours on blue ground.
_JPEG = ".jpg[Q=90,subsample_mode=off,keep=none]"
_HALVED = 2_048
"""Levels coarser than the grid are painted too where they are larger than this."""


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
    level_picture: Callable[[int, int], Picture],
    size: tuple[int, int],
    grid: tuple[int, int],
    folder: Path,
    spread: Spread | None = None,
) -> int:
    """Write all tiles of a picture as `folder/LEVEL/COLUMN_ROW.jpg`.

    Args:
        level_picture: the picture at a width and height: a level is painted for itself.
        size: width and height of the deepest level, pixels.
        grid: columns and rows of values; levels coarser than them are halved from the one below.
        folder: is created; its parent must exist.
        spread: who paints; the cores by default.

    Returns:
        How many tiles there are.

    Raises:
        OSError: the folder cannot be written, or has no room for three bytes a pixel beside it.
    """
    folder.mkdir()
    for level in range(deepest(*size), -1, -1):
        wide, high = level_size(*size, level)
        coarse = (wide + 1) // 2 < grid[0] - 1 or (high + 1) // 2 < grid[1] - 1
        last = max(wide, high) <= TILE or (coarse and max(wide, high) <= _HALVED)
        _cut(level_picture(wide, high), folder, level, last, spread or over_threads())
        if last:
            break
    return sum(1 for _ in folder.rglob("*.jpg"))


def _cut(picture: Picture, folder: Path, level: int, halve: bool, spread: Spread) -> None:
    """Write the tiles of one level; with `halve` also those of all levels above it."""
    with painted(picture, folder, spread) as image:
        options = {"depth": "onepixel" if halve else "one", "tile_size": TILE, "overlap": OVERLAP}
        write = partial(image.dzsave, str(folder / "cut"), suffix=_JPEG, **options)
        save(image, folder, write)
    cut = folder / "cut_files"
    # Cut alone, a level is called 0.
    for name in range(level + 1) if halve else (0,):
        (cut / str(name)).rename(folder / str(name if halve else level))
    shutil.rmtree(cut)
    (folder / "cut.dzi").unlink()
