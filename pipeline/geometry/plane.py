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
_MOST_TURNS = 1000


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
    `directions` is float64 (1 or 2, P), where they were computed; or None.
    """

    extent: Extent
    anchors: tuple[Anchor, ...]
    curve: NDArray[np.float64] | None
    marks: NDArray[np.float64] | None = None
    directions: NDArray[np.float64] | None = None


Units = Literal["euclidean", "filter-normalised", "layer-normalised", "directions", "patch"]


@dataclass(frozen=True)
class Plane:
    """Origin and directions, float64 (P,) each; v is zero for a line.

    `units` says what one step of a coordinate is: a Euclidean distance between weights, the norms
    of the origin's filters or layers, the directions' own lengths, or a side of a patch. `w` bends
    a patch, which is no plane: θ(x, y) = origin + x·u + y·v + xy·w.
    """

    origin: Vector
    u: Vector
    v: Vector
    units: Units
    w: Vector | None = None

    def weights(self, x: float, y: float) -> Vector:
        """θ(x, y), float64 (P,)."""
        flat = self.origin + x * self.u
        if self.w is not None:
            flat = flat + (x * y) * self.w
        return flat + y * self.v

    def project(self, weights: Vector) -> tuple[float, float, float]:
        """x, y of the point of the plane nearest to `weights` (P,), and the distance to it."""
        difference = weights - self.origin
        if self.w is not None:
            x, y = nearest_on_patch(self.u, self.v, self.w, difference)
            return x, y, norm(weights - self.weights(x, y))
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


def patch(w1: Vector, w2: Vector, w3: Vector, w4: Vector) -> Plane:
    """The bilinear patch between four sets of weights, float64 (P,) each.

    θ(α, β) = (1 − β)((1 − α)w₁ + αw₂) + β((1 − α)w₃ + αw₄): w₁ to w₂ along α, w₁ to w₃ along β.

    Raises:
        PlaneError: two neighbouring corners are identical.

    Source: Im et al. 2016, arXiv:1612.04010, §2.
    """
    for start, end in ((w1, w2), (w1, w3), (w3, w4), (w2, w4)):
        _direction(start, end)
    return Plane(w1, w2 - w1, w3 - w1, "patch", (w1 - w2) - (w3 - w4))


def nearest_on_patch(u: Vector, v: Vector, w: Vector, difference: Vector) -> tuple[float, float]:
    """x and y that bring x·u + y·v + xy·w nearest to `difference`, float64 (P,) each.

    From the middle and from each corner, x and y are improved in turn: each alone is a problem of
    least squares. The best of the places found that way is returned.
    """
    vectors = (u, v, w)
    uu, uv, uw, vv, vw, ww = (dot(a, b) for i, a in enumerate(vectors) for b in vectors[i:])
    ud, vd, wd = (dot(a, difference) for a in vectors)
    best = (math.inf, 0.5, 0.5)
    for x, y in ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        for _ in range(_MOST_TURNS):
            before = x, y
            length = uu + 2 * y * uw + y * y * ww
            x = (ud + y * wd - y * (uv + y * vw)) / length if length > 0 else x
            length = vv + 2 * x * vw + x * x * ww
            y = (vd + x * wd - x * (uv + x * uw)) / length if length > 0 else y
            if max(abs(x - before[0]), abs(y - before[1])) <= _ROUNDING**2:
                break
        square = x * x * uu + y * y * vv + (x * y) ** 2 * ww
        square += 2 * (x * y * uv + x * x * y * uw + x * y * y * vw)
        best = min(best, (square - 2 * (x * ud + y * vd + x * y * wd), x, y))
    return best[1], best[2]


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
