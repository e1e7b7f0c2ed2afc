"""The sample of an audit: which of the predicted points are evaluated to check them.

The driver draws it when everything before the audit is finished, and writes it to a note in the
store. Workers read the note.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import TypeAdapter

from pipeline import audit
from pipeline.geometry.grid import Grid, Step, Tile
from pipeline.refinement.records import Records
from pipeline.refinement.schedule import Schedule
from pipeline.store.errors import StoreError
from pipeline.store.notes import Count
from pipeline.store.store import Store


@dataclass(frozen=True)
class Sample:
    """The sample of one audit.

    Attributes:
        left: how many points were predicted when the sample was drawn.
        ranks: the ranks of the drawn points among the predicted points of their tile, by the
            tile's name.
    """

    left: Count
    ranks: dict[str, list[Count]]

    def by_tile(self, grid: Grid) -> dict[Tile, list[int]]:
        """The ranks of each tile of `grid` that has any."""
        found: dict[Tile, list[int]] = {}
        for name, ranks in self.ranks.items():
            folder, _, column = name.rpartition("/")
            found |= dict.fromkeys(grid.tiles_of_keys(f"{folder}/", [column]), ranks)
        return found


_SHAPE = TypeAdapter(Sample)


def read(store: Store, number: int) -> Sample | None:
    """The sample of the audit in pass `number`; None before it is drawn."""
    return store.read_note_as(_note(number), _SHAPE)


def require(store: Store, number: int) -> Sample:
    """The sample of the audit in pass `number`.

    Raises:
        StoreError: its note is missing or damaged.
    """
    found = read(store, number)
    if found is None:
        raise StoreError(f"the sample of the audit in pass {number} is missing or damaged")
    return found


def draw(store: Store, records: Records, schedule: Schedule, number: int) -> None:
    """Draw the sample of the audit in pass `number`, and write its note.

    Args:
        store: of the render.
        records: of the store; all steps before the audit are committed.
        schedule: with the audit.
        number: of its pass.
    """
    asked = schedule.asked[schedule.passes[number].asked]
    assert asked is not None  # a full evaluation has no audit
    tiles = list(store.grid.tiles())
    counts = _predicted(records, number)
    ranks = audit.draw(counts, asked.audit, (asked.seed, number))
    drawn = {str(t): r.tolist() for t, r in zip(tiles, ranks, strict=True) if len(r)}
    store.write_note(_note(number), {"left": sum(counts), "ranks": drawn})


def _predicted(records: Records, before: int) -> list[int]:
    """How many points of each tile no pass before `before` evaluated, in the grid's order."""
    grid = records.grid
    tiles = list(grid.tiles())
    steps = [Step(number, *tile) for tile in tiles for number in range(before)]
    counts = np.array(records.counts(steps)).reshape(len(tiles), before)
    return [grid.size(tile) - int(row.sum()) for tile, row in zip(tiles, counts, strict=True)]


def _note(number: int) -> str:
    return f"refine/audit-{number}.json"
