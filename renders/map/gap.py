"""Gaps: where isolines make room for the figures that stand on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray


@dataclass(frozen=True)
class Gap:
    """A soft-edged, turned slot.

    Attributes:
        x, y: its middle, in pixels of the picture.
        radians: counter-clockwise, of its longer side.
        half, tall: half its length and half its height, pixels.
    """

    x: float
    y: float
    radians: float
    half: float
    tall: float

    @property
    def box(self) -> Box:
        """Where it reaches."""
        reach = math.ceil(math.hypot(self.half, self.tall)) + 2
        return Box(round(self.x) - reach, round(self.y) - reach, 2 * reach, 2 * reach)

    def cover(self, total: npt.NDArray[np.float32], box: Box) -> None:
        """Raise `total`, float32 (height, width) over `box`, to what is covered: 0 to 1."""
        part = self.box.meet(box)
        if part.empty:
            return
        x = np.arange(part.x, part.right, dtype=np.float64) + 0.5
        y = np.arange(part.y, part.bottom, dtype=np.float64) + 0.5
        target = total[part.rows(box), part.columns(box)]
        share = np.clip(0.5 - self.beyond(x, y[:, None]) / 2, 0, 1)
        np.maximum(target, share.astype(np.float32), out=target)

    def beyond(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """How far places lie outside the slot, pixels; negative inside."""
        dx, dy = x - self.x, y - self.y
        cosine, sine = math.cos(self.radians), math.sin(self.radians)
        along, across = np.abs(dx * cosine - dy * sine), np.abs(dx * sine + dy * cosine)
        ends = np.maximum(along - (self.half - self.tall), 0)
        return np.asarray(np.hypot(ends, across) - self.tall)
