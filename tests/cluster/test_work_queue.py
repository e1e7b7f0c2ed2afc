from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from cluster.monitor import status
from cluster.scheduling.selection import Selection
from cluster.scheduling.work_queue import TileQueue
from pipeline.geometry.grid import Extent, Grid, Tile
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.store import Store
from pipeline.url import UnreachableError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in which three tiles of four took 0.5, 1.5 and 2.5 seconds."""
    frame = FrameFacts(Extent(0, 1, 0, 1), (Anchor("θ", 0, 0, 0),), None)
    made = Store.create(str(tmp_path / "a.zarr"), Grid(4, 1, 1), ["train"], ["loss"], [frame], {})
    for column in range(3):
        values = {"loss": np.zeros((1, 1, 1), "f4")}
        made.commit(Tile(0, 0, column), values, seconds=column + 0.5, worker=0)
    return made


def test_what_earlier_tiles_took_is_read_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run asks after every tile, and the store may be far away, or gone for a while."""
    queue = TileQueue(store, Selection())
    assert queue.expected_seconds == 2.5
    monkeypatch.setattr(Store, "tile_facts", None)
    assert queue.expected_seconds == 2.5


def test_damaged_facts_stop_nobody(store: Store) -> None:
    path = Path(store.url, "seconds", "c", "0", "0", "2")
    path.write_bytes(path.read_bytes()[:-2])
    assert TileQueue(store, Selection()).expected_seconds == 1.5
    assert status.read_status(store).seconds_per_point == 1.0


def test_nor_does_a_store_that_does_not_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def gone(store: Store, tile: Tile) -> tuple[float, int]:
        asked.append(tile)
        raise UnreachableError("no answer")

    monkeypatch.setattr(Store, "tile_facts", gone)
    assert TileQueue(store, Selection()).expected_seconds is None
    assert math.isnan(status.read_status(store).seconds_per_point)
    assert len(asked) == 2  # each time once: the others would take as long
