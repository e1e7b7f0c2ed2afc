"""Small networks: one forward pass a point, and one call for the losses of a group of points.

Where a forward pass takes less than a millisecond, computing the losses costs as much again, nearly
all of it in calling torch. Cross-entropy takes every row of outputs by itself, so the rows of many
points can go into one call without a bit changing. The network is still called once for each point
(decision 017).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.problem.criterion import Criterion
from pipeline.problem.losses import cross_entropy, misclassified
from pipeline.problem.means import Values

# Each point then pays a thirtieth of the calls, which is little beside its forward pass.
_LARGEST_GROUP = 32
# The outputs of a group in float64, which should stay in the cache.
_GROUP_BYTES = 1 << 20
# A network is small where that many examples fit in the cache at once.
_SMALLEST_CHUNK = 256


def group_size(
    criterion: Criterion, outputs: torch.Size, targets: Sequence[torch.Size], chunk: int
) -> int:
    """How many points have their losses computed together.

    It depends on the network and the data alone: all workers have to choose the same.

    Args:
        criterion: groups are for plain cross-entropy, which takes each row by itself.
        outputs: the shape of some examples' outputs; groups need (n, classes).
        targets: the shape of each split's targets; groups need (n,).
        chunk: how many examples go through the network at once. Where they are few, or a split
            needs several passes, the network takes most of the time.
    """
    is_rows = len(outputs) == 2 and all(len(shape) == 1 for shape in targets)
    examples = max(shape[0] for shape in targets)
    is_small = _SMALLEST_CHUNK <= chunk >= examples
    if not criterion.is_plain_cross_entropy or not is_rows or not is_small:
        return 1
    fitting = _GROUP_BYTES // (8 * examples * outputs[1])
    return max(1, min(_LARGEST_GROUP, fitting))


def values_of_points(
    outputs: Sequence[Tensor], targets: Tensor, with_errors: bool
) -> dict[str, Values]:
    """Cross-entropy and misclassification of each example, at several points.

    Args:
        outputs: of each point (n, classes).
        targets: int64 (n,).
        with_errors: whether errors are computed.

    Returns:
        `loss`, and `error` where it is asked for: (points, n).
    """
    rows, wanted = torch.cat(list(outputs)), targets.repeat(len(outputs))
    shape = len(outputs), len(targets)
    found = {"loss": Values(cross_entropy(rows, wanted).view(shape))}
    if with_errors:
        found["error"] = Values(misclassified(rows, wanted).view(shape))
    return found
