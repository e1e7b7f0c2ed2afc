"""A tiny landscape to render: an MLP on random vectors, with a loss that can be slowed down."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[2]
# Ray reads some of its settings once, when it is imported, and a user's file may be the first.
LOSS = """
import time
import ray
from torch.nn import functional as F

def slow(outputs, targets):
    time.sleep({seconds})
    return F.cross_entropy(outputs, targets.long(), reduction="none")
"""


def lay_out(folder: Path, width: int = 12, tile: int = 3, call_seconds: float = 0.0) -> Path:
    """Write weights, data, loss and spec into `folder`; returns the spec's path."""
    random = np.random.default_rng(0)
    shapes = {
        "layers.0.weight": (16, 8),
        "layers.0.bias": (16,),
        "layers.1.weight": (3, 16),
        "layers.1.bias": (3,),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("pipeline", "renders"):
        (folder / f"{name}.py").write_text("raise RuntimeError('shadowed')")
    for name in "abc":
        weights = {key: random.normal(size=shape).astype("f4") for key, shape in shapes.items()}
        save_file(weights, folder / f"{name}.safetensors")
    np.savez(
        folder / "data.npz",
        x_train=random.normal(size=(64, 8)).astype("f4"),
        y_train=random.integers(0, 3, 64),
    )
    spec = {
        "name": "tiny",
        "network": {"factory": "mlp", "kwargs": {"inputs": 8, "classes": 3, "hidden": [16]}},
        "plane": {"kind": "points", "weights": [f"{name}.safetensors" for name in "abc"]},
        "grid": {"width": width, "height": width, "tile": tile},
        "data": {"source": "data.npz", "splits": {"train": 32}},
        "store": "tiny.zarr",
    }
    if call_seconds:
        (folder / "loss.py").write_text(LOSS.format(seconds=call_seconds))
        spec["evaluate"] = {"loss": "loss.py:slow", "quantities": ["loss"]}
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def command(*arguments: object) -> list[str]:
    """The command line that runs this checkout's lossatlas."""
    return [sys.executable, "-m", "cluster.cli.main", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def lossatlas(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one command in `folder`."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def start(*arguments: object, folder: Path) -> subprocess.Popen[str]:
    """Start one command in `folder`, in a process group of its own."""
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_tiles(store: Path, count: int, seconds: float = 60.0) -> set[str]:
    """Wait until `count` tiles are committed; returns the commits' names."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        done = commits(store)
        if len(done) >= count:
            return done
        time.sleep(0.05)
    raise TimeoutError(f"{len(commits(store))} of {count} tiles after {seconds} s")


def commits(store: Path) -> set[str]:
    root = store / "done" / "c"
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(".partial")
    }


def ages(store: Path, tiles: set[str]) -> dict[str, int]:
    """When each of `tiles`, named as by `commits`, was written last."""
    return {name: (store / "seconds" / "c" / name).stat().st_mtime_ns for name in tiles}


def numbers(store: Path) -> dict[str, bytes]:
    """The bytes of every chunk that a render determines, by key."""
    kept = ("loss", "error", "loss_stderr", "done")
    return {
        str(path.relative_to(store)): path.read_bytes()
        for name in kept
        for path in sorted((store / name).rglob("c/**/*"))
        if path.is_file()
    }


def descendants(pid: int) -> set[int]:
    """The processes below `pid`, from /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if stat[0] != "Z":
                parents[int(entry.name)] = int(stat[1])
    found, front = set(), {pid}
    while front:
        front = {child for child, parent in parents.items() if parent in front}
        found |= front
    return found


def running(pids: set[int]) -> set[int]:
    """Those of `pids` that are still processes, and no zombies."""
    alive = set()
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if stat[0] != "Z":
            alive.add(pid)
    return alive


def title(pid: int) -> bytes:
    """The command line of process `pid`; Ray writes there what a worker does."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def workers(pid: int) -> list[int]:
    """The processes below `pid` that hold a tile renderer."""
    return [child for child in sorted(descendants(pid)) if b"ray::TileWorker" in title(child)]
