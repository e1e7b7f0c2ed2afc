"""Predictions of points, and the errors to expect of them.

All values are in units of the tolerance, so an error of 1 is the largest allowed. The *detail* of
an evaluated point is the error that its prediction had. Details shrink from level to level where
the surface is smooth. So the largest detail of a neighbourhood on one level gives the error to
expect on the next (thresholded interpolating wavelets: Donoho, 1992; Holmström, 1999).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.refinement.lattice import Floats, Lattice

# The ratio of details on the next level to those on this one. It is a sixteenth for a cubic through
# a smooth surface, and a half at a kink, which ReLU networks have. This constant and the next ones
# were chosen on real grids (docs/log.md).
_DECAY = 0.5
# A point is evaluated if its expected error is above this share of the tolerance: the errors of
# several levels add up.
_TRUSTED = 0.6
# On the first levels a kink may run between all known points, and a missed kink there is a large
# piece of the picture. Before this level, the threshold of each level is this share of the next
# one's (thresholds by level: Cohen, Kaber, Müller and Postel, 2003).
_FULL_TRUST_LEVEL = 4
_CAUTION = 0.7


@dataclass(frozen=True)
class Estimate:
    """The values of a part of a grid after some passes, and their expected errors.

    Attributes:
        values: (fields, height, width), evaluated or predicted, in units of the tolerance; NaN
            where no prediction is possible, and outside the lattices up to `level`.
        expected: their expected errors, in the same unit and shape: 0 where evaluated, inf where no
            prediction is possible.
    """

    values: Floats
    expected: Floats


def estimate(
    values: Floats,
    known: NDArray[np.bool_],
    lattice: Lattice,
    level: int | None = None,
) -> Estimate:
    """Predict the points that are not known, level by level.

    Args:
        values: (fields, height, width) in units of the tolerance, NaN where not finite.
        known: where they were evaluated, (height, width); all of level 0 must be.
        lattice: of the same part of the grid.
        level: the last level to predict; None for all.

    Nothing says how well level 0 predicts, so the expected error on level 1 is infinite.
    """
    last = lattice.levels - 1 if level is None else level
    found = np.full(values.shape, np.nan)
    expected = np.full(values.shape, np.inf)
    at = (..., *lattice.at(0))
    coarse = found[at] = values[at]
    expected[at] = 0.0
    errors = np.full(coarse.shape, np.inf)
    for current in range(1, last + 1):
        at = (..., *lattice.at(current))
        here, is_known = values[at], known[at[1:]]
        plain = lattice.predict(coarse, current, here, is_known)
        predicted = lattice.average_across(plain, current, here, is_known)
        is_new = lattice.is_new(current)
        # Details are those of the plain prediction, the only one for the next level's centres.
        details = _or_inf(np.abs(here - plain))
        beside = _highest_nearby(np.where(is_known & is_new, details, 0.0))
        before = _DECAY * lattice.nearest_maximum(_highest_nearby(errors), current)
        # Centres alone are not enough if the level before has no details.
        between = _between_known(lattice.is_centre(current), is_known) & np.isfinite(before)
        likely = np.where(between, beside, np.maximum(before, beside))
        likely = np.where(np.isnan(predicted), np.inf, likely)
        coarse = np.where(is_known, here, predicted)
        errors = np.where(is_new, np.where(is_known, details, likely), 0.0)
        found[at] = coarse
        expected[at] = np.where(is_known, 0.0, np.where(is_new, likely, expected[at]))
    return Estimate(found, expected)


def points_to_evaluate(
    found: Estimate,
    known: NDArray[np.bool_],
    lattice: Lattice,
    level: int,
    base: int,
    strict: float,
    centres: bool = False,
) -> NDArray[np.bool_]:
    """Which of the points (height, width) that are not known have to be evaluated.

    Args:
        found: from `estimate` up to `level`.
        known: where values were evaluated.
        lattice: of the same part.
        level: the last level that may have points to evaluate.
        base: the last level all of whose points are evaluated.
        strict: thresholds are divided by this; 1 is usual.
        centres: of `level`, evaluate only the centres of cells.
    """
    points = np.zeros(known.shape, dtype=bool)
    points[lattice.at(level)] = True
    if centres:
        points[lattice.at(level)] = lattice.is_centre(level) | ~lattice.is_new(level)
    points &= (found.expected > _trusted(level) / strict).any(axis=0)
    points[lattice.at(base)] = True
    return points & ~known


def _trusted(level: int) -> float:
    return _TRUSTED * _CAUTION ** max(0, _FULL_TRUST_LEVEL - level)


def _between_known(is_centre: NDArray[np.bool_], is_known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which points between centres of cells have all these centres evaluated.

    A point between two evaluated centres uses only their details: they are closer than any point
    of the level before, and centres are the hardest points to predict.
    """
    some = _adjacent(is_centre & is_known)
    return some & ~_adjacent(is_centre & ~is_known) & ~is_centre


def _adjacent(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which points have a point of `mask` directly above, below, left or right of them."""
    found = np.zeros_like(mask)
    found[1:] |= mask[:-1]
    found[:-1] |= mask[1:]
    found[:, 1:] |= mask[:, :-1]
    found[:, :-1] |= mask[:, 1:]
    return found


def _highest_nearby(values: Floats) -> Floats:
    """The highest of each value (…, n, m) and its eight neighbours."""
    for axis in (-1, -2):
        lines = np.swapaxes(values, axis, -1)
        highest = lines.copy()
        np.maximum(highest[..., 1:], lines[..., :-1], out=highest[..., 1:])
        np.maximum(highest[..., :-1], lines[..., 1:], out=highest[..., :-1])
        values = np.swapaxes(highest, axis, -1)
    return values


def _or_inf(errors: Floats) -> Floats:
    return np.where(np.isnan(errors), np.inf, errors)
