"""Hutchinson's estimate of the trace of a matrix, from its products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# How many probes share the graph of a chunk. More would only take memory.
_AT_ONCE = 8


@dataclass(frozen=True)
class Trace:
    """A trace and its standard error, NaN for a single probe."""

    value: float
    error: float


def signs(count: int, size: int, seed: int) -> Tensor:
    """Rademacher vectors: each entry is 1 or −1 with the same chance; float64 (count, size)."""
    drawn = np.random.default_rng((seed, 1)).integers(0, 2, (count, size), dtype=np.int8)
    return torch.from_numpy(2.0 * drawn - 1.0)


def trace(products: Callable[[Tensor], Tensor], size: int, probes: int, seed: int) -> Trace:
    """The mean of zᵀHz over random sign vectors z.

    Args:
        products: vectors (k, P) → their products with the matrix, float64 (k, P).
        size: P.
        probes: how many vectors.
        seed: of the vectors; it decides them together with `size` and `probes`.

    Source: Hutchinson 1990, Communications in Statistics 19(2).
    """
    found: list[float] = []
    for part in torch.split(signs(probes, size, seed), _AT_ONCE):
        given = products(part)
        found += (given * part.to(given.device)).sum(1).tolist()
    error = np.std(found, ddof=1) / math.sqrt(probes) if probes > 1 else math.nan
    return Trace(float(np.mean(found)), float(error))
