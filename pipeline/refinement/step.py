"""A refined render: what each step has to evaluate, and what is predicted.

This module connects the records of the steps (`records`) with the arithmetic of predictions
(`prediction`). Every answer follows from the schedule and from the steps committed before a step's
pass, so it does not depend on the process that asks, or on when it asks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.grid import Step, Tile
from pipeline.refinement import prediction, sample
from pipeline.refinement.lattice import Floats, Lattice
from pipeline.refinement.records import Records
from pipeline.refinement.scale import Range
from pipeline.refinement.schedule import Pass, Schedule
from pipeline.store.reader import Predictions
from pipeline.store.store import Store

# The folder of notes on quantities that have values of 0 or less where a log scale is used.
NO_LOG = "refine/no-log"


@dataclass(frozen=True)
class Region:
    """A part of a frame after some passes.

    Attributes:
        values: evaluated, or predicted where that is possible: float32 (fields, height, width).
        level: the pass that evaluated each point, −1 for none: int16 (height, width).
        error: the expected error, in each field's own unit; 0 where evaluated: float32, as
            `values`.
    """

    values: NDArray[np.float32]
    level: NDArray[np.int16]
    error: NDArray[np.float32]


@dataclass(frozen=True)
class _Known:
    """What a part of a frame is predicted from: its lattices, evaluated values, and the estimate.

    `level` is as in `Region`.
    """

    lattice: Lattice
    values: NDArray[np.float32]
    level: NDArray[np.int16]
    estimate: prediction.Estimate


class Refinement:
    """The refinement of one store's render.

    `fields` are the pairs of a quantity and a split, in the order of the records.
    """

    def __init__(self, store: Store, committed: Container[Step] | None = None) -> None:
        """Look at a store; nothing is read.

        Args:
            store: of a refined render.
            committed: the steps that `region` uses; None if all steps before its pass are
                committed.
        """
        self.store = store
        self._committed = committed
        self.grid = store.grid
        self.records = Records(store)
        self.fields = store.fields.pairs
        self._ranks = functools.lru_cache(maxsize=1)(self._ranks_of)

    # For workers

    def points_to_evaluate(
        self, schedule: Schedule, step: Step
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The points that a step evaluates: rows and columns of the grid, (n,) each.

        All steps that it reads must be committed (`required_region`).
        """
        rows, columns = self.grid.window(step.tile)
        y, x = np.nonzero(self._mask(schedule, step, rows, columns))
        return y + rows.start, x + columns.start

    def required_region(self, schedule: Schedule, tile: Tile) -> tuple[slice, slice]:
        """The part of the frame whose records a step over `tile` may read."""
        around = schedule.lattice(self.grid).around(*self.grid.window(tile))
        return around.part_rows, around.part_columns

    def region(
        self, schedule: Schedule, number: int, frame: int, rows: slice, columns: slice
    ) -> Region:
        """One part of a frame after the passes before `number`.

        Args:
            schedule: with ranges.
            number: of the pass; its tolerance is the unit.
            frame: which.
            rows, columns: the part.
        """
        known = self._known(schedule, number, frame, (rows, columns))
        inside = _inside(known.lattice, rows, columns)
        is_evaluated = known.level[inside] >= 0
        values, errors = [], []
        for scale, exact, units, expected in zip(
            schedule.scales(number),
            known.values,
            known.estimate.values,
            known.estimate.expected,
            strict=True,
        ):
            value = np.where(is_evaluated, exact[inside], scale.values(units[inside]))
            values.append(value)
            errors.append(np.where(is_evaluated, 0, scale.errors(value, expected[inside])))
        return Region(np.stack(values), known.level[inside], np.stack(errors).astype("f4"))

    def compose(
        self, schedule: Schedule, step: Step
    ) -> tuple[dict[str, NDArray[np.float32]], Predictions]:
        """A finished tile: quantity → float32 (its splits, height, width), and what is predicted.

        A quantity has no expected error for splits that are not its own: NaN.
        """
        region = self.region(schedule, step.number, step.frame, *self.grid.window(step.tile))
        store = self.store
        shape = len(store.quantities), len(store.splits), *region.level.shape
        errors = np.full(shape, np.nan, "f4")
        for own, (quantity, found) in zip(
            errors, store.fields.apart(region.error).items(), strict=True
        ):
            own[store.fields.places(quantity)] = found
        return store.fields.apart(region.values), Predictions(region.level, errors)

    def seconds(self, step: Step) -> float:
        """How long the earlier passes over the step's tile took together."""
        before = (step._replace(number=number) for number in range(step.number))
        found = self.records.map_steps(self.records.facts, before)
        return sum(each.seconds for each in found)

    def note_log(self, schedule: Schedule, step: Step, values: NDArray[np.float32]) -> None:
        """Note if a step found values of 0 or less, and its pass predicts logarithms.

        Args:
            schedule, step: of the values.
            values: what the step evaluated, float32 (fields, n).
        """
        if not schedule.ranges:  # the coarsest lattice, whose values decide on the scale
            return
        for (quantity, split), scale, own in zip(
            self.fields, schedule.scales(step.number), values, strict=True
        ):
            if scale.range.space != "linear" and (own <= 0).any():
                # The note is empty, so every worker writes the same bytes.
                self.store.write_note(f"{NO_LOG}/{quantity}-{split}.json", {})

    # For the driver

    def ranges(self, schedule: Schedule, tiles: Sequence[Tile]) -> list[Range]:
        """The colour ranges, from what the first pass evaluated."""
        asked = next(each for each in schedule.asked if each is not None)
        found = self.records.points_of(Step(0, *tile) for tile in tiles)
        together = np.concatenate([points.values for points in found], axis=1)
        return [
            Range.of(quantity, split, "linear" if quantity == "error" else asked.space, values)
            for (quantity, split), values in zip(self.fields, together, strict=True)
        ]

    def done(self, schedule: Schedule | None, composed: Callable[[], Container[Tile]]) -> set[Step]:
        """The committed steps; a step of a last pass that composes counts only with its tile.

        Args:
            schedule: read before this call, so the listing has every step it depends on.
            composed: returns the store's committed tiles; called only if they matter.
        """
        found = self.records.committed()
        if schedule is None or schedule.passes[-1].kind != "compose":
            return found
        tiles = composed()
        return {s for s in found if s.number != schedule.last or s.tile in tiles}

    # Inside

    def _mask(
        self, schedule: Schedule, step: Step, rows: slice, columns: slice
    ) -> NDArray[np.bool_]:
        """Which points of its tile a step evaluates, (height, width)."""
        the_pass, lattice = schedule.passes[step.number], schedule.lattice(self.grid)
        mask = np.zeros(self.grid.shape(step.tile), dtype=bool)
        match the_pass.kind:
            case "lattice":
                mask[lattice.part(rows, columns).at(0)] = True
            case "refine" if the_pass.base == lattice.levels - 1:
                # Parts share no points, so a part need not wait for the parts before it.
                before = step.number - the_pass.part
                _, level = self.records.evaluated(step.frame, rows, columns, before)
                mask = (level < 0) & _part(rows, columns, the_pass)
            case "refine":
                mask = self._unpredictable(schedule, step, the_pass, (rows, columns))
            case "audit":
                _, level = self.records.evaluated(step.frame, rows, columns, step.number)
                ranks = self._ranks(step.number).get(step.tile, [])
                places = np.flatnonzero(level < 0)[ranks]
                mask.flat[places] = True
            case "compose":
                pass
        return mask

    def _unpredictable(
        self, schedule: Schedule, step: Step, the_pass: Pass, window: tuple[slice, slice]
    ) -> NDArray[np.bool_]:
        """Which points of a tile cannot be predicted within the tolerance, (height, width)."""
        known = self._known(schedule, step.number, step.frame, window, the_pass.level)
        found = prediction.points_to_evaluate(
            known.estimate,
            known.level >= 0,
            known.lattice,
            the_pass.level,
            the_pass.base,
            the_pass.strict,
            the_pass.centres,
        )
        return found[_inside(known.lattice, *window)]

    def _ranks_of(self, number: int) -> dict[Tile, list[int]]:
        return sample.require(self.store, number).by_tile(self.grid)

    def _known(
        self,
        schedule: Schedule,
        number: int,
        frame: int,
        window: tuple[slice, slice],
        level: int | None = None,
    ) -> _Known:
        """What `window` is predicted from, up to lattice `level`; None for all."""
        lattice = schedule.lattice(self.grid).around(*window)
        part = lattice.part_rows, lattice.part_columns
        values, passes = self.records.evaluated(frame, *part, number, self._committed)
        units = _units(schedule, number, values)
        return _Known(
            lattice, values, passes, prediction.estimate(units, passes >= 0, lattice, level)
        )


def _units(schedule: Schedule, number: int, values: NDArray[np.float32]) -> Floats:
    """Values (fields, …) in units of the tolerance of pass `number`."""
    scales = schedule.scales(number)
    return np.stack([s.units(v) for s, v in zip(scales, values, strict=True)])


def _inside(lattice: Lattice, rows: slice, columns: slice) -> tuple[slice, slice]:
    """Where a part of the grid lies in the larger part that `lattice` covers."""
    y, x = lattice.y.start, lattice.x.start
    return slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x)


def _part(rows: slice, columns: slice, the_pass: Pass) -> NDArray[np.bool_]:
    """The points of a pass's part: diagonals, so a line of points has parts as well."""
    y, x = np.ogrid[rows, columns]
    found: NDArray[np.bool_] = (y + x) % the_pass.parts == the_pass.part
    return found
