"""What may be said of predictions after some of them were evaluated: the certificate.

A seeded sample of the points that were predicted, drawn without replacement and with the same
chance for each, is evaluated. Of how many in the sample were off follows how many can be in all
(Clopper and Pearson, 1934).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)


@dataclass(frozen=True)
class Certificate:
    """How far predictions were off, where that was measured.

    Attributes:
        predicted: how many points were predicted when the sample was drawn.
        audited: how many of them were evaluated.
        beyond: how many of those were off by more than the tolerance, in any quantity or split.
        bound: what share of the predicted points may be, at most, at this confidence.
        allowed: the share that was asked for.
        confidence: of the bound, in (0, 1).
        tolerance: quantity → the error tolerated, as the spec says it.
        quantiles: quantity → split → quantile → error: as a share of the colour range, in nats
            where the tolerance is, as a fraction misclassified for `error`.
        of_values: whether values were compared as they are. Earlier versions compared logarithms
            of which none was below that of the lattice's lowest value: where losses are zero or
            negative, such a certificate says nothing.
    """

    predicted: int
    audited: int
    beyond: int
    bound: float
    allowed: float
    confidence: float
    tolerance: Mapping[str, float]
    quantiles: Mapping[str, Mapping[str, Mapping[str, float]]]
    of_values: bool = False

    @property
    def passed(self) -> bool:
        return self.bound <= self.allowed

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Certificate:
        return cls(**{name: value for name, value in plain.items() if name != "passed"})


def draw(left: Sequence[int], size: int, seed: Sequence[int]) -> list[NDArray[np.int64]]:
    """Which predicted points to evaluate: for each tile the ranks among its own, rising.

    Args:
        left: how many points each tile has that are predicted.
        size: how many to draw from all; all where there are fewer.
        seed: of the draw.
    """
    ends = np.cumsum(np.asarray(left, "i8"))
    total = int(ends[-1]) if len(ends) else 0
    chosen = np.random.default_rng(seed).choice(total, min(size, total), replace=False)
    chosen.sort()
    starts = ends - np.asarray(left, "i8")
    cuts = np.searchsorted(chosen, ends[:-1], "left")
    return [ranks - start for ranks, start in zip(np.split(chosen, cuts), starts, strict=True)]


def bound(beyond: int, audited: int, predicted: int, confidence: float) -> float:
    """The highest share of `predicted` points that are beyond, at `confidence`.

    One-sided, of the binomial distribution: the share at which so few in the sample would be as
    rare as 1 − confidence. Where every point was audited, the share itself.
    """
    if audited >= predicted:
        return beyond / predicted if predicted else 0.0
    if beyond >= audited:
        return 1.0
    low, high = beyond / audited, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(beyond, audited, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def least_sample(beyond: float, confidence: float) -> int:
    """How many points have to be audited before any number of them can pass.

    The smallest n with (1 − beyond)ⁿ ≤ 1 − confidence: with none of them off, the bound is within
    `beyond`.
    """
    # Of absurdly small shares more than any grid has.
    return math.ceil(min(1e18, math.log(1 - confidence) / math.log1p(-beyond)))


def quantiles(errors: NDArray[np.float64]) -> dict[str, float]:
    """The quantiles of errors (n,) that certificates hold; nothing for none."""
    if not errors.size:
        return {}
    found = np.quantile(errors, QUANTILES, method="inverted_cdf")
    return {f"{quantile:g}": float(each) for quantile, each in zip(QUANTILES, found, strict=True)}


def _at_most(successes: int, trials: int, share: float) -> float:
    """The chance of at most so many successes."""
    return math.fsum(
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(k + 1)
            - math.lgamma(trials - k + 1)
            + k * math.log(share)
            + (trials - k) * math.log1p(-share)
        )
        if 0 < share < 1
        else float(share == 0)
        for k in range(successes + 1)
    )
