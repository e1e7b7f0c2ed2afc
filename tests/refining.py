"""Small renders that are refined, in this process, as far as a test wants them."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from cluster.loop import Done
from cluster.steps import Steps
from pipeline import prepare
from pipeline.grid import Grid
from pipeline.spec import read
from pipeline.store import Store
from pipeline.task import StepRenderer
from tests.bowl import write_bowl

GRID = {"width": 97, "height": 81, "tile": 32}


def spec_in(folder: Path, grid: dict[str, int] | None = None, **refine: Any) -> Path:
    """The spec of a bowl to refine; with an audit of 50 points, most of it stays predicted."""
    asked = {"scale": "linear", "audit": 50, "beyond": 0.1} | refine
    return write_bowl(folder, grid=grid or GRID, evaluate={"loss": "mse", "refine": asked})


def refined_in(
    folder: Path, steps: int | None = None, grid: dict[str, int] | None = None, **refine: Any
) -> Store:
    """Render what `spec_in` writes, or only so many steps of it."""
    prepared = prepare.prepare(read(spec_in(folder, grid, **refine)))
    asked = prepared.spec.grid
    assert asked.tile != "auto"
    store, _ = prepare.create_or_match(
        prepared, lambda: Grid(asked.width, asked.height, asked.tile, len(prepared.frames))
    )
    todo = Steps(store, prepared.spec.evaluate.refine, going_on=False)
    renderer = StepRenderer(prepared.inputs, store.url)
    waiting, done = deque(todo.begin()), 0
    while waiting and done != steps:
        step: Any = waiting.popleft()
        facts = renderer(step)
        waiting.extend(todo.after(step, Done(0, facts.points, facts.seconds)))
        done += 1
    return store
