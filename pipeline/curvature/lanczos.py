"""Lanczos: the largest and the smallest eigenvalues of a symmetric matrix, from its products."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# So many steps long, no end may have moved by more than the tolerance. Most eigenvalues of a
# network's Hessian are near zero. At first the lower end is among them, with a small residual, and
# an eigenvalue far below is found some steps later.
_STEADY = 5
# Below this share of the largest eigenvalue what is left of a product is rounding.
_NOTHING = 1e-14


@dataclass(frozen=True)
class Found:
    """Eigenvalues, and how far each can be from an exact one.

    Attributes:
        largest: the largest eigenvalues, falling, float64 (k,).
        smallest: the smallest ones, rising, float64 (m,).
        largest_residuals, smallest_residuals: ‖Hy − λy‖ of each, for its unit vector y. An
            eigenvalue of the matrix is within that distance.
        scale: the largest of all eigenvalues in size, as far as it is known.
        steps: how many products were taken.
        basis: the Lanczos vectors, float64 (steps, P).
        largest_parts, smallest_parts: each eigenvector in that basis, float64 (steps, k) and
            (steps, m).
    """

    largest: NDArray[np.float64]
    smallest: NDArray[np.float64]
    largest_residuals: NDArray[np.float64]
    smallest_residuals: NDArray[np.float64]
    scale: float
    steps: int
    basis: Tensor = field(repr=False)
    largest_parts: NDArray[np.float64] = field(repr=False)
    smallest_parts: NDArray[np.float64] = field(repr=False)

    def is_within(self, tolerance: float) -> bool:
        """Whether all residuals are within `tolerance` of the largest eigenvalue in size."""
        residuals = np.concatenate([self.largest_residuals, self.smallest_residuals])
        return bool((residuals <= tolerance * self.scale).all())

    def is_near(self, other: Found, tolerance: float) -> bool:
        """Whether no eigenvalue moved by more than `tolerance` of the largest one in size."""
        own, others = (np.concatenate([each.largest, each.smallest]) for each in (self, other))
        if own.shape != others.shape:
            return False
        return bool((np.abs(own - others) <= tolerance * self.scale).all())

    def vector(self, place: int, of_largest: bool = True) -> Tensor:
        """The unit eigenvector of `largest[place]`, or of `smallest[place]`, float64 (P,)."""
        parts = self.largest_parts if of_largest else self.smallest_parts
        found: Tensor = self.basis.T @ torch.from_numpy(parts[:, place].copy()).to(
            self.basis.device
        )
        length: Tensor = found.norm()
        return found.div_(length)


def start(size: int, seed: int) -> Tensor:
    """The vector that Lanczos begins with at every point, float64 (size,)."""
    return torch.from_numpy(np.random.default_rng((seed, 0)).standard_normal(size))


def extremes(
    product: Callable[[Tensor], Tensor],
    first: Tensor,
    steps: int,
    tolerance: float,
    largest: int = 1,
    smallest: int = 1,
) -> Found:
    """The ends of a spectrum.

    It ends where all residuals are within the tolerance, and no eigenvalue has moved by more for
    some steps. Every new vector is orthogonalised twice against all before it: without that,
    rounding brings eigenvalues back as false copies. Of an eigenvalue that occurs several times,
    one is found.

    Args:
        product: a vector (P,) → its product with the matrix, float64 (P,).
        first: the first vector, float64 (P,), of any length but zero. It decides the rest, so that
            the result depends on nothing else.
        steps: the most products.
        tolerance: the residuals that end the search, as a share of the largest eigenvalue in size.
        largest, smallest: how many eigenvalues are wanted at each end.

    Returns:
        What the last step found. Residuals are above the tolerance where `steps` were too few. All
        is NaN where a product is not finite.

    Source: Lanczos 1950; Golub and Van Loan, Matrix Computations, 4th edition, chapter 10.
    """
    most = min(steps, len(first))
    basis = torch.empty((most, len(first)), dtype=torch.float64, device=first.device)
    basis[0] = first / first.norm()
    diagonal: list[float] = []
    beside: list[float] = []
    before: deque[Found] = deque(maxlen=_STEADY)
    for number in range(most):
        rest = product(basis[number])
        diagonal.append(float(basis[number] @ rest))
        if not math.isfinite(diagonal[-1]):
            return _nothing(basis[: number + 1], largest, smallest)
        known = basis[: number + 1]
        for _ in range(2):
            rest = rest - known.T @ (known @ rest)
        left = float(rest.norm())
        found = _ritz(known, diagonal, beside, left, largest, smallest)
        scale = max(map(abs, (*diagonal, *beside)))
        is_over = number + 1 == most or left <= _NOTHING * scale
        is_steady = len(before) == _STEADY and found.is_near(before[0], tolerance)
        if is_over or (is_steady and found.is_within(tolerance)):
            return found
        before.append(found)
        beside.append(left)
        basis[number + 1] = rest / left
    raise AssertionError("steps is positive")


def _ritz(
    basis: Tensor,
    diagonal: list[float],
    beside: list[float],
    left: float,
    largest: int,
    smallest: int,
) -> Found:
    """The eigenvalues of the tridiagonal matrix of the steps so far; `left` is the next β."""
    count = len(diagonal)
    matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    values, parts = np.linalg.eigh(matrix)
    # All P dimensions are used up: nothing is left but rounding.
    residuals = np.abs((0.0 if count == basis.shape[1] else left) * parts[-1])
    falling = np.arange(count)[::-1][:largest]
    return Found(
        values[falling],
        values[:smallest].copy(),
        residuals[falling],
        residuals[:smallest].copy(),
        float(np.abs(values[[0, -1]]).max()),
        count,
        basis,
        parts[:, falling],
        parts[:, :smallest].copy(),
    )


def _nothing(basis: Tensor, largest: int, smallest: int) -> Found:
    """Where a product is not finite."""
    k, m = np.full(largest, np.nan), np.full(smallest, np.nan)
    parts = np.full((len(basis), largest), np.nan), np.full((len(basis), smallest), np.nan)
    return Found(k, m, k, m, math.nan, len(basis), basis, *parts)
