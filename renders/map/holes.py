"""Holes: what kind each cell is, and a smooth field under the cells that have no number.

A spline reaches across neighbours, so one NaN would eat its surroundings. The picture is therefore
resampled from a filled field, and the kinds, resampled apart, paint over it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray

if TYPE_CHECKING:
    from scipy import sparse

FINITE, NAN, INF, UNFINISHED = 0, 1, 2, 3


@dataclass(frozen=True)
class Hatch:
    """How unfinished tiles look: diagonal lines on a quiet ground.

    `period_px` is the distance from line to line, across them.
    """

    ground: str
    line: str
    period_px: float
    width_px: float

    def share(self, box: Box) -> FloatArray:
        """How much of each pixel of a box is line, float64 (height, width), in [0, 1]."""
        x, y = np.arange(box.x, box.right), np.arange(box.y, box.bottom)
        across = (x + y[:, None]) * math.sqrt(0.5) / self.period_px
        off = np.abs(across - np.floor(across) - 0.5) * self.period_px
        return np.asarray(np.clip(self.width_px / 2 + 0.5 - off, 0.0, 1.0))


def cell_kinds(
    values: npt.NDArray[np.float32], finished: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """FINITE, NAN (−inf too, which no loss is), INF or UNFINISHED: uint8, same shape."""
    kinds = np.full(values.shape, NAN, dtype=np.uint8)
    kinds[np.isfinite(values)] = FINITE
    kinds[np.isposinf(values)] = INF
    kinds[~finished] = UNFINISHED
    return kinds


RINGS = 5
"""How many cells deep a hole continues its rim's slope. A spline forgets a neighbour by 0.27 a
cell, so what lies deeper changes what is seen at the rim by less than a thousandth."""


def fill(field: FloatArray, known: npt.NDArray[np.bool_]) -> FloatArray:
    """Give unknown cells smooth values that continue the known ones; known cells keep theirs.

    The rim of a hole continues the slope outside it (else light and contours bend as they meet the
    hole); the rest is pulled and pushed from the known cells alone.

    Args:
        field: (height, width); what stands in unknown cells is never read.
        known: bool, same shape.

    Returns:
        A new array, finite everywhere; zero where nothing is known at all.
    """
    clean = np.where(known, field, 0.0)
    if known.all() or not known.any():
        return clean
    low, high = float(field[known].min()), float(field[known].max())
    filled, done = clean, known
    for _ in range(RINGS):
        filled, done = _continue_slope(filled, done, low, high)
    return np.where(done, filled, pull_push(filled, done))


def _continue_slope(
    field: FloatArray, known: npt.NDArray[np.bool_], low: float, high: float
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """One ring: the mean of the straight lines through two known neighbours in a row."""
    h, w = field.shape
    values, there = np.pad(field, 2), np.pad(known, 2)
    total, count = np.zeros((h, w)), np.zeros((h, w))
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dx or dy:
                near = (slice(2 + dy, 2 + dy + h), slice(2 + dx, 2 + dx + w))
                far = (slice(2 + 2 * dy, 2 + 2 * dy + h), slice(2 + 2 * dx, 2 + 2 * dx + w))
                both = there[near] & there[far]
                total += np.where(both, 2 * values[near] - values[far], 0.0)
                count += both
    new = ~known & (count > 0)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    return np.where(new, np.clip(mean, low, high), field), known | new


def pull_push(field: FloatArray, known: npt.NDArray[np.bool_]) -> FloatArray:
    """Fill unknown cells from averages of the known ones over a pyramid of coarser grids.

    Args:
        field: (height, width); what stands in unknown cells is never read.
        known: bool, same shape.

    Returns:
        A new array, finite everywhere; zero where nothing is known at all.

    Source: Gortler et al. 1996, The Lumigraph, §3.4.
    """
    if known.all():
        return field.copy()
    clean = np.where(known, field, 0.0)
    if not known.any() or min(field.shape) == 0:
        return clean
    if max(field.shape) == 1:
        return clean
    total, count = _halve(clean), _halve(known.astype(np.float64))
    coarse_known = count > 0
    coarse = pull_push(
        np.divide(total, count, out=np.zeros_like(total), where=coarse_known), coarse_known
    )
    return np.where(known, field, _double(coarse, field.shape))


def _halve(a: FloatArray) -> FloatArray:
    h, w = a.shape
    padded = np.pad(a, ((0, h % 2), (0, w % 2)))
    return np.asarray(padded.reshape((h + 1) // 2, 2, (w + 1) // 2, 2).sum(axis=(1, 3)))


def _double(a: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    # Linear between coarse cells, whose centres lie half a fine cell off the fine ones.
    for axis in (0, 1):
        at = np.clip((np.arange(shape[axis]) - 0.5) / 2, 0, a.shape[axis] - 1)
        low = np.floor(at).astype(np.int64)
        high = np.minimum(low + 1, a.shape[axis] - 1)
        part = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        a = np.take(a, low, axis) * (1 - part) + np.take(a, high, axis) * part
    return a


def cover(
    kinds: npt.NDArray[np.uint8], u: FloatArray, v: FloatArray, du: float, dv: float
) -> tuple[FloatArray, npt.NDArray[np.uint8]] | None:
    """How far cells without a number cover pixels, with an edge one pixel soft.

    Args:
        kinds: (rows, columns), at least 2 × 2.
        u, v: grid coordinates of the pixels' columns (n,) and rows (m,).
        du, dv: grid steps a pixel.

    Returns:
        Cover in [0, 1], float64 (m, n), and the kind that covers, uint8; None where no cell near
        lacks a number.
    """
    rows, columns = _cells(v, kinds.shape[0]), _cells(u, kinds.shape[1])
    near = kinds[rows, columns]
    if (near == FINITE).all():
        return None
    down, down_slope = _eased(v, dv, rows)
    right, right_slope = _eased(u, du, columns)

    def blend(
        above: sparse.csr_array, cells: npt.NDArray[np.bool_], beside: sparse.csr_array
    ) -> FloatArray:
        return np.asarray(above @ np.ascontiguousarray((beside @ cells.astype(np.float64).T).T))

    weights = np.stack([blend(down, near == kind, right) for kind in (NAN, INF, UNFINISHED)])
    hole = near != FINITE
    slope = np.hypot(blend(down, hole, right_slope), blend(down_slope, hole, right))
    bad = weights.sum(axis=0)
    sharp = np.clip(0.5 + (bad - 0.5) / np.clip(slope, 1e-12, 1.0), 0.0, 1.0)
    return np.where(slope < 1e-12, bad >= 0.5, sharp), (NAN + weights.argmax(axis=0)).astype(
        np.uint8
    )


def _cells(u: FloatArray, size: int) -> slice:
    """The cells around places `u`, which ascend or descend, on an axis of `size` cells."""
    ends = np.clip(np.floor(u[[0, -1]]), 0, size - 2).astype(np.int64)
    return slice(int(ends.min()), int(ends.max()) + 2)


def _eased(u: FloatArray, du: float, cells: slice) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Weights of `cells` at places `u`, and their change a pixel.

    Eased weights: a lone cell becomes a disc, a straight rim stays straight.
    """
    from scipy import sparse  # what pages need of this file should not wait for it

    i = np.clip(np.floor(u), cells.start, cells.stop - 2).astype(np.int64)
    f = np.clip(u - i, 0.0, 1.0)
    part, slope = f * f * (3 - 2 * f), 6 * f * (1 - f) * du
    shape = (len(u), cells.stop - cells.start)
    places = np.stack([i, i + 1], axis=1).ravel() - cells.start
    starts = 2 * np.arange(len(u) + 1)
    weights, slopes = np.stack([1 - part, part], axis=1), np.stack([-slope, slope], axis=1)
    return (
        sparse.csr_array((weights.ravel(), places, starts), shape),
        sparse.csr_array((slopes.ravel(), places, starts), shape),
    )
