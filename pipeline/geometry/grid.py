"""The grid of points of a render, and the units of work that tasks evaluate."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Tile(NamedTuple):
    """One rectangle of grid points of one frame: the unit of work, of storage and of commit.

    A tuple, because a render may have a million of them: made, hashed and sorted in C.
    """

    frame: int
    row: int
    column: int

    def __str__(self) -> str:
        return f"{self.frame}/{self.row}/{self.column}"


class Step(NamedTuple):
    """One pass over one tile: the unit of work of a render that is refined."""

    number: int
    frame: int
    row: int
    column: int

    @property
    def tile(self) -> Tile:
        return Tile(self.frame, self.row, self.column)

    def __str__(self) -> str:
        return f"{self.tile}, pass {self.number}"


class MarkBlock(NamedTuple):
    """The marks from number `start` up to, but without, `stop`: the unit of work of marks."""

    start: int
    stop: int

    def __str__(self) -> str:
        last = self.stop - 1
        return f"mark {last}" if last == self.start else f"marks {self.start} to {last}"


Work = Tile | Step | MarkBlock


def work_named(work: Work | str, noun: str) -> str:
    """`tile 0/1/2`, `step 0/1/2, pass 3`, `marks 8 to 15`; `noun` is that of tiles and steps.

    A text stays as it is.
    """
    return str(work) if isinstance(work, MarkBlock | str) else f"{noun} {work}"


@dataclass(frozen=True)
class Extent:
    """The rectangle of plane coordinates that a grid covers, end points included."""

    x0: float
    x1: float
    y0: float
    y1: float

    def at(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """The points (n, 2) at `shares` (n, 2) of its width and height."""
        x, y = shares.T
        return np.stack(
            [self.x0 + x * (self.x1 - self.x0), self.y0 + y * (self.y1 - self.y0)], axis=1
        )


@dataclass(frozen=True)
class Grid:
    """`frames` grids of `height` × `width` points, cut into tiles of `tile` × `tile`."""

    width: int
    height: int
    tile: int
    frames: int = 1

    @property
    def tile_rows(self) -> int:
        return -(-self.height // self.tile)

    @property
    def tile_columns(self) -> int:
        return -(-self.width // self.tile)

    @property
    def tile_count(self) -> int:
        return self.frames * self.tile_rows * self.tile_columns

    @property
    def points(self) -> int:
        return self.frames * self.height * self.width

    def tiles(self) -> Iterator[Tile]:
        """Every tile: frame by frame, lowest y first."""
        axes = range(self.frames), range(self.tile_rows), range(self.tile_columns)
        return map(Tile._make, itertools.product(*axes))

    def has(self, tile: Tile) -> bool:
        """Whether `tile` is one of these."""
        counts = self.frames, self.tile_rows, self.tile_columns
        return all(0 <= place < count for place, count in zip(tile, counts, strict=True))

    def tiles_of_keys(self, folder: str, names: Iterable[str]) -> Iterator[Tile]:
        """The tiles whose keys are `names` in a folder FRAME/ROW/; none in any other folder.

        Other names are left out: partial files of killed writers, or anyone's own files.
        """
        frame_, _, row_ = folder.removesuffix("/").partition("/")
        frame, row = number_in(frame_, self.frames), number_in(row_, self.tile_rows)
        if frame is None or row is None:
            return iter(())
        columns = (number_in(name, self.tile_columns) for name in names)
        known = (column for column in columns if column is not None)
        return map(Tile._make, zip(itertools.repeat(frame), itertools.repeat(row), known))

    def window(self, tile: Tile) -> tuple[slice, slice]:
        """The rows (y) and columns (x) of the grid that `tile` covers."""
        y, x = tile.row * self.tile, tile.column * self.tile
        return (
            slice(y, min(y + self.tile, self.height)),
            slice(x, min(x + self.tile, self.width)),
        )

    def touched(self, points: slice) -> range:
        """The rows (or columns) of tiles that rows (or columns) of points touch."""
        return range(points.start // self.tile, (points.stop - 1) // self.tile + 1)

    def shape(self, tile: Tile) -> tuple[int, int]:
        """Height and width of `tile`, in points; smaller at the upper and right edges."""
        rows, columns = self.window(tile)
        return rows.stop - rows.start, columns.stop - columns.start

    def size(self, tile: Tile) -> int:
        """How many points `tile` has."""
        height, width = self.shape(tile)
        return height * width

    def axes(self, extent: Extent) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x (width,) and y (height,) of the cell centres; a single one sits in the middle."""
        return (
            _axis(extent.x0, extent.x1, self.width),
            _axis(extent.y0, extent.y1, self.height),
        )

    def coordinates(self, tile: Tile, extent: Extent) -> NDArray[np.float64]:
        """(x, y) of the points of `tile`, float64 (points, 2), row by row from the lowest y."""
        rows, columns = (np.arange(part.start, part.stop) for part in self.window(tile))
        return self.at(
            extent, *(each.ravel() for each in np.meshgrid(rows, columns, indexing="ij"))
        )

    def at(self, extent: Extent, y: NDArray[np.intp], x: NDArray[np.intp]) -> NDArray[np.float64]:
        """(x, y) of the points in rows `y` and columns `x`, (n,) each: float64 (n, 2)."""
        across, up = self.axes(extent)
        return np.stack([across[x], up[y]], axis=1)


def number_in(name: str, count: int) -> int | None:
    """The number that a key's part is, if it is one of 0 to `count` − 1."""
    if not (name.isascii() and name.isdigit()):
        return None
    number = int(name)
    return number if number < count and str(number) == name else None


def _axis(low: float, high: float, count: int) -> NDArray[np.float64]:
    if count == 1:
        return np.array([(low + high) / 2])
    return np.linspace(low, high, count)
