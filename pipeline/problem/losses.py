"""Losses and errors, one value an example, and their means over a split."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import LossatlasError

LossFunction = Callable[[Tensor, Tensor], Tensor]

# With few classes, taking the exponentials of several rows at once is faster. torch takes at most
# 16 values together and computes the rest in another way. In whole groups the bits of a row do not
# depend on its place.
_FEW_CLASSES = 32
_ROWS = 16

_OWN = "evaluate.loss: file.py:callable"


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
    """`asked`, without `error` where the loss is not for classification.

    Raises:
        LossError: nothing is left.
    """
    left = tuple(q for q in asked if q != "error" or loss == "cross_entropy")
    if not left:
        raise LossError(
            f"evaluate.quantities is [error], which loss {loss} has none of; wanted loss as well"
        )
    return left


def fitted(targets: Tensor, outputs: torch.Size, loss: LossFunction, split: str) -> Tensor:
    """The targets of a split in the shape in which `loss` compares them with outputs.

    Renders, trainings and reports all take them from here. The last axis of outputs holds the
    classes; axis 1 does where only that fits the targets. An axis of length one too many or too
    few is allowed, and nothing else. A loss of the user's own gets the targets as they are.

    Args:
        targets: (n, …), of the whole split.
        outputs: the shape of some examples' outputs.
        loss: what `loss_function` gives, or a function that wraps it (`functools.wraps`).
        split: its name, for the message.

    Raises:
        LossError: the targets are of another shape, or are no classes that the network has.
    """
    match inspect.unwrap(loss):
        case function if function is cross_entropy:
            return _classes(targets, outputs, split)
        case function if function is mean_squared_error:
            return _values(targets, outputs, split)
    return targets


def _values(targets: Tensor, outputs: torch.Size, split: str) -> Tensor:
    """Targets of mse, in the outputs' shape."""
    found, wanted = _without_ones(targets.shape), _without_ones(outputs)
    if found == wanted:
        return targets.reshape(len(targets), *outputs[1:])
    is_turned = sorted(found) == sorted(wanted)
    cure = (
        "Bring the axes of the targets into that order" if is_turned else "Check network and data"
    )
    raise LossError(
        f"{_told(targets, outputs, split)}; wanted targets of the outputs' shape for mse. {cure}"
    )


def _classes(targets: Tensor, outputs: torch.Size, split: str) -> Tensor:
    """Targets of cross-entropy: one class for each row of outputs."""
    if len(outputs) < 2:
        raise LossError(
            f"{_told(targets, outputs, split)}; wanted outputs (n, classes) for cross_entropy. "
            f"Give one output a class, or use {_OWN}"
        )
    # Each axis that may hold the classes, and the shape of one example's targets then.
    rows = {len(outputs) - 1: outputs[1:-1], 1: outputs[2:]}
    found = _without_ones(targets.shape)
    axis = next((axis for axis, row in rows.items() if _without_ones((1, *row)) == found), None)
    if axis is None or targets.is_floating_point():
        wanted = (f"{_text((1, *row))} where axis {axis} holds them" for axis, row in rows.items())
        if axis is not None:
            cure = "Give whole numbers, as y.astype(int) does"
        elif found == _without_ones(outputs):
            cure = "If they are one-hot, give y.argmax over the classes"
        else:
            cure = "Check network and data"
        raise LossError(
            f"{_told(targets, outputs, split)}; wanted classes as whole numbers for "
            f"cross_entropy, {', or '.join(wanted)}. {cure}"
        )
    low, high, classes = int(targets.min()), int(targets.max()), outputs[axis]
    if low < 0 or high >= classes:
        cure = "Check network.kwargs, or number the classes from 0"
        raise LossError(
            f"{_told(targets, outputs, split)}, whose axis {axis} holds the classes, and the "
            f"targets are {low} to {high}; wanted classes 0 to {classes - 1}. "
            f"{cure if classes > 1 else f'For a single logit use {_OWN}'}"
        )
    return targets.reshape(len(targets), *rows[axis]).long()


def _told(targets: Tensor, outputs: torch.Size, split: str) -> str:
    dtype = str(targets.dtype).removeprefix("torch.")
    return (
        f"data split {split} has targets {dtype} {_text(targets.shape)} and the network gives "
        f"outputs {_text(outputs)}"
    )


def _without_ones(shape: Sequence[int]) -> list[int]:
    """The axes of an example (after the first of `shape`) that are longer than one."""
    return [length for length in shape[1:] if length != 1]


def _text(shape: Sequence[int]) -> str:
    """A shape whose first axis is the examples': (n, 3)."""
    return f"(n, {', '.join(map(str, shape[1:]))})" if len(shape) > 1 else "(n,)"


def is_by_example(loss: LossFunction, outputs: Tensor, targets: Tensor, losses: Tensor) -> bool:
    """Whether `loss` gives each of a few examples what it gives it alone.

    A user's loss may broadcast outputs (n, 1) against targets (n,) to (n, n) without an error.
    """
    try:
        each = [loss(outputs[i : i + 1], targets[i : i + 1]) for i in range(len(targets))]
        alone = torch.cat(each)
    except Exception:  # the user's own: perhaps one example is too few for it
        return True
    if alone.shape != losses.shape:
        return True
    return torch.allclose(alone.double(), losses.double(), rtol=1e-3, atol=1e-6, equal_nan=True)


def classes_last(outputs: Tensor, targets: Tensor) -> Tensor:
    """`outputs` (n, …, classes), also where they are (n, classes, …) for targets (n, …)."""
    is_second = outputs.shape[:-1] != targets.shape and outputs.ndim > 2
    return outputs.movedim(1, -1) if is_second else outputs


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """−log softmax(outputs)[target] in nats, float64 (n,).

    Args:
        outputs: (n, classes), or (n, …, classes) or (n, classes, …) whose positions are averaged.
        targets: int64 (n,) or (n, …), as `fitted` gives them.
    """
    outputs = classes_last(outputs, targets)
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
    """Mean over an example's outputs of (output − target)², float64 (n,).

    Args:
        outputs: (n, …).
        targets: of the same shape, as `fitted` gives them.
    """
    if outputs.shape != targets.shape:  # torch would broadcast them
        raise LossError(
            f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} of mse; wanted "
            "one shape. Check network and data"
        )
    difference = outputs.double() - targets.double()
    return difference.square().reshape(len(outputs), -1).mean(1)


def misclassified(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of an example's positions whose largest output is not the target, float64 (n,).

    An output with a NaN names no class and counts as wrong.
    """
    # Where one of them is a NaN, so is the largest.
    largest, classes = classes_last(outputs, targets).max(-1)
    wrong = ((classes != targets.reshape(classes.shape)) | largest.isnan()).double()
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
            # One example has no standard error: NaN.
            examples = losses.shape[1]
            if examples == 1:
                return torch.full_like(losses[:, 0], math.nan)
            # Row by row: torch computes the deviation of one row in another way than of several.
            return torch.stack([row.std() for row in losses]) / math.sqrt(examples)
    raise LossError(f"unknown quantity {quantity!r}; wanted loss, error or loss_stderr")
