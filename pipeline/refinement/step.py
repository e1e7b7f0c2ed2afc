"""A refined render: what each step has to evaluate, what is predicted, and what audits find.

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
from pydantic import TypeAdapter

from pipeline import audit
from pipeline.audit import Certificate
from pipeline.geometry.grid import Grid, Step, Tile
from pipeline.refinement import prediction
from pipeline.refinement.lattice import Floats, Lattice
from pipeline.refinement.records import Points, Records
from pipeline.refinement.scale import Range
from pipeline.refinement.schedule import UNRESOLVED, Pass, Schedule
from pipeline.store.errors import StoreError
from pipeline.store.notes import Count
from pipeline.store.reader import Predictions
from pipeline.store.store import Store

# Notes of quantities that were found to have values of 0 or less where a log scale is used.
_NO_LOG = "refine/no-log"


@dataclass(frozen=True)
class Region:
    """A part of a frame as some passes left it.

    Attributes:
        values: evaluated, or predicted where they can be: float32 (fields, height, width).
        level: the pass that evaluated each point, −1 for none: int16 (height, width).
        error: to expect, in each field's own unit; 0 where evaluated: float32, as `values`.
    """

    values: NDArray[np.float32]
    level: NDArray[np.int16]
    error: NDArray[np.float32]


@dataclass(frozen=True)
class _Sample:
    """The note of an audit's sample: points that were left, and of each tile whose ranks."""

    left: Count
    ranks: dict[str, list[Count]]

    def of(self, grid: Grid) -> dict[Tile, list[int]]:
        found: dict[Tile, list[int]] = {}
        for name, ranks in self.ranks.items():
            folder, _, column = name.rpartition("/")
            found |= dict.fromkeys(grid.tiles_of_keys(f"{folder}/", [column]), ranks)
        return found


@dataclass(frozen=True)
class _Audit:
    """The note of how far an audit's step was off: a list for each field.

    Earlier versions compared logarithms instead of values, and did not say `of_values`.
    """

    errors: list[list[float]]
    of_values: bool = False


_SAMPLE, _AUDIT = TypeAdapter(_Sample), TypeAdapter(_Audit)


class Refinement:
    """The refinement of one store's render."""

    def __init__(self, store: Store, committed: Container[Step] | None = None) -> None:
        """Look at a store; nothing is read.

        Args:
            store: of a render that is refined.
            committed: the steps that count for `region`, where not all before a pass are committed.
        """
        self.store = store
        self._committed = committed
        self.grid = store.grid
        self.records = Records(store)
        self.fields = [(q, split) for q in store.quantities for split in store.splits]
        self._cached_sample = functools.lru_cache(maxsize=1)(self._required_sample)

    # For workers

    def points_to_evaluate(
        self, schedule: Schedule, step: Step
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The points that a step evaluates: rows and columns of the grid, (n,) each.

        All steps it needs have to be committed (`required_region`).
        """
        rows, columns = self.grid.window(step.tile)
        the_pass = schedule.passes[step.number]
        match the_pass.kind:
            case "lattice":
                mask = np.zeros(self.grid.shape(step.tile), dtype=bool)
                mask[schedule.lattice(self.grid).part(rows, columns).at(0)] = True
            case "refine" if the_pass.base == schedule.lattice(self.grid).levels - 1:
                # Its parts have no points in common: none has to know of those before it.
                before = step.number - the_pass.part
                _, levels = self.records.evaluated(step.frame, rows, columns, before)
                mask = (levels < 0) & _part(rows, columns, the_pass)
            case "refine":
                lattice, _, levels, found = self._estimate(
                    schedule, step.number, step.frame, rows, columns, the_pass.level
                )
                every = prediction.points_to_evaluate(
                    found,
                    levels >= 0,
                    lattice,
                    the_pass.level,
                    the_pass.base,
                    the_pass.strict,
                    the_pass.centres,
                )
                mask = every[_inside(lattice, rows, columns)]
            case "audit":
                _, levels = self.records.evaluated(step.frame, rows, columns, step.number)
                ranks = self._cached_sample(step.number).get(step.tile, [])
                places = np.flatnonzero(levels < 0)[ranks]
                mask = np.zeros(levels.shape, dtype=bool)
                mask.flat[places] = True
            case "compose":
                mask = np.zeros(self.grid.shape(step.tile), dtype=bool)
        y, x = np.nonzero(mask)
        return y + rows.start, x + columns.start

    def required_region(self, schedule: Schedule, tile: Tile) -> tuple[slice, slice]:
        """The part of the frame whose records a step over `tile` may look at."""
        around = schedule.lattice(self.grid).around(*self.grid.window(tile))
        return around.part_rows, around.part_columns

    def region(
        self,
        schedule: Schedule,
        number: int,
        frame: int,
        rows: slice,
        columns: slice,
    ) -> Region:
        """One part of a frame, as the passes before `number` left it.

        Args:
            schedule: with ranges.
            number: of the pass; its tolerance is the unit.
            frame: which.
            rows, columns: the part.
        """
        lattice, values, levels, found = self._estimate(schedule, number, frame, rows, columns)
        inside = _inside(lattice, rows, columns)
        known = levels[inside] >= 0
        shown, errors = [], []
        for scale, exact, unit, feared in zip(
            schedule.scales(number), values, found.values, found.expected, strict=True
        ):
            value = np.where(known, exact[inside], scale.values(unit[inside]))
            shown.append(value)
            errors.append(np.where(known, 0, scale.errors(value, feared[inside])))
        return Region(np.stack(shown), levels[inside], np.stack(errors).astype("f4"))

    def compose(
        self, schedule: Schedule, step: Step
    ) -> tuple[dict[str, NDArray[np.float32]], Predictions]:
        """A finished tile: quantity → float32 (split, height, width), and what is predicted."""
        region = self.region(schedule, step.number, step.frame, *self.grid.window(step.tile))
        shape = len(self.store.quantities), len(self.store.splits), *region.level.shape
        values = region.values.reshape(shape)
        return (
            dict(zip(self.store.quantities, values, strict=True)),
            Predictions(region.level, region.error.reshape(shape)),
        )

    def seconds(self, step: Step) -> float:
        """What the passes over a tile before this step took together."""
        before = (step._replace(number=number) for number in range(step.number))
        found = self.records.map_steps(self.records.facts, before)
        return sum(each.seconds for each in found)

    def note_audit(
        self,
        schedule: Schedule,
        step: Step,
        y: NDArray[np.intp],
        x: NDArray[np.intp],
        values: NDArray[np.float32],
    ) -> None:
        """Note how far the predictions of an audit's step were off.

        Args:
            schedule, step: of the audit.
            y, x: the points, (n,) each.
            values: evaluated there, float32 (fields, n).
        """
        off = self._off(schedule, step, Points(y, x, values))
        self.store.write_note(_audit_note(step), {"errors": off.tolist(), "of_values": True})

    def note_log(self, schedule: Schedule, step: Step, values: NDArray[np.float32]) -> None:
        """Note if a step's values have no place on the log scale that its pass predicts on.

        Args:
            schedule, step: of the values.
            values: what it evaluated, float32 (fields, n).
        """
        if not schedule.ranges:  # the lattice itself, which decides on the scale
            return
        for (quantity, split), scale, own in zip(
            self.fields, schedule.scales(step.number), values, strict=True
        ):
            if scale.range.space != "linear" and (own <= 0).any():
                # Nothing but its name, so that whoever writes it writes the same.
                self.store.write_note(f"{_NO_LOG}/{quantity}-{split}.json", {})

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

    def draw_sample(self, schedule: Schedule, number: int) -> None:
        """Draw the sample of an audit, and note it for the workers."""
        asked = schedule.asked[schedule.passes[number].asked]
        tiles = list(self.grid.tiles())
        counts = self._left(number)
        assert asked is not None  # a full evaluation is not audited
        ranks = audit.draw(counts, asked.audit, (asked.seed, number))
        drawn = {str(t): r.tolist() for t, r in zip(tiles, ranks, strict=True) if len(r)}
        self.store.write_note(_sample_note(number), {"left": sum(counts), "ranks": drawn})

    def sample(self, number: int) -> dict[Tile, list[int]] | None:
        """The ranks of an audit's points among their tile's unknown ones; None before the draw."""
        draw = self._read_sample(number)
        return None if draw is None else draw.of(self.grid)

    def certify(self, schedule: Schedule, number: int) -> Schedule:
        """The schedule after the audit of pass `number`, all of whose steps are committed.

        Raises:
            StoreError: the sample, or the record of one of its steps, is missing or damaged.
        """
        asked = schedule.asked[schedule.passes[number].asked]
        draw = self._read_sample(number)
        if draw is None:
            raise _lost_sample(number)
        drawn, left = draw.of(self.grid), draw.left
        assert asked is not None
        steps = [Step(number, *tile) for tile in sorted(drawn)]
        notes = self.records.map_steps(
            lambda each: self.store.read_note_as(_audit_note(each), _AUDIT), steps
        )
        found = [
            self._audited(schedule, step, note, len(drawn[step.tile]))
            for step, note in zip(steps, notes, strict=True)
        ]
        errors = np.concatenate([np.empty((len(self.fields), 0)), *found], axis=1)
        worst = errors.max(axis=0, initial=0.0)
        audited, beyond = errors.shape[1], int((worst > 1).sum())
        certificate = Certificate(
            predicted=left,
            audited=audited,
            beyond=beyond,
            bound=audit.bound(beyond, audited, left, asked.confidence),
            allowed=asked.beyond,
            confidence=asked.confidence,
            tolerance={
                q: asked.error if q == "error" else asked.nats or asked.share or 0.0
                for q in self.store.quantities
            },
            quantiles=self._quantiles(schedule, number, errors),
            of_values=True,
        )
        leave_log = bool(self.store.notes(_NO_LOG))
        return schedule.after_audit(certificate, int((worst > UNRESOLVED).sum()), leave_log)

    def done(self, schedule: Schedule | None, composed: Callable[[], Container[Tile]]) -> set[Step]:
        """The committed steps; one of a last pass that composes counts only with its tile.

        Args:
            schedule: as it was read before, so that what it speaks of is in the listing.
            composed: gives the store's committed tiles; asked only where that matters.
        """
        found = self.records.committed()
        if schedule is None or schedule.passes[-1].kind != "compose":
            return found
        tiles = composed()
        return {s for s in found if s.number != schedule.last or s.tile in tiles}

    # Inside

    def _read_sample(self, number: int) -> _Sample | None:
        return self.store.read_note_as(_sample_note(number), _SAMPLE)

    def _required_sample(self, number: int) -> dict[Tile, list[int]]:
        drawn = self.sample(number)
        if drawn is None:
            raise _lost_sample(number)
        return drawn

    def _audited(
        self, schedule: Schedule, step: Step, note: _Audit | None, count: int
    ) -> NDArray[np.float64]:
        """How far predictions were off at the `count` points of an audit's step, (fields, count).

        As it was noted by whoever rendered the step; where the note is lost, or an earlier
        version's, from its record.
        """
        noted = note.errors if note is not None and note.of_values else []
        if len(noted) == len(self.fields) and all(len(each) == count for each in noted):
            return np.array(noted).reshape(len(noted), count)
        points = self.records.points(step)
        if len(points.y) != count:
            raise StoreError(f"step {step}: its record has {len(points.y)} points, {count} drawn")
        return self._off(schedule, step, points)

    def _off(self, schedule: Schedule, step: Step, points: Points) -> NDArray[np.float64]:
        """How far what was predicted is from evaluated points, in units: (fields, n)."""
        rows, columns = self.grid.window(step.tile)
        region = self.region(schedule, step.number, step.frame, rows, columns)
        predicted = region.values[:, points.y - rows.start, points.x - columns.start]
        scales = schedule.scales(step.number)
        each = zip(scales, predicted, points.values, strict=True)
        return np.stack([scale.off(found, value) for scale, found, value in each])

    def _left(self, before: int) -> list[int]:
        """How many points of each tile the passes before `before` left, in the grid's order."""
        tiles = list(self.grid.tiles())
        steps = [Step(number, *tile) for tile in tiles for number in range(before)]
        counts = np.array(self.records.counts(steps)).reshape(len(tiles), before)
        return [
            self.grid.size(tile) - int(row.sum()) for tile, row in zip(tiles, counts, strict=True)
        ]

    def _estimate(
        self,
        schedule: Schedule,
        number: int,
        frame: int,
        rows: slice,
        columns: slice,
        level: int | None = None,
    ) -> tuple[Lattice, NDArray[np.float32], NDArray[np.int16], prediction.Estimate]:
        """What a part rests on: lattices, values, the passes they are from, and the estimate."""
        lattice = schedule.lattice(self.grid).around(rows, columns)
        part = lattice.part_rows, lattice.part_columns
        values, levels = self.records.evaluated(frame, *part, number, self._committed)
        units = _units(schedule, number, values)
        return lattice, values, levels, prediction.estimate(units, levels >= 0, lattice, level)

    def _quantiles(
        self, schedule: Schedule, number: int, errors: NDArray[np.float64]
    ) -> dict[str, dict[str, dict[str, float]]]:
        """In the unit of the tolerance that the spec states."""
        asked = schedule.asked[schedule.passes[number].asked]
        table: dict[str, dict[str, dict[str, float]]] = {}
        for (quantity, split), scale, own in zip(
            self.fields, schedule.scales(number), errors, strict=True
        ):
            width = scale.range.width or 1.0
            relative = quantity != "error" and asked is not None and asked.nats is None
            unit = scale.tolerance / width if relative else scale.tolerance
            table.setdefault(quantity, {})[split] = audit.quantiles(own * unit)
        return table


def _units(schedule: Schedule, number: int, values: NDArray[np.float32]) -> Floats:
    """Values (fields, …) in units of what pass `number` tolerates."""
    scales = schedule.scales(number)
    return np.stack([s.units(v) for s, v in zip(scales, values, strict=True)])


def _inside(lattice: Lattice, rows: slice, columns: slice) -> tuple[slice, slice]:
    """Where a part of the grid lies in the larger one of `lattice`."""
    y, x = lattice.y.start, lattice.x.start
    return slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x)


def _part(rows: slice, columns: slice, the_pass: Pass) -> NDArray[np.bool_]:
    """The points of a pass's part: on diagonals, so that lines of points have parts as well."""
    y, x = np.ogrid[rows, columns]
    found: NDArray[np.bool_] = (y + x) % the_pass.parts == the_pass.part
    return found


def _lost_sample(number: int) -> StoreError:
    return StoreError(f"the sample of the audit in pass {number} is missing or damaged")


def _sample_note(number: int) -> str:
    return f"refine/audit-{number}.json"


def _audit_note(step: Step) -> str:
    return f"refine/audit-{step.number}/{step.frame}-{step.row}-{step.column}.json"
