"""The z-buffer: sheets of quads as the nearest surface at every sample, and its light in a pixel.

A visibility pass keeps, for every sample, how near the nearest surface is and what it carries; a
second pass draws contours, sky and floor and averages the samples of a pixel in linear light.
Everything is a function of global sample coordinates, so boxes drawn apart equal the whole.

Datashader's quadmesh, cells ordered far to near, gives the same cells (a test compares them) in
about the same time. It does not stand here because it snaps corners to whole samples and knows only
which cell is seen, not where in it: contours and colours need the place; see docs/log.md.

Everything compiled lives in this file, because numba's cache watches a kernel's own file only.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from renders.colour import FloatArray

Samples = npt.NDArray[np.float32]

BLOCK = 24
"""Quads along the edge of a block that is passed over as a whole where it is out of sight."""
CARRIED = 5
"""What a sample keeps: linear red, green and blue, the level, and its change a sample."""


def blocks_of(x: FloatArray, y: FloatArray) -> FloatArray:
    """Per block of quads its first and end row and column, and its bounds, float64 (n, 8)."""
    rows, columns = x.shape
    found = []
    for j in range(0, rows - 1, BLOCK):
        for i in range(0, columns - 1, BLOCK):
            j1, i1 = min(j + BLOCK, rows - 1), min(i + BLOCK, columns - 1)
            part = (slice(j, j1 + 1), slice(i, i1 + 1))
            sides = x[part].min(), x[part].max(), y[part].min(), y[part].max()
            found.append((j, j1, i, i1, *sides))
    return np.array(found, dtype=np.float64).reshape(-1, 8)


@numba.njit(cache=True, nogil=True)
def raster(
    x: FloatArray,
    y: FloatArray,
    near: FloatArray,
    colours: Samples,
    levels: FloatArray,
    blocks: FloatArray,
    x0: int,
    y0: int,
    nearest: Samples,
    carried: Samples,
) -> None:
    """Draw one sheet into a box of samples.

    Args:
        x, y: of the vertices, in samples, float64 (rows, columns); a sample is at its half.
        near: one over the depth, same shape.
        colours: linear, float32 (rows, columns, 3).
        levels: float64 (rows, columns); NaN where no contour is.
        blocks: from `blocks_of`.
        x0, y0: the box's first sample.
        nearest: float32 (height, width), 0 where nothing is; changed in place.
        carried: float32 (height, width, 5), see `CARRIED`; changed in place.
    """
    height, width = nearest.shape
    right, bottom = x0 + width, y0 + height
    for k in range(blocks.shape[0]):
        if blocks[k, 4] > right or blocks[k, 5] < x0:
            continue
        if blocks[k, 6] > bottom or blocks[k, 7] < y0:
            continue
        for j in range(int(blocks[k, 0]), int(blocks[k, 1])):
            for i in range(int(blocks[k, 2]), int(blocks[k, 3])):
                _triangle(
                    x, y, near, colours, levels, j, i, j, i + 1, j + 1, i + 1,
                    x0, y0, nearest, carried,
                )  # fmt: skip
                _triangle(
                    x, y, near, colours, levels, j, i, j + 1, i + 1, j + 1, i,
                    x0, y0, nearest, carried,
                )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _triangle(
    x: FloatArray,
    y: FloatArray,
    near: FloatArray,
    colours: Samples,
    levels: FloatArray,
    ja: int,
    ia: int,
    jb: int,
    ib: int,
    jc: int,
    ic: int,
    x0: int,
    y0: int,
    nearest: Samples,
    carried: Samples,
) -> None:
    height, width = nearest.shape
    ax, ay, bx, by, cx, cy = x[ja, ia], y[ja, ia], x[jb, ib], y[jb, ib], x[jc, ic], y[jc, ic]
    first = max(0, math.ceil(min(ax, bx, cx) - 0.5) - x0)
    last = min(width - 1, math.floor(max(ax, bx, cx) - 0.5) - x0)
    top = max(0, math.ceil(min(ay, by, cy) - 0.5) - y0)
    foot = min(height - 1, math.floor(max(ay, by, cy) - 0.5) - y0)
    if first > last or top > foot:
        return
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    # Seen edge-on it covers nothing, and its neighbours cover what it would.
    if abs(area) < 1e-12:
        return
    inverse = 1.0 / area
    na, nb, nc = near[ja, ia], near[jb, ib], near[jc, ic]
    la, lb, lc = levels[ja, ia] * na, levels[jb, ib] * nb, levels[jc, ic] * nc
    # Change of the weights of b and c a sample rightwards and downwards.
    bdx, bdy = (cy - ay) * inverse, -(cx - ax) * inverse
    cdx, cdy = -(by - ay) * inverse, (bx - ax) * inverse
    ndx, ndy = (nb - na) * bdx + (nc - na) * cdx, (nb - na) * bdy + (nc - na) * cdy
    ldx, ldy = (lb - la) * bdx + (lc - la) * cdx, (lb - la) * bdy + (lc - la) * cdy
    slack = -1e-9
    for j in range(top, foot + 1):
        py = y0 + j + 0.5 - ay
        for i in range(first, last + 1):
            px = x0 + i + 0.5 - ax
            wb, wc = px * bdx + py * bdy, px * cdx + py * cdy
            wa = 1.0 - wb - wc
            if wa < slack or wb < slack or wc < slack:
                continue
            n = wa * na + wb * nb + wc * nc
            if np.float32(n) <= nearest[j, i]:
                continue
            nearest[j, i] = np.float32(n)
            depth = 1.0 / n
            # Weights in the world, not on the screen: perspective foreshortens.
            wa, wb, wc = wa * na * depth, wb * nb * depth, wc * nc * depth
            for c in range(3):
                carried[j, i, c] = (
                    wa * colours[ja, ia, c] + wb * colours[jb, ib, c] + wc * colours[jc, ic, c]
                )
            level = la + (lb - la) * (px * bdx + py * bdy) + (lc - la) * (px * cdx + py * cdy)
            level *= depth
            carried[j, i, 3] = level
            sx, sy = (ldx - level * ndx) * depth, (ldy - level * ndy) * depth
            carried[j, i, 4] = math.sqrt(sx * sx + sy * sy)


@numba.njit(cache=True, nogil=True)
def _smooth(low: float, high: float, at: float) -> float:
    t = min(1.0, max(0.0, (at - low) / (high - low)))
    eased: float = t * t * (3.0 - 2.0 * t)
    return eased


@numba.njit(cache=True, nogil=True)
def _line(level: float, slope: float, table: FloatArray) -> float:
    """Cover by one isoline, its width and the slope counted in samples."""
    cover = table[1] + 0.5 - abs(level - table[0]) / slope
    if cover <= 0.0:
        return 0.0
    # Lines that crowd together on a wall fade out instead of merging into a blot.
    room = min(1.0, max(0.0, (table[3] / slope / (2.0 * table[1]) - 1.5) / 3.5))
    drawn: float = min(1.0, cover) * table[2] * room
    return drawn


@numba.njit(cache=True, nogil=True)
def _backdrop(
    px: float, py: float, eye: FloatArray, sky: FloatArray, floor: Samples, colour: FloatArray
) -> None:
    """Floor and sky where the ray through (px, py), picture pixels, meets no sheet.

    `eye` is the shot: position (3), axes (9), focal length, centre (2). `sky` is: paper (3), zenith
    (3), glow (3), towards the sun (2), height of the floor, half size of its light (2), reach of
    the floor (2), pool of light on it (3).
    """
    across, up = (px - eye[13]) / eye[12], (eye[14] - py) / eye[12]
    rx = eye[3] * across + eye[6] * up + eye[9]
    ry = eye[4] * across + eye[7] * up + eye[10]
    rz = eye[5] * across + eye[8] * up + eye[11]
    flat = math.sqrt(rx * rx + ry * ry)
    elevation = math.atan2(rz, flat)
    sunward = 0.5
    if flat > 1e-9:
        sunward = 0.5 + 0.5 * (rx * sky[9] + ry * sky[10]) / flat
    rise = _smooth(-0.62, 0.12, elevation)
    glow = math.exp(-(((elevation + 0.20) / 0.24) ** 2)) * sunward
    for c in range(3):
        colour[c] = sky[c] + (sky[3 + c] - sky[c]) * rise + sky[6 + c] * glow
    if rz > -1e-6:
        return
    t = (sky[11] - eye[2]) / rz
    x, y = eye[0] + t * rx, eye[1] + t * ry
    away = math.sqrt(x * x + y * y)
    ground = 1.0 - _smooth(sky[14], sky[15], away)
    pool = math.exp(-((away / sky[14]) ** 2))
    for c in range(3):
        colour[c] += sky[16 + c] * pool * pool
    rows, columns = floor.shape[0], floor.shape[1]
    u = (x / sky[12] + 1.0) / 2.0 * (columns - 1)
    v = (y / sky[13] + 1.0) / 2.0 * (rows - 1)
    if u < 0.0 or v < 0.0 or u > columns - 1.0 or v > rows - 1.0:
        return
    i, j = min(int(u), columns - 2), min(int(v), rows - 2)
    fu, fv = u - i, v - j
    for c in range(3):
        low = floor[j, i, c] * (1.0 - fu) + floor[j, i + 1, c] * fu
        high = floor[j + 1, i, c] * (1.0 - fu) + floor[j + 1, i + 1, c] * fu
        colour[c] *= 1.0 + (low * (1.0 - fv) + high * fv - 1.0) * ground


@numba.njit(cache=True, nogil=True)
def resolve(
    nearest: Samples,
    carried: Samples,
    samples: int,
    x0: int,
    y0: int,
    eye: FloatArray,
    sky: FloatArray,
    floor: Samples,
    lo: float,
    per_span: float,
    table: FloatArray,
    level_of: npt.NDArray[np.int32],
    haze: FloatArray,
    encode: Samples,
    out_x: int,
    out_y: int,
    out: Samples,
) -> None:
    """Average a box of samples into pixels, encoded 0…255.

    Args:
        nearest, carried: from `raster`, over the box's samples.
        samples: along the edge of a pixel.
        x0, y0: the box's first pixel.
        eye, sky, floor: see `_backdrop`.
        lo, per_span, table, level_of: contours, see `Contours.numbers`; widths in
            samples and colours linear here.
        haze: depth where it begins and ends, and how strong it becomes.
        encode: sRGB of even steps in linear light.
        out_x, out_y: where in `out` the box begins.
        out: float32 (height, width, 3).
    """
    height, width = nearest.shape[0] // samples, nearest.shape[1] // samples
    steps = encode.shape[0] - 1
    colour, behind, total = np.empty(3), np.empty(3), np.empty(3)
    for j in range(height):
        for i in range(width):
            hits = 0
            for b in range(samples):
                for a in range(samples):
                    hits += nearest[j * samples + b, i * samples + a] > 0.0
            _backdrop(x0 + i + 0.5, y0 + j + 0.5, eye, sky, floor, behind)
            for c in range(3):
                total[c] = behind[c] * (samples * samples - hits)
            for b in range(samples):
                for a in range(samples):
                    q, p = j * samples + b, i * samples + a
                    if not nearest[q, p] > 0.0:
                        continue
                    for c in range(3):
                        colour[c] = carried[q, p, c]
                    level, slope = carried[q, p, 3], carried[q, p, 4]
                    if table.shape[0] > 0 and slope * per_span > 1e-5:
                        at = min(max((level - lo) * per_span, 0.0), level_of.shape[0] - 1.0)
                        k = level_of[int(at + 0.5)]
                        line = _line(level, slope, table[k])
                        for c in range(3):
                            colour[c] += (table[k, 4 + c] - colour[c]) * line
                    far = _smooth(haze[0], haze[1], 1.0 / nearest[q, p]) * haze[2]
                    for c in range(3):
                        light = colour[c]
                        # Bright ground rolls off instead of burning out.
                        if light > 0.7:
                            light = 0.7 + 0.3 * (1.0 - math.exp((0.7 - light) / 0.3))
                        total[c] += light + (behind[c] - light) * far
            for c in range(3):
                at = min(max(total[c] / (samples * samples), 0.0), 1.0) * steps
                k = min(int(at), steps - 1)
                out[out_y + j, out_x + i, c] = encode[k] + (encode[k + 1] - encode[k]) * (at - k)
