from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry.grid import Extent, Grid

grids = st.builds(
    Grid, st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(1, 3)
)


@given(grids)
def test_tiles_cover_every_point_once(grid: Grid) -> None:
    count = np.zeros((grid.frames, grid.height, grid.width), int)
    tiles = list(grid.tiles())
    for tile in tiles:
        count[(tile.frame, *grid.window(tile))] += 1
    assert (count == 1).all()
    assert len(tiles) == grid.tile_count
    assert sum(map(grid.size, tiles)) == grid.points


@given(grids)
def test_coordinates_do_not_depend_on_the_tiling(grid: Grid) -> None:
    extent = Extent(-1.0, 2.5, 0.25, 9.0)
    x, y = grid.axes(extent)
    for tile in grid.tiles():
        rows, columns = grid.window(tile)
        expected = [(b, a) for a in y[rows] for b in x[columns]]
        np.testing.assert_array_equal(grid.coordinates(tile, extent), expected)


def test_end_points_are_included_and_the_lowest_y_comes_first() -> None:
    x, y = Grid(3, 2, 8).axes(Extent(0, 1, -5, 5))
    assert x.tolist() == [0, 0.5, 1]
    assert y.tolist() == [-5, 5]


def test_a_single_column_sits_in_the_middle() -> None:
    x, _ = Grid(1, 2, 8).axes(Extent(0, 1, 0, 1))
    assert x.tolist() == [0.5]
