"""How far refinement's predictions are off, and how many points it takes, on whole grids.

    python -m benchmarks.refinement TRUTH.npz … [--tolerance 0.002] [--json]

TRUTH.npz is from `python -m benchmarks.truth`; of one that is not finished, the finest lattice that
is whole counts as the grid. First the plain question: with every n-th point known, how far is the
cubic between them off, as a share of the colour range? Then refinement itself, as a render does it:
the share it evaluates, and how many of all points are off by more than the tolerance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import host
from pipeline.geometry.grid import Grid
from pipeline.refine_spec import RefineSpec
from pipeline.refinement import prediction
from pipeline.refinement.lattice import Lattice, coarsest_step
from pipeline.refinement.scale import Range, Space, scales
from pipeline.refinement.schedule import Schedule

_EVERY = (2, 4, 8, 16)
# What a render may keep, and has to predict.
_KEPT = (["loss"], ["loss", "loss_stderr"], ["loss", "error", "loss_stderr"])


def load(path: Path) -> dict[str, NDArray[np.float32]]:
    """quantity → (height, width): the finest lattice of the file that is whole."""
    with np.load(path) as found:
        values, known, names = found["values"], found["known"], found["quantities"]
    stride = next(n for n in (1, 2, 4, 8, 16) if known[::n, ::n].all())
    return {str(q): v[::stride, ::stride] for q, v in zip(names, values, strict=True)}


def lattices(values: NDArray[np.float32], space: Space) -> list[dict[str, float]]:
    """How far off plain lattices are: for every n-th point the share, the mean and the highest."""
    found = Range.of("loss", "", space, values)
    exact = found.to_space(values) / found.width
    rows = []
    for every in _EVERY:
        lattice = Lattice(*values.shape, every)
        coarse = exact[lattice.at(0)]
        for level in range(1, lattice.levels):
            shape = exact[lattice.at(level)].shape
            coarse = lattice.predict(coarse, level, np.zeros(shape), np.zeros(shape, dtype=bool))
        errors = np.abs(coarse - exact)
        rows.append(
            {
                "every": every,
                "share": exact[lattice.at(0)].size / exact.size,
                "mean": float(errors.mean()),
                "q99.9": float(np.quantile(errors, 0.999)),
                "worst": float(errors.max()),
            }
        )
    return rows


def passes(lattice: Lattice) -> list[tuple[int, bool]]:
    """The level of each pass of a render's first round, and whether it asks for centres only."""
    grid = Grid(lattice.width, lattice.height, 1)
    begun = Schedule.begin(grid, RefineSpec())
    return [(each.level, each.centres) for each in begun.passes if each.kind == "refine"]


def refined(
    surfaces: dict[str, NDArray[np.float32]],
    quantities: Sequence[str],
    space: Space,
    tolerance: float,
    error: float = 0.02,
) -> dict[str, Any]:
    """One round of refinement, as a render does it before its audit."""
    own = [Range.of(q, "", "linear" if q == "error" else space, surfaces[q]) for q in quantities]
    units = np.stack(
        [
            scale.units(surfaces[q])
            for q, scale in zip(quantities, scales(own, tolerance, None, error), strict=True)
        ]
    )
    height, width = units.shape[1:]
    lattice = Lattice(height, width, coarsest_step(height, width))
    known = np.zeros((height, width), dtype=bool)
    known[lattice.at(0)] = True
    for level, centres in passes(lattice):
        found = prediction.estimate(units, known, lattice, level)
        known |= prediction.points_to_evaluate(found, known, lattice, level, 0, 1.0, centres)
    found = prediction.estimate(units, known, lattice)
    errors = np.where(known, 0, np.abs(found.values - units)).max(axis=0)
    return {
        "quantities": list(quantities),
        "space": space,
        "tolerance": tolerance,
        "share": float(known.mean()),
        "beyond": float((errors > 1).mean()),
        "beyond_of_predicted": float((errors > 1).sum() / max(1, (~known).sum())),
        "q99.9": float(np.quantile(errors, 0.999)) * tolerance,
        "worst": float(errors.max()) * tolerance,
        "underestimated": float((errors > found.expected.max(axis=0))[~known].sum())
        / max(1, int((~known).sum())),
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("truths", nargs="+", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.002)
    parser.add_argument("--space", choices=["log", "linear"], default="log")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    results = []
    for path in asked.truths:
        surfaces = load(path)
        height, width = surfaces["loss"].shape
        results.append(
            {
                "truth": path.stem,
                "grid": [height, width],
                "lattices": lattices(surfaces["loss"], asked.space),
                "refined": [
                    refined(surfaces, quantities, asked.space, asked.tolerance)
                    for quantities in _KEPT
                    if surfaces.keys() >= set(quantities)
                ],
            }
        )
    if asked.json:
        print(json.dumps({"host": host.name(), "results": results}, indent=2))
        return
    for result in results:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    height, width = result["grid"]
    print(f"{result['truth']}, {height} × {width} points; errors as shares of the colour range")
    print("  every  share    mean     99.9 %   worst")
    for row in result["lattices"]:
        print(
            f"  {row['every']:5}  {row['share']:6.1%}  {row['mean']:.5f}  {row['q99.9']:.5f}"
            f"  {row['worst']:.5f}"
        )
    for row in result["refined"]:
        print(
            f"  refined, {' + '.join(row['quantities'])}: {row['share']:.1%} evaluated, "
            f"{row['beyond']:.3%} of all points beyond {row['tolerance']:g} "
            f"(99.9 % below {row['q99.9']:.5f}, worst {row['worst']:.5f})"
        )


if __name__ == "__main__":
    main()
