"""Averages of weights along a training: SWA's mean, and the Gaussian around it that SWAG fits.

Weights are added one after another. Sums are float64, so that the order of a thousand checkpoints
costs no digits, and only the last `rank` deviations are kept.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.plane import Vector

_LEAST_VARIANCE = 1e-30


class RunningMean:
    """The mean of weights that are added one by one, float64 (P,); SWA's weights.

    Source: Izmailov et al. 2018, arXiv:1803.05407.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean = np.zeros(size)

    def add(self, weights: NDArray[np.floating]) -> None:
        self.count += 1
        self.mean += (weights - self.mean) / self.count


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian over weights, with a covariance that is half diagonal and half of low rank.

    Attributes:
        mean: float64 (P,).
        variance: of each weight, float64 (P,).
        deviations: float32 (rank, P).
    """

    mean: Vector
    variance: Vector
    deviations: NDArray[np.float32]

    def sample(self, scale: float, seed: int, number: int) -> NDArray[np.float32]:
        """Sample `number` of `seed`, the same on every machine.

        θ̄ + √scale·(Σ^½ z₁ + D z₂ / √(K − 1)), with standard normal z₁ (P,) and z₂ (K,); a scale
        of ½ is the paper's.

        Source: Maddox et al. 2019, arXiv:1902.02476, equation 1.
        """
        generator = np.random.Generator(np.random.PCG64([seed, number]))
        noise = generator.standard_normal(self.mean.size)
        noise *= np.sqrt(self.variance)
        rank = len(self.deviations)
        # One by one: the order in which a BLAS sums depends on the number of threads.
        for each, share in zip(self.deviations, generator.standard_normal(rank), strict=True):
            noise += each * (share / math.sqrt(rank - 1))
        sampled: NDArray[np.float32] = (self.mean + math.sqrt(scale) * noise).astype("f4")
        return sampled


class RunningGaussian(RunningMean):
    """The Gaussian of weights that are added one by one.

    A deviation is that of weights from the mean of all until then, themselves among them. The
    first one is zero, so a rank of K wants K + 1 weights.

    Source: Maddox et al. 2019, arXiv:1902.02476, algorithm 1.
    """

    def __init__(self, size: int, rank: int) -> None:
        super().__init__(size)
        self._squares = np.zeros(size)  # of deviations from the mean, summed as Welford does
        self._deviations: deque[NDArray[np.float32]] = deque(maxlen=rank)

    def add(self, weights: NDArray[np.floating]) -> None:
        before = weights - self.mean
        super().add(weights)
        after = weights - self.mean
        self._deviations.append(after.astype("f4"))
        before *= after
        self._squares += before

    def gaussian(self) -> Gaussian:
        variance = np.maximum(self._squares / self.count, _LEAST_VARIANCE)
        return Gaussian(self.mean, variance, np.stack(self._deviations))
