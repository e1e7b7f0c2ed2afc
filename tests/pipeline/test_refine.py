"""Which points have to be evaluated, on surfaces that are known everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.refinement import passes
from pipeline.refinement import prediction
from pipeline.refinement.lattice import Floats, Lattice, coarsest_step

SIDE = 129
Y, X = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE), indexing="ij")
TOLERANCE = 0.002


def _refined(surface: Floats) -> tuple[np.ndarray, prediction.Estimate]:
    """One round over a surface (height, width): what was evaluated, and the estimate after it."""
    finite = surface[np.isfinite(surface)]
    unit = TOLERANCE * (finite.max() - finite.min())
    units = np.where(np.isfinite(surface), surface, np.nan)[None] / unit
    lattice = Lattice(*surface.shape, coarsest_step(*surface.shape))
    known = np.zeros(surface.shape, dtype=bool)
    known[lattice.at(0)] = True
    for level, centres in passes(lattice):
        found = prediction.estimate(units, known, lattice, level)
        known |= prediction.points_to_evaluate(found, known, lattice, level, 0, 1.0, centres)
    return known, prediction.estimate(units, known, lattice)


def _errors(surface: Floats, known: np.ndarray, found: prediction.Estimate) -> Floats:
    """How far the predicted points are off, in units of the tolerance."""
    finite = surface[np.isfinite(surface)]
    unit = TOLERANCE * (finite.max() - finite.min())
    return np.abs(found.values[0] - surface / unit)[~known]


SMOOTH = np.sin(3 * X) * np.cos(4 * Y + X)
CLIFF = np.where(X > 0.3 * Y, 1.0, 0.0) + 0.1 * X


def test_a_smooth_surface_takes_few_points() -> None:
    known, found = _refined(SMOOTH)
    assert known.mean() < 0.08
    assert _errors(SMOOTH, known, found).max() < 1


def test_kinks_are_followed() -> None:
    kinked = np.abs(X - 0.3 * Y) + np.abs(Y + 0.2)
    known, found = _refined(kinked)
    assert known.mean() < 0.25
    assert (_errors(kinked, known, found) > 1).mean() < 0.01


def test_a_cliff_is_never_predicted_across() -> None:
    known, found = _refined(CLIFF)
    assert known.mean() < 0.3
    assert _errors(CLIFF, known, found).max() < 1
    at_the_edge = np.abs(np.diff(CLIFF, axis=1)) > 0.5
    assert known[:, 1:][at_the_edge].all()
    assert known[:, :-1][at_the_edge].all()


def test_around_values_that_are_no_numbers_everything_is_evaluated() -> None:
    surface = np.where((X - 0.3) ** 2 + Y**2 < 0.05, np.nan, SMOOTH)
    surface[40, 64] = np.inf
    known, found = _refined(surface)
    assert known[np.isnan(surface)].all()
    assert not np.isnan(found.values[0][~known]).any()
    assert _errors(surface, known, found).max() < 1


def test_noise_is_evaluated_wholly() -> None:
    known, _ = _refined(np.random.default_rng(0).standard_normal((SIDE, SIDE)))
    assert known.all()


def test_a_constant_takes_the_first_two_levels() -> None:
    lattice = Lattice(SIDE, SIDE, coarsest_step(SIDE, SIDE))
    known = np.zeros((SIDE, SIDE), dtype=bool)
    known[lattice.at(0)] = True
    for level in range(1, lattice.levels):
        found = prediction.estimate(np.full((1, SIDE, SIDE), 7.0), known, lattice, level)
        known |= prediction.points_to_evaluate(found, known, lattice, level, 0, 1.0)
    assert known.sum() == known[lattice.at(1)].size
    assert (found.expected[0][~known] == 0).all()


def test_what_is_evaluated_is_kept_to_the_bit() -> None:
    known, found = _refined(CLIFF)
    unit = TOLERANCE * (CLIFF.max() - CLIFF.min())
    assert (found.values[0][known] == (CLIFF / unit)[known]).all()
    assert (found.expected[0][known] == 0).all()


@pytest.mark.parametrize("strict", [1.0, 4.0])
def test_strictness_and_a_base_add_points(strict: float) -> None:
    lattice = Lattice(SIDE, SIDE, 8)
    known = np.zeros((SIDE, SIDE), dtype=bool)
    known[lattice.at(1)] = True
    found = prediction.estimate(500 * SMOOTH[None], known, lattice)
    last = lattice.levels - 1
    few = prediction.points_to_evaluate(found, known, lattice, last, 0, strict)
    more = prediction.points_to_evaluate(found, known, lattice, last, 0, 2 * strict)
    assert not (few & ~more).any()
    assert more.sum() > few.sum()
    assert (
        prediction.points_to_evaluate(found, known, lattice, last, last, strict).sum()
        == (~known).sum()
    )


@pytest.mark.parametrize("side", [129, 150])
def test_a_part_is_estimated_as_in_the_whole(side: int) -> None:
    """To the bit: whoever renders a step sees only what is around its tile."""
    generator = np.random.default_rng(side)
    step = coarsest_step(side, side)
    whole = Lattice(side, side, step)
    values = generator.standard_normal((2, side, side)).cumsum(1).cumsum(2) / 50
    values[0, 40:44, 60:70] = np.nan
    known = generator.random((side, side)) < 0.2
    known[whole.at(0)] = True
    last = whole.levels - 1
    every = prediction.estimate(values, known, whole, last)
    asked = prediction.points_to_evaluate(every, known, whole, last, 0, 1.0)
    assert 0.05 < asked.mean() < 0.95
    for _ in range(12):
        top, left = generator.integers(0, side - 8, 2)
        rows = slice(int(top), int(top + generator.integers(1, 40)))
        columns = slice(int(left), int(left + generator.integers(1, 40)))
        rows, columns = (
            slice(rows.start, min(side, rows.stop)),
            slice(columns.start, min(side, columns.stop)),
        )
        part = whole.around(rows, columns)
        there = part.part_rows, part.part_columns
        found = prediction.estimate(values[:, *there], known[there], part, last)
        own = prediction.points_to_evaluate(found, known[there], part, last, 0, 1.0)
        y, x = there[0].start, there[1].start
        inside = slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x)
        np.testing.assert_array_equal(found.values[:, *inside], every.values[:, rows, columns])
        np.testing.assert_array_equal(found.expected[:, *inside], every.expected[:, rows, columns])
        np.testing.assert_array_equal(own[inside], asked[rows, columns])
