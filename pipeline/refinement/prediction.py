"""Where a point need not be evaluated: what it is predicted to be, and how far that may be off.

Everything is in units of the tolerance: an error of 1 is as large as was asked for. The error that
a prediction makes at an evaluated point is its detail. Details shrink from level to level where
the surface is smooth, so those of one level, taken over a neighbourhood, tell what to expect of
the next (the thresholded interpolating wavelets of Donoho, 1992, and Holmström, 1999).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.refinement.lattice import Floats, Lattice

# What is left of a detail on the next level. A cubic through a smooth surface leaves a sixteenth; a
# kink, which ReLU networks have, leaves half. Chosen with the rest on real grids (docs/log.md).
_DECAY = 0.5
# Beyond that share of the tolerance a point is evaluated: errors of several levels add up.
_TRUSTED = 0.6
# On the first levels a kink may run between all that is known, and what is missed there is a large
# piece of the picture: before this level, each trusts that much less than the next (thresholds by
# level: Cohen, Kaber, Müller and Postel, 2003).
_FULL_TRUST_LEVEL = 4
_CAUTION = 0.7


@dataclass(frozen=True)
class Estimate:
    """What is known of a part of a grid after some passes.

    Attributes:
        values: (fields, height, width), evaluated or predicted, in units of the tolerance; NaN
            where nothing can be predicted, and off the lattices looked at.
        expected: the error to expect of them, as far: 0 where evaluated, inf where nothing can be
            predicted.
    """

    values: Floats
    expected: Floats


def estimate(
    values: Floats,
    known: NDArray[np.bool_],
    lattice: Lattice,
    level: int | None = None,
) -> Estimate:
    """Predict what is not known, level by level.

    Args:
        values: (fields, height, width) in units of the tolerance, NaN where not finite.
        known: where they were evaluated, (height, width); all of level 0 is.
        lattice: of the same part of the grid.
        level: the last one to look at; None for all.

    Nothing is known of how well level 0 predicts, so errors of infinity are expected on level 1.
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
        # Of the plain prediction: the next level's centres will have no better one.
        details = _or_inf(np.abs(here - plain))
        beside = _highest_nearby(np.where(is_known & is_new, details, 0.0))
        before = _DECAY * lattice.nearest_maximum(_highest_nearby(errors), current)
        # Where nothing was known before, centres alone are no ground to trust on.
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
    """Which points (height, width) have to be evaluated, of those that are not known.

    Args:
        found: from `estimate` up to `level`.
        known: where values were evaluated.
        lattice: of the same part.
        level: the last one whose points are asked for.
        base: the last level all of whose points are.
        strict: by how much less than usual a prediction is trusted; 1 is usual.
        centres: of `level`, ask only for the centres of the cells before it.
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
    """Which points beside centres of cells have all of those evaluated.

    Centres are the hardest to predict. Whoever lies between two of them, half as far from each as
    from what the level before knew, is told by them alone how well it is predicted.
    """
    some = _adjacent(is_centre & is_known)
    return some & ~_adjacent(is_centre & ~is_known) & ~is_centre


def _adjacent(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which points have one of `mask` right above, below, left or right of them."""
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
