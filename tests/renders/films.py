"""A small store of a film whose every value is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.geometry.grid import Extent, Grid, Tile
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.store import Store

SIZE = (320, 180)


def film_store(folder: Path, frames: int = 3, finished: int = 3) -> str:
    """A bowl that moves upwards, one tile a frame, the first `finished` of them committed."""
    grid = Grid(width=12, height=7, tile=12, frames=frames)
    facts = [
        FrameFacts(
            Extent(-1, 5, -1, 2),
            (
                Anchor("start", 0, 0, 0),
                Anchor("bend", 2, 0.3 * k + 0.1, 0),
                Anchor("end", 4, 0, 0),
            ),
            np.array([[t * 4, t * (1 - t) * (0.6 * k + 0.2), 0] for t in np.linspace(0, 1, 9)]),
        )
        for k in range(frames)
    ]
    names = [f"epoch-{k:02d}" for k in range(frames)]
    attrs = {
        "name": "film",
        "spec": {},
        "plane": {"kind": "curve", "units": "euclidean", "dx": 4.0, "dy": 1.0, "frames": names},
        "fingerprint": "f" * 64,
        "created": "2026-11-23T00:00:00+00:00",
    }
    store = Store.create(str(folder / "film.zarr"), grid, ["train"], ["loss"], facts, attrs)
    for tile in list(grid.tiles())[:finished]:
        commit_frame(store, tile)
    return store.url


def commit_frame(store: Store, tile: Tile) -> None:
    x, y = store.grid.axes(store.extent(tile.frame))
    loss = 0.2 + (x[None] - 2) ** 2 / 4 + (y[:, None] - 0.3 * tile.frame) ** 2
    store.commit(tile, {"loss": loss[None].astype("f4")}, 1, 1)
