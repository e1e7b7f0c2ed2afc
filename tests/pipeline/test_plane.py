from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import directions, plane
from pipeline.geometry.plane import PlaneError, Vector

seeds = st.integers(0, 2**32 - 1)


def _weights(seed: int, count: int, size: int = 50) -> list[Vector]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(size) * 3 for _ in range(count)]


@given(seeds)
def test_three_points_span_an_orthonormal_plane_that_holds_them(seed: int) -> None:
    w = _weights(seed, 3)
    spanned = plane.through_points(*w)
    assert spanned.u @ spanned.u == pytest.approx(1, abs=1e-12)
    assert spanned.v @ spanned.v == pytest.approx(1, abs=1e-12)
    assert spanned.u @ spanned.v == pytest.approx(0, abs=1e-12)
    for weights in w:
        x, y, off = spanned.project(weights)
        assert off < 1e-9
        np.testing.assert_allclose(spanned.weights(x, y), weights, atol=1e-9)
    assert spanned.project(w[0])[:2] == pytest.approx((0, 0), abs=1e-9)
    assert spanned.project(w[1])[0] == pytest.approx(np.linalg.norm(w[1] - w[0]))


@given(seeds)
def test_coordinates_are_euclidean_distances(seed: int) -> None:
    w = _weights(seed, 3)
    spanned = plane.through_points(*w)
    a, b = np.array(spanned.project(w[1])[:2]), np.array(spanned.project(w[2])[:2])
    assert np.linalg.norm(a - b) == pytest.approx(np.linalg.norm(w[1] - w[2]))


def test_what_spans_no_plane_is_refused() -> None:
    a, b = _weights(0, 2)
    with pytest.raises(PlaneError, match="identical"):
        plane.through_points(a, a, b)
    with pytest.raises(PlaneError, match="lie on a line"):
        plane.through_points(a, b, a)
    with pytest.raises(PlaneError, match="lie on a line"):
        plane.through_points(a, b, a + 0.3 * (b - a))
    with pytest.raises(PlaneError, match="identical"):
        plane.along_line(a, a)


def test_a_nearly_collinear_point_still_spans_an_orthonormal_plane() -> None:
    a, b, c = _weights(1, 3)
    spanned = plane.through_points(a, b, a + 0.5 * (b - a) + 1e-4 * c)
    assert spanned.u @ spanned.v == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_at_the_edge_of_what_is_refused_directions_are_orthogonal_to_the_last_bits(
    seed: int,
) -> None:
    """One pass of Gram–Schmidt leaves a component along u as large as rounding of what it took."""
    a, b, c = _weights(seed, 3)
    spanned = plane.through_points(a, b, a + 0.5 * (b - a) + 2e-6 * c)
    assert abs(spanned.u @ spanned.v) < 1e-15


@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_the_curve_lies_in_its_plane_between_its_ends(kind: Any) -> None:
    points = _weights(2, 3)
    spanned = plane.of_curve(points)
    curve = plane.project_curve(spanned, kind, points)
    assert curve[:, 2].max() < 1e-7
    ends = [spanned.project(points[0])[:2], spanned.project(points[2])[:2]]
    np.testing.assert_allclose(curve[[0, -1], :2], ends, atol=1e-9)
    assert (curve[1:-1, 1] > 0).all()
    assert spanned.project(points[2])[1] == pytest.approx(0, abs=1e-9)
    t = 0.25
    theta = plane.curve_coefficients(kind, np.array([t]), 3)[0] @ np.stack(points)
    np.testing.assert_allclose(curve[25, :2], spanned.project(theta)[:2], atol=1e-9)


def test_the_distance_off_the_plane_of_a_curve_with_two_bends() -> None:
    points = _weights(3, 4)
    spanned = plane.through_points(points[0], points[3], points[1])
    curve = plane.project_curve(spanned, "bezier", points)
    t = np.array([0.4])
    theta = plane.curve_coefficients("bezier", t, 4)[0] @ np.stack(points)
    np.testing.assert_allclose(curve[40], spanned.project(theta), rtol=1e-9)


@given(st.floats(0, 1), st.integers(2, 6))
def test_curve_coefficients_sum_to_one(t: float, points: int) -> None:
    for kind in ("bezier", "chain"):
        assert plane.curve_coefficients(kind, np.array([t]), points).sum() == pytest.approx(1)


def test_bezier_coefficients_are_those_of_the_paper() -> None:
    t = np.linspace(0, 1, 7)
    expected = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)
    np.testing.assert_allclose(plane.curve_coefficients("bezier", t, 3), expected, atol=1e-15)


SHAPES = {"conv.weight": (4, 3, 2, 2), "conv.bias": (4,), "norm.weight": (5,), "fc.weight": (3, 5)}
SIZE = 48 + 4 + 5 + 15


def test_each_filter_gets_the_norm_of_the_origins_filter() -> None:
    origin, direction = _weights(4, 2, SIZE)
    found = directions.filter_normalise(direction, origin, SHAPES)
    norms = np.linalg.norm(found[:48].reshape(4, -1), axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(origin[:48].reshape(4, -1), axis=1))
    norms = np.linalg.norm(found[57:].reshape(3, -1), axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(origin[57:].reshape(3, -1), axis=1))
    cosine = found[:12] @ direction[:12] / np.linalg.norm(found[:12])
    assert cosine == pytest.approx(np.linalg.norm(direction[:12]))


def test_biases_and_norm_parameters_are_not_moved() -> None:
    origin, direction = _weights(5, 2, SIZE)
    assert not directions.filter_normalise(direction, origin, SHAPES)[48:57].any()


def test_a_dead_filter_is_not_moved() -> None:
    origin, direction = _weights(6, 2, SIZE)
    origin[:12] = 0
    assert not directions.filter_normalise(direction, origin, SHAPES)[:12].any()
    direction[12:24] = 0
    assert not directions.filter_normalise(direction, origin, SHAPES)[12:24].any()


def test_shapes_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(PlaneError, match="wanted 72"):
        directions.filter_normalise(np.ones(71), np.ones(71), SHAPES)


def test_random_planes_are_seeded() -> None:
    (origin,) = _weights(7, 1, SIZE)
    one, same, other = (directions.random_directions(origin, SHAPES, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.u, same.u)
    assert not np.allclose(one.u, other.u)
    assert not np.allclose(one.u, one.v)


def test_projection_into_a_plane_that_is_not_orthogonal() -> None:
    (origin,) = _weights(8, 1, SIZE)
    random = directions.random_directions(origin, SHAPES, 3)
    x, y, off = random.project(random.weights(0.3, -0.7))
    assert (x, y) == pytest.approx((0.3, -0.7))
    assert off == pytest.approx(0, abs=1e-9)


def test_the_extent_is_the_bounding_box_and_a_margin() -> None:
    anchors = [plane.Anchor("a", 0, 0, 0), plane.Anchor("b", 10, 0, 0), plane.Anchor("c", 4, 2, 0)]
    extent = plane.extent_around(anchors, None, (10, 2))
    assert (extent.x0, extent.x1, extent.y0, extent.y1) == pytest.approx((-2, 12, -0.4, 2.4))


@pytest.mark.parametrize("of", ["of_curve", "random"])
def test_a_plane_is_the_same_however_many_threads_there_are(of: str) -> None:
    """A BLAS sums in another order for every number: a cluster would refuse to go on."""
    code = f"""
import hashlib, numpy, pipeline.geometry.plane as p, pipeline.geometry.directions as d
random = numpy.random.default_rng(0)
points = [random.standard_normal(300_001).astype("f4").astype("f8") for _ in range(3)]
shapes = {{"w": (3, 100_000), "b": (1,)}}
plane = p.of_curve(points) if {of == "of_curve"} else d.random_directions(points[0], shapes, 1)
anchors = p.anchored(plane, dict(zip("abc", points)))
print(hashlib.sha256(plane.u.tobytes() + plane.v.tobytes()).hexdigest(), anchors)
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(found) == 1
