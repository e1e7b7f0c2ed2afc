"""The examples of a split on a device, and whether a network and a loss take them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import LossatlasError, is_out_of_memory, one_line
from pipeline.problem.criterion import Criterion
from pipeline.problem.forward import Arrays, Inputs, examples, first_of, leaves, mapped, told
from pipeline.problem.means import Values

Forward = Callable[[Inputs], Any]

_TRIED = 2
_NO_GRAPH = "does not require grad"  # what torch says of a derivative without a graph


class EvaluateError(LossatlasError):
    """The network, the data and the loss do not fit together."""


@dataclass(frozen=True)
class Examples:
    """One split on one device: inputs (n, …), one tensor or several, and targets (n, …).

    `output_shape` is that of two examples' outputs, once they are `tried`; None for a loss of the
    user's own.
    """

    name: str
    inputs: Inputs
    targets: Tensor
    output_shape: torch.Size | None = None

    @staticmethod
    def of(
        name: str, inputs: Arrays, targets: NDArray[np.generic], device: torch.device
    ) -> Examples:
        """Copies on `device`: arrays that Ray shares are read-only."""

        def copy(array: NDArray[np.generic]) -> Tensor:
            x = torch.tensor(array)
            x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
            return x.to(device)

        return Examples(name, mapped(inputs, copy), torch.tensor(targets).to(device))

    def __len__(self) -> int:
        return examples(self.inputs)

    def chunks(self, size: int) -> list[Examples]:
        """Pieces of at most `size` examples, of nearly equal size."""
        count = -(-len(self) // size)
        targets = torch.tensor_split(self.targets, count)
        stops = list(accumulate(map(len, targets)))
        pieces = [
            (mapped(self.inputs, itemgetter(slice(stop - len(own), stop))), own)
            for own, stop in zip(targets, stops, strict=True)
        ]
        return [replace(self, inputs=inputs, targets=targets) for inputs, targets in pieces]

    def first(self, count: int | None = _TRIED) -> Examples:
        """The first examples, by default two; None for all."""
        inputs = first_of(self.inputs, count)
        return replace(self, inputs=inputs, targets=self.targets[:count])

    @property
    def example_bytes(self) -> int:
        """Of the largest input of one example."""
        return max(int(each[0].nbytes) for each in leaves(self.inputs))


def tried(
    split: Examples,
    network: nn.Module,
    forward: Forward,
    criterion: Criterion,
    names: Collection[str] = (),
) -> tuple[Examples, Criterion]:
    """Put two examples of a split through network and loss, so that a misfit is found early.

    Args:
        split: of the data.
        network: for a loss that calls it.
        forward: inputs → what the network returns.
        criterion: of the render or the training.
        names: the quantities asked for.

    Returns:
        The split, its targets in the shape that the loss wants, and the shape of the outputs; and
        the criterion, which then knows the output and whether positions are weighed.

    Raises:
        EvaluateError: the network does not take the inputs, or the loss not its outputs.
        LossError: the targets do not fit the outputs.
        OutputError: what the network returns has no part that is its output, or several.
    """
    some = split.first()
    with _misfits_told(some, criterion):
        if criterion.takes_network:  # the check at the start finds what depends on other examples
            with torch.no_grad():
                found = criterion.of_network(network, forward, some.inputs, some.targets)
            _require_rows(found, len(some), names)
            return split, criterion
        with torch.inference_mode():
            returned = forward(some.inputs)
            criterion, targets = criterion.fitted(returned, split.targets, len(some), split.name)
            outputs = criterion.outputs(returned)
            shape = outputs.shape if criterion.is_built_in else None
            split = replace(split, targets=targets, output_shape=shape)
            found = criterion.of_outputs(outputs, split.first().targets, names)
            _require_rows(found, len(some), names)
            _require_apart(criterion, outputs, split.first(), found)
    return split, criterion


@contextmanager
def _misfits_told(some: Examples, criterion: Criterion) -> Iterator[None]:
    """Turn what network and loss raise for some examples into one line."""
    try:
        yield
    except LossatlasError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        cure = "Check network, data and evaluate.loss"
        if _NO_GRAPH in str(error) and not criterion.takes_network:
            cure = "A loss that needs derivatives takes (network, inputs, targets)"
        raise EvaluateError(
            f"the network or the loss does not take the data of {some.name} "
            f"(inputs {told(some.inputs)}, targets {told(some.targets)}): "
            f"{one_line(error, 300)}. {cure}"
        ) from error


def _require_apart(
    criterion: Criterion, outputs: Any, some: Examples, found: Mapping[str, Values]
) -> None:
    """Raises EvaluateError where a user's function mixes examples."""
    if not _is_by_example(criterion, outputs, some.targets, found):
        raise EvaluateError(
            f"evaluate.loss or a metric gives an example of {some.name} another value alone than "
            f"beside others (outputs {_shape(outputs)}, targets {told(some.targets)}); wanted one "
            "value an example, each by itself. Check that it does not broadcast (n, 1) "
            "against (n,)"
        )


def _require_rows(found: Mapping[str, Values], examples: int, names: Collection[str]) -> None:
    """Raises EvaluateError where a quantity is not there, or is not one value an example."""
    for name, values in found.items():
        what = "the loss" if name == "loss" else name
        if values.sums.shape != (examples,):
            raise EvaluateError(
                f"{what} gives {tuple(values.sums.shape)} for {examples} examples; wanted one "
                "value an example"
            )
    missing = [name for name in names if name not in found and name != "loss_stderr"]
    if missing:
        raise EvaluateError(
            f"evaluate.quantities has {missing[0]}, which nothing gives; wanted some of "
            f"{', '.join([*found, 'loss_stderr'])}. Let evaluate.loss return a dict with it, or "
            "name a function in evaluate.metrics"
        )


def _is_by_example(
    criterion: Criterion, outputs: Any, targets: Tensor, found: Mapping[str, Values]
) -> bool:
    """Whether the user's functions give each of a few examples what they give it alone.

    They may broadcast outputs (n, 1) against targets (n,) to (n, n) without an error.
    """
    if criterion.is_built_in and not criterion.metrics:
        return True
    try:
        each = [
            criterion.of_outputs(outputs[i : i + 1], targets[i : i + 1], ())
            for i in range(len(targets))
        ]
        alone = {name: torch.cat([one[name].sums for one in each]) for name in each[0]}
    except Exception:  # the user's own: perhaps one example is too few for it
        return True
    return all(
        own.shape != found[name].sums.shape
        or torch.allclose(own, found[name].sums, rtol=1e-3, atol=1e-6, equal_nan=True)
        for name, own in alone.items()
    )


def _shape(outputs: Any) -> str:
    return told(outputs) if isinstance(outputs, Tensor) else type(outputs).__name__
