"""The names and shapes of a network's tensors, by which its checkpoints are read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.problem.norms import running_statistics, step_counts

Shape = tuple[int, ...]

_EXTRA = "_extra_state"


@dataclass(frozen=True)
class Layout:
    """What a network's tensors are called and how large they are, without the network.

    Attributes:
        parameters: name → shape, in `named_parameters()` order, which flat weights have too.
        complex_: names of the parameters that are complex.
        is_double: whether the network computes in float64 (complex128), as its parameters are.
        aliases: name of a parameter → all its names; tied weights have several.
        buffers: name → shape, of those that a state dict holds.
        statistics: names of the buffers that batch norms keep.
        step_counts: names of `num_batches_tracked` of all norms.
        extra: names of what a state dict holds beside tensors.
    """

    parameters: Mapping[str, Shape]
    aliases: Mapping[str, tuple[str, ...]]
    buffers: Mapping[str, Shape]
    statistics: frozenset[str]
    step_counts: frozenset[str]
    extra: tuple[str, ...]
    complex_: frozenset[str] = frozenset()
    is_double: bool = False

    @staticmethod
    def of(network: nn.Module) -> Layout:
        """The layout of `network`."""
        names: dict[int, list[str]] = defaultdict(list)
        for name, parameter in network.named_parameters(remove_duplicate=False):
            names[id(parameter)].append(name)
        parameters = dict(network.named_parameters())
        return Layout(
            parameters={name: tuple(p.shape) for name, p in parameters.items()},
            aliases={name: tuple(names[id(p)]) for name, p in parameters.items()},
            buffers={name: tuple(b.shape) for name, b in persistent_buffers(network).items()},
            statistics=frozenset(running_statistics(network)),
            step_counts=frozenset(step_counts(network)),
            extra=tuple(name for name in network.state_dict() if name.endswith(_EXTRA)),
            complex_=frozenset(name for name, p in parameters.items() if p.is_complex()),
            is_double=is_double(network),
        )

    @property
    def reals(self) -> dict[str, Shape]:
        """Name → shape in flat weights, where a complex number is two: (…, 2).

        A complex vector, such as a bias, stays one axis long, real and imaginary parts in turn.
        """
        return {
            name: shape
            if name not in self.complex_
            else (*shape, 2)
            if len(shape) > 1
            else (2 * math.prod(shape),)
            for name, shape in self.parameters.items()
        }

    @property
    def dtype(self) -> torch.dtype:
        """Of flat weights."""
        return torch.float64 if self.is_double else torch.float32

    @property
    def precision(self) -> str:
        """What the network computes in: `float32`, `float64`, `complex64` or `complex128`."""
        if self.complex_:
            return "complex128" if self.is_double else "complex64"
        return "float64" if self.is_double else "float32"

    @property
    def size(self) -> int:
        """How many real values the parameters have, P."""
        return sum(math.prod(shape) for shape in self.reals.values())

    @property
    def names(self) -> set[str]:
        """All names of all parameters."""
        return {name for names in self.aliases.values() for name in names}


def is_double(network: nn.Module) -> bool:
    """Whether a parameter is float64 or complex128."""
    return any(p.dtype in (torch.float64, torch.complex128) for p in network.parameters())


def flattened(tensors: Mapping[str, Tensor], layout: Layout) -> Tensor:
    """Parameters by name as one vector (P,), in the order of the layout."""
    parts = []
    for name in layout.parameters:
        tensor = tensors[name].detach()
        if name in layout.complex_:
            wanted = torch.complex128 if layout.is_double else torch.complex64
            tensor = torch.view_as_real(tensor.to(wanted).contiguous())
        parts.append(tensor.reshape(-1).to(layout.dtype))
    return torch.cat(parts)


def separated(flat: Tensor, layout: Layout) -> dict[str, Tensor]:
    """The inverse of `flattened`; differentiable, and views of `flat` where they are real."""
    shapes = layout.reals
    parts = torch.split(flat, [math.prod(shape) for shape in shapes.values()])
    return {
        name: shaped(part, layout.parameters[name], name in layout.complex_)
        for name, part in zip(shapes, parts, strict=True)
    }


def shaped(part: Tensor, shape: Shape, is_complex: bool) -> Tensor:
    """A part of a flat vector in the shape of its parameter; differentiable."""
    if not is_complex:
        return part.view(shape)
    pairs = part.view(*shape, 2)
    return torch.complex(pairs[..., 0], pairs[..., 1])


def persistent_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Name → buffer, of those that a state dict holds."""
    saved = network.state_dict()
    return {name: buffer for name, buffer in network.named_buffers() if name in saved}
