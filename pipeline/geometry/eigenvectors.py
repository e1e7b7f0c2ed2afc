"""Eigenvectors of the loss's Hessian, as directions of a plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Eigenvectors:
    """Some eigenvectors at one set of weights.

    Attributes:
        which: the place of each: 1 is that of the largest eigenvalue, −1 that of the smallest.
        values: their eigenvalues.
        residuals: how far each may be from an exact one, as a share of the largest in size.
        vectors: unit vectors at right angles, float64 (k, P).
    """

    which: tuple[int, ...]
    values: tuple[float, ...]
    residuals: tuple[float, ...]
    vectors: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        """What axes along them are called."""
        signs = (f"{place}".replace("-", "−") for place in self.which)
        return [
            f"eigenvector {sign} (λ = {value:.3g})".replace("-", "−")
            for sign, value in zip(signs, self.values, strict=True)
        ]

    @property
    def facts(self) -> dict[str, Any]:
        """What a store says of them."""
        return {
            "which": list(self.which),
            "values": list(self.values),
            "residuals": list(self.residuals),
        }

    @classmethod
    def of_facts(cls, facts: dict[str, Sequence[float]], vectors: Any) -> Eigenvectors:
        """From what a store says of them, and its vectors."""
        return cls(
            tuple(map(int, facts["which"])),
            tuple(map(float, facts["values"])),
            tuple(map(float, facts["residuals"])),
            np.asarray(vectors, "f8"),
        )
