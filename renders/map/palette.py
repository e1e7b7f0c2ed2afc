"""The palette: what `tf.shade` calls for colours. It looks them up, lights them, draws isolines
over them and dithers them, all of which has to happen before they are rounded to bytes.

Everything compiled lives in this file, because numba's cache watches a kernel's own file only.
docs/decisions/022-datashader-canvas.md says why it is compiled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray, rgb, to_encoded, to_linear
from renders.map.contour import Contours
from renders.map.field import Field, Window
from renders.map.gap import Gap
from renders.map.holes import INF, NAN, UNFINISHED, Hatch, cover
from renders.map.light import Light
from renders.map.tone import LUT_SIZE, Tone

Pixels = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_ENCODE_SIZE = 65_536
"""Steps of linear light: the nearest is at most 0.03 of a byte off."""

# How dark the lines beside those of a hatch are.
_SHADE = 0.55

# Numpy's errors, not Python's: a check for division by zero keeps a loop from becoming vectors.
_kernel = numba.njit(cache=True, nogil=True, error_model="numpy")


@dataclass(frozen=True, eq=False)
class Palette:
    """How the values of one field become colours.

    Attributes:
        field, tone: what is shown and in which colours.
        hatch: of unfinished tiles, and its lines of values that are not as exact as asked.
        light, contours: None leaves it out.
    """

    field: Field
    tone: Tone
    hatch: Hatch
    light: Light | None = None
    contours: Contours | None = None

    @cached_property
    def _tables(self) -> tuple[npt.NDArray[Any], ...]:
        lut, span = self.tone.lut(), self.tone.span
        light, shares = (self.light or Light()).numbers(span[1] - span[0], self.field.width)
        levels, nearest = np.zeros((0, 7)), np.zeros(LUT_SIZE, dtype=np.int32)
        if self.contours is not None and self.contours.levels:
            levels, nearest = self.contours.numbers(self.tone)
        encode = to_encoded(np.linspace(0, 1, _ENCODE_SIZE)).astype(np.float32)
        return (
            (to_linear(lut) if self.light else lut).astype(np.float32),
            encode,
            light,
            shares,
            levels,
            nearest,
        )

    def colours(
        self,
        scaled: FloatArray,
        window: Window,
        x: int,
        y: int,
        gaps: tuple[Gap, ...] = (),
        bytes: bool = True,
    ) -> Bytes:
        """The colours of one window: a `cmap` of `tf.shade` once all but `scaled` is bound.

        Args:
            scaled: palette positions, float64 (height, width), 0…1.
            window: the same pixels; isolines and light need values beyond the palette's ends, and
                slopes.
            x, y: of the picture, where the window begins: dither is the same in any tile.
            gaps: where contours make room for their labels, in the picture's coordinates.
            bytes: always.

        Returns:
            uint8 (height, width, 4), opaque.
        """
        box = Box(x, y, window.box.width, window.box.height)
        gap = np.zeros(scaled.shape if gaps else (0, 0), dtype=np.float32)
        for each in gaps:
            each.cover(gap, box)
        lo, hi = self.tone.span
        rgba = np.empty((*scaled.shape, 4), dtype=np.uint8)
        kernel: Any = _painted
        slopes = window.across, window.down
        lit = self.light is not None
        kernel(scaled, window.values, *slopes, gap, lo, hi, lit, *self._tables, x, y, rgba)
        self._cover(rgba, window.box)
        return rgba

    def _cover(self, rgba: Bytes, box: Box) -> None:
        """Paint over the cells that have no number, and hatch those that are not exact."""
        field, tone, hatch = self.field, self.tone, self.hatch
        self._hatch(rgba, box)
        found = cover(field.kinds, *field.grid(box), field.du, field.dv)
        if found is None:
            return
        share, kind = found
        stripes = hatch.share(box)
        for one, ground in ((NAN, tone.nan), (INF, tone.inf), (UNFINISHED, hatch.ground)):
            at = (kind == one) & (share > 0)
            if not at.any():
                continue
            flat = rgb(ground)
            if one == UNFINISHED:
                flat = flat + (rgb(hatch.line) - flat) * stripes[at][:, None]
            under = rgba[at][:, :3]
            rgba[at, :3] = np.rint(under + (flat - under) * share[at][:, None])

    def _hatch(self, rgba: Bytes, box: Box) -> None:
        """Draw the lines of the hatch over values that are not as exact as asked."""
        field, hatch = self.field, self.hatch
        if field.unsure is None:
            return
        found = cover(field.unsure, *field.grid(box), field.du, field.dv)
        if found is None:
            return
        # A dark line beside each light one, so that they are seen on any colour.
        aside = box.shifted(max(1, round(1.4 * hatch.width_px)), 0)
        for at, colour, depth in ((aside, "#000000", _SHADE), (box, hatch.line, 1.0)):
            share = (depth * found[0] * hatch.share(at))[..., None]
            under = rgba[..., :3]
            rgba[..., :3] = np.rint(under + (rgb(colour) - under) * share)


def quantise(colours: Pixels, box: Box) -> Bytes:
    """Round to 8 bits with a dither of global pixel coordinates; whole numbers stay as they are.

    Args:
        colours: float32 (height, width, 3), encoded, 0…255.
        box: where it lies on the picture.

    Returns:
        uint8 of the same shape.

    The threshold is interleaved gradient noise: close to blue noise, and needs no table.

    Source: Jimenez 2014, Next Generation Post Processing in Call of Duty, slide 123.
    """
    out = np.empty(colours.shape, dtype=np.uint8)
    _quantised(np.ascontiguousarray(colours), box.x, box.y, out)
    return out


@_kernel
def _quantised(colours: Pixels, x: int, y: int, out: Bytes) -> None:
    height, width, channels = colours.shape
    for j in range(height):
        row, done = colours[j].reshape(width * channels), out[j].reshape(width * channels)
        _rounded(row, channels, x, y + j, done)


@_kernel
def _painted(
    scaled: FloatArray,
    values: FloatArray,
    across: Pixels,
    down: Pixels,
    gap: Pixels,
    lo: float,
    hi: float,
    lit: bool,
    lut: Pixels,
    encode: Pixels,
    light: Pixels,
    shares: Pixels,
    levels: FloatArray,
    nearest: npt.NDArray[np.int32],
    x: int,
    y: int,
    out: Bytes,
) -> None:
    """Row by row: short loops over one thing each, which compilers turn into vectors."""
    height, width = scaled.shape
    entry = np.empty(width, dtype=np.int32)
    key, sky = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    row = np.empty(4 * width, dtype=np.float32)
    row[3::4] = 255
    right, below = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    none = np.zeros(width, dtype=np.float32)
    # A plateau exactly at a level has only rounding for a slope, and no isoline.
    flattest = (1e-5 * (hi - lo) / (LUT_SIZE - 1)) ** 2
    for j in range(height):
        for i in range(width):
            entry[i] = np.int32(scaled[j, i] * (LUT_SIZE - 1.0) + 0.5)
        if lit:
            _flattened(values[j], across[j], down[j], lo, hi, right, below)
            _lit(right, below, light, key, sky)
            _coloured(entry, key, sky, shares, lut, encode, row)
        else:
            _unlit(entry, lut, row)
        if levels.shape[0] > 0:
            free = gap[j] if gap.shape[0] > 0 else none
            _inked(entry, values[j], across[j], down[j], free, levels, nearest, flattest, row)
        _rounded(row, 4, x, y + j, out[j].reshape(4 * width))


@_kernel
def _flattened(
    values: FloatArray,
    across: Pixels,
    down: Pixels,
    lo: float,
    hi: float,
    right: Pixels,
    below: Pixels,
) -> None:
    """Slopes for the light: none beyond the palette's ends, where there is one colour. Values there
    are not told apart, so that nothing may look as if they were."""
    for i in range(values.shape[0]):
        right[i], below[i] = across[i], down[i]
        beyond = max(values[i] - hi, lo - values[i])
        if beyond > 0.0:
            # Over half a pixel, so that the edge is as smooth as that of an isoline.
            slope = math.sqrt(np.float64(across[i]) ** 2 + np.float64(down[i]) ** 2)
            left = np.float32(max(0.0, 1.0 - 2.0 * beyond / slope) if slope > 0.0 else 0.0)
            right[i] *= left
            below[i] *= left


@_kernel
def _lit(across: Pixels, down: Pixels, light: Pixels, key: Pixels, sky: Pixels) -> None:
    """How much of the key light and of the sky each pixel of a row gets."""
    one, wrap = np.float32(1), np.float32(0.25)
    rise, x, y, z = light[0], light[1], light[2], light[3]
    # Walls keep some drawing instead of going black: slopes saturate at light[4].
    steepest = one / (light[4] * light[4])
    whole = one / (z + wrap)
    for i in range(across.shape[0]):
        gx, gy = across[i] * rise, -down[i] * rise
        soft = one / np.sqrt(one + (gx * gx + gy * gy) * steepest)
        gx *= soft
        gy *= soft
        nz = one / np.sqrt(one + gx * gx + gy * gy)
        key[i] = max(np.float32(0), (nz * (z - gx * x - gy * y) + wrap) * whole)
        sky[i] = np.float32(0.5) + np.float32(0.5) * nz


@_kernel
def _coloured(
    entry: npt.NDArray[np.int32],
    key: Pixels,
    sky: Pixels,
    shares: Pixels,
    lut: Pixels,
    encode: Pixels,
    row: Pixels,
) -> None:
    """Linear palette colours under their light, encoded."""
    zero, half, top = np.float32(0), np.float32(0.5), np.float32(_ENCODE_SIZE - 1)
    for i in range(entry.shape[0]):
        n = np.uint64(entry[i])  # unsigned: no index counts from the end
        for c in range(3):
            light = shares[c, 0] + shares[c, 1] * key[i] + shares[c, 2] * sky[i]
            at = min(max(lut[n, c] * light * top, zero), top) + half
            row[4 * i + c] = encode[np.uint64(np.int32(at))]


@_kernel
def _unlit(entry: npt.NDArray[np.int32], lut: Pixels, row: Pixels) -> None:
    for i in range(entry.shape[0]):
        n = np.uint64(entry[i])
        for c in range(3):
            row[4 * i + c] = lut[n, c]


@_kernel
def _inked(
    entry: npt.NDArray[np.int32],
    values: FloatArray,
    across: Pixels,
    down: Pixels,
    gap: Pixels,
    levels: FloatArray,
    nearest: npt.NDArray[np.int32],
    flattest: float,
    row: Pixels,
) -> None:
    """Draw the isolines of a row over its colours."""
    for i in range(entry.shape[0]):
        m = np.uint64(nearest[np.uint64(entry[i])])
        reach = levels[m, 1] + 0.5
        off = values[i] - levels[m, 0]
        right, below = np.float64(across[i]), np.float64(down[i])
        steep = right * right + below * below
        if off * off >= reach * reach * steep or steep <= flattest:
            continue
        slope = math.sqrt(steep)
        # Lines that crowd together on a wall fade out instead of merging into a blot.
        room = min(1.0, max(0.0, (levels[m, 3] / slope / (2.0 * levels[m, 1]) - 1.5) / 3.5))
        line = min(1.0, reach - abs(off) / slope) * levels[m, 2] * room * (1.0 - gap[i])
        # Encoded, not linear: thin dark and thin light lines then weigh the same.
        for c in range(3):
            row[4 * i + c] += (levels[m, 4 + c] - row[4 * i + c]) * line


@_kernel
def _rounded(row: Pixels, channels: int, x: int, y: int, out: Bytes) -> None:
    """One row of colours to bytes, dithered; both hold (width · channels,) numbers."""
    zero, top, width = np.float32(0), np.float32(255), row.shape[0] // channels
    threshold = np.empty(width, dtype=np.float32)
    for i in range(width):
        inner = 0.06711056 * (x + i) + 0.00583715 * y
        noise = 52.9829189 * (inner - np.floor(inner))
        # Strictly inside (0, 1) whatever float32 rounds to: an exact colour stays exact.
        threshold[i] = min(max(noise - np.floor(noise), 1e-4), 1 - 1e-4)
    for i in range(width):
        for c in range(channels):
            value = min(max(row[channels * i + c] + threshold[i], zero), top)
            out[channels * i + c] = np.uint8(np.int32(value))
