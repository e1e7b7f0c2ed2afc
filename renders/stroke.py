"""Strokes: smooth lines of any width, as the distance from every pixel to a polyline."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray


@dataclass(frozen=True, eq=False)
class Stroke:
    """A polyline with round joins and ends: a layer of a picture.

    Attributes:
        points: float64 (n, 2), picture coordinates in pixels, 0.5 at the first pixel's centre;
            a row of NaN lifts the pen.
        width_px: of the line.
        colour: float64 (3,), encoded, 0…255.
        opacity: in [0, 1].
        clip: where it may leave ink.
    """

    points: FloatArray
    width_px: float
    colour: FloatArray
    opacity: float
    clip: Box

    @property
    def halo_px(self) -> int:
        return math.ceil(self.width_px / 2 + 1)

    @property
    def covers(self) -> Box:
        finite = self.points[np.isfinite(self.points).all(axis=1)]
        if not len(finite):
            return Box(0, 0, 0, 0)
        x0, y0 = (math.floor(v) for v in finite.min(axis=0))
        x1, y1 = (math.ceil(v) for v in finite.max(axis=0))
        return Box(x0, y0, x1 - x0, y1 - y0).grown(self.halo_px).meet(self.clip)

    def draw(self, out: npt.NDArray[np.float32], box: Box) -> None:
        """Blend what lies inside `box` over `out`, float32 (height, width, 3), 0…255."""
        part = self.covers.meet(box)
        if part.empty:
            return
        distance = np.full((part.height, part.width), np.inf)
        _distances(np.ascontiguousarray(self.points), part.x, part.y, self.halo_px, distance)
        cover = np.clip(self.width_px / 2 + 0.5 - distance, 0, 1) * self.opacity
        target = out[part.y - box.y : part.bottom - box.y, part.x - box.x : part.right - box.x]
        colour = self.colour.astype(np.float32)
        target += (colour - target) * cover.astype(np.float32)[..., None]


def dashed(points: FloatArray, on_px: float, off_px: float) -> FloatArray:
    """A polyline cut into dashes, float64 (m, 2): rows of NaN lift the pen.

    Args:
        points: float64 (n, 2), pixels; rows of NaN in it lift the pen too.
        on_px, off_px: lengths of a dash and of the gap after it, along the line.
    """
    steps = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(np.nan_to_num(steps))])
    if not along[-1] > 0:
        return points
    starts = np.arange(0.0, along[-1], on_px + off_px)
    rows = []
    for start in starts:
        end = min(start + on_px, along[-1])
        inner = along[(along > start) & (along < end)]
        at = np.concatenate([[start], inner, [end]])
        rows.append(np.stack([np.interp(at, along, points[:, c]) for c in (0, 1)], axis=1))
        rows.append(np.full((1, 2), np.nan))
    return np.concatenate(rows)


@numba.njit(cache=True, nogil=True)
def _distances(points: FloatArray, x0: int, y0: int, halo: int, out: FloatArray) -> None:
    height, width = out.shape
    for k in range(points.shape[0] - 1):
        ax, ay, bx, by = points[k, 0], points[k, 1], points[k + 1, 0], points[k + 1, 1]
        if math.isnan(ax + ay + bx + by):
            continue
        left = max(0, math.floor(min(ax, bx)) - halo - x0)
        right = min(width, math.ceil(max(ax, bx)) + halo + 1 - x0)
        top = max(0, math.floor(min(ay, by)) - halo - y0)
        bottom = min(height, math.ceil(max(ay, by)) + halo + 1 - y0)
        dx, dy = bx - ax, by - ay
        square = dx * dx + dy * dy
        for j in range(top, bottom):
            for i in range(left, right):
                px, py = x0 + i + 0.5 - ax, y0 + j + 0.5 - ay
                t = 0.0
                if square > 0.0:
                    t = min(1.0, max(0.0, (px * dx + py * dy) / square))
                d = math.hypot(px - t * dx, py - t * dy)
                if d < out[j, i]:
                    out[j, i] = d
