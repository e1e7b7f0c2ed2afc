from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.selection import Selection
from cluster.todo import Tiles
from pipeline.grid import Extent, Grid, Tile
from pipeline.plane import Anchor, FrameFacts
from pipeline.store import Store


def test_what_earlier_tiles_took_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run asks after every tile, and the store may be far away, or gone for a while."""
    frame = FrameFacts(Extent(0, 1, 0, 1), (Anchor("θ", 0, 0, 0),), None)
    store = Store.create(str(tmp_path / "a.zarr"), Grid(4, 1, 1), ["train"], ["loss"], [frame], {})
    for column in range(3):
        values = {"loss": np.zeros((1, 1, 1), "f4")}
        store.commit(Tile(0, 0, column), values, seconds=column + 0.5, worker=0)
    todo = Tiles(store, Selection())
    assert todo.expected_seconds == 2.5
    monkeypatch.setattr(Store, "tile_facts", None)
    assert todo.expected_seconds == 2.5
