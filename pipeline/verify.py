"""Finding damaged tiles, and putting them back to pending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.grid import Tile
from pipeline.place import UnreachableError
from pipeline.store import Store, StoreError


@dataclass(frozen=True)
class Damage:
    """A committed tile whose chunks cannot be trusted, and why."""

    tile: Tile
    reason: str


def verify(store: Store, progress: Callable[[int, int], None] | None = None) -> list[Damage]:
    """Read every chunk of every committed tile and check its checksum.

    Args:
        store: opened; nothing is changed.
        progress: called with tiles checked and tiles to check.
    """
    damages = []
    committed = sorted(store.committed())
    for number, tile in enumerate(committed, start=1):
        reason = _damage(store, tile)
        if reason is not None:
            damages.append(Damage(tile, reason))
        if progress is not None:
            progress(number, len(committed))
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
    except UnreachableError:
        raise
    except OSError as error:
        raise StoreError(
            f"{store.url} has damaged tiles and cannot be written ({error.strerror or error}); "
            "wanted write permission, to put them back to pending. Mend that, or look only: "
            "lossatlas verify --dry-run"
        ) from None


def _damage(store: Store, tile: Tile) -> str | None:
    try:
        store.tile_facts(tile)
        for quantity in store.quantities:
            store.read_tile(quantity, tile)
    except StoreError as error:
        return str(error)
    return None
