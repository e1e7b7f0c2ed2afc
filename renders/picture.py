"""A picture: layers on a page, and the pure function from any box of it to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray


class Layer(Protocol):
    """Something that paints, the same whatever box it is asked for.

    `covers` is where it may leave ink; `halo_px` is how far beyond a box it must look.
    """

    @property
    def halo_px(self) -> int: ...

    @property
    def covers(self) -> Box: ...

    def draw(self, out: npt.NDArray[np.float32], box: Box) -> None: ...


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


def paint(picture: Picture, box: Box) -> npt.NDArray[np.uint8]:
    """The pixels of one box, uint8 (height, width, 3), sRGB.

    A pure function of the picture and of global pixel coordinates: boxes painted apart and put
    together equal the whole, byte for byte.
    """
    out = np.empty((box.height, box.width, 3), dtype=np.float32)
    out[:] = picture.ground
    for layer in picture.layers:
        if not layer.covers.meet(box).empty:
            layer.draw(out, box)
    return quantise(out, box)


def quantise(out: npt.NDArray[np.float32], box: Box) -> npt.NDArray[np.uint8]:
    """Round to 8 bits with a dither of global pixel coordinates; whole numbers stay as they are.

    Args:
        out: float32 (height, width, 3), encoded, 0…255.
        box: where it lies on the picture.

    Returns:
        uint8 of the same shape.

    The threshold is interleaved gradient noise: close to blue noise, and needs no table.

    Source: Jimenez 2014, Next Generation Post Processing in Call of Duty, slide 123.
    """
    pixels = np.empty(out.shape, dtype=np.uint8)
    _quantise(out, box.x, box.y, pixels)
    return pixels


@numba.njit(cache=True, nogil=True)
def _quantise(
    out: npt.NDArray[np.float32], x0: int, y0: int, pixels: npt.NDArray[np.uint8]
) -> None:
    zero, top = np.float32(0), np.float32(255)
    # Strictly inside (0, 1) whatever float32 rounds to, so that an exact colour stays exact.
    low, high = np.float32(1e-4), np.float32(1 - 1e-4)
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            inner = 0.06711056 * (x0 + i) + 0.00583715 * (y0 + j)
            noise = 52.9829189 * (inner - math.floor(inner))
            threshold = min(max(np.float32(noise - math.floor(noise)), low), high)
            for c in range(3):
                value = np.float32(math.floor(out[j, i, c] + threshold))
                pixels[j, i, c] = np.uint8(min(max(value, zero), top))
