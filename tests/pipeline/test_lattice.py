"""Nested lattices: nesting, exactness for cubics, and parts that are the same as the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.refinement.lattice import Lattice, coarsest_step

SIDES = st.integers(1, 90)
STEPS = st.sampled_from([1, 2, 4, 8])


def _interpolated(
    lattice: Lattice, values: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """From level 0 to the whole part, with what is `known` besides."""
    is_known = np.zeros(values.shape, dtype=bool) if known is None else known
    found = values[lattice.at(0)]
    for level in range(1, lattice.levels):
        here = values[lattice.at(level)], is_known[lattice.at(level)]
        found = lattice.average_across(lattice.predict(found, level, *here), level, *here)
        found = np.where(here[1], here[0], found)
    return found


@given(SIDES, SIDES, STEPS)
def test_lattices_are_nested_and_the_last_is_the_grid(height: int, width: int, step: int) -> None:
    lattice = Lattice(height, width, step)
    seen = np.zeros((height, width), dtype=int)
    for level in range(lattice.levels):
        seen[lattice.at(level)] += 1
    assert seen.min() >= 1
    assert (seen[lattice.at(0)] == lattice.levels).all()
    assert {seen[0, 0], seen[-1, -1]} == {lattice.levels}, "the corners belong to the coarsest"


@given(st.integers(25, 90), st.integers(25, 90), STEPS)
def test_cubics_are_predicted_exactly(height: int, width: int, step: int) -> None:
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    cubic = 1 + x - 2 * y + x * y + x**3 - 3 * x**2 * y**3
    some = np.random.default_rng(0).random((height, width)) < 0.5
    for known in (None, some, ~some):
        found = _interpolated(Lattice(height, width, step), cubic, known)
        np.testing.assert_allclose(found, cubic, atol=1e-11)


def test_a_line_of_points_is_a_grid_too() -> None:
    x = np.linspace(0, 1, 33)[None]
    np.testing.assert_allclose(_interpolated(Lattice(1, 33, 8), x**3), x**3, atol=1e-14)


@given(st.data())
def test_a_part_is_predicted_as_in_the_whole(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(20, 120)), data.draw(st.integers(20, 120))
    whole = Lattice(height, width, data.draw(STEPS))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows = slice(top, data.draw(st.integers(top + 1, height)))
    columns = slice(left, data.draw(st.integers(left + 1, width)))
    values, chances = np.random.default_rng(0).random((2, height, width))
    known = chances < data.draw(st.sampled_from([0.0, 0.5, 0.9]))
    part = whole.around(rows, columns)
    inside = (
        slice(rows.start - part.part_rows.start, rows.stop - part.part_rows.start),
        slice(columns.start - part.part_columns.start, columns.stop - part.part_columns.start),
    )
    own = part.part_rows, part.part_columns
    found = _interpolated(part, values[own], known[own])[inside]
    assert (found == _interpolated(whole, values, known)[rows, columns]).all()


def test_what_is_known_helps_to_predict_what_lies_beside_it() -> None:
    lattice = Lattice(5, 5, 2)
    known = np.zeros((5, 5))
    is_known = np.zeros((5, 5), dtype=bool)
    known[2, 1], is_known[2, 1] = 16.0, True
    found = lattice.predict(np.zeros((3, 3)), 1, known, is_known)
    assert found[2, 1] == 0, "a point is not predicted from itself"
    assert found[1, 1] > 0
    assert found[3, 1] > 0


def test_points_between_known_centres_are_predicted_from_both_sides() -> None:
    lattice = Lattice(9, 9, 2)
    known = np.zeros((9, 9))
    is_known = np.zeros((9, 9), dtype=bool)
    known[1::2, 3], is_known[1::2, 3] = 16.0, True
    plain = lattice.predict(np.zeros((5, 5)), 1, known, is_known)
    found = lattice.average_across(plain, 1, known, is_known)
    assert plain[4, 3] == 0
    assert found[4, 3] == 8, "the mean of none along the row and all across it"
    assert (found[:, 3] == [0, 0, 0, 0, 8, 0, 0, 0, 0]).all(), "two are known to each side"
    is_known[7, 3] = False
    assert (lattice.average_across(plain, 1, known, is_known) == plain).all()
    known[7, 3], is_known[7, 3] = np.nan, True
    assert np.isnan(lattice.average_across(plain, 1, known, is_known)[4, 3]), (
        "nothing is told by a NaN"
    )


@pytest.mark.parametrize(
    ("height", "width", "step"),
    [(257, 257, 16), (1000, 1000, 32), (9, 9, 1), (1, 500, 16), (1, 1, 1)],
)
def test_the_coarsest_lattice_fits_the_grid(height: int, width: int, step: int) -> None:
    assert coarsest_step(height, width) == step
