"""What Ray costs: `lossatlas render` as a user starts it, against its evaluator's own time.

    python -m benchmarks.overhead [--workers 1] [--tiles 6] [--seconds 10] [--json]

Renders ResNet-20 with seeded weights on random images, in tiles of about ten seconds, in a process
of its own, and reads the store: when each tile was committed, and how long its evaluation alone
took. All from one run on one clock, so that what the neighbours on a shared machine take, they take
from both sides of the ratio.

- throughput: tiles a second from the first tile's start to the last one's commit, over what as many
  evaluators would do that evaluate the same tiles one after another and nothing else. Tiles that do
  not divide among the workers count against it, so let `--tiles` be a multiple of `--workers`.
- start: from the command to the start of the first tile: imports, reading, checking, Ray, workers.
- tail: from the last commit to the end of the command.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from benchmarks import machine, subject
from pipeline import plan, prepare, spec
from pipeline.problem import network
from pipeline.store.store import Store

_EXAMPLES = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tiles", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a tile, about")
    parser.add_argument("--json", action="store_true", help="print the line of JSON only")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), asked.workers, asked.tiles, asked.seconds)
    if not asked.json:
        show(result)
    print(json.dumps(result))


def run(folder: Path, workers: int, tiles: int, seconds: float) -> dict[str, Any]:
    tile = _tile(folder, seconds)
    path = _spec(folder, {"width": tile * tiles, "height": tile, "tile": tile})
    began = time.time()
    subprocess.run(
        [
            *(sys.executable, "-m", "cluster.cli.main", "render", str(path)),
            *("--workers", str(workers), "--device", "cpu", "--quiet"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    ended = time.time()
    store = Store.open(str(folder / "overhead.zarr"))
    took = {tile: store.tile_facts(tile)[0] for tile in store.committed()}
    commits = sorted((_committed_at(store, tile), tile) for tile in took)
    started = min(at - took[tile] for at, tile in commits)
    finished = commits[-1][0]
    return machine.facts() | {
        "workers": workers,
        "tiles": len(took),
        "points_a_tile": tile**2,
        "seconds_a_tile": round(float(np.mean(list(took.values()))), 2),
        "throughput": round(sum(took.values()) / (workers * (finished - started)), 4),
        "start_seconds": round(started - began, 2),
        "tail_seconds": round(ended - finished, 2),
    }


def show(result: dict[str, Any]) -> None:
    print(
        f"{result['tiles']} tiles of {result['seconds_a_tile']} s, {result['workers']} worker(s): "
        f"{result['throughput']:.1%} of the bare evaluator's throughput; "
        f"{result['start_seconds']} s to the first tile, {result['tail_seconds']} s after the last"
    )


def _tile(folder: Path, seconds: float) -> int:
    """The edge of a tile that takes about `seconds` here."""
    prepared = prepare.prepare(spec.read(_spec(folder, {"width": 2, "height": 2})))
    return max(1, round((seconds / plan.measure(prepared, "cpu")) ** 0.5))


def _spec(folder: Path, grid: dict[str, int]) -> Path:
    net = network.build("resnet20", {})
    (x, y), *_ = subject.splits(_EXAMPLES, names="train").values()
    save_file(net.state_dict(), folder / "weights.safetensors")
    np.savez(folder / "data.npz", x=x, y=y)
    path = folder / "overhead.yaml"
    content = {
        "network": {"factory": "resnet20"},
        "plane": {"kind": "random", "weights": ["weights.safetensors"]},
        "grid": grid,
        "data": {"source": "data.npz", "splits": {"train": _EXAMPLES}},
        "store": "overhead.zarr",
    }
    path.write_text(yaml.safe_dump(content))
    return path


def _committed_at(store: Store, tile: Any) -> float:
    """When the chunk that is the tile's commit was written, on the clock of `time.time`."""
    chunk = Path(store.url) / "done" / "c" / str(tile.frame) / str(tile.row) / str(tile.column)
    return chunk.stat().st_mtime


if __name__ == "__main__":
    main()
