"""Whole grids to hold refinement to, from the coarsest lattice to the finest.

    python -m benchmarks.truth SPEC OUT.npz [--minutes 60]

Kept every minute and gone on with, so that it can be stopped at any time; what is there already is
a whole grid of every second, fourth … point. One thread; run several specs side by side.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch

from pipeline import spec as specs
from pipeline.geometry.grid import Grid
from pipeline.prepare import prepare

_STEPS = (16, 8, 4, 2, 1)
_TOGETHER = 32
_KEPT_SECONDS = 60.0


def main() -> None:
    """Fill OUT as far as the minutes last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    prepared = prepare(specs.read(asked.spec))
    grid = Grid(prepared.spec.grid.width, prepared.spec.grid.height, 1)
    extent = prepared.frames[0].extent
    quantities = list(prepared.inputs.quantities)
    values = np.full((len(quantities), grid.height, grid.width), np.nan, "f4")
    known = np.zeros((grid.height, grid.width), dtype=bool)
    if asked.out.exists():
        with np.load(asked.out) as found:
            values, known = found["values"], found["known"]
    plane = prepared.first_plane()
    end, kept = time.monotonic() + 60 * asked.minutes, time.monotonic()
    for step in _STEPS:
        lattice = np.zeros_like(known)
        lattice[::step, ::step] = True
        todo = np.argwhere(lattice & ~known)
        for rows in np.array_split(todo, max(1, len(todo) // _TOGETHER)):
            y, x = rows.T
            if not len(rows) or time.monotonic() > end:
                continue
            found = prepared.evaluator.evaluate(plane, grid.at(extent, y, x))
            values[:, y, x] = [found[quantity][0] for quantity in quantities]
            known[y, x] = True
            if time.monotonic() - kept > _KEPT_SECONDS:
                kept = time.monotonic()
                _keep(asked.out, values, known, quantities)
                print(f"every {step}: {known.sum():,} of {known.size:,} points", flush=True)
    _keep(asked.out, values, known, quantities)


def _keep(out: Path, values: np.ndarray, known: np.ndarray, quantities: list[str]) -> None:
    partial = out.with_name(f".{out.name}")
    np.savez(partial, values=values, known=known, quantities=np.array(quantities))
    os.replace(partial if partial.exists() else f"{partial}.npz", out)


if __name__ == "__main__":
    main()
