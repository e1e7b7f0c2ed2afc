"""Small renders that are refined, in this process, as far as a test wants them."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from cluster.scheduling.events import Done
from cluster.scheduling.step_queue import StepQueue
from pipeline import opening, prepare
from pipeline.geometry.grid import Grid
from pipeline.spec import read
from pipeline.store.store import Store
from pipeline.task import StepRenderer
from tests.bowl import write_bowl

GRID = {"width": 97, "height": 81, "tile": 32}


def spec_in(
    folder: Path, grid: dict[str, int] | None = None, frames: int = 1, **refine: Any
) -> Path:
    """The spec of a bowl to refine; with an audit of 50 points, most of it stays predicted.

    Of more frames than one, each is the plane of another bend between two of the weights.
    """
    asked = {"scale": "linear", "audit": 50, "beyond": 0.1} | refine
    changes: dict[str, Any] = {}
    if frames > 1:
        bends = [f"bend-{number}.safetensors" for number in range(frames)]
        changes["plane"] = {"kind": "curve", "weights": ["a.safetensors", "b.safetensors"]}
        changes["plane"]["frames"] = bends
        folder.mkdir(exist_ok=True)
        for number, bend in enumerate(bends):
            theta = np.random.default_rng(number + 9).standard_normal(6)
            save_file({"theta": torch.tensor(theta, dtype=torch.float32)}, folder / bend)
    evaluate = {"loss": "mse", "refine": asked}
    return write_bowl(folder, grid=grid or GRID, evaluate=evaluate, **changes)


def refined_in(
    folder: Path,
    steps: int | None = None,
    grid: dict[str, int] | None = None,
    frames: int = 1,
    **refine: Any,
) -> Store:
    """Render what `spec_in` writes, or only so many steps of it."""
    prepared = prepare.prepare(read(spec_in(folder, grid, frames, **refine)))
    asked = prepared.spec.grid
    assert asked.tile != "auto"
    tiles = Grid(asked.width, asked.height, asked.tile, len(prepared.frames))
    store, _ = opening.create(prepared, tiles)
    queue = StepQueue(store, prepared.spec.evaluate.refine, keep_schedule=False)
    renderer = StepRenderer(prepared.inputs, store.url)
    waiting, done = deque(queue.begin()), 0
    while waiting and done != steps:
        step: Any = waiting.popleft()
        facts = renderer(step)
        waiting.extend(queue.after(step, Done(0, facts.points, facts.seconds)))
        done += 1
    return store


def forget_schedule(store: Store) -> None:
    """As if a driver had died between making the store and deciding anything."""
    for name in ("refine.json", "refine/copy.json"):
        store.delete_note(name)
