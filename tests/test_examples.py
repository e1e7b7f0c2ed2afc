"""The examples of the guides run: data, a short training, and a small grid from their own specs."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import opening
from pipeline import spec as render_spec
from pipeline.geometry.grid import Grid, Tile
from pipeline.prepare import prepare
from pipeline.task import TileRenderer
from pipeline.training import fit
from pipeline.training import spec as training_spec
from tests.pipeline.test_fit import quick

EXAMPLES = Path(__file__).parents[1] / "examples"


def laid_out(folder: Path, name: str) -> Path:
    """A copy of an example where the checkout would be, with the data that it borrows."""
    shutil.copytree(EXAMPLES / name, folder / "examples" / name)
    for beside in ("docs/how-to", "examples/mode-connectivity/cifar10"):
        shutil.copytree(EXAMPLES.parent / beside, folder / beside)
    return folder / "examples" / name


@pytest.mark.parametrize(
    ("name", "script", "quantities"),
    [
        ("language-model", "prepare.py", ("loss", "error", "loss_stderr", "top5")),
        ("pinn", None, ("loss", "pde", "initial", "boundary")),
        ("hugging-face", "train.py", ("loss", "error", "loss_stderr")),
        ("lightning", "train.py", ("loss", "error", "loss_stderr")),
        ("timm", None, ("loss", "error", "loss_stderr", "top5")),
    ],
)
def test_an_example_runs(
    tmp_path: Path, name: str, script: str | None, quantities: tuple[str, ...]
) -> None:
    folder = laid_out(tmp_path, name)
    if script is not None:
        given: dict[str, Any] = {} if script == "prepare.py" else {"epochs": 1}
        runpy.run_path(str(folder / script))["main"](**given)
    if (folder / "fit.yaml").exists():
        _fitted(folder)
    asked = render_spec.read(folder / "spec.yaml")
    height = 1 if asked.grid.height == 1 else 3
    few = {split: min(8, count) for split, count in asked.data.splits.items()}
    asked = asked.model_copy(
        update={
            "grid": asked.grid.model_copy(update={"width": 3, "height": height}),
            "data": asked.data.model_copy(update={"splits": few}),
        }
    )
    prepared = prepare(asked)
    assert prepared.inputs.quantities == quantities
    store, _ = opening.create(prepared, Grid(3, height, 3, 1))
    TileRenderer(prepared.inputs, store.url)(Tile(0, 0, 0))
    for quantity in quantities:
        assert np.isfinite(store.read(quantity, store.splits[0], 0)).all(), quantity
    assert np.ptp(store.read("loss", store.splits[0], 0)) > 0


def _fitted(folder: Path) -> None:
    asked = training_spec.read_fit(folder / "fit.yaml")
    changes = {
        "data": asked.data.model_copy(update={"splits": {"train": 32}}),
        "train": asked.train.model_copy(update={"epochs": 1, "batch": 16}),
    }
    with quick():
        assert fit.fit(fit.prepare(asked.model_copy(update=changes))).result.exists()
