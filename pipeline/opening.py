"""Creating the store of a render, or opening it and checking that it is of the same render."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from pipeline import caption
from pipeline.fingerprint import differences
from pipeline.geometry.grid import Grid
from pipeline.prepare import Prepared, PrepareError, stored_parts
from pipeline.problem import trust
from pipeline.store import growth
from pipeline.store.errors import StoreError
from pipeline.store.store import Store

# Keeps other drivers off a store.
Held = Callable[[Store], AbstractContextManager[None]]


def create(prepared: Prepared, grid: Grid, held: Held | None = None) -> tuple[Store, bool]:
    """Make the store of a render.

    Args:
        prepared: the render.
        grid: with its tile size.
        held: as for `match`.

    Returns:
        The store, and whether it was there before: another process may begin the same render at
        the same moment.

    Raises:
        StoreError: the place is taken by something else, or cannot be written.
        GrowthError, PrepareError: as `match`.
    """
    url, inputs = prepared.spec.store, prepared.inputs
    quantities, splits = inputs.quantities, tuple(inputs.problem.splits)
    refined = prepared.spec.evaluate.refine is not None
    frames, facts = prepared.frames, prepared.facts
    try:
        store = Store.create(url, grid, splits, quantities, frames, facts, refined)
    except StoreError:
        if not Store.exists(url):
            raise
        return match(prepared, held), True
    trust.note(prepared.code)
    return store, False


def match(prepared: Prepared, held: Held | None = None) -> Store:
    """Open the store of a render that has begun, if it is of the same render.

    A film's store that lacks the last frames gets them.

    Args:
        prepared: the render.
        held: keeps others off the store while frames are added; None where there are none.

    Raises:
        GrowthError: frames cannot be added.
        PrepareError: the store belongs to another render.
        StoreError: it cannot be opened.
    """
    url = prepared.spec.store
    store, tile = Store.open(url, writable=True), prepared.spec.grid.edge
    store.require("parts")
    same_tiles = tile in (None, store.grid.tile)
    if same_tiles and _lacks_frames(store, prepared):
        with held(store) if held else nullcontext():
            store = Store.open(url, writable=True)
            if _lacks_frames(store, prepared):
                store = growth.grow(store, prepared.parts, prepared.frames, prepared.facts)
    changed = differences(stored_parts(store, prepared), prepared.parts)
    if not same_tiles:
        changed.append(f"grid.tile: {store.grid.tile} in the store, {tile} here")
    if changed:
        raise PrepareError(_another_render(store, prepared, changed))
    trust.note(prepared.code)
    store.rename(caption.words(prepared.facts))
    return store


def _lacks_frames(store: Store, prepared: Prepared) -> bool:
    return growth.has_fewer_frames(store, stored_parts(store, prepared), prepared.parts)


def _another_render(store: Store, prepared: Prepared, changed: list[str]) -> str:
    keep, calibrated = "", stored_parts(store, prepared).get("evaluate.calibrate")
    if calibrated and calibrated != prepared.parts.get("evaluate.calibrate"):
        keep = f"To go on with it say evaluate: {{calibrate: {calibrated}}}; or else "
    cure = "change store or name in the spec, or delete that folder"
    return (
        f"{prepared.spec.store} belongs to another render: {'; '.join(changed)}. {keep}"
        f"{cure if keep else cure.capitalize()}"
    )
