"""The 256 colours of a GIF, one palette for the whole film."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

COLOURS = 256
_CUBE_BITS = 6


class Palette:
    """The 256 colours of a GIF, the same in all of its pictures, and the way to them.

    Attributes:
        colours: uint8 (256, 3).
    """

    def __init__(self, colours: Pixels) -> None:
        self.colours = colours
        self._cube = _nearest(colours)

    @classmethod
    def of(cls, samples: list[Pixels]) -> Palette:
        """The colours that suit a few pictures from all over a film, uint8 (height, width, 3)."""
        from PIL import Image

        rows = np.concatenate([sample[::2, ::2].reshape(-1, 3) for sample in samples])
        # A strip of pixels, as Pillow counts colours and does not look at places.
        image = Image.fromarray(rows[None])
        few = image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=1)
        found = np.array(few.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)[:COLOURS]
        colours = np.zeros((COLOURS, 3), dtype=np.uint8)
        colours[: len(found)] = found
        return cls(colours)

    def indexed(self, pixels: Pixels) -> Pixels:
        """Indices of colours, uint8 (height, width), with an ordered dither.

        The dither stands still: error diffusion would crawl over a picture that moves slowly.
        """
        height, width, _ = pixels.shape
        pattern = np.tile(_bayer(), (-(-height // 8), -(-width // 8)))[:height, :width]
        moved = np.clip(pixels.astype(np.int16) + pattern[..., None], 0, 255)
        r, g, b = np.moveaxis(moved >> (8 - _CUBE_BITS), -1, 0)
        return np.asarray(self._cube[r, g, b])


def _nearest(colours: Pixels) -> Pixels:
    """The nearest colour of every cell of an RGB cube, uint8 (64, 64, 64)."""
    side = 1 << _CUBE_BITS
    steps = (np.arange(side, dtype=np.float32) + 0.5) * (256 / side)
    rest = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    cube = np.empty((side, side, side), dtype=np.uint8)
    # The eye's weights, roughly; |a − b|² = |a|² − 2ab + |b|², whose |a|² changes no order.
    weight = np.sqrt(np.array([0.30, 0.59, 0.11], dtype=np.float32))
    targets = colours.astype(np.float32) * weight
    squares = (targets**2).sum(axis=1)
    for k, red in enumerate(steps):
        cell = np.concatenate([np.full((len(rest), 1), red, np.float32), rest], axis=1) * weight
        cube[k] = np.argmin(squares - 2 * cell @ targets.T, axis=1).reshape(side, side)
    return cube


def _bayer() -> npt.NDArray[np.int16]:
    """Thresholds of an 8 × 8 ordered dither about zero, ±6 of 255."""
    m = np.array([[0]])
    for _ in range(3):
        m = np.block([[4 * m, 4 * m + 2], [4 * m + 3, 4 * m + 1]])
    return np.rint((m + 0.5) / 64 * 12 - 6).astype(np.int16)
