"""The tiles given up for now: one note each in the store, until a later try succeeds."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.grid import Step, Tile, Work
from pipeline.store import Store

_FOLDER = "quarantine"


def put(store: Store, work: Work, reasons: Sequence[str]) -> None:
    """Note that a tile or a step is given up, and why each try failed."""
    store.write_note(_name(work), {"reasons": list(reasons)})


def lift(store: Store, work: Work) -> None:
    """Forget its note."""
    store.delete_note(_name(work))


def listed(store: Store) -> dict[Work, tuple[str, ...]]:
    """The tiles, or steps, with a note, and why each try failed."""
    found: dict[Work, tuple[str, ...]] = {}
    for name in store.notes(_FOLDER):
        numbers = [int(n) for n in name.rpartition("/")[2].removesuffix(".json").split(".")]
        note = store.read_note(name) or {}
        work = Tile(*numbers) if len(numbers) == len(Tile._fields) else Step(*numbers)
        found[work] = tuple(note.get("reasons", ()))
    return found


def _name(work: Work) -> str:
    return f"{_FOLDER}/{'.'.join(map(str, work))}.json"
