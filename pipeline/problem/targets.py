"""Targets in the shape in which a loss compares them with outputs, or one line on why not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.loss_names import OF_CLASSES
from pipeline.problem.losses import BUILT_IN, LossError, Options

_OWN = "evaluate.loss: file.py:callable"


def fitted(
    targets: Tensor, outputs: torch.Size, loss: str, split: str, options: Options | None = None
) -> Tensor:
    """The targets of a split in the shape in which `loss` compares them with outputs.

    Renders, trainings and reports all take them from here. The last axis of outputs holds the
    classes; axis 1 does where only that fits the targets. An axis of length one too many or too
    few is allowed, and nothing else. A loss of the user's own gets the targets as they are.

    Args:
        targets: (n, …), of the whole split.
        outputs: the shape of some examples' outputs.
        loss: its name.
        split: its name, for the message.
        options: of the loss.

    Raises:
        LossError: the targets are of another shape, or are no classes that the network has.
    """
    if loss in OF_CLASSES:
        return _classes(targets, outputs, loss, split, options or Options())
    if loss in BUILT_IN:
        return _values(targets, outputs, loss, split)
    return targets


def ignored(targets: Tensor, options: Options) -> int:
    """How many positions of class targets do not count."""
    return int((targets == options.ignore_index).sum())


def ignored_in_words(targets: NDArray[np.generic], options: Options) -> str:
    """How many targets (n, …) do not count: `3 of 40 targets are -100 and do not count`.

    It also says how many examples have none that counts. Empty where all count.
    """
    counts = (targets != options.ignore_index).reshape(len(targets), -1)
    if counts.all():
        return ""
    told = f"{(~counts).sum():,} of {counts.size:,} targets are {options.ignore_index} and do not "
    empty = int((~counts.any(1)).sum())
    if not empty:
        return f"{told}count"
    return f"{told}count; {empty:,} {'example has' if empty == 1 else 'examples have'} no other"


def _values(targets: Tensor, outputs: torch.Size, loss: str, split: str) -> Tensor:
    """Targets of mse and the like, in the outputs' shape."""
    found, wanted = _without_ones(targets.shape), _without_ones(outputs)
    if found != wanted:
        is_turned = sorted(found) == sorted(wanted)
        turn = "Bring the axes of the targets into that order"
        raise LossError(
            f"{_told(targets, outputs, split)}; wanted targets of the outputs' shape for {loss}. "
            f"{turn if is_turned else 'Check network and data'}"
        )
    if loss == "bce_with_logits":
        low, high = float(targets.min()), float(targets.max())
        if not 0 <= low <= high <= 1:
            raise LossError(
                f"data split {split} has targets {low:g} to {high:g}; wanted 0 to 1 for "
                "bce_with_logits. Use cross_entropy for classes, or scale the targets"
            )
    return targets.reshape(len(targets), *outputs[1:])


def _classes(
    targets: Tensor, outputs: torch.Size, loss: str, split: str, options: Options
) -> Tensor:
    """Targets of cross-entropy: one class for each row of outputs."""
    if len(outputs) < 2:
        raise LossError(
            f"{_told(targets, outputs, split)}; wanted outputs (n, classes) for {loss}. "
            f"Give one output a class, or use {_OWN}"
        )
    # Each axis that may hold the classes, and the shape of one example's targets then.
    rows = {len(outputs) - 1: outputs[1:-1], 1: outputs[2:]}
    found = _without_ones(targets.shape)
    axis = next((axis for axis, row in rows.items() if _without_ones((1, *row)) == found), None)
    if axis is None or targets.is_floating_point() or targets.is_complex():
        wanted = (f"{_text((1, *row))} where axis {axis} holds them" for axis, row in rows.items())
        if axis is not None:
            cure = "Give whole numbers, as y.astype(int) does"
        elif found == _without_ones(outputs):
            cure = "If they are one-hot, give y.argmax over the classes"
        else:
            cure = "Check network and data"
        raise LossError(
            f"{_told(targets, outputs, split)}; wanted classes as whole numbers for "
            f"{loss}, {', or '.join(wanted)}. {cure}"
        )
    classes = targets.reshape(len(targets), *rows[axis]).long()
    _require_known(classes, targets, outputs, axis, split, options)
    return classes


def _require_known(
    wanted: Tensor, targets: Tensor, outputs: torch.Size, axis: int, split: str, options: Options
) -> None:
    """Raises LossError where a class is none of the network's, or no position counts."""
    counted, classes = wanted[wanted != options.ignore_index], outputs[axis]
    if not len(counted):
        raise LossError(
            f"data split {split}: all {targets.numel():,} targets are {options.ignore_index}, "
            "which does not count; wanted some that do. Check the data, or "
            "loss_options.ignore_index"
        )
    weights = options.class_weights
    if weights is not None and len(weights) != classes:
        raise LossError(
            f"loss_options.class_weights has {len(weights)} numbers and the network gives outputs "
            f"{_text(outputs)}, whose axis {axis} holds the classes; wanted {classes} weights"
        )
    low, high = int(counted.min()), int(counted.max())
    if low >= 0 and high < classes:
        return
    cure = "Check network.kwargs, or number the classes from 0"
    if low < 0 or high == 255:
        cure += f"; or if {low if low < 0 else high} is padding: loss_options.ignore_index"
    if classes == 1:
        cure = "For a single logit use bce_with_logits"
    raise LossError(
        f"{_told(targets, outputs, split)}, whose axis {axis} holds the classes, and the "
        f"targets are {low} to {high}; wanted classes 0 to {classes - 1}. {cure}"
    )


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
