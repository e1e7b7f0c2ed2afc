"""The z-buffer, against rays traced one by one and against Datashader."""

from __future__ import annotations

import math

import datashader
import numpy as np
import pytest
import xarray

from renders.box import Box
from renders.colour import FloatArray
from renders.relief.camera import Camera, Shot, framed
from renders.relief.raster import CARRIED, blocks_of, raster

WIDE, HIGH = 48, 36


def _hill(rows: int = 9, columns: int = 13) -> FloatArray:
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, columns), np.linspace(-0.35, 0.35, rows))
    z = 0.25 * np.exp(-12 * (x**2 + y**2)) + 0.08 * np.sin(9 * x) * np.cos(7 * y)
    return np.stack([x, y, z], axis=-1)


def _shot(azimuth: float, altitude: float, points: FloatArray) -> Shot:
    camera = Camera(math.radians(azimuth), math.radians(altitude), math.radians(40))
    return framed([camera], points.reshape(-1, 3), Box(2, 2, WIDE - 4, HIGH - 4)).shot(camera)


def _drawn(shot: Shot, points: FloatArray, levels: FloatArray) -> tuple[FloatArray, FloatArray]:
    x, y, depth = shot.project(points)
    nearest = np.zeros((HIGH, WIDE), np.float32)
    carried = np.zeros((HIGH, WIDE, CARRIED), np.float32)
    colours = points.astype(np.float32)
    raster(x, y, 1 / depth, colours, levels, blocks_of(x, y), 0, 0, nearest, carried)
    return nearest.astype(np.float64), carried.astype(np.float64)


def _traced(shot: Shot, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Depth and place of the nearest triangle on each pixel's ray, by Möller and Trumbore."""
    rows, columns = points.shape[:2]
    depths = np.full((HIGH, WIDE), np.inf)
    places = np.zeros((HIGH, WIDE, 3))
    triangles = []
    for j in range(rows - 1):
        for i in range(columns - 1):
            a, b, c, d = points[j, i], points[j, i + 1], points[j + 1, i + 1], points[j + 1, i]
            triangles += [(a, b, c), (a, c, d)]
    t = np.array(triangles)
    first, second = t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]
    for j in range(HIGH):
        for i in range(WIDE):
            across = (i + 0.5 - shot.centre[0]) / shot.focal_px
            up = (shot.centre[1] - j - 0.5) / shot.focal_px
            ray = across * shot.axes[0] + up * shot.axes[1] + shot.axes[2]
            p = np.cross(ray, second)
            det = (first * p).sum(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                s = shot.position - t[:, 0]
                u = (s * p).sum(axis=1) / det
                q = np.cross(s, first)
                v = (q @ ray) / det
                far = (second * q).sum(axis=1) / det
                hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (far > 0)
            if hit.any():
                depths[j, i] = far[hit].min()
                places[j, i] = shot.position + depths[j, i] * ray
    return depths, places


@pytest.mark.parametrize(("azimuth", "altitude"), [(160, 38), (20, 12), (275, 70), (180, 90)])
def test_the_nearest_surface_is_the_one_that_a_ray_meets_first(
    azimuth: float, altitude: float
) -> None:
    points = _hill()
    shot = _shot(azimuth, altitude, points)
    nearest, carried = _drawn(shot, points, points[..., 2])
    depths, places = _traced(shot, points)
    seen = np.isfinite(depths)
    assert 0.15 < seen.mean() < 0.95
    # On an outline, rounding decides whether a sample is covered.
    assert (seen != (nearest > 0)).sum() <= 3
    both = seen & (nearest > 0)
    off = np.abs(1 / nearest[both] - depths[both])
    assert np.quantile(off, 0.99) < 1e-5
    # What is carried is that very place: perspective is divided out.
    assert np.quantile(np.abs(carried[both][:, :3] - places[both]).max(axis=1), 0.99) < 1e-5
    assert np.quantile(np.abs(carried[both][:, 3] - places[both][:, 2]), 0.99) < 1e-5


def test_a_level_s_change_is_that_from_one_sample_to_the_next() -> None:
    points = np.stack([*np.meshgrid([-0.5, 0.5], [-0.35, 0.35]), np.zeros((2, 2))], axis=-1)
    shot = _shot(200, 30, points)
    _, carried = _drawn(shot, points, points[..., 0] + 2 * points[..., 1])
    level, slope = carried[..., 3], carried[..., 4]
    inner = (slice(14, 20), slice(18, 28))
    by, bx = np.gradient(level)
    assert np.allclose(np.hypot(bx, by)[inner], slope[inner], rtol=2e-3)


@pytest.mark.slow
def test_cells_are_those_of_datashader_s_quadmesh_drawn_far_to_near() -> None:
    points = _hill(61, 91)
    camera = Camera(math.radians(180), math.radians(24), math.radians(40))
    wide, high = 400, 240
    shot = framed([camera], points.reshape(-1, 3), Box(4, 4, wide - 8, high - 8)).shot(camera)
    x, y, depth = shot.project(points)
    place = np.stack([*np.meshgrid(np.arange(91.0), np.arange(61.0)), 0 * x], axis=-1)
    nearest = np.zeros((high, wide), np.float32)
    carried = np.zeros((high, wide, CARRIED), np.float32)
    flat = np.full(x.shape, np.nan)
    raster(x, y, 1 / depth, place.astype(np.float32), flat, blocks_of(x, y), 0, 0, nearest, carried)
    # Datashader wants the cells' middles. Seen from the lowest y, the last row is the farthest.
    middle = [(a[1:, 1:] + a[1:, :-1] + a[:-1, 1:] + a[:-1, :-1])[::-1] / 4 for a in (x, y)]
    cells = xarray.DataArray(
        np.arange(60.0 * 90.0).reshape(60, 90)[::-1],
        dims=("row", "column"),
        coords={"sx": (("row", "column"), middle[0]), "sy": (("row", "column"), middle[1])},
        name="cell",
    )
    canvas = datashader.Canvas(wide, high, x_range=(0, wide), y_range=(0, high))
    theirs = canvas.quadmesh(cells, x="sx", y="sy", agg=datashader.last("cell")).values
    both = (nearest > 0) & np.isfinite(theirs)
    assert both.mean() > 0.3
    # It snaps corners to whole pixels, so that cells meet half a pixel away from ours; a surface
    # seen through another would be many rows off.
    row, column = np.divmod(theirs[both], 90)
    apart = np.maximum(
        np.abs(row + 0.5 - carried[both][:, 1]), np.abs(column + 0.5 - carried[both][:, 0])
    )
    assert np.quantile(apart, 0.5) < 0.5
    assert np.quantile(apart, 0.99) < 2
    wrong = _drawn_backwards(x, y, depth, place, (high, wide))
    assert np.abs(wrong[both] - carried[both][:, 1]).max() > 5, "nothing hides anything here"


def _drawn_backwards(
    x: FloatArray, y: FloatArray, depth: FloatArray, place: FloatArray, shape: tuple[int, int]
) -> FloatArray:
    """The row on each sample when the farthest surface wins."""
    nearest, carried = np.zeros(shape, np.float32), np.zeros((*shape, CARRIED), np.float32)
    flat = np.full(x.shape, np.nan)
    raster(
        x, y, depth / 10, place.astype(np.float32), flat, blocks_of(x, y), 0, 0, nearest, carried
    )
    return carried[..., 1].astype(np.float64)
