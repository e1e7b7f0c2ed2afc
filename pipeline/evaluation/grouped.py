"""Points of a small network in groups: forward passes one by one, their losses in one call.

Where a forward pass takes less than a millisecond, what comes after it costs as much again, nearly
all of it in calling torch. Cross-entropy takes every row of outputs by itself, so the rows of many
points can go into one call and none can tell. The network stays out of it: whatever a user's
forward does, it is called for one point as ever, and not a bit of its outputs changes (decision
017).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.problem.losses import LossFunction, cross_entropy, misclassified

# The calls cost each point a thirtieth then, which is nothing beside its forward pass.
_LARGEST_GROUP = 32
# What a group's outputs take in float64: it should stay in the cache.
_GROUP_BYTES = 1 << 20
# A network is small where that many examples fit in the cache at once.
_SMALLEST_CHUNK = 256


def group_size(
    loss: LossFunction, outputs: torch.Size, targets: Sequence[torch.Size], chunk: int
) -> int:
    """How many points' losses are taken together; 1 where they are not.

    By the network and the data alone: two workers have to choose the same.

    Args:
        loss: only of cross-entropy is it known that it takes each row by itself.
        outputs: the shape of some examples' outputs: (n, classes), or there are no rows to take.
        targets: the shape of each split's: (n,), or they are not for rows.
        chunk: how many examples go through the network at once. Where they are few, or a split
            needs several passes, the network is what costs.
    """
    is_rows = len(outputs) == 2 and all(len(shape) == 1 for shape in targets)
    examples = max(shape[0] for shape in targets)
    is_small = _SMALLEST_CHUNK <= chunk >= examples
    if loss is not cross_entropy or not is_rows or not is_small:
        return 1
    fitting = _GROUP_BYTES // (8 * examples * outputs[1])
    return max(1, min(_LARGEST_GROUP, fitting))


def losses_and_errors(
    outputs: Sequence[Tensor], targets: Tensor, with_errors: bool
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and misclassification of each example, at several points.

    Args:
        outputs: of each point (n, classes).
        targets: int64 (n,).
        with_errors: where not, the losses stand in for the errors.

    Returns:
        Two float64 tensors (points, n).
    """
    rows, wanted = torch.cat(list(outputs)), targets.repeat(len(outputs))
    losses = cross_entropy(rows, wanted)
    errors = misclassified(rows, wanted) if with_errors else losses
    shape = len(outputs), len(targets)
    return losses.view(shape), errors.view(shape)
