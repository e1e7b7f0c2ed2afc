"""Write this example's data and weights, small enough to be kept with the code.

    python examples/mode-connectivity/prepare.py ../shared/data

reads the CIFAR-10 copies and the PreResNet-20 checkpoints of the development data and writes,
beside this script, the first 512 rows of each split, the two modes, the bend of the curve, and the
bend as it was after the epochs in `EPOCHS`: the frames of a film, in float16.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch

from pipeline.problem import checkpoint, network, state_dict
from pipeline.problem.layout import Layout

ROWS = 512
EPOCHS = (0, 1, 2, 4, 8, 14)
HERE = Path(__file__).parent


def main(source: Path) -> None:
    """Write everything from the development data in `source`."""
    (HERE / "cifar10").mkdir(exist_ok=True)
    for split in ("train", "test"):
        write_rows(source / f"cifar10/{split}.parquet", HERE / f"cifar10/{split}.parquet")
    net = network.build("preresnet20", {"classes": 10})
    layout = Layout.of(net)
    weights = source / "checkpoints/preresnet20"
    for mode in ("mode1", "mode2"):
        state = checkpoint.load(str(weights / f"{mode}-14.pt"))
        state_dict.match(state, layout, mode)
        write_weights(state_dict.weights(state, layout), state, net, mode)
    curve = checkpoint.load(str(weights / "bezier-14.pt"))
    _, bend, _ = state_dict.curve_points(curve, layout, "bezier-14.pt")
    write_weights(bend, curve, net, "bend")
    (HERE / "frames").mkdir(exist_ok=True)
    for epoch in EPOCHS:
        state = checkpoint.load(str(weights / f"bezier-{epoch}.pt"))
        _, bend, _ = state_dict.curve_points(state, layout, f"bezier-{epoch}.pt")
        write_weights(bend, state, net, f"frames/epoch-{epoch:02d}", torch.float16)


def write_rows(source: Path, target: Path) -> None:
    """Copy the first rows of a parquet file: same schema, same encoded images."""
    table = pyarrow.parquet.ParquetFile(source).read_row_group(0)
    pyarrow.parquet.write_table(table.slice(0, ROWS), target)


def write_weights(
    flat: np.ndarray,
    state: checkpoint.State,
    net: torch.nn.Module,
    name: str,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write float32 (P,) weights as `dtype` and the buffers of `state`, by the network's names."""
    parts = {k: v.to(dtype) for k, v in state_dict.named(flat, Layout.of(net)).items()}
    parts |= state_dict.buffers(state, net)
    checkpoint.save(str(HERE / f"{name}.safetensors"), parts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
