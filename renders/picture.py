"""A picture: layers on a page, and the pure function from any box of it to pixels."""

from __future__ import annotations

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
    # A row at a time: numpy repeats a colour of three numbers far more slowly than a row of them.
    out[:] = np.tile(picture.ground.astype(np.float32), (box.width, 1))
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
    height, width = out.shape[0], out.shape[1]
    zero, top = np.float32(0), np.float32(255)
    values, bytes_ = out.reshape(height, 3 * width), pixels.reshape(height, 3 * width)
    threshold = np.empty(width, dtype=np.float32)
    for j in range(height):
        for i in range(width):
            inner = 0.06711056 * (x0 + i) + 0.00583715 * (y0 + j)
            noise = 52.9829189 * (inner - np.floor(inner))
            # Strictly inside (0, 1) whatever float32 rounds to: an exact colour stays exact.
            threshold[i] = min(max(noise - np.floor(noise), 1e-4), 1 - 1e-4)
        row, done = values[j], bytes_[j]
        for i in range(width):
            for c in range(3):
                value = min(max(row[3 * i + c] + threshold[i], zero), top)
                done[3 * i + c] = np.uint8(np.int32(value))
