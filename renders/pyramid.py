"""Pyramids: pictures halved and halved again, each level from the one below.

Pixels are averaged as they are encoded, not in linear light: dark and light hairlines then lose
weight alike from level to level, as the contours' blending assumes (`renders.map.palette`), and a
halving is four additions. See docs/decisions/013-gigapixel.md.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def level_sizes(width: int, height: int, smallest: int) -> list[tuple[int, int]]:
    """Sizes of the levels, the whole picture first, halved (rounding up) to at most `smallest`."""
    sizes = [(width, height)]
    while max(sizes[-1]) > smallest:
        w, h = sizes[-1]
        sizes.append(((w + 1) // 2, (h + 1) // 2))
    return sizes


@numba.njit(cache=True, nogil=True)
def halved(pixels: Pixels) -> Pixels:
    """Average blocks of 2 × 2, uint8 (h, w, 3) → (⌈h/2⌉, ⌈w/2⌉, 3); an odd edge counts twice.

    Halves are rounded up and down by turns, so that many halvings do not brighten the picture. The
    turn follows the place within `pixels`: cut pictures at even rows and columns.
    """
    height, width = pixels.shape[0], pixels.shape[1]
    out = np.empty(((height + 1) // 2, (width + 1) // 2, 3), dtype=np.uint8)
    for j in range(out.shape[0]):
        y0 = 2 * j
        y1 = min(y0 + 1, height - 1)
        for i in range(out.shape[1]):
            x0 = 2 * i
            x1 = min(x0 + 1, width - 1)
            turn = 1 + ((i + j) & 1)
            for c in range(3):
                total = (
                    np.int64(pixels[y0, x0, c])
                    + np.int64(pixels[y0, x1, c])
                    + np.int64(pixels[y1, x0, c])
                    + np.int64(pixels[y1, x1, c])
                )
                out[j, i, c] = (total + turn) >> 2
    return out


@numba.njit(cache=True, nogil=True)
def differences(pixels: Pixels, height: int, width: int) -> Pixels:
    """Each pixel less its left neighbour, modulo 256, in a tile of `height` × `width`.

    The tile's part beyond `pixels` repeats its last row and column: TIFF's horizontal predictor
    on a padded tile.
    """
    h, w = pixels.shape[0], pixels.shape[1]
    out = np.zeros((height, width, 3), dtype=np.uint8)
    for j in range(height):
        y = min(j, h - 1)
        for c in range(3):
            out[j, 0, c] = pixels[y, 0, c]
        for i in range(1, w):
            for c in range(3):
                out[j, i, c] = pixels[y, i, c] - pixels[y, i - 1, c]
    return out
