"""What a refined render has evaluated so far: one write-once record a step, beside the pictures.

A step is one pass over one tile. Its record is written once, by whoever renders it, and the same to
the bit whoever does: a straggler or a duplicate cannot undo what a later pass has added.

    evaluated/points   uint8    (pass, frame, y, x)           1 where the pass evaluated the point
    evaluated/values   float32  (pass, frame, field, y, x)    a field is a quantity of a split
    evaluated/steps    float64  (fact, pass, frame, tile_y, tile_x)   written last: the commit
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.errors import one_line
from pipeline.grid import Grid, Step, Tile
from pipeline.place import UnreachableError
from pipeline.store import Store, StoreError

_KEPT_STEPS = 1 << 16
_READERS = 8


@dataclass(frozen=True)
class Points:
    """Evaluated points: rows `y` and columns `x` of the grid, (n,), and values (fields, n)."""

    y: NDArray[np.intp]
    x: NDArray[np.intp]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class StepFacts:
    """How many points a committed step evaluated, in how many seconds, and which worker did."""

    points: int
    seconds: float
    worker: int


class Evaluations:
    """The records of one store's steps. What was read is kept: committed records never change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.grid: Grid = store.grid
        with zarr.config.set({"array.write_empty_chunks": True}):
            self._arrays: dict[str, Any] = {
                name: store.group[f"evaluated/{name}"] for name in ("points", "values", "steps")
            }
        self.points = functools.lru_cache(_KEPT_STEPS)(self._points)
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
            number, frame, row = folder.split("/")[-4:-1]
            if not (number.isdigit() and frame.isdigit() and row.isdigit()):
                continue
            # Names that are no numbers are what killed writers left half-written.
            columns = (int(name) for name in names if name.isdigit())
            found.update(Step(int(number), int(frame), int(row), column) for column in columns)
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

    def counts(self, steps: Iterable[Step]) -> list[int]:
        """How many points each of these committed steps evaluated."""
        return [facts.points for facts in self._readers.map(self.facts, steps)]

    def known(
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
            committed: the steps that count; None where all of them are committed.

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
        for step, points in zip(steps, self._readers.map(self.points, steps), strict=True):
            y, x = points.y - rows.start, points.x - columns.start
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            here = y[inside], x[inside]
            values[:, *here] = points.values[:, inside]
            passes[here] = step.number
        return values, passes

    def withdraw(self, tile: Tile) -> None:
        """Put every step of a tile back to pending: commits first, then what they wrote."""
        place = f"{tile.frame}/{tile.row}/{tile.column}"
        numbers = [step.number for step in self.committed() if step.tile == tile]
        for number in numbers:
            self._store.delete(f"evaluated/steps/c/0/{number}/{place}")
        for number in numbers:
            self._store.delete(f"evaluated/points/c/{number}/{place}")
            self._store.delete(
                f"evaluated/values/c/{number}/{tile.frame}/0/{tile.row}/{tile.column}"
            )
        self.points.cache_clear()

    def _points(self, step: Step) -> Points:
        """What a committed step evaluated.

        Raises:
            StoreError: a chunk is missing or damaged.
        """
        facts = self.facts(step)
        if not facts.points:
            none = np.empty(0, np.intp)
            return Points(none, none, np.empty((self._arrays["values"].shape[2], 0), "f4"))
        rows, columns = self.grid.window(step.tile)
        mask = self._read(step, "points", (step.number, step.frame, rows, columns))
        y, x = np.nonzero(mask)
        if len(y) != facts.points:
            raise StoreError(
                f"step {step}: evaluated/points has {len(y)} points, its commit {facts.points}"
            )
        values = self._read(step, "values", (step.number, step.frame, slice(None), rows, columns))
        return Points(y + rows.start, x + columns.start, values[:, y, x])

    def _read(self, step: Step, name: str, at: tuple[Any, ...]) -> NDArray[Any]:
        try:
            return np.asarray(self._arrays[name][at])
        except UnreachableError:
            raise
        except (ValueError, RuntimeError, OSError) as error:
            raise StoreError(f"step {step}: evaluated/{name}: {one_line(error)}") from None


def tiles_in(grid: Grid, frame: int, rows: slice, columns: slice) -> list[Tile]:
    """The tiles of `frame` that a part of it touches."""
    return [
        Tile(frame, row, column)
        for row, column in itertools.product(
            range(rows.start // grid.tile, (rows.stop - 1) // grid.tile + 1),
            range(columns.start // grid.tile, (columns.stop - 1) // grid.tile + 1),
        )
    ]
