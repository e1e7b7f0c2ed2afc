"""Populations of points: as many as there are, each a round dot, drawn by Datashader."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray

_COMPILING = threading.Lock()
"""Held around Datashader's canvas: two threads at once would compile its kernel twice."""


@dataclass(frozen=True, eq=False)
class Points:
    """Round dots of one colour, denser where more of them lie on one another: a layer of a picture.

    Attributes:
        places: float64 (n, 2), picture coordinates in pixels, 0.5 at the first pixel's centre.
        radius_px: of a dot.
        colour: float64 (3,), encoded, 0…255.
        opacity: of one dot, in (0, 1]; of n on one another 1 − (1 − opacity)ⁿ.
        clip: where they may leave ink.
    """

    places: FloatArray
    radius_px: int
    colour: FloatArray
    opacity: float
    clip: Box

    @property
    def covers(self) -> Box:
        return self.clip

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None:
        """Blend what lies inside `box` over `out`, uint8 (height, width, 3)."""
        part = self.clip.meet(box)
        if part.empty:
            return
        count = self._count(part)
        cover = (1 - (1 - self.opacity) ** count)[..., None]
        target = out[part.rows(box), part.columns(box)]
        target[:] = np.rint(target + (self.colour - target) * cover)

    def _count(self, part: Box) -> npt.NDArray[np.float64]:
        """How many dots lie on each pixel, (height, width)."""
        # Seconds that pictures without points need not wait for.
        import datashader as ds
        import datashader.transfer_functions as tf
        import pandas as pd

        # Dots reach over from outside the box.
        wide = part.grown(self.radius_px)
        at = self.places - (wide.x, wide.y)
        canvas = ds.Canvas(wide.width, wide.height, (0, wide.width), (0, wide.height))
        with _COMPILING:
            count = canvas.points(pd.DataFrame({"x": at[:, 0], "y": at[:, 1]}), "x", "y")
            dots = tf.spread(count, px=self.radius_px, shape="circle")
        return np.asarray(dots.values[part.rows(wide), part.columns(wide)], dtype=np.float64)
