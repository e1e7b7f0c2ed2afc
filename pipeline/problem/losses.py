"""Built-in losses and errors, one value an example. torch's definitions, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import LossatlasError
from pipeline.problem.means import Values

LossFunction = Callable[[Tensor, Tensor], Tensor]

IGNORED = -100
"""The class of positions that do not count, unless a spec says otherwise."""

# With few classes, taking the exponentials of several rows at once is faster. torch takes at most
# 16 values together and computes the rest in another way. In whole groups the bits of a row do not
# depend on its place.
_FEW_CLASSES = 32
_ROWS = 16


class LossError(LossatlasError):
    """The loss is unknown, or does not fit the outputs and targets."""


@dataclass(frozen=True)
class Options:
    """How cross-entropy and the negative log-likelihood of classes count.

    Attributes:
        ignore_index: targets of this class do not count.
        label_smoothing: ε, the share of a target that is spread evenly over all classes.
        class_weights: a weight for each class; None where all weigh the same.
    """

    ignore_index: int = IGNORED
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None


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


def negative_log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    """−outputs[target], where outputs are log-probabilities; shapes as for `cross_entropy`."""
    outputs = classes_last(outputs, targets)
    rows = outputs.double().reshape(-1, outputs.shape[-1])
    losses = F.nll_loss(rows, targets.reshape(-1), reduction="none")
    return losses.reshape(len(outputs), -1).mean(1)


def of_positions(outputs: Tensor, targets: Tensor, options: Options, are_logits: bool) -> Values:
    """The same where positions count differently, are smoothed, or do not count.

    A position's loss is −w_y·(1 − ε)·log p_y − ε/C·Σ_c w_c·log p_c, and its weight w_y, over C
    classes with weights w and the label smoothing ε.

    Args:
        outputs, targets: as for `cross_entropy`.
        options: of the loss.
        are_logits: whether outputs are logits; else they are log-probabilities.

    Source: torch.nn.functional.cross_entropy.
    """
    outputs = classes_last(outputs, targets)
    rows, wanted = outputs.double().reshape(-1, outputs.shape[-1]), targets.reshape(-1)
    own = options.class_weights
    by_class = None if own is None else rows.new_tensor(own)
    counts = wanted != options.ignore_index
    if are_logits:
        losses = F.cross_entropy(
            rows,
            wanted,
            by_class,
            ignore_index=options.ignore_index,
            reduction="none",
            label_smoothing=options.label_smoothing,
        )
    else:
        losses = F.nll_loss(
            rows, wanted, by_class, ignore_index=options.ignore_index, reduction="none"
        )
    weights = counts.double()
    if by_class is not None:
        weights = weights * by_class[torch.where(counts, wanted, 0)]
    shape = len(outputs), -1
    return Values(losses.reshape(shape).sum(1), weights.reshape(shape).sum(1))


def _log_softmax(rows: Tensor) -> Tensor:
    """Of float64 (n, classes), row by row."""
    if rows.device.type != "cpu" or rows.shape[1] > _FEW_CLASSES:
        return rows.log_softmax(1)
    # Classes first: torch then takes the exponentials of several rows at once.
    padded = F.pad(rows, (0, 0, 0, -len(rows) % _ROWS))
    return padded.t().log_softmax(0).t()[: len(rows)]


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over an example's outputs of |output − target|², float64 (n,).

    Args:
        outputs: (n, …).
        targets: of the same shape, as `fitted` gives them.
    """
    return _mean(_difference(outputs, targets, "mse").square())


def mean_absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over an example's outputs of |output − target|; as `mean_squared_error`."""
    return _mean(_difference(outputs, targets, "l1").abs())


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of ½d² where d = |output − target| is at most 1, else d − ½; as the two above.

    Source: torch.nn.functional.huber_loss with delta = 1.
    """
    difference = _difference(outputs, targets, "huber")
    return _mean(F.huber_loss(difference, torch.zeros_like(difference), reduction="none"))


def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over an example's logits of −t·log σ(z) − (1 − t)·log(1 − σ(z)), float64 (n,).

    Args:
        outputs: logits z (n, …).
        targets: t in [0, 1], of the same shape, as `fitted` gives them.
    """
    _require_one_shape(outputs, targets, "bce_with_logits")
    return _mean(
        F.binary_cross_entropy_with_logits(outputs.double(), targets.double(), reduction="none")
    )


def _difference(outputs: Tensor, targets: Tensor, name: str) -> Tensor:
    """Output − target in float64; its modulus where they are complex."""
    _require_one_shape(outputs, targets, name)
    if outputs.is_complex() or targets.is_complex():
        return (outputs.to(torch.complex128) - targets.to(torch.complex128)).abs()
    return outputs.double() - targets.double()


def _require_one_shape(outputs: Tensor, targets: Tensor, name: str) -> None:
    if outputs.shape != targets.shape:  # torch would broadcast them
        raise LossError(
            f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} of {name}; wanted "
            "one shape. Check network and data"
        )


def _mean(of_outputs: Tensor) -> Tensor:
    return of_outputs.reshape(len(of_outputs), -1).mean(1)


def misclassified(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of an example's positions whose largest output is not the target, float64 (n,).

    An output with a NaN names no class and counts as wrong.
    """
    wrong = _wrong(outputs, targets)
    return wrong if wrong.ndim == 1 else wrong.reshape(len(outputs), -1).mean(1)


def misclassified_positions(outputs: Tensor, targets: Tensor, ignore_index: int) -> Values:
    """How many of an example's positions are misclassified, among those that count."""
    counts = (targets != ignore_index).double()
    shape = len(outputs), -1
    wrong = (_wrong(outputs, targets) * counts).reshape(shape)
    return Values(wrong.sum(1), counts.reshape(shape).sum(1))


def on_the_wrong_side(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of an example's logits whose sign is not that of its target − ½, float64 (n,).

    A NaN is on no side and counts as wrong.
    """
    wrong = ((outputs > 0) != (targets > 0.5)) | outputs.isnan()
    return _mean(wrong.double())


def _wrong(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 where the largest output is not the target, float64 in the shape of the classes."""
    # Where one of them is a NaN, so is the largest.
    largest, classes = classes_last(outputs, targets).max(-1)
    return ((classes != targets.reshape(classes.shape)) | largest.isnan()).double()


BUILT_IN: Mapping[str, LossFunction] = {
    "cross_entropy": cross_entropy,
    "mse": mean_squared_error,
    "l1": mean_absolute_error,
    "huber": huber,
    "bce_with_logits": binary_cross_entropy,
    "nll": negative_log_likelihood,
}
