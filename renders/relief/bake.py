"""Baked light: what sun and sky reach of a height field, soft shadows and occlusion included.

The horizon is looked for in every direction; what lies above it is open sky. Both sky and sun are
then integrals in closed form, so that a valley darkens because it is deep, not because someone
drew it dark.

Source: Timonen and Westerholm 2010, doi:10.1111/j.1467-8659.2009.01603.x; Max 1988,
doi:10.1007/BF01905562 (horizon maps).
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np

from renders.colour import FloatArray

_DIRECTIONS = 20
_AZIMUTHS = 7


@dataclass(frozen=True)
class Sun:
    """A sun and a sky.

    Attributes:
        azimuth: where the sun stands, radians clockwise from +y.
        altitude: above the horizon, radians.
        share: of the light on flat open ground that is the sun's.
        radius: half the sun's angular size, radians; far larger than the real one, for softness.
        key_colour: of the sun, linear; the sky's is its complement.
    """

    azimuth: float = math.radians(-58)
    altitude: float = math.radians(40)
    share: float = 0.60
    radius: float = math.radians(7)
    key_colour: tuple[float, float, float] = (1.02, 1.03, 0.93)

    @property
    def direction(self) -> FloatArray:
        """Unit vector towards the sun, float64 (3,)."""
        flat = math.cos(self.altitude)
        return np.array(
            [flat * math.sin(self.azimuth), flat * math.cos(self.azimuth), math.sin(self.altitude)]
        )

    @property
    def key(self) -> FloatArray:
        return np.array(self.key_colour)

    @property
    def sky(self) -> FloatArray:
        """The sky's colour: with the sun's it makes flat open ground neutral."""
        return np.asarray((1 - self.share * self.key) / (1 - self.share))


def irradiance(
    z: FloatArray, albedo: FloatArray, cell: tuple[float, float], sun: Sun
) -> FloatArray:
    """Light on every point of a height field, relative to flat open ground.

    Args:
        z: float64 (rows, columns), row 0 at the lowest y.
        albedo: float64 (rows, columns, 3), linear: what the neighbourhood throws back.
        cell: x and y distance of neighbouring points, in the unit of z.
        sun: the light.

    Returns:
        float64 (rows, columns, 3), linear; 1 is what flat open ground gets.
    """
    z = np.ascontiguousarray(z)
    gy, gx = (np.asarray(slope) for slope in np.gradient(z, cell[1], cell[0]))
    open_sky, sunlit = np.empty(z.shape), np.empty(z.shape)
    bands = np.array_split(np.arange(len(z)), 8)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = [
            pool.submit(
                _bake,
                z,
                gx,
                gy,
                cell[0],
                cell[1],
                sun.azimuth,
                sun.altitude,
                sun.radius,
                int(band[0]),
                int(band[-1]) + 1,
                open_sky,
                sunlit,
            )
            for band in bands
            if len(band)
        ]
        for job in jobs:
            job.result()
    mean = albedo.mean(axis=(0, 1))
    sky = (1 - sun.share) * sun.sky * open_sky[..., None]
    key = sun.share * sun.key * sunlit[..., None]
    # One bounce: what the sky does not reach sees its own surroundings instead.
    around = 0.5 * albedo + 0.5 * mean
    bounce = 0.55 * np.clip(1 - open_sky, 0, 1)[..., None] * around
    return np.asarray(sky + key + bounce)


@numba.njit(cache=True, nogil=True)
def _height(z: FloatArray, x: float, y: float) -> float:
    rows, columns = z.shape
    if x < 0.0 or y < 0.0 or x > columns - 1.0 or y > rows - 1.0:
        return -1e9
    i = min(int(x), columns - 2)
    j = min(int(y), rows - 2)
    fx, fy = x - i, y - j
    low = z[j, i] * (1.0 - fx) + z[j, i + 1] * fx
    high = z[j + 1, i] * (1.0 - fx) + z[j + 1, i + 1] * fx
    value: float = low * (1.0 - fy) + high * fy
    return value


@numba.njit(cache=True, nogil=True)
def _horizon(
    z: FloatArray,
    top: float,
    i: int,
    j: int,
    dx: float,
    dy: float,
    unit: float,
    growth: float,
    start: float,
    least: float,
) -> float:
    """Tangent of the horizon's angle from (i, j) along (dx, dy) cells, one step `unit` long.

    The first step is `start` long, and every further one `growth` times as far.

    Whatever is lower than `least` is not told apart from it.
    """
    room = top - z[j, i]
    steepest = least
    t = start
    while True:
        # Nothing is higher than the top: farther on, no slope is steeper than this.
        if room <= steepest * t * unit:
            return steepest
        there = _height(z, i + t * dx, j + t * dy)
        if there < -1e8:
            return steepest
        steepest = max(steepest, (there - z[j, i]) / (t * unit))
        t = t * growth + 0.35


@numba.njit(cache=True, nogil=True)
def _bake(
    z: FloatArray,
    gx: FloatArray,
    gy: FloatArray,
    cx: float,
    cy: float,
    azimuth: float,
    altitude: float,
    radius: float,
    first: int,
    last: int,
    open_sky: FloatArray,
    sunlit: FloatArray,
) -> None:
    columns = z.shape[1]
    top = z.max()
    # Below the whole of the sun, the horizon hides nothing of it.
    below = math.tan(altitude - radius)
    unit = min(cx, cy)
    around, sunward = np.empty((_DIRECTIONS, 2)), np.empty((_AZIMUTHS, 2))
    for k in range(_DIRECTIONS):
        phi = 2.0 * math.pi * (k + 0.5) / _DIRECTIONS
        around[k, 0], around[k, 1] = math.sin(phi), math.cos(phi)
    for k in range(_AZIMUTHS):
        phi = azimuth + radius * (2.0 * k / (_AZIMUTHS - 1) - 1.0)
        sunward[k, 0], sunward[k, 1] = math.sin(phi), math.cos(phi)
    lx = math.cos(altitude) * math.sin(azimuth)
    ly = math.cos(altitude) * math.cos(azimuth)
    lz = math.sin(altitude)
    for j in range(first, last):
        for i in range(columns):
            nz = 1.0 / math.sqrt(1.0 + gx[j, i] * gx[j, i] + gy[j, i] * gy[j, i])
            nx, ny = -gx[j, i] * nz, -gy[j, i] * nz
            total = 0.0
            for k in range(_DIRECTIONS):
                ax, ay = around[k, 0], around[k, 1]
                along = nx * ax + ny * ay
                # Never below the point's own tangent plane.
                least = -along / nz
                dx, dy = ax * unit / cx, ay * unit / cy
                # Steps of one direction fall between those of the next.
                start = 1.0 + 0.25 * (k * 7 % _DIRECTIONS) / _DIRECTIONS
                slope = _horizon(z, top, i, j, dx, dy, unit, 1.20, start, least)
                # With h the horizon's angle: sin 2h / 2 = slope cos² h.
                square = 1.0 / (1.0 + slope * slope)
                part = along * ((math.pi / 2 - math.atan(slope)) - slope * square) / 2
                part += nz * square / 2
                total += max(0.0, part)
            open_sky[j, i] = 2.0 * total / _DIRECTIONS
            lit = 0.0
            for k in range(_AZIMUTHS):
                dx, dy = sunward[k, 0] * unit / cx, sunward[k, 1] * unit / cy
                h = math.atan(_horizon(z, top, i, j, dx, dy, unit, 1.06, 1.0, below))
                t = min(1.0, max(0.0, 0.5 + (altitude - h) / (2.0 * radius)))
                lit += t * t * (3.0 - 2.0 * t) / _AZIMUTHS
            facing = max(0.0, nx * lx + ny * ly + nz * lz) / lz
            sunlit[j, i] = facing * lit
