"""A picture: layers on a page, and the pure function from any box of it to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray


class Layer(Protocol):
    """Something that paints, the same whatever box it is asked for.

    `covers` is where it may leave ink.
    """

    @property
    def covers(self) -> Box: ...

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None: ...


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers as one: what lies on a landscape in pixels is a part of its image in a vector file."""

    lowest: Layer
    others: tuple[Layer, ...]

    @property
    def covers(self) -> Box:
        return self.lowest.covers

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None:
        """Paint what lies inside `box` into `out`, uint8 (height, width, 3)."""
        for layer in (self.lowest, *self.others):
            if not layer.covers.meet(box).empty:
                layer.draw(out, box)


@dataclass(frozen=True, eq=False)
class Picture:
    """A page in pixels: a ground colour (encoded, 0…255) and layers, lowest first."""

    width: int
    height: int
    ground: FloatArray
    layers: tuple[Layer, ...]

    @property
    def box(self) -> Box:
        return Box(0, 0, self.width, self.height)


@dataclass(frozen=True, eq=False)
class Painted:
    """A layer that is painted already, uint8 (height, width, 3), for pictures that share it."""

    covers: Box
    pixels: npt.NDArray[np.uint8]

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None:
        """Copy what lies inside `box` into `out`, uint8 (height, width, 3)."""
        part = box.meet(self.covers)
        if not part.empty:
            found = self.pixels[part.rows(self.covers), part.columns(self.covers)]
            out[part.rows(box), part.columns(box)] = found


def painted_once(layer: Layer) -> Painted:
    """A layer without transparent parts, painted: the same pixels, kept in memory."""
    box = layer.covers
    pixels = np.zeros((box.height, box.width, 3), dtype=np.uint8)
    layer.draw(pixels, box)
    return Painted(box, pixels)


def paint(picture: Picture, box: Box) -> npt.NDArray[np.uint8]:
    """The pixels of one box, uint8 (height, width, 3), sRGB.

    A pure function of the picture and of global pixel coordinates: boxes painted apart and put
    together equal the whole, byte for byte.
    """
    out = np.empty((box.height, box.width, 3), dtype=np.uint8)
    # A row at a time: numpy repeats a colour of three numbers far more slowly than a row of them.
    out[:] = np.tile(np.rint(picture.ground).astype(np.uint8), (box.width, 1))
    for layer in picture.layers:
        if not layer.covers.meet(box).empty:
            layer.draw(out, box)
    return out
