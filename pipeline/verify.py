"""Finding damaged tiles, marks and coordinates, and putting the first two back to pending."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import zarr

from pipeline.geometry.grid import MarkBlock, Step, Tile
from pipeline.refinement.records import Records
from pipeline.refinement.schedule import Schedule
from pipeline.store.errors import StoreError
from pipeline.store.layout import COORDINATES
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store
from pipeline.url import UnreachableError


@dataclass(frozen=True)
class Damage:
    """A tile, a block of marks, or an array of coordinates that cannot be trusted, and why.

    Attributes:
        work: an array by its name, such as `mark`; it is written when a store is made, and no
            task can write it again.
        steps: of a render that is refined: those to render again before the tile.
    """

    work: Tile | MarkBlock | str
    reason: str
    steps: tuple[Step, ...] = ()


def verify(store: Store, on_progress: Callable[[int, int], None] | None = None) -> list[Damage]:
    """Read every chunk of the coordinates and of all committed tiles, steps and marks.

    Args:
        store: opened; nothing is changed.
        on_progress: called with how many tiles and blocks of marks are checked, and of how many.
    """
    damages = _damages_of_coordinates(store)
    # In this order, which is against that of a driver that may be at work.
    committed = store.committed()
    records = _Records(store) if store.refined else None
    marks = StoredMarks(store)
    tiles = sorted(committed.union(records.steps) if records else committed)
    begun: list[Tile | MarkBlock] = [*sorted(marks.committed()), *tiles]
    for number, work in enumerate(begun, start=1):
        if isinstance(work, MarkBlock):
            damage = _damage_of_marks(marks, work)
        else:
            damage = records.damage(work) if records else None
            if damage is None and work in committed:
                damage = _damage(store, work, records)
        if damage is not None:
            damages.append(damage)
        if on_progress is not None:
            on_progress(number, len(begun))
    return damages


def withdraw(store: Store, damages: list[Damage]) -> None:
    """Put the damaged tiles back to pending, so that `resume` computes them again.

    Raises:
        StoreError: the store cannot be written.
        UnreachableError: a remote place does not answer.
    """
    try:
        for damage in damages:
            if isinstance(damage.work, MarkBlock):
                StoredMarks(store).withdraw(damage.work)
            elif isinstance(damage.work, Tile):
                store.withdraw(damage.work)
        if store.refined:
            Records(store).withdraw(step for damage in damages for step in damage.steps)
    except UnreachableError:
        raise
    except OSError as error:
        raise StoreError(
            f"{store.url} has damage and cannot be written ({error.strerror or error}); "
            "wanted write permission, to put them back to pending. Mend that, or look only: "
            "lossatlas verify --dry-run"
        ) from None


class _Records:
    """The records of a refinement's steps; `steps` has those of each tile that has any."""

    def __init__(self, store: Store) -> None:
        self._records = Records(store)
        self.steps: dict[Tile, list[Step]] = defaultdict(list)
        for step in sorted(self._records.committed()):
            self.steps[step.tile].append(step)
        self._schedule = Schedule.read(store)

    def damage(self, tile: Tile) -> Damage | None:
        """What is wrong with the steps of a tile."""
        steps = tuple(self.steps.get(tile, ()))
        if steps and self._schedule is None:
            reason = "what was decided for its steps, .lossatlas/refine.json, is missing or damaged"
            return Damage(tile, reason, steps)
        for step in steps:
            try:
                self._records.points(step)
            except StoreError as error:
                return Damage(tile, str(error), steps)
        return None

    def require_composed(self, store: Store, tile: Tile) -> None:
        """Hold a composed tile to its steps, whose records are sound.

        Raises:
            StoreError: it is damaged, or does not show what they evaluated.
        """
        predictions = store.read_predictions(tile)
        window = store.grid.window(tile)
        values, level = self._records.evaluated(
            tile.frame,
            *window,
            before=self._schedule.last + 1 if self._schedule else 0,
            committed=self.steps.get(tile, ()),
        )
        if not np.array_equal(level, predictions.level):
            raise StoreError(f"level/c/{tile} is not what its steps evaluated")
        for quantity, own in store.fields.apart(values).items():
            found = store.read_tile(quantity, tile)
            if not np.array_equal(own[:, level >= 0], found[:, level >= 0], equal_nan=True):
                raise StoreError(f"{quantity}/c/*/{tile} is not what its steps evaluated")


def _damages_of_coordinates(store: Store) -> list[Damage]:
    """The arrays beside the quantities that cannot be read: axes, names, places of marks.

    Raises:
        UnreachableError: a remote place does not answer.
    """
    damages = []
    for name in filter(store.group.__contains__, COORDINATES):
        try:
            _read_every_chunk(store, name)
        except StoreError as error:
            damages.append(Damage(name, str(error)))
    return damages


def _read_every_chunk(store: Store, name: str) -> None:
    """Read an array, one chunk at a time; a StoreError says which is missing or damaged."""
    array = cast("zarr.Array[Any]", store.group[name])
    sizes = [max(1, size) for size in array.chunks]
    counts = [-(-length // size) for length, size in zip(array.shape, sizes, strict=True)]
    for place in itertools.product(*map(range, counts)):
        at = tuple(slice(n * size, (n + 1) * size) for n, size in zip(place, sizes, strict=True))
        store.read_chunks(name, [f"{name}/c/{'/'.join(map(str, place))}"], at)


def _damage_of_marks(marks: StoredMarks, block: MarkBlock) -> Damage | None:
    """What is wrong with a committed block of marks."""
    try:
        marks.check(block)
    except StoreError as error:
        return Damage(block, str(error))
    return None


def _damage(store: Store, tile: Tile, records: _Records | None) -> Damage | None:
    """What is wrong with a committed tile whose steps, if it has any, are sound."""
    try:
        store.tile_facts(tile)
        for quantity in store.quantities:
            store.read_tile(quantity, tile)
        if records is not None:
            records.require_composed(store, tile)
    except StoreError as error:
        return Damage(tile, str(error))
    return None
