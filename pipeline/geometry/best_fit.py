"""The best-fit plane of many weights: their principal components, with few of them in memory.

Weights come one at a time and go to a scratch table, which is a file where they are many. The table
is read twice, some columns at a time: for the Gram matrix of the centred weights, and for the
directions. Every result has the same bits on every machine, whatever its BLAS and its threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import LossatlasError
from pipeline.geometry.plane import Plane, Vector, dot, norm
from pipeline.geometry.weight_table import WeightTable

Matrix = NDArray[np.float64]

# Integers up to 2²⁰ times integers up to 2²⁰, summed over 2¹² columns, stay below 2⁵³. A float64
# holds such sums exactly, so that the order of summing does not matter.
_BITS = 20
_PIECES = 3
# A component with less of the first one's variance is rounding.
_ROUNDING = 1e-12
_SQUARINGS = 64
# A component that is so close to orthogonal to last − first gets its sign from its largest value.
_NO_SIGN = 1e-9


class BestFitError(LossatlasError):
    """The weights have no such best-fit plane."""


@dataclass(frozen=True)
class BestFit:
    """The plane of two principal components.

    Attributes:
        plane: its origin is the centre, its directions are orthonormal.
        places: x and y of the weights in it, one row for each of the table: float64 (n, 2).
        explained: which share of the variance around the centre each of the two has.
    """

    plane: Plane
    places: Matrix
    explained: tuple[float, float]


def best_fit(
    table: WeightTable,
    order: Sequence[int],
    ends: tuple[int, int],
    centre: Literal["mean", "last"],
    components: tuple[int, int],
) -> BestFit:
    """The plane along two principal components of the weights in `table`.

    C = W − centre, G = CCᵀ with eigenvalues λ_k and eigenvectors s_k, v_k = Cᵀs_k/√λ_k. A direction
    points from the first weights to the last: v_k·(w_last − w_first) > 0. Where that is zero, as in
    a closed loop, its largest value is positive.

    Args:
        table: n weights, none of them twice.
        order: all its rows in an order that does not depend on theirs, such as that of digests. The
            bits of a plane then depend on the order for its signs and for `centre: last` alone.
        ends: the rows of the first and of the last weights.
        centre: what the weights are measured from, and the plane's origin.
        components: from 1; two different ones.

    Raises:
        BestFitError: there are fewer components than that.

    Source: Li et al. 2018, arXiv:1712.09913, §7.2.
    """
    first, last = map(order.index, ends)
    middle = last if centre == "last" else None
    gram = sum_of_grams(table, order, middle)
    values, vectors = principal(gram, max(components))
    _require_rank(values, components)
    chosen = [component - 1 for component in components]
    origin, (u, v) = _directions(table, order, middle, vectors[chosen], values[chosen])
    _make_orthonormal(u, v)
    signs = [
        _sign(vectors[k][last] - vectors[k][first], direction)
        for k, direction in zip(chosen, (u, v), strict=True)
    ]
    places = np.empty((len(order), 2))
    for axis, (k, sign) in enumerate(zip(chosen, signs, strict=True)):
        places[list(order), axis] = sign * math.sqrt(values[k]) * vectors[k]
    total = math.fsum(np.diag(gram))
    u *= signs[0]
    v *= signs[1]
    plane = Plane(origin, u, v, "euclidean")
    return BestFit(plane, places, (values[chosen[0]] / total, values[chosen[1]] / total))


def sum_of_grams(table: WeightTable, order: Sequence[int], middle: int | None) -> Matrix:
    """G = CCᵀ of the centred weights, float64 (n, n), summed over blocks of columns."""
    total = np.zeros((len(order), len(order)))
    for _, block in table.blocks(order):
        total += gram(block - _centre(block, middle))
    return total


def gram(rows: Matrix) -> Matrix:
    """rows · rowsᵀ, float64 (n, n), the same on every machine however its BLAS sums.

    Each value is cut into whole numbers of 20 bits, whose products a BLAS sums without rounding.
    What is left out is below 2⁻⁶⁰ of the largest value.

    Args:
        rows: float64 (n, columns), at most 4,096 columns.

    Source: Ozaki et al. 2012, doi:10.1007/s11075-011-9478-1.
    """
    largest = float(np.abs(rows).max(initial=0.0))
    if largest == 0:
        return np.zeros((len(rows), len(rows)))
    exponent = _BITS - math.frexp(largest)[1]
    rest, pieces = rows * 2.0**exponent, []  # powers of two round nothing
    for _ in range(_PIECES):
        whole = np.rint(rest)
        pieces.append(whole)
        rest -= whole
        rest *= 2.0**_BITS
    high, middle, low = pieces
    crossed, far = high @ middle.T, high @ low.T
    small = np.ldexp(far + far.T + middle @ middle.T, -_BITS) + (crossed + crossed.T)
    found: Matrix = np.ldexp(high @ high.T + np.ldexp(small, -_BITS), -2 * exponent)
    return found


def principal(gram_: Matrix, count: int) -> tuple[Vector, Matrix]:
    """The largest eigenvalues of a Gram matrix, and their eigenvectors.

    LAPACK's bits depend on the machine, so each eigenvector comes from squaring the matrix until
    nothing else is left, and is then taken out of it.

    Args:
        gram_: float64 (n, n), symmetric; n at most 4,096.
        count: how many.

    Returns:
        float64 (count,), falling, and orthonormal rows (count, n). A value of 0 has the row 0.
    """
    values, vectors = np.zeros(count), np.zeros((count, len(gram_)))
    rest = gram_
    for k in range(count):
        vector = _leading(rest)
        for _ in range(2):
            for before in vectors[:k]:
                vector = vector - dot(before, vector) * before
        length = norm(vector)
        if length == 0:
            break
        vector = vector / length
        image = np.sum(rest * vector, axis=1)
        values[k], vectors[k] = max(0.0, dot(vector, image)), vector
        outer = np.outer(vector, image)
        rest = rest - (outer + outer.T) + values[k] * np.outer(vector, vector)
    return values, vectors


def _leading(matrix: Matrix) -> Vector:
    """An eigenvector of the largest eigenvalue of a symmetric matrix, not normalised."""
    done = False
    for _ in range(_SQUARINGS):
        largest = float(np.abs(matrix).max(initial=0.0))
        if largest == 0:
            break
        matrix = gram(matrix / largest)
        if done:
            break
        # A matrix of rank one has the trace as its norm. One squaring more leaves nothing else.
        trace = math.fsum(np.diag(matrix))
        done = trace * trace - float(np.sum(matrix * matrix)) <= 1e-12 * trace * trace
    found: Vector = matrix[int(np.argmax(np.diag(matrix)))]
    return found


def _centre(block: Matrix, middle: int | None) -> Vector:
    """What a block of columns is measured from: its row `middle`, or its mean."""
    centre: Vector = np.sum(block, axis=0) / len(block) if middle is None else block[middle].copy()
    return centre


def _directions(
    table: WeightTable, order: Sequence[int], middle: int | None, vectors: Matrix, values: Vector
) -> tuple[Vector, list[Vector]]:
    """The centre (P,), and v_k = Cᵀs_k/√λ_k, float64 (P,) each."""
    origin = np.empty(table.size)
    directions = [np.empty(table.size) for _ in vectors]
    for columns, block in table.blocks(order):
        origin[columns] = _centre(block, middle)
        centred = block - origin[columns]
        for direction, vector, value in zip(directions, vectors, values, strict=True):
            direction[columns] = np.sum(centred * vector[:, None], axis=0) / math.sqrt(value)
    return origin, directions


def _make_orthonormal(u: Vector, v: Vector) -> None:
    """Take out, in place, what rounding left of one direction in the other."""
    u /= norm(u)
    for _ in range(2):
        v -= dot(u, v) * u
    v /= norm(v)


def _sign(forward: float, direction: Vector) -> float:
    """1 or −1; `forward` is how far the last weights lie from the first, as a share."""
    if abs(forward) > _NO_SIGN:
        return math.copysign(1.0, forward)
    return math.copysign(1.0, direction[int(np.argmax(np.abs(direction)))])


def _require_rank(values: Vector, components: tuple[int, int]) -> None:
    """Raises BestFitError where a component is rounding."""
    rank = int(np.sum(values > _ROUNDING * values[0]))
    if max(components) <= rank:
        return
    if rank < 2:
        raise BestFitError(
            "the weights of the plane lie on a line: their second component has less than 1e-12 of "
            "the first one's variance; wanted weights that span a plane. Use kind: interpolation"
        )
    raise BestFitError(
        f"plane.components asks for component {max(components)} and the weights have {rank}; "
        f"wanted two of 1 to {rank}"
    )
