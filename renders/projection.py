"""The plane on the page: from weight-space coordinates to pixels and to values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray
from renders.source.surface import Surface


@dataclass(frozen=True)
class Projection:
    """Plane coordinates to picture pixels: `extent` (x0, x1, y0, y1) fills `at`, y upwards."""

    at: Box
    extent: tuple[float, float, float, float]

    def pixels(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Pixel coordinates, float64, 0.5 at a pixel's centre; a lone point is in the middle."""
        x0, x1, y0, y1 = self.extent
        across = (np.asarray(x, dtype=np.float64) - x0) / (x1 - x0) if x1 > x0 else np.array(0.5)
        up = (np.asarray(y, dtype=np.float64) - y0) / (y1 - y0) if y1 > y0 else np.array(0.5)
        return self.at.x + across * self.at.width, self.at.bottom - up * self.at.height


def nearest_values(surface: Surface, x: npt.ArrayLike, y: npt.ArrayLike) -> FloatArray:
    """The values of the nearest finished cells, float64; NaN for unfinished ones and outside."""
    h, w = surface.values.shape
    whole = Projection(Box(0, 0, max(w - 1, 1), max(h - 1, 1)), surface.extent)
    across, down = whole.pixels(x, y)
    i, j = np.rint(across), np.rint(max(h - 1, 1) - down)
    inside = (i >= 0) & (i < w) & (j >= 0) & (j < h)
    # Places may be NaN, or farther away than integers reach.
    i, j = (np.where(inside, k, 0).astype(np.int64) for k in (i, j))
    seen = inside & surface.finished[j, i]
    return np.where(seen, surface.values[j, i].astype(np.float64), np.nan)
