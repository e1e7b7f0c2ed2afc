"""The tiles given up for now: one note each in the store, until a later try succeeds."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.grid import Tile
from pipeline.store import Store

_FOLDER = "quarantine"


def put(store: Store, tile: Tile, reasons: Sequence[str]) -> None:
    """Note that `tile` is given up, and why each try failed."""
    store.write_note(_name(tile), {"reasons": list(reasons)})


def lift(store: Store, tile: Tile) -> None:
    """Forget the note of `tile`."""
    store.delete_note(_name(tile))


def listed(store: Store) -> dict[Tile, tuple[str, ...]]:
    """The tiles with a note, and why each try failed."""
    found = {}
    for name in store.notes(_FOLDER):
        frame, row, column = name.rpartition("/")[2].removesuffix(".json").split(".")
        note = store.read_note(name) or {}
        found[Tile(int(frame), int(row), int(column))] = tuple(note.get("reasons", ()))
    return found


def _name(tile: Tile) -> str:
    return f"{_FOLDER}/{tile.frame}.{tile.row}.{tile.column}.json"
