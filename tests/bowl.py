"""A render with a closed-form answer, small enough to run in a blink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

BOWL = '''
import torch

class Bowl(torch.nn.Module):
    """Its output is its weights, so that mse against zero is mean(θ²): a quadratic bowl."""

    def __init__(self, size=6):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.zeros(size))

    def forward(self, x):
        return self.theta.expand(len(x), -1)
'''


def write_bowl(folder: Path, **changes: Any) -> Path:
    """A spec in `folder` whose loss at weights θ is mean(θ²); `changes` replace its keys."""
    folder.mkdir(exist_ok=True)
    (folder / "bowl.py").write_text(BOWL)
    generator = np.random.default_rng(0)
    for name in "abc":
        theta = torch.tensor(generator.standard_normal(6), dtype=torch.float32)
        save_file({"theta": theta}, folder / f"{name}.safetensors")
    np.savez(folder / "data.npz", x=np.zeros((8, 1), "f4"), y=np.zeros((8, 6), "f4"))
    content: dict[str, Any] = {
        "name": "bowl",
        "network": {"factory": "bowl.py:Bowl"},
        "plane": {"kind": "points", "weights": [f"{n}.safetensors" for n in "abc"]},
        "grid": {"width": 7, "height": 5, "tile": 3},
        "data": {"source": "data.npz", "splits": {"train": 4}},
        "evaluate": {"loss": "mse"},
        "store": "bowl.zarr",
    }
    content |= changes
    path = folder / "bowl.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
