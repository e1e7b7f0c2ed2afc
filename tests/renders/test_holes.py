"""Holes are filled smoothly and never change what is known."""

from __future__ import annotations

import numpy as np
import pytest

from renders.map.holes import FINITE, INF, NAN, UNFINISHED, cell_kinds, fill


def test_kinds_are_told_apart() -> None:
    values = np.array([[1, np.nan, np.inf, -np.inf, np.nan]], dtype=np.float32)
    finished = np.array([[True, True, True, True, False]])
    assert cell_kinds(values, finished).tolist() == [[FINITE, NAN, INF, NAN, UNFINISHED]]


def test_known_cells_keep_their_values_and_all_becomes_finite() -> None:
    rng = np.random.default_rng(0)
    field, known = rng.normal(size=(23, 37)), rng.random((23, 37)) > 0.6
    field[~known] = np.nan
    filled = fill(field, known)
    assert np.isfinite(filled).all()
    assert (filled[known] == field[known]).all()


def test_a_plane_continues_across_a_hole() -> None:
    v, u = np.mgrid[:30, :40].astype(float)
    plane = 3 + 0.2 * u - 0.1 * v
    known = np.ones_like(plane, dtype=bool)
    known[10:20, 12:24] = False
    filled = fill(np.where(known, plane, np.nan), known)
    rim = ~known.copy()
    rim[13:17, 15:21] = False
    np.testing.assert_allclose(filled[rim], plane[rim], atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3)])
def test_one_known_cell_is_enough_and_none_gives_zero(shape: tuple[int, int]) -> None:
    field, known = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    assert (fill(field, known) == 0).all()
    field[0, 0], known[0, 0] = 4.0, True
    assert (fill(field, known) == 4).all()
