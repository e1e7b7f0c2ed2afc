"""Refinement on whole grids of real planes (tests/data/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import refinement

DATA = Path(__file__).parent / "data"

# Tolerance, and the share of 65 × 65 points it may take, of which a fourth are evaluated in any
# case. Neighbours are four times as far apart here as on the grid the points are from: these are no
# shares of a picture.
CURVE = [(0.004, 0.50), (0.008, 0.38), (0.016, 0.31)]
RANDOM = [(0.008, 0.44), (0.016, 0.29)]


@pytest.mark.parametrize(
    ("name", "tolerance", "share"),
    [("curve-65", *case) for case in CURVE] + [("random-65", *case) for case in RANDOM],
)
def test_few_points_of_real_planes_do(name: str, tolerance: float, share: float) -> None:
    surfaces = refinement.load(DATA / f"{name}.npz")
    found = refinement.refined(surfaces, ["loss"], "log", tolerance)
    assert found["share"] <= share
    assert found["beyond"] == 0


@pytest.mark.parametrize(("name", "share"), [("curve-257", 0.067), ("random-257", 0.175)])
def test_few_points_of_real_planes_do_at_half_a_step_of_colour(name: str, share: float) -> None:
    """257 × 257 points, all known: the targets are a tenth and a fifth, and 99.9 % within."""
    surfaces = refinement.load(DATA / f"{name}.npz")
    found = refinement.refined(surfaces, ["loss"], "log", 0.002)
    assert found["share"] < share
    assert found["beyond"] < 0.00005
    assert found["underestimated"] < 0.25


@pytest.mark.parametrize("name", ["curve-65", "random-65"])
@pytest.mark.parametrize("space", ["log", "linear"])
def test_every_quantity_is_held(name: str, space: refinement.Space) -> None:
    surfaces = refinement.load(DATA / f"{name}.npz")
    found = refinement.refined(surfaces, list(surfaces), space, 0.016, error=0.04)
    assert found["quantities"] == ["loss", "error", "loss_stderr"]
    assert found["share"] < 0.84
    assert found["beyond"] <= 0.001


@pytest.mark.parametrize("name", ["curve-65", "random-65"])
def test_errors_of_plain_lattices_shrink_as_the_surface_allows(name: str) -> None:
    rows = refinement.lattices(refinement.load(DATA / f"{name}.npz")["loss"], "log")
    means = np.array([row["mean"] for row in rows])
    assert (means[1:] > 2 * means[:-1]).all(), "each halving of the step more than halves errors"
    assert rows[0]["q99.9"] < 0.012
