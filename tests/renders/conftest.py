"""Small stores whose every value is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.geometry.grid import Extent, Grid
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.store import Store


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., str]:
    """Write a store of one frame or more: `make_store(values, skip={(row, column)}, …) -> url`.

    `more` are attributes of the store.
    """

    def make(
        values: npt.ArrayLike,
        *,
        tile: int = 8,
        skip: set[tuple[int, int]] | None = None,
        kind: str = "curve",
        spec: dict[str, Any] | None = None,
        frames: int = 1,
        **more: Any,
    ) -> str:
        array = np.asarray(values, dtype=np.float32)
        grid = Grid(array.shape[1], array.shape[0], tile, frames)
        t = np.linspace(0, 1, 21)
        curve = np.stack([-1 + 2 * t, 1.6 * t * (1 - t), 0 * t], axis=1)
        anchors = (Anchor("w0", -1, 0, 0), Anchor("w1", 1, 0, 0))
        y = (0.0, 0.0) if array.shape[0] == 1 else (-1.5, 1.5)
        facts = FrameFacts(Extent(-2, 2, *y), anchors, curve if array.shape[0] > 1 else None)
        words = {
            "name": "two-wells",
            "network": {"factory": "preresnet20"},
            "plane": {"kind": kind},
            "data": {"source": "/somewhere/cifar10/", "splits": {"train": 512, "test": 256}},
            "evaluate": {"batch_norm": "recompute"},
        }
        url = str(tmp_path / "run.zarr")
        store = Store.create(
            url,
            grid,
            ["train", "test"],
            ["loss", "error"],
            [facts] * frames,
            {
                "spec": words if spec is None else spec,
                "network": {"batch_norm": "recompute: population statistics of the train split"},
                "created": "2026-11-23T09:00:00",
                **more,
            },
        )
        for cell in grid.tiles():
            if (cell.row, cell.column) not in (skip or set()):
                part = array[grid.window(cell)]
                block = {"loss": np.stack([part, part]), "error": np.stack([part, part])}
                store.commit(cell, block, 0.1, 0)
        return url

    return make
