"""Best-fit planes: numpy's SVD in float64 is the oracle (scikit-learn's PCA is the same sum)."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import best_fit, plane, weight_table
from pipeline.geometry.best_fit import BestFit, BestFitError
from pipeline.geometry.weight_table import WeightTable, WeightTableError

seeds = st.integers(0, 2**32 - 1)
REPO = Path(__file__).parents[2]


def _walk(seed: int, count: int, size: int) -> np.ndarray:
    """A random walk, float32 (count, size)."""
    steps = np.random.default_rng(seed).standard_normal((count, size))
    return np.cumsum(steps, axis=0).astype("f4")


def _fit(weights: np.ndarray, components: tuple[int, int] = (1, 2), **how: object) -> BestFit:
    with WeightTable(*weights.shape) as table:
        for row, each in enumerate(weights):
            table.write(row, each)
        order = sorted(range(len(weights)), key=lambda row: weights[row].tobytes())
        return best_fit.best_fit(
            table, order, (0, len(weights) - 1), str(how.get("centre", "mean")), components
        )  # type: ignore[arg-type]


@given(seeds, st.integers(3, 12), st.integers(2, 6000), st.sampled_from(["mean", "last"]))
def test_components_are_those_of_a_singular_value_decomposition(
    seed: int, count: int, size: int, centre: str
) -> None:
    weights = _walk(seed, count, size)
    found = _fit(weights, centre=centre)
    exact = weights.astype("f8")
    origin = exact.mean(axis=0) if centre == "mean" else exact[-1]
    _, values, rows = np.linalg.svd(exact - origin, full_matrices=False)
    np.testing.assert_allclose(found.plane.origin, origin, rtol=1e-12, atol=1e-12)
    gap = np.min(np.abs(np.diff(values[:3])), initial=values[1]) / values[0]
    for axis, direction in enumerate((found.plane.u, found.plane.v)):
        assert abs(direction @ rows[axis]) == pytest.approx(1, abs=1e-6 + 1e-14 / gap**2)
        assert found.explained[axis] == pytest.approx(values[axis] ** 2 / (values**2).sum())
        assert direction @ direction == pytest.approx(1, abs=1e-12)
    assert found.plane.u @ found.plane.v == pytest.approx(0, abs=1e-12)
    places = np.stack([found.plane.project(each)[:2] for each in exact])
    np.testing.assert_allclose(found.places, places, atol=1e-9 * values[0])


def test_other_components_can_be_chosen() -> None:
    weights = _walk(3, 9, 500)
    exact = weights.astype("f8")
    _, values, rows = np.linalg.svd(exact - exact.mean(axis=0), full_matrices=False)
    found = _fit(weights, (3, 1))
    assert abs(found.plane.u @ rows[2]) == pytest.approx(1, abs=1e-9)
    assert abs(found.plane.v @ rows[0]) == pytest.approx(1, abs=1e-9)
    assert found.explained == pytest.approx((values[[2, 0]] ** 2 / (values**2).sum()).tolist())


def test_three_weights_give_the_plane_through_them() -> None:
    weights = _walk(0, 3, 300)
    found, through = _fit(weights), plane.through_points(*weights.astype("f8"))
    assert sum(found.explained) == pytest.approx(1)
    for each in weights.astype("f8"):
        assert found.plane.project(each)[2] < 1e-9
    for direction in (through.u, through.v):
        inside = np.hypot(direction @ found.plane.u, direction @ found.plane.v)
        assert inside == pytest.approx(1, abs=1e-12)


@given(seeds)
def test_a_planted_plane_is_found_under_noise(seed: int) -> None:
    random = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(random.standard_normal((400, 2)))
    places = random.standard_normal((30, 2)) * (20, 8)
    noise = 0.01 * random.standard_normal((30, 400))
    found = _fit((places @ basis.T + 5 + noise).astype("f4"))
    for direction in (found.plane.u, found.plane.v):
        assert np.linalg.norm(basis.T @ direction) == pytest.approx(1, abs=1e-3)
    assert sum(found.explained) > 0.999


@given(seeds, st.permutations(range(8)))
def test_the_order_of_weights_changes_nothing_but_signs(seed: int, order: list[int]) -> None:
    weights = _walk(seed, 8, 50)
    one, other = _fit(weights), _fit(weights[order])
    np.testing.assert_array_equal(one.plane.origin, other.plane.origin)
    np.testing.assert_array_equal(abs(one.plane.u), abs(other.plane.u))
    np.testing.assert_array_equal(abs(one.plane.v), abs(other.plane.v))
    np.testing.assert_array_equal(abs(one.places[order]), abs(other.places))
    assert one.explained == other.explained


@given(seeds)
def test_directions_point_from_the_first_to_the_last(seed: int) -> None:
    weights = _walk(seed, 6, 40)
    for each in (weights, weights[::-1]):
        found = _fit(each)
        forward = (each[-1] - each[0]).astype("f8")
        assert found.plane.u @ forward > 0
        assert found.plane.v @ forward > 0
        assert (found.places[-1] > found.places[0]).all()


def test_where_last_minus_first_is_orthogonal_the_largest_value_is_positive() -> None:
    weights = np.zeros((4, 5), "f4")
    weights[:, 3] = -2, 2, 2, -2
    weights[:, 1] = 1, -1, 1, -1
    found = _fit(weights)
    # The first and the last have the same x: u alone has no direction from one to the other.
    np.testing.assert_allclose(found.plane.u, [0, 0, 0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(found.plane.v, [0, -1, 0, 0, 0], atol=1e-12)


def test_weights_that_span_no_such_plane_are_refused() -> None:
    a, b = (64 * _walk(1, 2, 30)).round()  # whole numbers: the line is exact in float32
    with pytest.raises(BestFitError, match="lie on a line.*interpolation"):
        _fit(np.stack([a, b, 3 * b - 2 * a]))
    with pytest.raises(BestFitError, match="component 4 and the weights have 3"):
        _fit(_walk(2, 4, 30), (1, 4))


@given(seeds, st.integers(2, 7), st.integers(1, 4096), st.integers(-60, 60))
def test_gram_matrices_are_exact_but_for_their_last_rounding(
    seed: int, rows: int, columns: int, scale: int
) -> None:
    values = np.random.default_rng(seed).standard_normal((rows, columns)) * 2.0**scale
    wide = values.astype(np.longdouble)
    exact = (wide[:, None] * wide[None]).sum(axis=2)
    found = best_fit.gram(values)
    largest = float(np.abs(values).max()) ** 2 * columns
    assert np.abs(found - exact).max() < 4e-16 * largest
    np.testing.assert_array_equal(found, found.T)


def test_principal_components_of_a_matrix_with_equal_eigenvalues() -> None:
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 9)))
    values, vectors = best_fit.principal(basis[:, :4] * (5, 5, 5, 1) @ basis[:, :4].T, 6)
    np.testing.assert_allclose(values, [5, 5, 5, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(vectors[:4] @ vectors[:4].T, np.eye(4), atol=1e-12)
    inside = np.linalg.norm(vectors[:3] @ basis[:, :3], axis=1)
    np.testing.assert_allclose(inside, 1, atol=1e-9)


def test_a_table_on_disk_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = _walk(4, 7, 3 * weight_table.COLUMNS + 5)
    one = _fit(weights)
    monkeypatch.setattr(weight_table, "_MEMORY_BYTES", 4 * 7 * weight_table.COLUMNS)
    other = _fit(weights)
    for name in ("origin", "u", "v"):
        np.testing.assert_array_equal(getattr(one.plane, name), getattr(other.plane, name))


def test_memory_does_not_grow_with_the_number_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 200_000
    monkeypatch.setattr(weight_table, "_MEMORY_BYTES", 4 * size)

    def most(count: int) -> int:
        tracemalloc.start()
        with WeightTable(count, size) as table:
            for row in range(count):
                random = np.random.default_rng(row)
                table.write(row, random.standard_normal(size, "f4"))
            best_fit.best_fit(table, list(range(count)), (0, 1), "mean", (1, 2))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    few, many = most(10), most(60)
    assert many - few < 0.4 * 50 * 4 * size  # blocks of 4,096 columns, in place of 200,000


def test_a_disk_without_room_is_one_line(
    monkeypatch: pytest.MonkeyPatch, small_disk: object
) -> None:
    folder = small_disk(256)  # type: ignore[operator]
    monkeypatch.setattr(weight_table.tempfile, "tempdir", str(folder))
    monkeypatch.setattr(weight_table, "_MEMORY_BYTES", 4096)
    with pytest.raises(WeightTableError, match="10 checkpoints do not fit.*TMPDIR"):
        WeightTable(10, 50_000)
    with WeightTable(10, 6_000) as table:  # the room goes while the table is written
        (folder / "other").write_bytes(bytes(200 << 10))
        table.write(0, np.zeros(6_000, "f4"))
        with pytest.raises(WeightTableError, match="No space left.*TMPDIR"):
            table.write(9, np.zeros(60_000, "f4"))


_SAME = """
import hashlib, numpy
from pipeline.geometry import best_fit
from pipeline.geometry.weight_table import WeightTable
steps = numpy.random.default_rng(0).standard_normal((60, 20_001))
weights = numpy.cumsum(steps, axis=0).astype("f4")
with WeightTable(*weights.shape) as table:
    for row, each in enumerate(weights):
        table.write(row, each)
    found = best_fit.best_fit(table, list(range(60)), (0, 59), "mean", (1, 2))
plane = found.plane
print(hashlib.sha256(b"".join(
    a.tobytes() for a in (plane.origin, plane.u, plane.v, found.places))).hexdigest(),
    found.explained, hashlib.sha256((weights @ weights.T).tobytes()).hexdigest())
"""


def test_bits_depend_neither_on_threads_nor_on_the_blas() -> None:
    """OpenBLAS takes the kernels of another processor where it is told to."""
    settings = (
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "2"},
        {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Haswell"},
        {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Prescott"},
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", _SAME],
            env={**os.environ, **each, "PYTHONPATH": str(REPO)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.rsplit(maxsplit=1)
        for each in settings
    ]
    assert len({own for own, _ in told}) == 1
    if sys.platform == "linux":  # the test would notice: a plain product's bits differ
        assert len({plain for _, plain in told}) > 1
