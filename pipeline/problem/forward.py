"""What a network's forward is called with: one array, several in order, or several by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

# One array (n, …), several in the order of forward's parameters, or several by their names.
Arrays: TypeAlias = (
    NDArray[np.generic] | tuple[NDArray[np.generic], ...] | Mapping[str, NDArray[np.generic]]
)
Inputs: TypeAlias = "Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]"


def forwarded(network: Callable[..., Any], inputs: Inputs) -> Any:
    """What `network` gives for `inputs`: forward(x), forward(*x) or forward(**x)."""
    match inputs:
        case Mapping():
            return network(**inputs)
        case tuple():
            return network(*inputs)
    return network(inputs)


def mapped(inputs: Any, change: Callable[[Any], Any]) -> Any:
    """`inputs` with each of its arrays or tensors changed."""
    match inputs:
        case Mapping():
            return {name: change(each) for name, each in inputs.items()}
        case tuple():
            return tuple(change(each) for each in inputs)
    return change(inputs)


def first_of(inputs: Any, count: int | None) -> Any:
    """The first examples of `inputs`; None for all."""
    return mapped(inputs, lambda each: each[:count])


def leaves(inputs: Any) -> Iterator[Any]:
    """The arrays or tensors of `inputs`, one by one."""
    match inputs:
        case Mapping():
            yield from inputs.values()
        case tuple():
            yield from inputs
        case _:
            yield inputs


def examples(inputs: Any) -> int:
    """How many examples `inputs` has: the rows of its first array."""
    return len(next(leaves(inputs)))


def bytes_of(inputs: Any) -> int:
    """The bytes of all arrays or tensors in `inputs`."""
    return sum(int(each.nbytes) for each in leaves(inputs))


def told(inputs: Any) -> str:
    """Dtypes and shapes in words: `float32 (2, 3)`, or `ids int64 (2, 7), mask int64 (2, 7)`."""
    if isinstance(inputs, Mapping):
        return ", ".join(f"{name} {told(each)}" for name, each in inputs.items())
    if isinstance(inputs, tuple):
        return ", ".join(map(told, inputs))
    return f"{str(inputs.dtype).removeprefix('torch.')} {tuple(inputs.shape)}"
