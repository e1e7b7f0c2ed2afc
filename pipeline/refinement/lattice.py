"""Nested lattices over a grid, and the prediction of the points between them.

The coarsest lattice has every `step`-th point of each axis, and the last one. Each level halves the
step. A point that a level adds is predicted from the four nearest points of the level before, by
the cubic through them (Deslauriers and Dubuc, 1989: interpolating subdivision). A known value is
used instead of a prediction. A point between known centres of cells is predicted along both axes,
and the prediction is the mean of the two.

All arithmetic is element-wise and in one fixed order. So a part of the grid gives the same bits as
the whole grid, if the part has all points that its predictions depend on.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_TAPS = 4
# How many stencils are cached: every step over a tile uses the same ones.
_CACHED_STENCILS = 1024
# Points of the coarser lattice beyond the two beside a point, to each side: one for the cubic, and
# one for the expected errors of neighbours.
_MARGIN = 2
# About how many points the coarsest lattice has along the shorter side of the grid.
_COARSE_POINTS = 16


@dataclass(frozen=True)
class Stencil:
    """How a level's new points along one axis are predicted from the level before.

    Attributes:
        old, new: the indices of the n points of the level before, and of the m new points, among
            all points of the level.
        parents: the old points that predict each new one, (m, taps).
        weights: the weight of each parent, (m, taps).
        left: the old point before each new one, (m,); the old point after it is the next.
    """

    old: Indices
    new: Indices
    parents: Indices
    weights: Floats
    left: Indices


@dataclass(frozen=True)
class CrossStencil:
    """How old points along one axis are predicted from a level's new points, two to each side.

    Attributes:
        old: the indices of these old points among all points of the level, (m,).
        parents: the indices of the four nearest new points among the new points, (m, taps).
        weights: the weight of each in the cubic through them, (m, taps).
    """

    old: Indices
    parents: Indices
    weights: Floats


@dataclass(frozen=True)
class Axis:
    """Points `start` to `stop` of an axis of `count` points, and the lattice points among them."""

    count: int
    step: int
    start: int
    stop: int

    def nodes(self, level: int) -> Indices:
        """The points of the lattice of `level` in this part, counted from `start`, rising."""
        places = self._places(level)
        return places[(places >= self.start) & (places < self.stop)] - self.start

    def reach(self) -> slice:
        """The points of the whole axis that predictions and expected errors in this part use."""
        low, high = self.start, self.stop - 1
        for level in range(self.step.bit_length() - 2, -1, -1):
            places = self._places(level)
            first = int(np.searchsorted(places, low, "right")) - 1 - _MARGIN
            last = int(np.searchsorted(places, high, "left")) + _MARGIN
            # At the border the nearest points lie all on one side.
            first = max(0, min(first, len(places) - _TAPS))
            last = min(len(places) - 1, max(last, _TAPS - 1))
            low, high = min(low, int(places[first])), max(high, int(places[last]))
        return slice(low, high + 1)

    def _places(self, level: int) -> Indices:
        places = np.arange(0, self.count, self.step >> level)
        return places if places[-1] == self.count - 1 else np.append(places, self.count - 1)

    def stencil(self, level: int) -> Stencil:
        """The stencil that predicts `level` (1 or more) from the level before."""
        return _stencil(self, level)

    def cross_stencil(self, level: int) -> CrossStencil:
        """The stencil that predicts points of the level before from the new points of `level`."""
        return _cross_stencil(self, level)


@dataclass(frozen=True)
class Lattice:
    """The nested lattices of a grid, or of the part of it that `rows` and `columns` cut out.

    Attributes:
        height, width: of the whole grid.
        step: of the coarsest lattice, a power of two.
        rows, columns: the part, in points of the grid; None for all.
    """

    height: int
    width: int
    step: int
    rows: slice | None = None
    columns: slice | None = None

    @property
    def levels(self) -> int:
        """How many lattices there are; the last one is the whole grid."""
        return self.step.bit_length()

    @functools.cached_property
    def y(self) -> Axis:
        rows = self.rows or slice(0, self.height)
        return Axis(self.height, self.step, rows.start, rows.stop)

    @functools.cached_property
    def x(self) -> Axis:
        columns = self.columns or slice(0, self.width)
        return Axis(self.width, self.step, columns.start, columns.stop)

    @property
    def part_rows(self) -> slice:
        return slice(self.y.start, self.y.stop)

    @property
    def part_columns(self) -> slice:
        return slice(self.x.start, self.x.stop)

    def part(self, rows: slice, columns: slice) -> Lattice:
        """The lattices of one part of this grid."""
        return Lattice(self.height, self.width, self.step, rows, columns)

    def around(self, rows: slice, columns: slice) -> Lattice:
        """The part that predictions in `rows` and `columns` use; it includes both."""
        part = self.part(rows, columns)
        return self.part(part.y.reach(), part.x.reach())

    def at(self, level: int) -> tuple[Indices, Indices]:
        """An index of the lattice's points in an array (…, height, width) of this part."""
        rows, columns = np.ix_(self.y.nodes(level), self.x.nodes(level))
        return rows, columns

    def is_new(self, level: int) -> NDArray[np.bool_]:
        """Which points of the lattice of `level` are not in the one before it, (n', m')."""
        y, x = self.y.stencil(level), self.x.stencil(level)
        new = np.ones((len(y.old) + len(y.new), len(x.old) + len(x.new)), dtype=bool)
        new[np.ix_(y.old, x.old)] = False
        return new

    def is_centre(self, level: int) -> NDArray[np.bool_]:
        """Which points of the lattice of `level` are new along both axes, (n', m')."""
        y, x = self.y.stencil(level), self.x.stencil(level)
        centre = np.zeros((len(y.old) + len(y.new), len(x.old) + len(x.new)), dtype=bool)
        centre[np.ix_(y.new, x.new)] = True
        return centre

    def predict(
        self, coarse: Floats, level: int, known: Floats, is_known: NDArray[np.bool_]
    ) -> Floats:
        """Predict the lattice of `level` from the one before it, along one axis after the other.

        Args:
            coarse: values (…, n, m) on the lattice of level − 1.
            level: 1 or more.
            known: values (…, n', m') on the lattice of `level`.
            is_known: which of them are known, (n', m'). Known points on the rows of the coarser
                lattice are used to predict the points between these rows.

        Returns:
            (…, n', m'): `coarse` at its own points, predictions elsewhere.
        """
        y, x = self.y.stencil(level), self.x.stencil(level)
        out = np.empty((*coarse.shape[:-2], *known.shape[-2:]))
        rows = np.empty((*coarse.shape[:-1], known.shape[-1]))
        rows[..., x.old] = coarse
        rows[..., x.new] = _weighted(coarse, x)
        out[..., y.old, :] = rows
        helped = np.where(is_known[y.old], known[..., y.old, :], rows)
        out[..., y.new, :] = np.swapaxes(_weighted(np.swapaxes(helped, -1, -2), y), -1, -2)
        return out

    def average_across(
        self, predicted: Floats, level: int, known: Floats, is_known: NDArray[np.bool_]
    ) -> Floats:
        """`predicted`, averaged with predictions across from known centres of cells.

        `predict` uses the level before alone, along one axis, for a point beside a centre. Across
        that axis there are two centres to each side. If all four are known, the result is the mean
        of the two predictions.

        Args:
            predicted: from `predict`, (…, n', m').
            level, known, is_known: as for `predict`.
        """
        y, x = self.y.stencil(level), self.x.stencil(level)
        centres = known[..., y.new[:, None], x.new]
        are_known = is_known[y.new[:, None], x.new]
        out = predicted.copy()
        for axis, own, others in ((-2, self.y, x.new), (-1, self.x, y.new)):
            stencil, lines = own.cross_stencil(level), np.swapaxes(out, axis, -1)  # written through
            across = _weighted(np.swapaxes(centres, axis, -1), stencil)
            is_usable = np.swapaxes(are_known, axis, -1)[:, stencil.parents].all(axis=-1)
            along = lines[..., others[:, None], stencil.old]
            both = np.where(is_usable, (along + across) / 2, along)
            lines[..., others[:, None], stencil.old] = both
        return out

    def nearest_maximum(self, coarse: Floats, level: int) -> Floats:
        """The largest of the nearest values (…, n, m) of level − 1, on the lattice of `level`."""
        for axis, stencil in ((-1, self.x.stencil(level)), (-2, self.y.stencil(level))):
            lines = np.swapaxes(coarse, axis, -1)
            out = np.empty((*lines.shape[:-1], len(stencil.old) + len(stencil.new)))
            out[..., stencil.old] = lines
            right = np.minimum(stencil.left + 1, lines.shape[-1] - 1)
            out[..., stencil.new] = np.maximum(lines[..., stencil.left], lines[..., right])
            coarse = np.swapaxes(out, axis, -1)
        return coarse


def coarsest_step(height: int, width: int) -> int:
    """The step of the coarsest lattice for a grid: a power of two, 1 for a tiny grid."""
    sides = [side for side in (height, width) if side > 1] or [1]
    return 1 << max(0, (min(sides) // _COARSE_POINTS).bit_length() - 1)


def is_coarse(height: int, width: int) -> bool:
    """Whether a grid has too few points along a side for refinement to predict anything."""
    return any(1 < side < _COARSE_POINTS for side in (height, width))


def first_points(height: int, width: int) -> int:
    """How many points the first two lattices of a grid have together."""
    lattice = Lattice(height, width, coarsest_step(height, width))
    rows, columns = lattice.at(min(1, lattice.levels - 1))
    return int(rows.size * columns.size)


@functools.lru_cache(_CACHED_STENCILS)
def _stencil(axis: Axis, level: int) -> Stencil:
    before, after = axis.nodes(level - 1), axis.nodes(level)
    is_old = np.isin(after, before)
    new = after[~is_old]
    left = np.clip(np.searchsorted(before, new) - 1, 0, max(0, len(before) - 2))
    taps = min(_TAPS, len(before))
    first = np.clip(left - (taps // 2 - 1), 0, len(before) - taps)
    parents = first[:, None] + np.arange(taps)
    weights = _lagrange(before[parents].astype("f8"), new.astype("f8"))
    return Stencil(np.flatnonzero(is_old), np.flatnonzero(~is_old), parents, weights, left)


@functools.lru_cache(_CACHED_STENCILS)
def _cross_stencil(axis: Axis, level: int) -> CrossStencil:
    stencil, places = axis.stencil(level), axis.nodes(level)
    right = np.searchsorted(stencil.new, stencil.old)
    # Only points with two new ones to each side; others would need more points than `reach` gives.
    inside = (right >= _TAPS // 2) & (right <= len(stencil.new) - _TAPS // 2)
    old = stencil.old[inside]
    parents = right[inside, None] + np.arange(-(_TAPS // 2), _TAPS // 2)
    known = places[stencil.new][parents].astype("f8")
    return CrossStencil(old, parents, _lagrange(known, places[old].astype("f8")))


def _weighted(values: Floats, stencil: Stencil | CrossStencil) -> Floats:
    """The prediction of `stencil` along the last axis."""
    out = np.zeros((*values.shape[:-1], len(stencil.parents)))
    for tap in range(stencil.parents.shape[1]):
        out += stencil.weights[:, tap] * values[..., stencil.parents[:, tap]]
    return out


def _lagrange(places: Floats, at: Floats) -> Floats:
    """The weights (m, taps) of the polynomial through `places` (m, taps), at `at` (m,)."""
    weights = np.ones_like(places)
    for i in range(places.shape[1]):
        for j in range(places.shape[1]):
            if i != j:
                weights[:, i] *= (at - places[:, j]) / (places[:, i] - places[:, j])
    return weights
