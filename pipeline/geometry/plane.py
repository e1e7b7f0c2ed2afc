"""Planes in weight space: θ(x, y) = origin + x·u + y·v, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import LossatlasError
from pipeline.geometry.grid import Extent

Vector = NDArray[np.float64]
DEFAULT_MARGIN = 0.2
CURVE_POINTS = 101
# Weights are float32: a residual below this share of its vector is rounding.
_ROUNDING = 1e-6
_BLOCK = 1 << 16


class PlaneError(LossatlasError):
    """The weights do not span the plane that was asked for."""


@dataclass(frozen=True)
class Anchor:
    """A point of a plane: coordinates, and its distance off the plane.

    `name` is its role in the plane (w₀, start, bend, …); `label` is the user's own name for it, for
    showing only.
    """

    name: str
    x: float
    y: float
    off_plane: float
    label: str = ""

    @property
    def shown(self) -> str:
        """What pictures and tables call it."""
        return self.label or self.name


@dataclass(frozen=True)
class FrameFacts:
    """What one frame's plane looks like, without its weights.

    `curve` is float64 (points, 3): x, y and distance off the plane, from start to end; or None.
    `marks` is float64 (marks, 3), the same of each mark; or None where the render has no marks.
    """

    extent: Extent
    anchors: tuple[Anchor, ...]
    curve: NDArray[np.float64] | None
    marks: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Plane:
    """Origin and directions, float64 (P,) each; v is zero for a line.

    `units` says what one step of a coordinate is: a Euclidean distance between weights, or the
    filter norms of the origin.
    """

    origin: Vector
    u: Vector
    v: Vector
    units: Literal["euclidean", "filter-normalised"]

    def weights(self, x: float, y: float) -> Vector:
        """θ(x, y), float64 (P,)."""
        return self.origin + x * self.u + y * self.v

    def project(self, weights: Vector) -> tuple[float, float, float]:
        """x, y of the point of the plane nearest to `weights` (P,), and the distance to it."""
        difference = weights - self.origin
        along_u, along_v = dot(self.u, difference), dot(self.v, difference)
        uu, uv, vv = self._inverse_gram
        x, y = uu * along_u + uv * along_v, uv * along_u + vv * along_v
        return x, y, norm(difference - x * self.u - y * self.v)

    @cached_property
    def _inverse_gram(self) -> tuple[float, float, float]:
        """Of u and v, its entries uu, uv and vv; a line has no v, hence a pseudo-inverse."""
        uu, uv, vv = dot(self.u, self.u), dot(self.u, self.v), dot(self.v, self.v)
        determinant = uu * vv - uv * uv
        if determinant > _ROUNDING * uu * vv:
            return vv / determinant, -uv / determinant, uu / determinant
        inverse = np.linalg.pinv(np.array([[uu, uv], [uv, vv]]), hermitian=True)
        return float(inverse[0, 0]), float(inverse[0, 1]), float(inverse[1, 1])


def dot(a: Vector, b: Vector) -> float:
    """The inner product of two vectors (P,), the same on every machine.

    The order in which a BLAS sums depends on the number of threads; numpy's own sum does not. A
    driver on a cluster must find the same bits as the submitting machine.
    """
    parts = range(0, a.size, _BLOCK)
    return math.fsum(float(np.sum(a[i : i + _BLOCK] * b[i : i + _BLOCK])) for i in parts)


def norm(a: Vector) -> float:
    """The Euclidean length of a vector (P,), the same on every machine."""
    return math.sqrt(dot(a, a))


def through_points(w0: Vector, w1: Vector, w2: Vector) -> Plane:
    """The plane through three sets of weights, float64 (P,) each.

    u = (w₁ − w₀)/dx and v = Gram–Schmidt of (w₂ − w₀) against u, over its norm dy.

    Raises:
        PlaneError: two are identical, or the three lie on a line.

    Source: Garipov et al. 2018, arXiv:1802.10026, appendix A.2.
    """
    u = _direction(w0, w1)
    difference = w2 - w0
    residual = difference - dot(difference, u) * u
    # Once more: the first pass leaves a rounding-sized component along u.
    residual -= dot(residual, u) * u
    dy = norm(residual)
    if dy <= _ROUNDING * norm(difference) or dy == 0:
        raise PlaneError(
            "the three weights of the plane lie on a line (or two are the same); wanted three that "
            "span a plane. Use kind: interpolation for a line"
        )
    return Plane(w0, u, residual / dy, "euclidean")


def of_curve(points: Sequence[Vector]) -> Plane:
    """The plane of a curve with one bend: ends on the x axis, the bend above it.

    Args:
        points: start, bend and end, float64 (P,) each.

    Raises:
        PlaneError: not three points, or they do not span a plane.
    """
    if len(points) != 3:
        raise PlaneError(
            f"the curve has {len(points) - 2} bends; wanted one, so that it lies in a plane"
        )
    start, bend, end = points
    return through_points(start, end, bend)


def along_line(w0: Vector, w1: Vector) -> Plane:
    """The line through two sets of weights, float64 (P,) each; x is the distance from w₀.

    Raises:
        PlaneError: they are identical.
    """
    return Plane(w0, _direction(w0, w1), np.zeros_like(w0), "euclidean")


def random_directions(origin: Vector, shapes: Mapping[str, tuple[int, ...]], seed: int) -> Plane:
    """Two random Gaussian directions around `origin`, filter-normalised.

    Args:
        origin: trained weights θ, float64 (P,).
        shapes: the shape of each parameter, in the order of the flat vector.
        seed: of numpy's PCG64; the same plane on every machine.

    Source: Li et al. 2018, arXiv:1712.09913, §4.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    u, v = (
        filter_normalise(generator.standard_normal(origin.size), origin, shapes) for _ in range(2)
    )
    return Plane(origin, u, v, "filter-normalised")


def filter_normalise(
    direction: Vector, origin: Vector, shapes: Mapping[str, tuple[int, ...]]
) -> Vector:
    """Give each filter of `direction` the norm of the same filter of `origin`.

    A filter is one slice along a tensor's first axis. Tensors of fewer than two axes
    (biases, norm scales) become zero: the plane never moves them.

    Args:
        direction: any scale, float64 (P,).
        origin: trained weights θ, float64 (P,).
        shapes: the shape of each parameter, in the order of the flat vectors.

    Returns:
        A new vector with ‖d_ij‖₂ = ‖θ_ij‖₂ for filter j of layer i.

    Raises:
        PlaneError: the shapes do not add up to the vectors' length.

    Source: Li et al. 2018, arXiv:1712.09913, §4.
    """
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    if sum(sizes) != origin.size or direction.size != origin.size:
        raise PlaneError(
            f"the direction has {direction.size:,} values and the weights {origin.size:,}; wanted "
            f"{sum(sizes):,}, as the network has"
        )
    normalised = np.zeros_like(origin)
    start = 0
    for shape, size in zip(shapes.values(), sizes, strict=True):
        part = slice(start, start + size)
        start += size
        if len(shape) < 2:
            continue
        filters = direction[part].reshape(shape[0], -1)
        wanted = np.linalg.norm(origin[part].reshape(shape[0], -1), axis=1, keepdims=True)
        found = np.linalg.norm(filters, axis=1, keepdims=True)
        normalised[part] = (filters * (wanted / np.where(found > 0, found, 1))).ravel()
    return normalised


def anchored(plane: Plane, weights: Mapping[str, Vector]) -> tuple[Anchor, ...]:
    """Named weights, float64 (P,) each, projected into the plane."""
    return tuple(Anchor(name, *plane.project(w)) for name, w in weights.items())


def extent_around(
    anchors: Sequence[Anchor], margin: float | None, unit: tuple[float, float]
) -> Extent:
    """The anchors' bounding box, widened by `margin` times dx and dy on every side.

    Args:
        anchors: at least one.
        margin: a fraction (default 0.2).
        unit: dx and dy, the lengths that the fraction is of.
    """
    margin = DEFAULT_MARGIN if margin is None else margin
    xs, ys = [a.x for a in anchors], [a.y for a in anchors]
    wide, high = margin * unit[0], margin * unit[1]
    return Extent(min(xs) - wide, max(xs) + wide, min(ys) - high, max(ys) + high)


def curve_coefficients(kind: Literal["bezier", "chain"], t: Vector, points: int) -> Vector:
    """Weights of the control points at each t in [0, 1], float64 (len(t), points).

    Bézier: the Bernstein polynomials of degree points − 1. Chain: linear interpolation between
    neighbours, each piece taking the same share of t.

    Source: Garipov et al. 2018, arXiv:1802.10026, eq. 4 and 5.
    """
    degree = points - 1
    match kind:
        case "bezier":
            powers = np.arange(points)
            binomials = np.cumprod([1.0, *((degree - k) / (k + 1) for k in range(degree))])
            return binomials * t[:, None] ** powers * (1 - t[:, None]) ** (degree - powers)
        case "chain":
            return np.maximum(0.0, 1.0 - np.abs(t[:, None] * degree - np.arange(points)))


def project_curve(
    plane: Plane, kind: Literal["bezier", "chain"], points: Sequence[Vector]
) -> NDArray[np.float64]:
    """The curve through control points (P,), projected: x, y, distance off the plane.

    Returns:
        float64 (101, 3), for t from 0 to 1 in even steps.
    """
    t = np.linspace(0, 1, CURVE_POINTS)
    coefficients = curve_coefficients(kind, t, len(points))
    places = np.array([plane.project(point)[:2] for point in points])
    residuals = [point - plane.weights(x, y) for point, (x, y) in zip(points, places, strict=True)]
    gram = np.array([[dot(a, b) for b in residuals] for a in residuals])
    squares = np.einsum("ti,ij,tj->t", coefficients, gram, coefficients)
    return np.column_stack([coefficients @ places, np.sqrt(np.maximum(squares, 0))])


def _direction(start: Vector, end: Vector) -> Vector:
    difference = end - start
    distance = norm(difference)
    if distance == 0:
        raise PlaneError(
            "two weights of the plane are identical; wanted different ones. Check plane.weights"
        )
    return difference / distance
