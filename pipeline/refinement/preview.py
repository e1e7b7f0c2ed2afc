"""The preview of an unfinished refined render: what its records predict now.

The arrays of such a store are empty until its last pass composes them. The records of its steps
predict the whole picture from the first pass on, and better with each pass.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.grid import Step
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.step import Refinement, Region
from pipeline.store.errors import StoreError
from pipeline.store.layout import UNFINISHED
from pipeline.store.reader import StoreReader
from pipeline.store.store import Store

# The edge of a block that is predicted at once. Memory does not grow with the grid; larger blocks
# read fewer records twice.
_BLOCK = 1024
# An export reads a frame several times: for each layer, and for the colours of all frames.
_CACHE_BYTES = 1 << 28


@dataclass(frozen=True)
class _Frame:
    """One frame: values and errors float32 (fields, height, width), level int16 (height, width)."""

    values: NDArray[np.float32]
    errors: NDArray[np.float32]
    level: NDArray[np.int16]
    finished: NDArray[np.bool_]


class Preview(StoreReader):
    """What the committed steps of a store show, by one listing when the preview is made.

    It can only be read. Points that cannot be predicted yet count as unfinished.
    """

    def __init__(self, store: Store, schedule: Schedule, committed: set[Step]) -> None:
        super().__init__(store.group, store.url)
        self._refinement = Refinement(store, committed)
        self._schedule = schedule
        self._steps = committed
        self._shares: dict[int, float] = {}
        a_frame = self.height * self.width * (8 * len(self._refinement.fields) + 3)
        self._frame = functools.lru_cache(max(2, _CACHE_BYTES // a_frame))(self._predicted)

    @classmethod
    def of(cls, store: Store) -> StoreReader:
        """A preview of `store`, or `store` itself if no preview is needed or possible.

        None is needed if the store is not refined, or if all tiles are composed. None is possible
        before the first pass is finished.
        """
        if not store.refined or not store.pending():
            return store
        # Read the schedule first: the steps that it depends on are committed before it is written.
        schedule = Schedule.read(store)
        if schedule is None or not schedule.ranges:
            return store
        return cls(store, schedule, Refinement(store).records.committed())

    def finished(self, frame: int) -> NDArray[np.bool_]:
        return self._frame(frame).finished

    def finished_frames(self) -> dict[int, NDArray[np.bool_]]:
        masks = ((frame, self.finished(frame)) for frame in range(self.frames))
        return {frame: mask for frame, mask in masks if mask.any()}

    def read(self, quantity: str, split: str, frame: int = 0) -> NDArray[np.float32]:
        found = self._frame(frame).values[self._field(quantity, split, frame)]
        return cast("NDArray[np.float32]", found)

    def evaluated_share(self, frame: int) -> float:
        """Which part of a frame is evaluated, in [0, 1]."""
        if frame not in self._shares:
            self._frame(frame)
        return self._shares[frame]

    def level(self, frame: int = 0) -> NDArray[np.int16]:
        return self._frame(frame).level

    def predicted_error(self, quantity: str, split: str, frame: int = 0) -> NDArray[np.float32]:
        found = self._frame(frame).errors[self._field(quantity, split, frame)]
        return cast("NDArray[np.float32]", found)

    # Inside

    def _field(self, quantity: str, split: str, frame: int) -> int:
        self._split_index(quantity, split, frame)
        return self._refinement.fields.index((quantity, split))

    def _predicted(self, frame: int) -> _Frame:
        shape = self.height, self.width
        fields = len(self._refinement.fields)
        values, errors = (np.empty((fields, *shape), "f4") for _ in range(2))
        level = np.empty(shape, "i2")
        for y, x in itertools.product(range(0, shape[0], _BLOCK), range(0, shape[1], _BLOCK)):
            rows = slice(y, min(y + _BLOCK, shape[0]))
            columns = slice(x, min(x + _BLOCK, shape[1]))
            region = self._region(frame, rows, columns)
            values[:, rows, columns] = region.values
            errors[:, rows, columns] = region.error
            level[rows, columns] = region.level
        evaluated = level >= 0
        self._shares[frame] = float(evaluated.mean())
        # NaN and inf are results if they were evaluated; they are not valid predictions.
        finished = evaluated | np.isfinite(values).all(axis=0)
        values[:, ~finished] = np.nan
        level[~finished] = UNFINISHED
        errors[np.isnan(errors)] = np.inf
        return _Frame(values, errors, level, finished)

    def _region(self, frame: int, rows: slice, columns: slice) -> Region:
        """A part of a frame, on the scales of the last pass of the schedule.

        Raises:
            StoreError: a record of a step is missing or damaged.
        """
        schedule = self._schedule
        try:
            # Predictions far from the known values may overflow.
            with np.errstate(over="ignore", invalid="ignore"):
                return self._refinement.region(schedule, schedule.last, frame, rows, columns)
        except StoreError as error:
            raise StoreError(f"{self.url}: {error}. Run lossatlas verify, then resume") from None
