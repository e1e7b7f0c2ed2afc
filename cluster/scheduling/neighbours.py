"""Which tiles of a refinement read which: a step reads the records of the tiles around its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.grid import Tile
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.step import Refinement


class Neighbours:
    """The neighbours of every tile, kept for rows and columns apart."""

    def __init__(self, refinement: Refinement, schedule: Schedule) -> None:
        grid, region = refinement.grid, refinement.required_region
        self._rows = [
            grid.touched(region(schedule, Tile(0, row, 0))[0]) for row in range(grid.tile_rows)
        ]
        self._columns = [
            grid.touched(region(schedule, Tile(0, 0, column))[1])
            for column in range(grid.tile_columns)
        ]

    def readers(self, tile: Tile) -> tuple[slice, slice, slice]:
        """The tiles whose steps read `tile`: frames, rows and columns."""
        frames = slice(tile.frame, tile.frame + 1)
        return frames, _readers(self._rows, tile.row), _readers(self._columns, tile.column)

    def count(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many neighbours of each tile are in `mask`, (frames, rows, columns)."""
        counts = mask.astype("i8")
        for axis, neighbours in ((1, self._rows), (2, self._columns)):
            sums = np.cumsum(counts, axis=axis)
            sums = np.insert(sums, 0, 0, axis=axis)
            starts, stops = (
                [getattr(each, end) for each in neighbours] for end in ("start", "stop")
            )
            counts = sums.take(stops, axis=axis) - sums.take(starts, axis=axis)
        return counts


def _readers(neighbours: list[range], place: int) -> slice:
    """The rows (or columns) of tiles that read row `place`; they are contiguous."""
    found = [each for each, row in enumerate(neighbours) if place in row]
    return slice(found[0], found[-1] + 1)
