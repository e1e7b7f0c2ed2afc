"""The one pass over pixels: spline → colour → light → contour → holes, fused in one kernel.

Everything compiled lives in this file, because numba's cache watches a kernel's own file only.
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
from renders.contour import Contours
from renders.fill import FINITE, INF, NAN, UNFINISHED
from renders.light import Light
from renders.resample import Field
from renders.sprite import Sprite, combined_alpha
from renders.tone import LUT_SIZE, Tone

Pixels = npt.NDArray[np.float32]

_ENCODE_SIZE = 4_096


@dataclass(frozen=True)
class Hatch:
    """How unfinished tiles look: diagonal lines on a quiet ground.

    `period_px` is the distance from line to line, across them; the halo is 0 px.
    """

    ground: str
    line: str
    period_px: float
    width_px: float


@dataclass(frozen=True, eq=False)
class Map:
    """A lit, contoured map of one field: a layer of a picture.

    Attributes:
        at: where it lies on the picture; its size is the field's.
        field, tone: what is shown and in which colours.
        hatch: of unfinished tiles.
        light, contours: None leaves the layer out.
        gaps: where contours make room for their labels, in picture coordinates.
    """

    at: Box
    field: Field
    tone: Tone
    hatch: Hatch
    light: Light | None = None
    contours: Contours | None = None
    gaps: tuple[Sprite, ...] = ()

    halo_px = 0

    @cached_property
    def _prepared(self) -> tuple[npt.NDArray[Any], ...]:
        return _tables(self)

    @property
    def covers(self) -> Box:
        return self.at

    def draw(self, out: Pixels, box: Box) -> None:
        """Paint the part of the map inside `box` into `out`, float32 (height, width, 3), 0…255."""
        part = box.meet(self.at)
        if part.empty:
            return
        gap = np.zeros((part.height, part.width), dtype=np.float32)
        for sprite in self.gaps:
            combined_alpha(gap, part, sprite)
        lo, hi = self.tone.span
        f = self.field
        kernel: Any = _shade
        kernel(
            f.coef,
            f.kinds,
            f.holes,
            np.array([f.u0, f.du, f.v0, f.dv]),
            part.x - self.at.x,
            part.y - self.at.y,
            lo,
            (LUT_SIZE - 1) / (hi - lo),
            self.light is not None,
            *self._prepared,
            np.array([self.hatch.period_px, self.hatch.width_px]),
            gap,
            # Offsets, not a view: one compiled kernel serves whole and partial boxes.
            part.x - box.x,
            part.y - box.y,
            out,
        )


def _tables(m: Map) -> tuple[npt.NDArray[Any], ...]:
    lut = m.tone.lut()
    span = m.tone.span[1] - m.tone.span[0]
    light = (m.light or Light()).numbers(span, m.field.du, m.field.dv, m.field.width)
    if m.contours is not None and m.contours.levels:
        levels, nearest = m.contours.numbers(m.tone)
    else:
        levels, nearest = np.zeros((0, 7)), np.zeros(LUT_SIZE, dtype=np.int32)
    kinds = np.stack([rgb(c) for c in (m.tone.nan, m.tone.inf, m.hatch.ground, m.hatch.line)])
    encode = to_encoded(np.linspace(0, 1, _ENCODE_SIZE + 1))
    return (
        lut.astype(np.float32),
        to_linear(lut).astype(np.float32),
        encode.astype(np.float32),
        light,
        levels,
        nearest,
        kinds,
    )


@numba.njit(cache=True, nogil=True)
def _weights(t: float, w: FloatArray, d: FloatArray) -> None:
    r = 1.0 - t
    w[0] = r * r * r / 6.0
    w[1] = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    w[2] = (4.0 - 6.0 * r * r + 3.0 * r * r * r) / 6.0
    w[3] = t * t * t / 6.0
    d[0] = -r * r / 2.0
    d[1] = (-4.0 * t + 3.0 * t * t) / 2.0
    d[2] = (4.0 * r - 3.0 * r * r) / 2.0
    d[3] = t * t / 2.0


@numba.njit(cache=True, nogil=True)
def _lit(su: float, sv: float, light: FloatArray, shade: FloatArray) -> None:
    gx = su * light[0]
    gy = sv * light[1]
    # Walls keep some drawing instead of going black: slopes saturate at light[13].
    soft = 1.0 / math.sqrt(1.0 + (gx * gx + gy * gy) / (light[13] * light[13]))
    gx *= soft
    gy *= soft
    nz = 1.0 / math.sqrt(1.0 + gx * gx + gy * gy)
    wrap = 0.25
    facing = max(0.0, (nz * (light[4] - gx * light[2] - gy * light[3]) + wrap) / (light[4] + wrap))
    open_sky = 0.5 + 0.5 * nz
    for c in range(3):
        full = light[5] * open_sky * light[10 + c] + (1.0 - light[5]) * facing * light[7 + c]
        shade[c] = 1.0 + light[6] * (full - 1.0)


@numba.njit(cache=True, nogil=True)
def _line(s: float, slope: float, level: FloatArray) -> float:
    """Coverage of one isoline at a pixel whose value is `s` and whose slope a pixel is `slope`."""
    cover = level[1] + 0.5 - abs(s - level[0]) / slope
    if cover <= 0.0:
        return 0.0
    # Lines that crowd together on a wall fade out instead of merging into a blot.
    room = min(1.0, max(0.0, (level[3] / slope / (2.0 * level[1]) - 1.5) / 3.5))
    drawn: float = min(1.0, cover) * level[2] * room
    return drawn


@numba.njit(cache=True, nogil=True)
def _hole(
    kinds: npt.NDArray[np.uint8], u: float, v: float, du: float, dv: float, weight: FloatArray
) -> float:
    """Coverage by cells without a number; `weight` (4,) says how much of which kind."""
    i = min(max(math.floor(u), 0), kinds.shape[1] - 2)
    j = min(max(math.floor(v), 0), kinds.shape[0] - 2)
    k00, k01, k10, k11 = kinds[j, i], kinds[j, i + 1], kinds[j + 1, i], kinds[j + 1, i + 1]
    weight[:] = 0.0
    fu = min(max(u - i, 0.0), 1.0)
    fv = min(max(v - j, 0.0), 1.0)
    # Eased weights: a lone cell becomes a disc, a straight rim stays straight.
    slope_u, slope_v = 6.0 * fu * (1.0 - fu) * du, 6.0 * fv * (1.0 - fv) * dv
    fu *= fu * (3.0 - 2.0 * fu)
    fv *= fv * (3.0 - 2.0 * fv)
    weight[k00] += (1.0 - fu) * (1.0 - fv)
    weight[k01] += fu * (1.0 - fv)
    weight[k10] += (1.0 - fu) * fv
    weight[k11] += fu * fv
    if k00 == FINITE and k01 == FINITE and k10 == FINITE and k11 == FINITE:
        return 0.0
    if k00 != FINITE and k01 != FINITE and k10 != FINITE and k11 != FINITE:
        return 1.0
    b00, b01 = min(1.0, k00), min(1.0, k01)
    b10, b11 = min(1.0, k10), min(1.0, k11)
    bu = ((1.0 - fv) * (b01 - b00) + fv * (b11 - b10)) * slope_u
    bv = ((1.0 - fu) * (b10 - b00) + fu * (b11 - b01)) * slope_v
    slope = min(1.0, math.sqrt(bu * bu + bv * bv))
    bad = 1.0 - weight[FINITE]
    if slope < 1e-12:
        return 1.0 if bad >= 0.5 else 0.0
    share: float = min(1.0, max(0.0, 0.5 + (bad - 0.5) / slope))
    return share


@numba.njit(cache=True, nogil=True)
def _shade(
    coef: FloatArray,
    kinds: npt.NDArray[np.uint8],
    holes: bool,
    geometry: FloatArray,
    x0: int,
    y0: int,
    lo: float,
    per_span: float,
    lit: bool,
    lut: Pixels,
    lut_linear: Pixels,
    encode: Pixels,
    light: FloatArray,
    levels: FloatArray,
    nearest: npt.NDArray[np.int32],
    kind_colours: FloatArray,
    hatch: FloatArray,
    gap: Pixels,
    out_x: int,
    out_y: int,
    out: Pixels,
) -> None:
    height, width = gap.shape
    u0, du, v0, dv = geometry[0], geometry[1], geometry[2], geometry[3]
    wx, dx = np.empty((width, 4)), np.empty((width, 4))
    kx = np.empty(width, dtype=np.int64)
    for i in range(width):
        u = u0 + du * (x0 + i)
        kx[i] = min(max(math.floor(u), 0), coef.shape[1] - 4)
        _weights(u - kx[i], wx[i], dx[i])
    first, last = kx[0], kx[width - 1] + 4
    row, row_slope = np.empty(last - first), np.empty(last - first)
    wy, dy = np.empty(4), np.empty(4)
    shade, weight, colour = np.ones(3), np.empty(4), np.empty(3)
    for j in range(height):
        v = v0 + dv * (y0 + j)
        ky = min(max(math.floor(v), 0), coef.shape[0] - 4)
        _weights(v - ky, wy, dy)
        for k in range(first, last):
            a, b, c, d = coef[ky, k], coef[ky + 1, k], coef[ky + 2, k], coef[ky + 3, k]
            row[k - first] = wy[0] * a + wy[1] * b + wy[2] * c + wy[3] * d
            row_slope[k - first] = dy[0] * a + dy[1] * b + dy[2] * c + dy[3] * d
        for i in range(width):
            cover = 0.0
            if holes:
                cover = _hole(kinds, u0 + du * (x0 + i), v, du, dv, weight)
            if cover < 1.0:
                k = kx[i] - first
                a, b, c, d = row[k], row[k + 1], row[k + 2], row[k + 3]
                s = wx[i, 0] * a + wx[i, 1] * b + wx[i, 2] * c + wx[i, 3] * d
                su = dx[i, 0] * a + dx[i, 1] * b + dx[i, 2] * c + dx[i, 3] * d
                sv = (
                    wx[i, 0] * row_slope[k]
                    + wx[i, 1] * row_slope[k + 1]
                    + wx[i, 2] * row_slope[k + 2]
                    + wx[i, 3] * row_slope[k + 3]
                )
                entry = int(min(max((s - lo) * per_span, 0.0), LUT_SIZE - 1.0) + 0.5)
                line = 0.0
                if levels.shape[0] > 0:
                    slope = math.sqrt(su * du * su * du + sv * dv * sv * dv)
                    # A plateau exactly at a level has only rounding for a slope, and no isoline.
                    if slope * per_span > 1e-5:
                        line = _line(s, slope, levels[nearest[entry]]) * (1.0 - gap[j, i])
                if lit:
                    _lit(su, sv, light, shade)
                    for c3 in range(3):
                        at = min(max(lut_linear[entry, c3] * shade[c3], 0.0), 1.0) * _ENCODE_SIZE
                        k3 = min(int(at), _ENCODE_SIZE - 1)
                        colour[c3] = encode[k3] + (encode[k3 + 1] - encode[k3]) * (at - k3)
                else:
                    for c3 in range(3):
                        colour[c3] = lut[entry, c3]
                if line > 0.0:
                    # Encoded, not linear: thin dark and thin light lines then weigh the same.
                    for c3 in range(3):
                        colour[c3] += (levels[nearest[entry], 4 + c3] - colour[c3]) * line
            if cover > 0.0:
                kind = UNFINISHED
                if weight[NAN] >= weight[INF] and weight[NAN] >= weight[UNFINISHED]:
                    kind = NAN
                elif weight[INF] >= weight[UNFINISHED]:
                    kind = INF
                stripe = 0.0
                if kind == UNFINISHED:
                    across = (x0 + i + y0 + j) * math.sqrt(0.5) / hatch[0]
                    off = abs(across - math.floor(across) - 0.5) * hatch[0]
                    stripe = min(1.0, max(0.0, hatch[1] / 2.0 + 0.5 - off))
                for c3 in range(3):
                    flat = kind_colours[kind - 1, c3]
                    flat += (kind_colours[3, c3] - flat) * stripe
                    colour[c3] = flat if cover >= 1.0 else colour[c3] + (flat - colour[c3]) * cover
            for c3 in range(3):
                out[out_y + j, out_x + i, c3] = colour[c3]
