"""Crowds of marks, painted in pixels by Datashader: as many dots and lines as there are.

Places are pixels of the picture, whichever box of it is painted, so boxes painted apart and put
together equal the whole.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray

SUB = 2
"""Dots are painted on so many points along the edge of a pixel, and then averaged."""
_GRID = 64
"""Places are rounded to parts of a pixel, so that no box moves them by a rounding error."""
_AT_ONCE = 4_000_000
_COMPILING = threading.Lock()
"""Held around Datashader's canvas: two threads at once would compile its kernel twice."""


@dataclass(frozen=True, eq=False)
class Stamp:
    """A shape, as offsets of `SUB`-th pixels from its middle.

    Attributes:
        dx, dy: int (k,).
        layer: int (k,), of which of the shape's layers each is; higher ones lie above.
    """

    dx: npt.NDArray[np.int64]
    dy: npt.NDArray[np.int64]
    layer: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dots:
    """Shapes at many places: a layer of a picture.

    Each layer of the shapes lies above the lower ones of all of them, so that a crowd has one
    outline. Within a layer later shapes lie above earlier ones.

    Attributes:
        places: float64 (n, 2), pixels of the picture, 0.5 at the first pixel's centre.
        stamp: of all of them.
        colours: float64 (n, layers, 3), encoded, 0…255.
        clip: where they may leave ink.
    """

    places: FloatArray
    stamp: Stamp
    colours: FloatArray
    clip: Box

    @property
    def covers(self) -> Box:
        return self.clip

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None:
        """Paint what lies inside `box` over `out`, uint8 (height, width, 3)."""
        part = self.clip.meet(box)
        if part.empty:
            return
        top = self._top(part)
        if top is None:
            return
        count = len(self.places)
        inked = np.isfinite(top)
        key = np.where(inked, top, 0).astype(np.int64)
        colour = self.colours[key % count, key // count] * inked[..., None]
        shape = (part.height, SUB, part.width, SUB)
        cover = inked.reshape(shape).mean(axis=(1, 3))[..., None]
        ink = colour.reshape(*shape, 3).mean(axis=(1, 3))
        target = out[part.rows(box), part.columns(box)]
        target[:] = np.rint(target * (1 - cover) + ink)

    def _top(self, part: Box) -> FloatArray | None:
        """Which shape and layer is uppermost, (SUB · height, SUB · width); NaN where none is."""
        from renders.map.shader import points

        wide = part.grown(1 + int(max(abs(self.stamp.dx).max(), abs(self.stamp.dy).max())) // SUB)
        x, y = self.places.T
        near = (x >= wide.x) & (x < wide.right) & (y >= wide.y) & (y < wide.bottom)
        found = np.flatnonzero(near)
        if not len(found):
            return None
        # Whole sub-pixels of the picture, and only then of the box.
        across = np.floor(SUB * x[found]).astype(np.int64) - SUB * part.x
        down = np.floor(SUB * y[found]).astype(np.int64) - SUB * part.y
        size = SUB * part.width, SUB * part.height
        top = np.full(size[::-1], np.nan)
        each = max(1, _AT_ONCE // len(self.stamp.dx))
        for k in range(0, len(found), each):
            some = slice(k, k + each)
            column = (across[some, None] + self.stamp.dx).ravel()
            row = (down[some, None] + self.stamp.dy).ravel()
            key = found[some, None] + self.stamp.layer * len(self.places)
            with _COMPILING:
                np.fmax(top, points(column, row, key.ravel(), size), out=top)
        return top


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines of one colour and width, each as opaque as it says: a layer of a picture.

    Where lines cross, the more opaque one shows.

    Attributes:
        places: float64 (n, 2), pixels of the picture; NaN between two lines.
        opacities: of the way from each place to the next, float64 (n,), in (0, 1].
        width_px, colour: of all of them; encoded (3,).
        clip: where they may leave ink.
    """

    places: FloatArray
    opacities: FloatArray
    width_px: float
    colour: FloatArray
    clip: Box

    @property
    def covers(self) -> Box:
        return self.clip

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None:
        """Blend what lies inside `box` over `out`, uint8 (height, width, 3)."""
        from renders.map.shader import lines

        part = self.clip.meet(box)
        if part.empty:
            return
        wide = part.grown(2 + int(self.width_px))
        x, y = (np.rint(_GRID * self.places) / _GRID).T
        if not _reaches(x, y, wide):
            return
        with _COMPILING:
            cover = lines(
                x - wide.x, y - wide.y, self.opacities, self.width_px, (wide.width, wide.height)
            )
        # A line is as opaque in any box but for the last bits.
        seen = np.round(cover[part.rows(wide), part.columns(wide)], 6)[..., None]
        target = out[part.rows(box), part.columns(box)]
        target[:] = np.rint(target + (self.colour - target) * seen)


def _reaches(x: FloatArray, y: FloatArray, box: Box) -> bool:
    """Whether the bounds of any step meet a box."""
    left, right = np.fmin(x[:-1], x[1:]), np.fmax(x[:-1], x[1:])
    top, bottom = np.fmin(y[:-1], y[1:]), np.fmax(y[:-1], y[1:])
    meets = (right >= box.x) & (left <= box.right) & (bottom >= box.y) & (top <= box.bottom)
    return bool(meets.any())
