"""What the neighbours of a film's frames tell of them: predictions in time, in space, and in both.

    python -m benchmarks.across_frames FILM.yaml [--every 16] [--keep VALUES.npz]

Evaluates every n-th point of every frame, one thread. For each frame between key frames: how far
its neighbours in time predict it alone; how far every second of the points predicts the others; how
far that goes for the difference from what the neighbours predict, which is what refinement does.
Mean and 99 % of the errors, as shares of the colour range of the film.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import spec as specs
from pipeline.geometry.grid import Grid
from pipeline.prepare import prepare
from pipeline.refinement.lattice import Lattice, frame_stride, parents
from pipeline.refinement.scale import Range


def evaluated(spec: specs.RenderSpec, every: int) -> NDArray[np.float32]:
    """The loss of the first split at every n-th point: (frames, height, width)."""
    prepared = prepare(spec)
    height, width = spec.grid.height, spec.grid.width
    rows, columns = (np.unique([*range(0, n, every), n - 1]) for n in (height, width))
    y, x = (each.ravel() for each in np.meshgrid(rows, columns, indexing="ij"))
    grid = Grid(width, height, 1)
    found = []
    for frame, facts in enumerate(prepared.frames):
        plane = prepared.inputs.planes.of_frame(frame, prepared.evaluator.layout)
        loss = prepared.evaluator.evaluate(plane, grid.at(facts.extent, y, x))["loss"][0]
        found.append(loss.reshape(len(rows), len(columns)))
        print(f"frame {frame} of {len(prepared.frames)}", flush=True)
    return np.stack(found)


def compared(losses: NDArray[np.floating]) -> list[tuple[int, list[NDArray[np.float64]]]]:
    """For each frame between key frames the errors in time, in space, and in both."""
    found = Range.of("loss", "", "log", losses)
    exact = found.to_space(losses) / found.width
    rows = []
    for frame, weights in parents(len(exact), frame_stride(len(exact))).items():
        base = sum(weight * exact[parent] for parent, weight in weights.items())
        rest = exact[frame] - base
        rows.append((frame, [np.abs(rest), _details(exact[frame]), _details(rest)]))
    return rows


def _details(values: NDArray[np.float64]) -> NDArray[np.float64]:
    lattice = Lattice(*values.shape, 2)
    nothing = np.zeros(values.shape, dtype=bool)
    predicted = lattice.predict(values[lattice.at(0)], 1, values, nothing)
    return np.abs(predicted - values)[lattice.is_new(1)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec")
    parser.add_argument("--every", type=int, default=16)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    losses = evaluated(specs.read(asked.spec), asked.every)
    if asked.keep:
        np.savez_compressed(asked.keep, loss=losses)
    print("frame   in time          in space         in space, beyond time")
    for frame, errors in compared(losses):
        told = [f"{each.mean():.4f} {np.quantile(each, 0.99):.4f}" for each in errors]
        print(f"{frame:5}   " + "   ".join(told))


if __name__ == "__main__":
    main()
