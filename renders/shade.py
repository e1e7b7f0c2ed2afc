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

# Numpy's errors, not Python's: a check for division by zero keeps a loop from becoming vectors.
_kernel = numba.njit(cache=True, nogil=True, error_model="numpy")


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
    light, shares = (m.light or Light()).numbers(span, m.field.du, m.field.dv, m.field.width)
    if m.contours is not None and m.contours.levels:
        levels, nearest = m.contours.numbers(m.tone)
    else:
        levels, nearest = np.zeros((0, 7)), np.zeros(LUT_SIZE, dtype=np.int32)
    kinds = np.stack([rgb(c) for c in (m.tone.nan, m.tone.inf, m.hatch.ground, m.hatch.line)])
    encode = to_encoded(np.linspace(0, 1, _ENCODE_SIZE + 1)).astype(np.float32)
    return (
        lut.astype(np.float32),
        to_linear(lut).astype(np.float32),
        # Each step's start, and how far it is to the next.
        np.stack([encode, np.diff(encode, append=encode[-1])], axis=1),
        light,
        shares,
        levels,
        nearest,
        kinds,
    )


@_kernel
def _cell(
    t: FloatArray,
    value: FloatArray,
    slope: FloatArray,
    s: FloatArray,
    su: FloatArray,
    sv: FloatArray,
) -> None:
    """Value and slopes along one row of pixels inside one cell, at places `t` in [0, 1].

    `value` and `slope` are the four coefficients of the cubic B-spline along the row, and of its
    slope across it; per cell they are a polynomial.
    """
    a, b, c, d = value[0], value[1], value[2], value[3]
    c0, c1 = (a + 4.0 * b + c) / 6.0, (c - a) / 2.0
    c2, c3 = (a - 2.0 * b + c) / 2.0, (d - a + 3.0 * (b - c)) / 6.0
    a, b, c, d = slope[0], slope[1], slope[2], slope[3]
    p0, p1 = (a + 4.0 * b + c) / 6.0, (c - a) / 2.0
    p2, p3 = (a - 2.0 * b + c) / 2.0, (d - a + 3.0 * (b - c)) / 6.0
    d2, d3 = 2.0 * c2, 3.0 * c3
    for i in range(t.shape[0]):
        x = t[i]
        s[i] = c0 + x * (c1 + x * (c2 + x * c3))
        su[i] = c1 + x * (d2 + x * d3)
        sv[i] = p0 + x * (p1 + x * (p2 + x * p3))


@_kernel
def _across(coef: FloatArray, k: int, t: float, value: FloatArray, slope: FloatArray) -> None:
    """The coefficients along one row of pixels, `t` of a cell above row `k` of the grid."""
    r = 1.0 - t
    w0, w3 = r * r * r / 6.0, t * t * t / 6.0
    w1 = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    w2 = (4.0 - 6.0 * r * r + 3.0 * r * r * r) / 6.0
    d0, d3 = -r * r / 2.0, t * t / 2.0
    d1, d2 = (-4.0 * t + 3.0 * t * t) / 2.0, (4.0 * r - 3.0 * r * r) / 2.0
    for i in range(value.shape[0]):
        a, b, c, d = coef[k, i], coef[k + 1, i], coef[k + 2, i], coef[k + 3, i]
        value[i] = w0 * a + w1 * b + w2 * c + w3 * d
        slope[i] = d0 * a + d1 * b + d2 * c + d3 * d


@_kernel
def _look_up(s: FloatArray, lo: float, per_span: float, entry: npt.NDArray[np.int32]) -> None:
    for i in range(s.shape[0]):
        entry[i] = np.int32(min(max((s[i] - lo) * per_span, 0.0), LUT_SIZE - 1.0) + 0.5)


@_kernel
def _flattened(
    s: FloatArray, su: FloatArray, sv: FloatArray, geometry: FloatArray, lo: float, hi: float
) -> None:
    """Take the slopes away beyond the palette's ends, where there is one colour: values there are
    not told apart, so that nothing may look as if they were."""
    du, dv = geometry[1], geometry[3]
    for i in range(s.shape[0]):
        beyond = max(s[i] - hi, lo - s[i])
        if beyond > 0.0:
            # Over half a pixel, so that the edge is as smooth as that of an isoline.
            slope = math.sqrt(su[i] * du * su[i] * du + sv[i] * dv * sv[i] * dv)
            left = max(0.0, 1.0 - 2.0 * beyond / slope) if slope > 0.0 else 0.0
            su[i] *= left
            sv[i] *= left


@_kernel
def _lit(su: FloatArray, sv: FloatArray, light: Pixels, key: Pixels, sky: Pixels) -> None:
    """How much of the key light and of the sky each pixel of a row gets."""
    one, wrap = np.float32(1), np.float32(0.25)
    x, y, z = light[2], light[3], light[4]
    # Walls keep some drawing instead of going black: slopes saturate at light[5].
    steepest = one / (light[5] * light[5])
    whole = one / (z + wrap)
    for i in range(su.shape[0]):
        gx, gy = np.float32(su[i]) * light[0], np.float32(sv[i]) * light[1]
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
    out: Pixels,
) -> None:
    """Linear palette colours under their light, encoded, into a row (3 · width,) of `out`."""
    zero, one, steps = np.float32(0), np.float32(1), np.float32(_ENCODE_SIZE)
    for i in range(entry.shape[0]):
        n = np.uint64(entry[i])  # unsigned: no index counts from the end
        for c in range(3):
            light = shares[c, 0] + shares[c, 1] * key[i] + shares[c, 2] * sky[i]
            at = min(max(lut[n, c] * light, zero), one) * steps
            k = np.uint64(np.int32(at))
            out[3 * i + c] = encode[k, 0] + encode[k, 1] * (at - np.float32(np.int32(at)))


@_kernel
def _unlit(entry: npt.NDArray[np.int32], lut: Pixels, out: Pixels) -> None:
    for i in range(entry.shape[0]):
        n = np.uint64(entry[i])
        for c in range(3):
            out[3 * i + c] = lut[n, c]


@_kernel
def _contoured(
    entry: npt.NDArray[np.int32],
    s: FloatArray,
    su: FloatArray,
    sv: FloatArray,
    geometry: FloatArray,
    per_span: float,
    nearest: npt.NDArray[np.int32],
    levels: FloatArray,
    gap: Pixels,
    out: Pixels,
) -> None:
    """Draw the isolines of a row over its colours."""
    du, dv = geometry[1], geometry[3]
    # A plateau exactly at a level has only rounding for a slope, and no isoline.
    flattest = (1e-5 / per_span) ** 2
    for i in range(entry.shape[0]):
        m = np.uint64(nearest[np.uint64(entry[i])])
        reach = levels[m, 1] + 0.5
        off = s[i] - levels[m, 0]
        steep = su[i] * du * su[i] * du + sv[i] * dv * sv[i] * dv
        if off * off >= reach * reach * steep or steep <= flattest:
            continue
        slope = math.sqrt(steep)
        # Lines that crowd together on a wall fade out instead of merging into a blot.
        room = min(1.0, max(0.0, (levels[m, 3] / slope / (2.0 * levels[m, 1]) - 1.5) / 3.5))
        line = min(1.0, reach - abs(off) / slope) * levels[m, 2] * room * (1.0 - gap[i])
        # Encoded, not linear: thin dark and thin light lines then weigh the same.
        for c in range(3):
            out[3 * i + c] += (levels[m, 4 + c] - out[3 * i + c]) * line


@_kernel
def _hole(
    kinds: npt.NDArray[np.uint8], u: float, v: float, du: float, dv: float, weight: FloatArray
) -> float:
    """Coverage by cells without a number; `weight` (4,) says how much of which kind."""
    i = min(max(int(np.floor(u)), 0), kinds.shape[1] - 2)
    j = min(max(int(np.floor(v)), 0), kinds.shape[0] - 2)
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


@_kernel
def _holed(
    kinds: npt.NDArray[np.uint8],
    geometry: FloatArray,
    x0: int,
    y: int,
    colours: FloatArray,
    hatch: FloatArray,
    out: Pixels,
) -> None:
    """Cover a row where cells have no number."""
    u0, du, v0, dv = geometry[0], geometry[1], geometry[2], geometry[3]
    weight = np.empty(4)
    for i in range(out.shape[0] // 3):
        cover = _hole(kinds, u0 + du * (x0 + i), v0 + dv * y, du, dv, weight)
        if cover <= 0.0:
            continue
        kind = UNFINISHED
        if weight[NAN] >= weight[INF] and weight[NAN] >= weight[UNFINISHED]:
            kind = NAN
        elif weight[INF] >= weight[UNFINISHED]:
            kind = INF
        stripe = 0.0
        if kind == UNFINISHED:
            across = (x0 + i + y) * math.sqrt(0.5) / hatch[0]
            off = abs(across - np.floor(across) - 0.5) * hatch[0]
            stripe = min(1.0, max(0.0, hatch[1] / 2.0 + 0.5 - off))
        for c in range(3):
            flat = colours[kind - 1, c]
            flat += (colours[3, c] - flat) * stripe
            under = out[3 * i + c]
            out[3 * i + c] = flat if cover >= 1.0 else under + (flat - under) * cover


@_kernel
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
    light: Pixels,
    shares: Pixels,
    levels: FloatArray,
    nearest: npt.NDArray[np.int32],
    kind_colours: FloatArray,
    hatch: FloatArray,
    gap: Pixels,
    out_x: int,
    out_y: int,
    out: Pixels,
) -> None:
    """Row by row: short loops over one thing each, which compilers turn into vectors."""
    height, width = gap.shape
    u0, du, v0, dv = geometry[0], geometry[1], geometry[2], geometry[3]
    t = np.empty(width)
    ends = np.empty(width + 1, dtype=np.int64)
    cells = np.empty(width, dtype=np.int64)
    runs = 0
    for i in range(width):
        u = u0 + du * (x0 + i)
        k = min(max(int(np.floor(u)), 0), coef.shape[1] - 4)
        t[i] = u - k
        if runs == 0 or k != cells[runs - 1]:
            ends[runs] = i
            cells[runs] = k
            runs += 1
    ends[runs] = width
    first, last = cells[0], cells[runs - 1] + 4
    value, slope = np.empty(last - first), np.empty(last - first)
    s, su, sv = np.empty(width), np.empty(width), np.empty(width)
    key, sky = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    entry = np.empty(width, dtype=np.int32)
    for j in range(height):
        v = v0 + dv * (y0 + j)
        ky = min(max(int(np.floor(v)), 0), coef.shape[0] - 4)
        _across(coef[:, first:last], ky, v - ky, value, slope)
        for r in range(runs):
            k, a, b = cells[r] - first, ends[r], ends[r + 1]
            _cell(t[a:b], value[k : k + 4], slope[k : k + 4], s[a:b], su[a:b], sv[a:b])
        _look_up(s, lo, per_span, entry)
        row = out[out_y + j, out_x : out_x + width].reshape(3 * width)
        if lit:
            _flattened(s, su, sv, geometry, lo, lo + (LUT_SIZE - 1) / per_span)
            _lit(su, sv, light, key, sky)
            _coloured(entry, key, sky, shares, lut_linear, encode, row)
        else:
            _unlit(entry, lut, row)
        if levels.shape[0] > 0:
            _contoured(entry, s, su, sv, geometry, per_span, nearest, levels, gap[j], row)
        if holes:
            _holed(kinds, geometry, x0, y0 + j, kind_colours, hatch, row)
