"""The records of a refined render: what each step evaluated, written once.

A step is one pass over one tile. Every worker would write the same bytes for it, so a straggler or
a duplicate cannot undo what a later pass added. (A machine of another kind may evaluate another
point, because a last bit differs. A record mixed from two such machines is found when it is read,
and counts as damaged.)

    evaluated/points   uint8    (pass, frame, y, x)           1 where the pass evaluated the point
    evaluated/values   float32  (pass, frame, field, y, x)    a field is a quantity of a split
    evaluated/steps    float64  (fact, pass, frame, tile_y, tile_x)   written last: the commit

The note `costs/pass-N.json` has the costs of all steps of a finished pass. To read a few thousand
commits of a remote store would take a minute.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.errors import one_line
from pipeline.geometry.grid import Grid, Step, Tile, number_in
from pipeline.store.errors import StoreError
from pipeline.store.layout import PASSES
from pipeline.store.notes import Amount, Count
from pipeline.store.store import Store
from pipeline.url import UnreachableError

_READERS = 32
# How many points of read records are cached, at 28 bytes a point; a record itself counts as many
# points as the next constant says.
_CACHED_POINTS = 6_000_000
_RECORD_POINTS = 25
# With so many unread commits of a pass, or more, its note is read first.
_MANY = 8
_COSTS = ("points", "seconds", "worker")  # the columns of that note

T = TypeVar("T")


@dataclass(frozen=True)
class _Costs:
    points: list[Count]
    seconds: list[Amount]
    worker: list[Count]


_SHAPE = TypeAdapter(_Costs)


@dataclass(frozen=True)
class Points:
    """Evaluated points: rows `y` and columns `x` of the grid, (n,), and values (fields, n)."""

    y: NDArray[np.intp]
    x: NDArray[np.intp]
    values: NDArray[np.float32]

    @classmethod
    def none(cls, fields: int) -> Points:
        nowhere = np.empty(0, np.intp)
        return cls(nowhere, nowhere, np.empty((fields, 0), "f4"))


@dataclass(frozen=True, slots=True)
class StepFacts:
    """How many points a committed step evaluated, in how many seconds, and on which worker."""

    points: int
    seconds: float
    worker: int


class Records:
    """The records of one store's steps. They are cached, because committed records never change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.grid: Grid = store.grid
        with zarr.config.set({"array.write_empty_chunks": True}):
            self._arrays: dict[str, Any] = {
                name: store.group[f"evaluated/{name}"] for name in ("points", "values", "steps")
            }
        self._cache = _PointsCache(self._read_points)
        self._facts: dict[Step, StepFacts] = {}
        self._readers = ThreadPoolExecutor(_READERS)

    def commit(self, step: Step, points: Points, seconds: float, worker: int) -> None:
        """Write what a step evaluated, and commit it."""
        count = len(points.y)
        if count:
            rows, columns = self.grid.window(step.tile)
            shape = self.grid.shape(step.tile)
            here = points.y - rows.start, points.x - columns.start
            mask = np.zeros(shape, "u1")
            mask[here] = 1
            values = np.full((len(points.values), *shape), np.nan, "f4")
            values[:, *here] = points.values
            self._arrays["points"][step.number, step.frame, rows, columns] = mask
            self._arrays["values"][step.number, step.frame, :, rows, columns] = values
        self._arrays["steps"][:, step.number, step.frame, step.row, step.column] = np.array(
            [count, seconds, worker], "f8"
        )

    def committed(self) -> set[Step]:
        """The finished steps, by one listing of their commits."""
        found: set[Step] = set()
        for folder, names in self._store.listing("evaluated/steps/c/0/"):
            number_, _, inside = folder.rpartition("steps/c/0/")[2].partition("/")
            number = number_in(number_, PASSES)
            if number is not None:
                found.update(Step(number, *tile) for tile in self.grid.tiles_of_keys(inside, names))
        return found

    def facts(self, step: Step) -> StepFacts:
        """What a committed step cost.

        Raises:
            StoreError: its chunk is damaged.
        """
        at = (slice(None), step.number, step.frame, step.row, step.column)
        count, seconds, worker = self._read(step, "steps", at)
        if np.isnan(count):
            raise StoreError(f"step {step}: its commit is missing")
        return StepFacts(int(count), float(seconds), int(worker))

    def remember(self, step: Step, facts: StepFacts) -> None:
        """Cache what a committed step cost, as its worker reported it."""
        self._facts[step] = facts

    def costs(self, steps: Iterable[Step]) -> dict[Step, StepFacts]:
        """What these committed steps cost; damaged ones are left out. Each is read once."""
        steps = list(steps)
        self._read_pass_notes(steps)
        unread = [step for step in steps if step not in self._facts]
        for step, facts in zip(unread, self.map_steps(self._sound_facts, unread), strict=True):
            if facts is not None:
                self._facts[step] = facts
        return {step: self._facts[step] for step in steps if step in self._facts}

    def note_pass(self, number: int) -> None:
        """Write the note with the costs of all steps of a pass, unless one is damaged."""
        steps = self._steps_of(number)
        found = self.costs(steps)
        if len(found) == len(steps):
            costs = [(each.points, round(each.seconds, 4), each.worker) for each in found.values()]
            columns = zip(_COSTS, zip(*costs, strict=True), strict=True)
            self._store.write_note(_pass_note(number), dict(columns))

    def is_noted(self, number: int) -> bool:
        """Whether the note with the costs of pass `number` exists."""
        return self._store.read_note(_pass_note(number)) is not None

    def counts(self, steps: Iterable[Step]) -> list[int]:
        """How many points each of these committed steps evaluated.

        Raises:
            StoreError: a commit is damaged.
        """
        steps = list(steps)
        found = self.costs(steps)
        return [(found.get(step) or self.facts(step)).points for step in steps]

    def points(self, step: Step) -> Points:
        """What a committed step evaluated.

        Raises:
            StoreError: a chunk is missing or damaged.
        """
        return self._cache(step)

    def points_of(self, steps: Iterable[Step]) -> list[Points]:
        """What each of these committed steps evaluated; several are read at once."""
        steps = list(steps)
        kept = [self._cache.get(step) for step in steps]
        missing = [step for step, points in zip(steps, kept, strict=True) if points is None]
        read = iter(self.map_steps(self.points, missing))
        return [next(read) if points is None else points for points in kept]

    def map_steps(self, ask: Callable[[Step], T], steps: Iterable[Step]) -> list[T]:
        """The result of `ask` for each step; several run at once, because stores may be remote."""
        return list(self._readers.map(ask, steps))

    def evaluated(
        self,
        frame: int,
        rows: slice,
        columns: slice,
        before: int,
        committed: Container[Step] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        """What passes before number `before` evaluated in one part of a frame.

        Args:
            frame, rows, columns: the part.
            before: a number of a pass.
            committed: the steps to read; None if all of them are committed.

        Returns:
            Values (fields, height, width), NaN elsewhere, and the number of the pass that
            evaluated each point (height, width), −1 elsewhere.
        """
        height, width = rows.stop - rows.start, columns.stop - columns.start
        fields = self._arrays["values"].shape[2]
        values = np.full((fields, height, width), np.nan, "f4")
        passes = np.full((height, width), -1, "i2")
        steps = [
            Step(number, *tile)
            for tile in tiles_in(self.grid, frame, rows, columns)
            for number in range(before)
        ]
        if committed is not None:
            steps = [step for step in steps if step in committed]
        for step, points in zip(steps, self.points_of(steps), strict=True):
            y, x = points.y - rows.start, points.x - columns.start
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            here = y[inside], x[inside]
            values[:, *here] = points.values[:, inside]
            passes[here] = step.number
        return values, passes

    def withdraw(self, steps: Iterable[Step]) -> None:
        """Put steps back to pending: delete their commits first, then what they wrote."""
        steps = list(steps)
        for number in {step.number for step in steps}:
            self._store.delete_note(_pass_note(number))
        for step in steps:
            self._store.delete(f"evaluated/steps/c/0/{step.number}/{step.tile}")
        for step in steps:
            self._store.delete(f"evaluated/points/c/{step.number}/{step.tile}")
            self._store.delete(self._values_folder(step) + str(step.column))
        self._cache.clear()
        self._facts.clear()

    # Inside

    def _read_pass_notes(self, steps: Iterable[Step]) -> None:
        """Cache the costs of steps from the notes of their passes, if these exist."""
        unread = Counter(step.number for step in steps if step not in self._facts)
        for number, count in unread.items():
            name = _pass_note(number)
            note = self._store.read_note_as(name, _SHAPE) if count >= _MANY else None
            columns = [getattr(note, name, ()) for name in _COSTS]
            if all(len(column) == self.grid.tile_count for column in columns):
                for step, *cost in zip(self._steps_of(number), *columns, strict=True):
                    self._facts.setdefault(step, StepFacts(*cost))

    def _steps_of(self, number: int) -> list[Step]:
        return [Step(number, *tile) for tile in self.grid.tiles()]

    def _read_points(self, step: Step) -> Points:
        facts = self.facts(step)
        if not facts.points:
            return Points.none(self._arrays["values"].shape[2])
        rows, columns = self.grid.window(step.tile)
        mask = self._read(step, "points", (step.number, step.frame, rows, columns))
        y, x = np.nonzero(mask)
        if len(y) != facts.points:
            raise StoreError(
                f"step {step}: evaluated/points has {len(y)} points, its commit {facts.points}"
            )
        values = self._read(step, "values", (step.number, step.frame, slice(None), rows, columns))
        found = values[:, y, x]
        if (~np.isnan(values).all(axis=0) & (mask == 0)).any():
            raise StoreError(f"step {step}: evaluated/values and evaluated/points do not agree")
        # Zarr reads a missing chunk as NaN, but NaN may also be the evaluated value.
        if np.isnan(found).all() and not self._has_values(step):
            raise StoreError(f"step {step}: evaluated/values is missing")
        return Points(y + rows.start, x + columns.start, found)

    def _sound_facts(self, step: Step) -> StepFacts | None:
        try:
            return self.facts(step)
        except StoreError:
            return None

    def _has_values(self, step: Step) -> bool:
        folder = self._values_folder(step)
        return any(str(step.column) in names for _, names in self._store.listing(folder))

    def _values_folder(self, step: Step) -> str:
        return f"evaluated/values/c/{step.number}/{step.frame}/0/{step.row}/"

    def _read(self, step: Step, name: str, at: tuple[Any, ...]) -> NDArray[Any]:
        try:
            return np.asarray(self._arrays[name][at])
        except UnreachableError:
            raise
        except (ValueError, RuntimeError, OSError) as error:
            raise StoreError(f"step {step}: evaluated/{name}: {one_line(error)}") from None


class _PointsCache:
    """The records read last, up to `_CACHED_POINTS` points in all."""

    def __init__(self, read: Callable[[Step], Points]) -> None:
        self._read = read
        self._points: OrderedDict[Step, Points] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def get(self, step: Step) -> Points | None:
        with self._lock:
            if step in self._points:
                self._points.move_to_end(step)
            return self._points.get(step)

    def __call__(self, step: Step) -> Points:
        points = self.get(step)
        if points is not None:
            return points
        points = self._read(step)
        with self._lock:
            if step not in self._points:
                self._points[step] = points
                self._held += _weight(points)
            while self._held > _CACHED_POINTS:
                self._held -= _weight(self._points.popitem(last=False)[1])
        return points

    def clear(self) -> None:
        with self._lock:
            self._points.clear()
            self._held = 0


def _pass_note(number: int) -> str:
    return f"costs/pass-{number}.json"


def _weight(points: Points) -> int:
    return len(points.y) + _RECORD_POINTS


def tiles_in(grid: Grid, frame: int, rows: slice, columns: slice) -> list[Tile]:
    """The tiles of `frame` that a part of it touches."""
    return [
        Tile(frame, row, column)
        for row, column in itertools.product(grid.touched(rows), grid.touched(columns))
    ]
