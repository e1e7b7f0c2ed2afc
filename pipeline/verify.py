"""Finding damaged tiles, and putting them back to pending."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.geometry.grid import Step, Tile
from pipeline.refinement.records import Records
from pipeline.refinement.schedule import Schedule
from pipeline.store.errors import StoreError
from pipeline.store.store import Store
from pipeline.url import UnreachableError


@dataclass(frozen=True)
class Damage:
    """A tile that cannot be trusted, and why.

    Attributes:
        steps: of a render that is refined: those to render again before the tile.
    """

    tile: Tile
    reason: str
    steps: tuple[Step, ...] = ()


def verify(store: Store, on_progress: Callable[[int, int], None] | None = None) -> list[Damage]:
    """Read every chunk of every committed tile, and of every committed step, and check them.

    Args:
        store: opened; nothing is changed.
        on_progress: called with tiles checked and tiles to check.
    """
    damages = []
    # In this order, which is against that of a driver that may be at work.
    committed = store.committed()
    records = _Records(store) if store.refined else None
    begun = sorted(committed.union(records.steps) if records else committed)
    for number, tile in enumerate(begun, start=1):
        damage = records.damage(tile) if records else None
        if damage is None and tile in committed:
            damage = _damage(store, tile, records)
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
            store.withdraw(damage.tile)
        if store.refined:
            Records(store).withdraw(step for damage in damages for step in damage.steps)
    except UnreachableError:
        raise
    except OSError as error:
        raise StoreError(
            f"{store.url} has damaged tiles and cannot be written ({error.strerror or error}); "
            "wanted write permission, to put them back to pending. Mend that, or look only: "
            "lossatlas verify --dry-run"
        ) from None


class _Records:
    """The records of a refinement's steps; `steps` has those of each tile that has any."""

    def __init__(self, store: Store) -> None:
        self._records = Records(store)
        self._shape = len(store.quantities), len(store.splits)
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
        fields = values.reshape(*self._shape, *level.shape)
        for quantity, own in zip(store.quantities, fields, strict=True):
            found = store.read_tile(quantity, tile)
            if not np.array_equal(own[:, level >= 0], found[:, level >= 0], equal_nan=True):
                raise StoreError(f"{quantity}/c/*/{tile} is not what its steps evaluated")


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
