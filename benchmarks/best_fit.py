"""How long a best-fit plane takes, and how much memory.

    python -m benchmarks.best_fit [--checkpoints 200] [--parameters 1000000] [--pairs 200] [--json]

Processor time, since these machines are shared. Set OPENBLAS_NUM_THREADS=1, or threads that wait
are counted too. Random walks take the place of checkpoints, so that no time goes into reading
files. The Gram matrix is timed as it is computed, and as inner products of pairs of weights in
memory would be: some pairs are timed, and all of them are taken to be as fast.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from pipeline.footprint import peak, resident
from pipeline.geometry.best_fit import best_fit, principal, sum_of_grams
from pipeline.geometry.plane import dot
from pipeline.geometry.weight_table import WeightTable


def measure(checkpoints: int, parameters: int, pairs: int) -> dict[str, Any]:
    """Seconds of processor of each stage, and the most memory beyond what was held before."""
    random = np.random.default_rng(0)
    before, order = resident(), list(range(checkpoints))
    with WeightTable(checkpoints, parameters) as table:
        weights = np.zeros(parameters, "f4")
        began = time.process_time()
        for row in order:
            weights += random.standard_normal(parameters, "f4")
            table.write(row, weights)
        written = time.process_time()
        gram = sum_of_grams(table, order, None)
        summed = time.process_time()
        principal(gram, 2)
        found = time.process_time()
        fit = best_fit(table, order, (0, checkpoints - 1), "mean", (1, 2))
        whole = time.process_time() - found
    took = peak() - before
    u, v = fit.plane.u, fit.plane.v
    began_pairs = time.process_time()
    for _ in range(pairs):
        dot(u, v)
    each = (time.process_time() - began_pairs) / pairs
    return {
        "checkpoints": checkpoints,
        "parameters": parameters,
        "table_bytes": 4 * checkpoints * parameters,
        "peak_bytes": took,
        "write_seconds": written - began,
        "gram_seconds": summed - written,
        "components_seconds": found - summed,
        "fit_seconds": whole,
        "pairs_seconds": each * checkpoints * (checkpoints + 1) / 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=200)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=200, help="how many pairs are timed")
    parser.add_argument("--json", action="store_true", help="print only the line of JSON")
    asked = parser.parse_args()
    row = measure(asked.checkpoints, asked.parameters, asked.pairs)
    if not asked.json:
        for name, value in row.items():
            unit, shown = ("MB", value / 1e6) if name.endswith("bytes") else ("", value)
            print(f"{name:20}{shown:14,.2f} {unit}")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
