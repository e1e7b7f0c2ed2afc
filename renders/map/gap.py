"""Gaps: where isolines make room for the figures that stand on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.box import Box


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
        dx = np.arange(part.x, part.right) + 0.5 - self.x
        dy = (np.arange(part.y, part.bottom) + 0.5 - self.y)[:, None]
        cosine, sine = math.cos(self.radians), math.sin(self.radians)
        along, across = np.abs(dx * cosine - dy * sine), np.abs(dx * sine + dy * cosine)
        beyond = np.hypot(np.maximum(along - (self.half - self.tall), 0), across) - self.tall
        target = total[part.rows(box), part.columns(box)]
        np.maximum(target, np.clip(0.5 - beyond / 2, 0, 1).astype(np.float32), out=target)
