"""The quarantine: work that failed too often has a note in the store, until it succeeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from pipeline.geometry.grid import MarkBlock, Step, Tile, Work
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store

_FOLDER = "quarantine"
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class _Note:
    reasons: tuple[str, ...]


_SHAPE = TypeAdapter(_Note)


def put(store: Store, work: Work, reasons: Sequence[str]) -> None:
    """Write the note of work that is given up, with the reason of each failure."""
    store.write_note(_name(work), {"reasons": list(reasons)})


def lift(store: Store, work: Work) -> None:
    """Delete the note of a tile, a step or a block of marks."""
    store.delete_note(_name(work))


def listed(store: Store) -> dict[Work, tuple[str, ...]]:
    """The tiles, steps and blocks of marks in quarantine, with the reason of each failure.

    Other files in the folder are ignored. A note of another shape gives no reasons.
    """
    found = dict[Work, tuple[str, ...]]()
    for name in store.notes(_FOLDER):
        numbers = name.removeprefix(f"{_FOLDER}/").removesuffix(".json").split(".")
        if not all(map(_NUMBER.fullmatch, numbers)):
            continue
        work = _work_of(store, list(map(int, numbers)))
        if work is not None and name == _name(work):
            note = store.read_note_as(name, _SHAPE)
            found[work] = note.reasons if note else ()
    return found


def _work_of(store: Store, numbers: list[int]) -> Work | None:
    """The tile, step or block of marks of a store that has these numbers."""
    match numbers, store.refined:
        case [frame, row, column], False:
            tile = Tile(frame, row, column)
            return tile if store.grid.has(tile) else None
        case [number, frame, row, column], True:
            step = Step(number, frame, row, column)
            return step if store.grid.has(step.tile) else None
        case [start, stop], _:
            block = MarkBlock(start, stop)
            return block if block in StoredMarks(store).blocks() else None
    return None


def _name(work: Work) -> str:
    return f"{_FOLDER}/{'.'.join(map(str, work))}.json"
