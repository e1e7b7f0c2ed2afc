"""Means of a split over its examples, or over the positions (tokens) in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.loss_names import Mean


@dataclass(frozen=True)
class Values:
    """One quantity of some examples.

    Attributes:
        sums: over each example's positions, float64 (n,), or (points, n) at several points. Where
            there are no weights: the mean over its positions.
        weights: of each example, float64 of the same shape: how many positions count, or the sum
            of their classes' weights. None where all examples weigh the same.
    """

    sums: Tensor
    weights: Tensor | None = None

    def at_one_point(self) -> Values:
        """With an axis of points: (1, n)."""
        return Values(self.sums[None], None if self.weights is None else self.weights[None])

    def detached(self) -> Values:
        """Without the graph that derivatives would need."""
        return Values(self.sums.detach(), None if self.weights is None else self.weights.detach())


def joined(parts: Sequence[Mapping[str, Values]]) -> dict[str, Values]:
    """The quantities of all parts of a split, whose examples follow each other."""
    if len(parts) == 1:
        return dict(parts[0])
    found = {}
    for name in parts[0]:
        weights = [part[name].weights for part in parts]
        known = [each for each in weights if each is not None]
        found[name] = Values(
            torch.cat([part[name].sums for part in parts]), torch.cat(known) if known else None
        )
    return found


def over_examples(quantity: str, values: Mapping[str, Values], mean: Mean = "example") -> Tensor:
    """A quantity of a split at several points, float64 (points,).

    Args:
        quantity: `loss_stderr`, or one of `values`.
        values: of each example, (points, n).
        mean: `example`: the mean over examples, of each one's mean over its positions; an example
            none of whose positions count is left out. `token`: the mean over all positions.
    """
    if quantity == "loss_stderr":
        return _standard_error(values["loss"], mean)
    return _mean(values[quantity], mean)


def of_batch(values: Values, mean: Mean) -> Tensor:
    """The mean over a batch (n,), 0 where none of its positions counts; for training."""
    if values.weights is None:
        return values.sums.mean()
    least = torch.finfo(values.sums.dtype).tiny
    if mean == "token":
        return values.sums.sum() / values.weights.sum().clamp(min=least)
    counted = (values.weights > 0).sum().clamp(min=1)
    return (values.sums / values.weights.clamp(min=least)).sum() / counted


def totals(values: Values, mean: Mean) -> tuple[Tensor, float]:
    """The sum of a chunk's losses (n,), and how much it counts.

    The mean over several chunks is the sum of the one over the sum of the other.
    """
    sums, weights = values.sums, values.weights
    if weights is None:
        return sums.sum(), len(sums)
    if mean == "token":
        return sums.sum(), float(weights.sum())
    counted = weights > 0
    return (sums[counted] / weights[counted]).sum(), float(counted.sum())


def _mean(values: Values, mean: Mean) -> Tensor:
    sums, weights = values.sums, values.weights
    if weights is None:
        return sums.mean(1)
    if mean == "token":
        return sums.sum(1) / weights.sum(1)
    return torch.where(weights > 0, sums / weights, 0.0).sum(1) / (weights > 0).sum(1)


def _standard_error(values: Values, mean: Mean) -> Tensor:
    """The standard error of `_mean` over the sample of examples, float64 (points,).

    Over tokens the mean is a ratio R = Σs/Σw of an example's sum of losses s and its weight w. By
    the delta method its variance is n/(n − 1) · Σ(s − R·w)² / (Σw)², over n examples; where all
    weigh the same it is that of an ordinary mean. One example has no standard error: NaN.

    Source: Cochran 1977, Sampling Techniques, 3rd edition, chapter 6 (ratio estimators).
    """
    sums, weights = values.sums, values.weights
    examples = sums.shape[1]
    if examples == 1:
        return torch.full_like(sums[:, 0], math.nan)
    if weights is None:
        # Row by row: torch computes the deviation of one row in another way than of several.
        return torch.stack([row.std() for row in sums]) / math.sqrt(examples)
    centre = _mean(values, mean)[:, None]
    if mean == "token":
        squares = (sums - centre * weights).square().sum(1)
        return (squares * (examples / (examples - 1))).sqrt() / weights.sum(1)
    counted = (weights > 0).sum(1)
    squares = torch.where(weights > 0, sums / weights - centre, 0.0).square().sum(1)
    return (squares / (counted - 1) / counted).sqrt()
