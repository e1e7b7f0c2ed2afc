"""Strokes: smooth lines of any width, drawn by Datashader."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray
from renders.page.sprite import shade_over

COMPILING = threading.Lock()
"""Held around Datashader's canvas: two threads at once would compile its kernels twice."""


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
        finer: how many times finer than the picture the canvas is that it is drawn on. Strokes of
            one width × `finer` share a kernel, and compiling one takes two seconds.
    """

    points: FloatArray
    width_px: float
    colour: FloatArray
    opacity: float
    clip: Box
    finer: int = 1

    @property
    def halo_px(self) -> int:
        return math.ceil(self.width_px / 2 + 2)

    @property
    def covers(self) -> Box:
        finite = self.points[np.isfinite(self.points).all(axis=1)]
        if not len(finite):
            return Box(0, 0, 0, 0)
        x0, y0 = (math.floor(v) for v in finite.min(axis=0))
        x1, y1 = (math.ceil(v) for v in finite.max(axis=0))
        return Box(x0, y0, x1 - x0, y1 - y0).grown(self.halo_px).meet(self.clip)

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None:
        """Blend what lies inside `box` over `out`, uint8 (height, width, 3)."""
        part = self.covers.meet(box)
        if part.empty:
            return
        shade_over(out[part.rows(box), part.columns(box)], self.colour, self._cover(part))

    def _cover(self, part: Box) -> npt.NDArray[np.float32]:
        """How much of each pixel is covered, float32 (height, width)."""
        import datashader as ds  # seconds that pictures without lines need not wait for
        import pandas as pd

        n = self.finer
        # Beyond the box, too: Datashader cuts lines off at its rim, across their width.
        wide = part.grown(self.halo_px)
        at = self.points - (wide.x, wide.y)
        canvas = ds.Canvas(wide.width * n, wide.height * n, (0, wide.width), (0, wide.height))
        with COMPILING:
            line = canvas.line(
                pd.DataFrame({"x": at[:, 0], "y": at[:, 1]}),
                "x",
                "y",
                agg=ds.any(),
                line_width=self.width_px * n,
            )
        fine = np.nan_to_num(line.values).reshape(wide.height, n, wide.width, n)
        cover = fine.mean(axis=(1, 3), dtype=np.float32) * np.float32(self.opacity)
        return np.asarray(cover[part.rows(wide), part.columns(wide)])


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
