"""The quarantine: tiles that failed too often have a note in the store, until they succeed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from pipeline.geometry.grid import Step, Tile, Work
from pipeline.store.store import Store

_FOLDER = "quarantine"
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class _Note:
    reasons: tuple[str, ...]


_SHAPE = TypeAdapter(_Note)


def put(store: Store, work: Work, reasons: Sequence[str]) -> None:
    """Write the note of a tile or a step that is given up, with the reason of each failure."""
    store.write_note(_name(work), {"reasons": list(reasons)})


def lift(store: Store, work: Work) -> None:
    """Delete the note of a tile or a step."""
    store.delete_note(_name(work))


def listed(store: Store) -> dict[Work, tuple[str, ...]]:
    """The tiles, or steps, in quarantine, with the reason of each failure.

    Other files in the folder are ignored. A note of another shape gives no reasons.
    """
    kind = Step if store.refined else Tile
    grid, found = store.grid, dict[Work, tuple[str, ...]]()
    for name in store.notes(_FOLDER):
        numbers = name.removeprefix(f"{_FOLDER}/").removesuffix(".json").split(".")
        if len(numbers) != len(kind._fields) or not all(map(_NUMBER.fullmatch, numbers)):
            continue
        work = kind._make(map(int, numbers))
        tile = work if isinstance(work, Tile) else work.tile
        if name == _name(work) and grid.has(tile):
            note = store.read_note_as(name, _SHAPE)
            found[work] = note.reasons if note else ()
    return found


def _name(work: Work) -> str:
    return f"{_FOLDER}/{'.'.join(map(str, work))}.json"
