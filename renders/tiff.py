"""Tiled, pyramidal BigTIFF, streamed: every pixel is painted once, memory is a few rows of tiles.

The whole picture's tiles go straight into the file. Coarser levels are halved from the level
below as its rows of tiles come by, and wait, compressed, in an unnamed file beside it, because a
TIFF writer wants one level after the other. Deflate is Intel's ISA-L: on these pictures four times
as fast as zlib's fastest level, and no larger.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import tifffile
from isal import isal_zlib

from pipeline.errors import LossatlasError
from renders.box import Box
from renders.picture import Picture, paint
from renders.png import srgb_profile
from renders.pyramid import Pixels, differences, halved, level_sizes
from renders.spread import Spread, over_threads
from renders.whole import whole_file

TILE = 512
_LEVEL = 1


class TiffError(LossatlasError):
    """The picture cannot be written where it was asked for."""


def write_tiff(
    picture: Picture,
    path: Path,
    *,
    dpi: float,
    text: Mapping[str, str] | None = None,
    spread: Spread | None = None,
) -> int:
    """Paint a picture into a pyramidal BigTIFF: 512-pixel tiles, deflate, horizontal predictor.

    Args:
        picture: what to paint.
        path: the file; its folder must exist; replaced whole or not at all.
        dpi: written as the resolution.
        text: Software and Description go into the file.
        spread: who paints the tiles; the cores by default.

    Returns:
        The file's size in bytes.

    Raises:
        TiffError: the file cannot be written.
    """
    words = text or {}
    sizes = level_sizes(picture.width, picture.height, TILE)
    with (
        whole_file(path, TiffError) as unfinished,
        tempfile.TemporaryFile(dir=path.parent) as spool,
        tifffile.TiffWriter(unfinished, bigtiff=True) as file,
    ):
        levels = _Levels(sizes[1:], spool)
        for k, (width, height) in enumerate(sizes):
            file.write(
                _base(picture, levels, spread or over_threads()) if k == 0 else levels.packed(k),
                shape=(height, width, 3),
                dtype=np.uint8,
                photometric="rgb",
                tile=(TILE, TILE),
                compression="zlib",
                predictor=True,
                subifds=len(sizes) - 1 if k == 0 else 0,
                subfiletype=0 if k == 0 else 1,
                resolution=(dpi / 2**k, dpi / 2**k),
                resolutionunit="INCH",
                iccprofile=srgb_profile(),
                software=words.get("Software", "lossatlas") if k == 0 else None,
                description=_ascii(words) if k == 0 else None,
                metadata=None,
            )
    return path.stat().st_size


def _base(picture: Picture, levels: _Levels, spread: Spread) -> Iterator[bytes]:
    """The whole picture's tiles, compressed, row by row; feeds the level above on the way."""
    boxes = list(picture.box.tiles(TILE, TILE))
    for box, (packed, small) in zip(boxes, spread(partial(_tile, picture), boxes), strict=True):
        levels.add(small, box)
        yield packed


def _tile(picture: Picture, box: Box) -> tuple[bytes, Pixels]:
    pixels = paint(picture, box)
    return _compressed(pixels), halved(pixels)


def _compressed(pixels: Pixels) -> bytes:
    return isal_zlib.compress(differences(pixels, TILE, TILE).data, _LEVEL)


class _Levels:
    """The levels above the base: one row of tiles each in memory, the rest in the spool."""

    def __init__(self, sizes: list[tuple[int, int]], spool: IO[bytes]) -> None:
        self._sizes = sizes
        self._spool = spool
        self._rows = [np.empty((min(TILE, h), w, 3), np.uint8) for w, h in sizes]
        self._places: list[list[tuple[int, int]]] = [[] for _ in sizes]

    def add(self, small: Pixels, box: Box, k: int = 0) -> None:
        """Take what became of tile `box` of the level below, halved, into level `k`."""
        if k == len(self._sizes):
            return
        width, height = self._sizes[k]
        x, y = box.x // 2, box.y // 2
        row, top = self._rows[k], y % TILE
        row[top : top + small.shape[0], x : x + small.shape[1]] = small
        bottom = y + small.shape[0]
        if x + small.shape[1] < width or (bottom % TILE and bottom < height):
            return
        tall = bottom - (y - top)
        for part in Box(0, 0, width, tall).tiles(TILE, TILE):
            pixels = np.ascontiguousarray(row[:tall, part.x : part.right])
            packed = _compressed(pixels)
            self._places[k].append((self._spool.tell(), len(packed)))
            self._spool.write(packed)
            self.add(halved(pixels), Box(part.x, y - top, part.width, tall), k + 1)

    def packed(self, level: int) -> Iterator[bytes]:
        """The compressed tiles of `level` (1 is the first above the base), in order."""
        for start, length in self._places[level - 1]:
            self._spool.seek(start)
            yield self._spool.read(length)


def _ascii(words: Mapping[str, str]) -> str:
    # TIFF's description is 7-bit; what is lost are middle dots and crosses.
    plain = words.get("Description", "").replace("·", "|").replace("×", "x")
    return plain.encode("ascii", "replace").decode()
