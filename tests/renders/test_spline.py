"""The spline is exact for cubics, at the grid points, and in its gradient."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import RectBivariateSpline, make_interp_spline

from renders.map.field import on_grid, slope_of, spline_of


def evaluate(values: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, ...]:
    """The spline through `values`, and its slopes along u and v."""
    spline = spline_of(values)
    at = np.stack([v, u], axis=-1)
    return spline(at), slope_of(spline, 1)(at), slope_of(spline, 0)(at)


def points(rng: np.random.Generator, height: int, width: int, n: int = 500) -> tuple:
    return rng.uniform(0, width - 1, n), rng.uniform(0, height - 1, n)


@pytest.mark.parametrize("shape", [(4, 4), (5, 9), (31, 6)])
def test_a_bicubic_and_its_gradient_come_back_exactly(shape: tuple[int, int]) -> None:
    def f(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return 0.3 + 0.2 * u - 0.05 * u**2 + 0.004 * u**3 + 0.1 * v**2 - 0.003 * v**3 + 0.02 * u * v

    v, u = np.mgrid[: shape[0], : shape[1]].astype(float)
    grid = f(u, v)
    x, y = points(np.random.default_rng(0), *shape)
    value, du, dv = evaluate(grid, x, y)
    np.testing.assert_allclose(value, f(x, y), atol=1e-10)
    np.testing.assert_allclose(du, 0.2 - 0.1 * x + 0.012 * x**2 + 0.02 * y, atol=1e-9)
    np.testing.assert_allclose(dv, 0.2 * y - 0.009 * y**2 + 0.02 * x, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (2, 5), (3, 3), (3, 8), (4, 1)])
def test_small_grids_reproduce_planes_and_their_own_points(shape: tuple[int, int]) -> None:
    v, u = np.mgrid[: shape[0], : shape[1]].astype(float)
    plane = 2 - 0.5 * u + 0.25 * v
    x, y = points(np.random.default_rng(1), *shape)
    np.testing.assert_allclose(evaluate(plane, x, y)[0], 2 - 0.5 * x + 0.25 * y, atol=1e-12)
    noise = np.random.default_rng(2).normal(size=shape)
    np.testing.assert_allclose(evaluate(noise, u, v)[0], noise, atol=1e-12)


def test_three_points_make_a_parabola() -> None:
    u = np.linspace(0, 2, 9)
    np.testing.assert_allclose(evaluate(np.array([[0.0, 1.0, 4.0]]), u, 0 * u)[0], u**2, atol=1e-12)


@pytest.mark.parametrize("n", [4, 5, 6, 12, 101])
def test_it_is_the_not_a_knot_spline_of_scipy(n: int) -> None:
    noise = np.random.default_rng(n).normal(size=n)
    reference = make_interp_spline(np.arange(n), noise, k=3)
    u = np.linspace(0, n - 1, 777)
    value, slope, _ = evaluate(noise[None], u, 0 * u)
    np.testing.assert_allclose(value, reference(u), atol=1e-9)
    np.testing.assert_allclose(slope, reference.derivative()(u), atol=1e-9)


def test_it_is_the_tensor_spline_in_two_dimensions() -> None:
    noise = np.random.default_rng(5).normal(size=(13, 17))
    reference = RectBivariateSpline(np.arange(13), np.arange(17), noise, s=0)
    x, y = points(np.random.default_rng(6), 13, 17)
    np.testing.assert_allclose(evaluate(noise, x, y)[0], reference(y, x, grid=False), atol=1e-9)


def test_the_second_derivative_has_no_step_at_a_knot() -> None:
    coef = np.random.default_rng(7).normal(size=(1, 20))
    knots = np.arange(1.0, 19.0)
    h = 1e-5
    below = evaluate(coef, knots - h, 0 * knots)[1]
    at = evaluate(coef, knots, 0 * knots)[1]
    above = evaluate(coef, knots + h, 0 * knots)[1]
    np.testing.assert_allclose((at - below) / h, (above - at) / h, atol=1e-3)


def test_a_grid_of_pixels_is_the_spline_at_each_of_them() -> None:
    spline = spline_of(np.random.default_rng(8).normal(size=(13, 17)))
    v, u = np.linspace(12.2, -0.3, 31), np.linspace(-0.2, 16.4, 47)
    for one in (spline, slope_of(spline, 0), slope_of(spline, 1, 0.25)):
        y, x = np.meshgrid(v, u, indexing="ij")
        np.testing.assert_allclose(on_grid(one, v, u), one(np.stack([y, x], -1)), atol=1e-12)
        # Not a bit depends on what else is asked for.
        assert np.array_equal(on_grid(one, v, u)[5:9, 20:21], on_grid(one, v[5:9], u[20:21]))
