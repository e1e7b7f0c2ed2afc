"""From a grid to a field that can be asked for any pixel of a picture of a given size.

Pixel coordinates are global to the picture, so that what a pixel shows never depends on the tile
it is drawn in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from renders.fill import FINITE, NAN, cell_kinds, fill
from renders.spline import FloatArray, coefficients, evaluate
from renders.surface import Surface
from renders.tone import Tone

HEADROOM = 0.5
"""How far beyond the palette's ends values count as they are, as a share of its span. A wall of ten
decades would make any interpolating spline ring, and beyond the ends a picture is flat anyway."""
# How far below the lower end values are that have no logarithm.
_DEPTH = 0.2


@dataclass(frozen=True, eq=False)
class Field:
    """A surface in the tone's space, ready to be sampled at picture pixels.

    Attributes:
        width, height: of the whole picture, in pixels.
        coef: spline coefficients, float64, of the filled grid.
        kinds: uint8 (rows, columns), see `renders.fill`; at least 2 × 2.
        holes: whether any cell is not finite.
        u0, du, v0, dv: grid coordinates of the centre of pixel (0, 0), and their change per pixel;
            dv is negative, because rows of the grid go up and rows of the picture go down.
    """

    width: int
    height: int
    coef: FloatArray
    kinds: npt.NDArray[np.uint8]
    holes: bool
    u0: float
    du: float
    v0: float
    dv: float

    def at(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, and its change per pixel to the right and downwards, at picture coordinates.

        `x`, `y` are in pixels, 0.5 at the first centre; outputs float64 of their shape.
        """
        u = self.u0 + self.du * (np.asarray(x, dtype=np.float64) - 0.5)
        v = self.v0 + self.dv * (np.asarray(y, dtype=np.float64) - 0.5)
        s, su, sv = evaluate(self.coef, u, v)
        return s, su * self.du, sv * self.dv

    def finite_at(self, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether all four cells around picture coordinates hold finite values."""
        u = self.u0 + self.du * (np.asarray(x, dtype=np.float64) - 0.5)
        v = self.v0 + self.dv * (np.asarray(y, dtype=np.float64) - 0.5)
        rows, columns = self.kinds.shape
        i = np.clip(np.floor(u), 0, columns - 2).astype(np.int64)
        j = np.clip(np.floor(v), 0, rows - 2).astype(np.int64)
        hole = self.kinds != FINITE
        near = hole[j, i] | hole[j, i + 1] | hole[j + 1, i] | hole[j + 1, i + 1]
        return np.asarray(~near)


def field_of(surface: Surface, tone: Tone, width: int, height: int) -> Field:
    """Prepare `surface` for a picture of `width` × `height` pixels.

    Where the picture has fewer pixels than the grid has cells, the grid is first averaged down by
    whole factors, so that nothing aliases; then the spline only ever enlarges.
    """
    kinds = cell_kinds(surface.values, surface.finished)
    values = np.where(kinds == FINITE, surface.values, np.float32(1))
    s = tone.to_space(values)
    lo, hi = tone.span
    room = HEADROOM * (hi - lo)
    if tone.space == "log":
        # A little beyond the end: at it, the spline would ripple across it where all is flat.
        s = np.where(values > 0, s, lo - _DEPTH * (hi - lo))
    s = np.clip(s, lo - room, hi + room)
    rows, columns = s.shape
    fx = max(1, math.ceil((columns - 1) / width))
    fy = max(1, math.ceil((rows - 1) / height))
    if fx > 1 or fy > 1:
        s, kinds = reduce(s, kinds, fx, fy)
    coef = coefficients(fill(s, kinds == FINITE))
    # The spline takes an axis of one point for two equal ones; so must the kinds.
    kinds = np.repeat(kinds, 2 if kinds.shape[0] == 1 else 1, axis=0)
    kinds = np.repeat(kinds, 2 if kinds.shape[1] == 1 else 1, axis=1)
    du, dv = (columns - 1) / width / fx, (rows - 1) / height / fy
    return Field(
        width,
        height,
        coef,
        np.ascontiguousarray(kinds),
        bool((kinds != FINITE).any()),
        0.5 * du - (fx - 1) / (2 * fx),
        du,
        (rows - 1) / fy - (fy - 1) / (2 * fy) - 0.5 * dv,
        -dv,
    )


def reduce(
    field: FloatArray, kinds: npt.NDArray[np.uint8], fx: int, fy: int
) -> tuple[FloatArray, npt.NDArray[np.uint8]]:
    """Average blocks of fy × fx cells; a block is what most of its cells are.

    Args:
        field: float64 (height, width); only FINITE cells are averaged.
        kinds: uint8, same shape.
        fx, fy: cells a block; the last blocks may be smaller.

    Returns:
        field and kinds, (ceil(height / fy), ceil(width / fx)).

    What Datashader's `Canvas.raster` gives for whole blocks (a test compares them), without the
    seconds it takes to load and to compile. See docs/decisions/013-gigapixel.md.
    """
    shares = np.stack([_block_sum(kinds == kind, fx, fy) for kind in range(4)])
    majority = np.argmax(shares, axis=0).astype(np.uint8)
    known = shares[FINITE]
    majority[(known == 0) & (majority == FINITE)] = NAN
    total = _block_sum(np.where(kinds == FINITE, field, 0.0), fx, fy)
    return total / np.maximum(known, 1), majority


def _block_sum(cells: npt.NDArray[Any], fx: int, fy: int) -> npt.NDArray[Any]:
    h, w = cells.shape
    padded = np.pad(cells, ((0, -h % fy), (0, -w % fx)))
    blocks = padded.reshape(padded.shape[0] // fy, fy, padded.shape[1] // fx, fx)
    return np.asarray(blocks.sum(axis=(1, 3)))
