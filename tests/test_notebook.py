"""The notebook runs from its first cell to its last."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.renders.conftest import make_store as make_store
from tests.renders.surfaces import landscape

NOTEBOOK = Path(__file__).parents[1] / "examples" / "pictures.ipynb"


def test_the_notebook_runs(make_store: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    shutil.move(make_store(landscape(20, 26)), tmp_path / "demo" / "mode-connectivity.zarr")
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert not any(cell["outputs"] for cell in cells if cell["cell_type"] == "code")
    lines = "\n".join(["import matplotlib; matplotlib.use('agg')", *code])
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", lines],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lowest train loss" in done.stdout
