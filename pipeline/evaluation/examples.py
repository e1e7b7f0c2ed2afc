"""The examples of a split on a device, and whether a network and a loss take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import LossatlasError, is_out_of_memory, one_line
from pipeline.problem.losses import (
    LossFunction,
    cross_entropy,
    fitted,
    is_by_example,
    mean_squared_error,
)


class EvaluateError(LossatlasError):
    """The network, the data and the loss do not fit together."""


@dataclass(frozen=True)
class Examples:
    """One split on one device: inputs (n, …) and targets (n, …).

    `output_shape` is that of two examples' outputs, once they are `tried`; None for a loss of the
    user's own.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    output_shape: torch.Size | None = None

    @staticmethod
    def of(
        name: str,
        inputs: NDArray[np.generic],
        targets: NDArray[np.generic],
        device: torch.device,
    ) -> Examples:
        """Copies on `device`: arrays that Ray shares are read-only."""
        x = torch.tensor(inputs)
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        return Examples(name, x.to(device), torch.tensor(targets).to(device))

    def chunks(self, size: int) -> list[Examples]:
        """Pieces of at most `size` examples, of nearly equal size."""
        count = -(-len(self.inputs) // size)
        pieces = zip(
            torch.tensor_split(self.inputs, count),
            torch.tensor_split(self.targets, count),
            strict=True,
        )
        return [replace(self, inputs=inputs, targets=targets) for inputs, targets in pieces]


def tried(split: Examples, network: Callable[[Tensor], Tensor], loss: LossFunction) -> Examples:
    """Put two examples of a split through network and loss, so that a misfit is found early.

    Returns:
        The split, its targets in the shape that the loss wants, and the shape of the outputs.

    Raises:
        EvaluateError: the network does not take the inputs, or the loss not its outputs.
        LossError: the targets do not fit the outputs.
    """
    inputs, targets = split.inputs[:2], split.targets[:2]
    is_ours = inspect.unwrap(loss) in (cross_entropy, mean_squared_error)
    try:
        with torch.inference_mode():
            outputs = network(inputs)
            if is_ours:
                shape = _shape_of(outputs, len(inputs), split.name)
                wanted = fitted(split.targets, shape, loss, split.name)
                split = replace(split, targets=wanted, output_shape=shape)
                targets = split.targets[:2]
            losses = loss(outputs, targets)
            apart = is_ours or is_by_example(loss, outputs, targets, losses)
    except LossatlasError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise EvaluateError(
            f"the network or the loss does not take the data of {split.name} "
            f"(inputs {_shape(inputs)}, targets {_shape(targets)}): "
            f"{one_line(error, 300)}. Check network, data and evaluate.loss"
        ) from error
    if losses.shape != (len(inputs),):
        raise EvaluateError(
            f"the loss gives {tuple(losses.shape)} for {len(inputs)} examples; wanted "
            "one value an example"
        )
    if not apart:
        raise EvaluateError(
            f"evaluate.loss gives an example of {split.name} another value alone than beside "
            f"others (outputs {_shape(outputs)}, targets {_shape(targets)}); wanted one value "
            "an example, each by itself. Check that the loss does not broadcast (n, 1) "
            "against (n,)"
        )
    return split


def _shape_of(outputs: object, examples: int, split: str) -> torch.Size:
    """The shape of some examples' outputs, which are one tensor."""
    if isinstance(outputs, Tensor) and outputs.ndim and len(outputs) == examples:
        return outputs.shape
    found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    raise EvaluateError(
        f"the network gives {found} for {examples} examples of data split {split}; wanted one "
        "tensor with a row an example. Check forward, or use evaluate.loss: file.py:callable"
    )


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
