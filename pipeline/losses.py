"""Losses and errors, one value an example, and what is told of a split's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import LossatlasError

LossFunction = Callable[[Tensor, Tensor], Tensor]

# Where there are few classes, it pays to take the exponentials of several rows at once. torch takes
# so many at most, and what is left over in another way: in whole groups a row's bits do not depend
# on its place.
_FEW_CLASSES = 32
_ROWS = 16


class LossError(LossatlasError):
    """The loss is unknown, or does not fit the outputs and targets."""


def loss_function(name: str, custom: LossFunction | None = None) -> LossFunction:
    """The loss named in a spec: cross_entropy, mse, or else the user's `custom`.

    Raises:
        LossError: the name is unknown and there is no `custom`.
    """
    match name:
        case "cross_entropy":
            return cross_entropy
        case "mse":
            return mean_squared_error
    if custom is None:
        raise LossError(
            f"evaluate.loss is {name!r}; wanted cross_entropy, mse or path/file.py:callable"
        )
    return custom


def available_quantities(loss: str, asked: Sequence[str]) -> tuple[str, ...]:
    """`asked`, without `error` where the loss is not one of classification.

    Raises:
        LossError: nothing is left.
    """
    left = tuple(q for q in asked if q != "error" or loss == "cross_entropy")
    if not left:
        raise LossError(
            f"evaluate.quantities is [error], which loss {loss} has none of; wanted loss as well"
        )
    return left


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """−log softmax(outputs)[target] in nats, float64 (n,).

    Args:
        outputs: (n, classes), or (n, length, classes) whose positions are averaged.
        targets: int64 (n,) or (n, length).
    """
    logs = _log_softmax(outputs.double().reshape(-1, outputs.shape[-1]))
    losses = F.nll_loss(logs, targets.reshape(-1), reduction="none")
    return losses if targets.ndim == 1 else losses.reshape(len(outputs), -1).mean(1)


def _log_softmax(rows: Tensor) -> Tensor:
    """Of float64 (n, classes), row by row."""
    if rows.device.type != "cpu" or rows.shape[1] > _FEW_CLASSES:
        return rows.log_softmax(1)
    # Classes first: torch then takes the exponentials of several rows at once.
    padded = F.pad(rows, (0, 0, 0, -len(rows) % _ROWS))
    return padded.t().log_softmax(0).t()[: len(rows)]


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over an example's outputs of (output − target)², float64 (n,)."""
    difference = outputs.double() - targets.double().reshape(outputs.shape)
    return difference.square().reshape(len(outputs), -1).mean(1)


def misclassified(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of an example's positions whose largest output is not the target, float64 (n,).

    An output with a NaN names no class and counts as wrong.
    """
    # Where one of them is a NaN, so is the largest.
    largest, classes = outputs.max(-1)
    wrong = ((classes != targets) | largest.isnan()).double()
    return wrong if wrong.ndim == 1 else wrong.reshape(len(outputs), -1).mean(1)


def over_examples(quantity: str, losses: Tensor, errors: Tensor) -> Tensor:
    """A quantity of a split at several points, float64 (points,).

    Args:
        quantity: loss, error or loss_stderr.
        losses: of each example, float64 (points, n).
        errors: the same.

    Raises:
        LossError: there is no such quantity.
    """
    match quantity:
        case "loss":
            return losses.mean(1)
        case "error":
            return errors.mean(1)
        case "loss_stderr":
            # One example has no spread, and says so.
            examples = losses.shape[1]
            if examples == 1:
                return torch.full_like(losses[:, 0], math.nan)
            # Row by row: torch takes the spread of one row in another way than that of several.
            return torch.stack([row.std() for row in losses]) / math.sqrt(examples)
    raise LossError(f"unknown quantity {quantity!r}; wanted loss, error or loss_stderr")
