"""The names and shapes of a network's tensors, by which its checkpoints are read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.problem.norms import running_statistics, step_counts

Shape = tuple[int, ...]

_EXTRA = "_extra_state"


@dataclass(frozen=True)
class Layout:
    """What a network's tensors are called and how large they are, without the network.

    Attributes:
        parameters: name → shape, in `named_parameters()` order, which flat weights have too.
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
        )

    @property
    def size(self) -> int:
        """How many values the parameters have, P."""
        return sum(math.prod(shape) for shape in self.parameters.values())

    @property
    def names(self) -> set[str]:
        """All names of all parameters."""
        return {name for names in self.aliases.values() for name in names}


def persistent_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Name → buffer, of those that a state dict holds."""
    saved = network.state_dict()
    return {name: buffer for name, buffer in network.named_buffers() if name in saved}
