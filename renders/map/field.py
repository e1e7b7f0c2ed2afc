"""From a grid to a field that can be asked for any pixel of a picture of a given size.

Pixel coordinates are global to the picture, so that what a pixel shows never depends on the tile
it is drawn in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import sparse
from scipy.interpolate import BSpline, NdBSpline, make_interp_spline

from renders.box import Box
from renders.colour import FloatArray
from renders.map.holes import FINITE, NAN, cell_kinds, fill
from renders.map.tone import Tone
from renders.source.surface import Surface

HEADROOM = 0.5
"""How far beyond the palette's ends values count as they are, as a share of its span. A wall of ten
decades would make any interpolating spline ring, and beyond the ends a picture is flat anyway."""
# How far below the lower end values are that have no logarithm.
_DEPTH = 0.2


def spline_of(values: npt.ArrayLike) -> NdBSpline:
    """The interpolating cubic spline through a grid of finite values, not-a-knot at its ends.

    Args:
        values: (rows, columns), any size from 1 × 1; axes of two or three points become linear
            or quadratic, an axis of one point is constant.

    Returns:
        A spline of (row, column), 0 at the first grid point.
    """
    c = np.asarray(values, dtype=np.float64)
    knots, degrees = [], []
    for _ in range(2):
        c = np.repeat(c, 2, axis=0) if len(c) == 1 else c
        along = make_interp_spline(np.arange(len(c)), c, k=min(3, len(c) - 1))
        knots.append(along.t)
        degrees.append(along.k)
        c = along.c.T
    return NdBSpline(tuple(knots), np.ascontiguousarray(c), tuple(degrees))


def slope_of(spline: NdBSpline, axis: int, step: float = 1.0) -> NdBSpline:
    """The derivative along one axis, per `step` grid steps."""
    t, c, k = list(spline.t), np.moveaxis(spline.c, axis, 0), list(spline.k)
    along = BSpline(t[axis], c, k[axis]).derivative()
    t[axis], k[axis] = along.t, along.k
    # Scipy fills coefficients up with zeros to as many as there are knots.
    c = np.moveaxis(along.c[: len(along.t) - along.k - 1], 0, axis)
    return NdBSpline(tuple(t), step * np.ascontiguousarray(c), tuple(k))


Part = tuple[sparse.csr_array, slice]
"""A spline's basis at some places along one axis, and which of its coefficients they need."""


def basis(places: npt.ArrayLike, spline: NdBSpline, axis: int) -> sparse.csr_array:
    """The basis of `spline` along `axis` at `places` (n,), in grid steps: at most 4 entries a row.

    A product with it sums the same terms in the same order whatever else is asked for, so that no
    number depends on the tile it is part of.
    """
    x = np.asarray(places, dtype=np.float64)
    return BSpline.design_matrix(x, spline.t[axis], spline.k[axis], extrapolate=True)


def part_of(matrix: sparse.csr_array, first: int, end: int) -> Part:
    used = matrix.indices[matrix.indptr[first] : matrix.indptr[end]]
    columns = slice(int(used.min()), int(used.max()) + 1)
    return matrix[first:end, columns], columns


def product(spline: NdBSpline, down: Part, right: Part) -> npt.NDArray[Any]:
    """The spline where the rows of `down` and the columns of `right` cross: (rows, columns)."""
    c = spline.c[down[1], right[1]].astype(right[0].dtype)
    return np.asarray(down[0] @ np.ascontiguousarray((right[0] @ c.T).T))


def on_grid(spline: NdBSpline, v: npt.ArrayLike, u: npt.ArrayLike) -> FloatArray:
    """The spline where rows `v` (m,) and columns `u` (n,) cross: float64 (m, n)."""
    down, right = basis(v, spline, 0), basis(u, spline, 1)
    return product(spline, part_of(down, 0, np.size(v)), part_of(right, 0, np.size(u)))


@dataclass(frozen=True, eq=False)
class Window:
    """A field over one box of picture pixels.

    Attributes:
        box: in the field's own pixels.
        values: in the tone's space, float64 (height, width), the highest y first.
        across, down: change per pixel to the right and downwards, float32, same shape.
        x, y: the plane's coordinates of columns (width,) and rows (height,).
    """

    box: Box
    values: FloatArray
    across: npt.NDArray[np.float32]
    down: npt.NDArray[np.float32]
    x: FloatArray
    y: FloatArray

    def aggregate(self, attrs: Mapping[str, Any]) -> xr.DataArray:
        """The values as Datashader takes them: float32 (y, x)."""
        # Without indexes: they are a fifth of a millisecond a window.
        at = xr.Coordinates({"y": ("y", self.y), "x": ("x", self.x)}, indexes={})
        return xr.DataArray(self.values.astype(np.float32), at, ("y", "x"), attrs=attrs)


@dataclass(frozen=True, eq=False)
class Field:
    """A surface in the tone's space, ready to be sampled at picture pixels.

    Attributes:
        width, height: of the whole picture, in pixels.
        spline: through the filled grid, see `spline_of`.
        kinds: uint8 (rows, columns), see `renders.map.holes`; at least 2 × 2.
        u0, du, v0, dv: grid coordinates of the centre of pixel (0, 0), and their change per pixel;
            dv is negative, because rows of the grid go up and rows of the picture go down.
        extent: x0, x1, y0, y1 of the plane at the picture's edges.
        unsure: as `kinds`: not FINITE where a value is not as exact as asked.
        unsure: uint8, of the shape of `kinds`: not FINITE where a value is not as exact as asked.
    """

    width: int
    height: int
    spline: NdBSpline
    kinds: npt.NDArray[np.uint8]
    u0: float
    du: float
    v0: float
    dv: float
    extent: tuple[float, float, float, float]
    unsure: npt.NDArray[np.uint8] | None = None

    @cached_property
    def _slopes(self) -> tuple[NdBSpline, NdBSpline]:
        """The derivatives per pixel to the right and downwards."""
        return slope_of(self.spline, 1, self.du), slope_of(self.spline, 0, self.dv)

    def grid(self, box: Box) -> tuple[FloatArray, FloatArray]:
        """Grid coordinates of a box of pixels: of its columns (width,) and rows (height,)."""
        u = self.u0 + self.du * np.arange(box.x, box.right)
        return np.asarray(u), np.asarray(self.v0 + self.dv * np.arange(box.y, box.bottom))

    @cached_property
    def _bases(self) -> dict[str, sparse.csr_array]:
        """Of the picture's rows and columns; slopes are good enough in float32."""
        u, v = self.grid(Box(0, 0, self.width, self.height))
        right, down = self._slopes
        rows, columns = basis(v, self.spline, 0), basis(u, self.spline, 1)
        return {
            "rows": rows,
            "columns": columns,
            "rows32": rows.astype(np.float32),
            "columns32": columns.astype(np.float32),
            "rise": basis(v, down, 0).astype(np.float32),
            "run": basis(u, right, 1).astype(np.float32),
        }

    def windows(self, box: Box, height: int) -> Iterator[Window]:
        """Values and slopes at the centres of a box of pixels, at most `height` rows at a time."""
        x0, x1, y0, y1 = self.extent
        right, down = self._slopes
        x = x0 + (x1 - x0) * (np.arange(box.x, box.right) + 0.5) / self.width
        across = {
            name: part_of(self._bases[name], box.x, box.right)
            for name in ("columns", "columns32", "run")
        }
        for band in box.tiles(box.width, height):
            y = y1 - (y1 - y0) * (np.arange(band.y, band.bottom) + 0.5) / self.height
            rows, rows32, rise = (
                part_of(self._bases[name], band.y, band.bottom)
                for name in ("rows", "rows32", "rise")
            )
            yield Window(
                band,
                product(self.spline, rows, across["columns"]),
                product(right, rows32, across["run"]),
                product(down, rise, across["columns32"]),
                x,
                y,
            )

    def at(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, and its change per pixel to the right and downwards, at picture coordinates.

        `x`, `y` are in pixels, 0.5 at the first centre; outputs float64 of their shape.
        """
        points = np.stack(np.broadcast_arrays(*self._places(x, y)[::-1]), axis=-1)
        right, down = self._slopes
        return self.spline(points), right(points), down(points)

    def finite_at(self, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether all four cells around picture coordinates hold finite values."""
        u, v = self._places(x, y)
        rows, columns = self.kinds.shape
        i = np.clip(np.floor(u), 0, columns - 2).astype(np.int64)
        j = np.clip(np.floor(v), 0, rows - 2).astype(np.int64)
        hole = self.kinds != FINITE
        near = hole[j, i] | hole[j, i + 1] | hole[j + 1, i] | hole[j + 1, i + 1]
        return np.asarray(~near)

    def _places(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        u = self.u0 + self.du * (np.asarray(x, dtype=np.float64) - 0.5)
        return u, self.v0 + self.dv * (np.asarray(y, dtype=np.float64) - 0.5)


def field_of(surface: Surface, tone: Tone, width: int, height: int) -> Field:
    """Prepare `surface` for a picture of `width` × `height` pixels.

    Where the picture has fewer pixels than the grid has cells, the grid is first averaged down by
    whole factors, so that nothing aliases; then the spline only ever enlarges.
    """
    kinds = cell_kinds(surface.values, surface.finished)
    values = np.where(kinds == FINITE, surface.values, np.float32(1))
    s = tone.to_space(values)
    lo, hi = tone.span
    room = HEADROOM * (hi - lo)
    if tone.space == "log":
        # A little beyond the end: at it, the spline would ripple across it where all is flat.
        s = np.where(values > 0, s, lo - _DEPTH * (hi - lo))
    s = np.clip(s, lo - room, hi + room)
    rows, columns = s.shape
    fx = max(1, math.ceil((columns - 1) / width))
    fy = max(1, math.ceil((rows - 1) / height))
    if fx > 1 or fy > 1:
        s, kinds = reduce(s, kinds, fx, fy)
    spline = spline_of(fill(s, kinds == FINITE))
    du, dv = (columns - 1) / width / fx, (rows - 1) / height / fy
    return Field(
        width,
        height,
        spline,
        _twice(kinds),
        0.5 * du - (fx - 1) / (2 * fx),
        du,
        (rows - 1) / fy - (fy - 1) / (2 * fy) - 0.5 * dv,
        -dv,
        surface.extent,
        _unsure(surface, fx, fy),
    )


def _unsure(surface: Surface, fx: int, fy: int) -> npt.NDArray[np.uint8] | None:
    """As `kinds`: NAN where a finite value is not as exact as asked; None where all are."""
    if surface.unsure is None or not surface.unsure.any():
        return None
    unsure = np.where(surface.unsure & np.isfinite(surface.values), NAN, FINITE).astype(np.uint8)
    if fx > 1 or fy > 1:
        _, unsure = reduce(np.zeros(unsure.shape), unsure, fx, fy)
    return _twice(unsure)


def _twice(kinds: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Kinds of at least 2 × 2 cells: a spline takes an axis of one point for two equal ones."""
    for axis in (0, 1):
        kinds = np.repeat(kinds, 2 if kinds.shape[axis] == 1 else 1, axis=axis)
    return np.ascontiguousarray(kinds)


def reduce(
    field: FloatArray, kinds: npt.NDArray[np.uint8], fx: int, fy: int
) -> tuple[FloatArray, npt.NDArray[np.uint8]]:
    """Average blocks of fy × fx cells with Datashader; a block is what most of its cells are.

    Args:
        field: float64 (height, width); only FINITE cells are averaged.
        kinds: uint8, same shape.
        fx, fy: cells a block; the last blocks may be smaller.

    Returns:
        field and kinds, (ceil(height / fy), ceil(width / fx)).
    """
    import datashader as ds  # a second that pictures finer than their grid need not wait for

    rows, columns = field.shape
    high, wide = -(-rows // fy), -(-columns // fx)
    canvas = ds.Canvas(wide, high, (-0.5, wide * fx - 0.5), (-0.5, high * fy - 0.5))

    def mean(cells: npt.NDArray[Any]) -> FloatArray:
        # Whole blocks, filled up with NaN: only then is every average exact.
        blocks = np.full((high * fy, wide * fx), np.nan)
        blocks[:rows, :columns] = cells
        at = {"y": np.arange(high * fy), "x": np.arange(wide * fx)}
        grid = xr.DataArray(blocks, at, ("y", "x"))
        return np.asarray(canvas.raster(grid, agg="mean", interpolate="nearest").values)

    if (kinds == FINITE).all():
        return mean(field), np.full((high, wide), FINITE, dtype=np.uint8)
    shares = np.stack([mean(kinds == kind) for kind in range(4)])
    majority = np.argmax(shares, axis=0).astype(np.uint8)
    return np.nan_to_num(mean(np.where(kinds == FINITE, field, np.nan))), majority
