"""What the buffers of a plane's first checkpoint change at the other checkpoints.

A render uses the buffers of its first checkpoint at every point. A checkpoint with other buffers
may have another loss on the plane than by itself. Such losses are reported, with both numbers
(decision 021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.plain_torch import PlainTorch
from pipeline.problem import state_dict
from pipeline.problem.checkpoint import Known
from pipeline.problem.layout import Layout
from pipeline.problem.norms import running_statistics, step_counts

# A difference below this share of the loss is rounding.
_ROUNDING = 1e-4
# How many buffers a sentence names.
_NAMED = 3


@dataclass(frozen=True)
class OwnLoss:
    """A checkpoint whose loss on the plane is not its own, because of its buffers.

    Attributes:
        anchor, file: the checkpoint.
        split: of the data.
        loss: with the buffers of the render, as the picture has it.
        own: with its own buffers.
    """

    anchor: str
    file: str
    split: str
    loss: float
    own: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Findings:
    """What the buffers of the first checkpoint, which the render uses everywhere, change.

    Attributes:
        own_losses: where a checkpoint's own loss differs from that on the plane.
        buffers: the buffers that are used everywhere though they belong to the weights of one
            checkpoint, in words; None where there are none. Without batch norms' statistics.
    """

    own_losses: tuple[OwnLoss, ...]
    buffers: str | None


def compare_buffers(
    plain: PlainTorch,
    evaluator: Evaluator,
    checkpoints: Sequence[Known],
    before_all: Callable[[], None],
) -> Findings:
    """Compare the render's buffers with those of each checkpoint.

    Args:
        plain: of the problem that `evaluator` evaluates.
        evaluator: on the CPU; its buffers are those of the render again afterwards.
        checkpoints: of the plane, that of the render's buffers first.
        before_all: called before `evaluator` evaluates all of the data; may raise.
    """
    network = plain.problem.network(in_eval=False)
    matter = _buffers_that_matter(plain, network)
    return Findings(
        tuple(_own_losses(plain, evaluator, checkpoints, network, matter, before_all)),
        _in_words(plain, checkpoints, network, matter),
    )


def _buffers_that_matter(plain: PlainTorch, network: nn.Module) -> list[str]:
    """The names of the render's buffers that a forward pass uses."""
    unused = step_counts(network)
    if plain.batch_norm == "recompute":
        unused |= running_statistics(network)
    return [name for name in plain.buffers if name not in unused]


def _own_losses(
    plain: PlainTorch,
    evaluator: Evaluator,
    checkpoints: Sequence[Known],
    network: nn.Module,
    matter: Sequence[str],
    before_all: Callable[[], None],
) -> Iterator[OwnLoss]:
    """Where a checkpoint's buffers differ from the render's: its loss with either."""
    layout = Layout.of(network)
    for known in checkpoints:
        if state_dict.missing_statistic(known.state, layout) in matter:
            continue  # a bend without statistics has no loss of its own
        buffers = state_dict.buffers(known.state, network)
        if all(torch.equal(buffers[name], plain.buffers[name]) for name in matter):
            continue
        before_all()
        weights = state_dict.weights(known.state, layout)
        found = evaluator.at(weights)["loss"].astype("f8")
        evaluator.use_buffers(buffers)
        own = evaluator.at(weights)["loss"].astype("f8")
        evaluator.use_buffers(plain.buffers)
        for split, here, by_itself in zip(plain.problem.splits, found, own, strict=True):
            if not np.isclose(here, by_itself, rtol=_ROUNDING, atol=0.0, equal_nan=True):
                yield OwnLoss(known.anchor, known.file, split, float(here), float(by_itself))


def _in_words(
    plain: PlainTorch, checkpoints: Sequence[Known], network: nn.Module, matter: Sequence[str]
) -> str | None:
    """Which buffers of the first checkpoint are used where they do not belong."""
    statistics = running_statistics(network)
    others = [state_dict.buffers(known.state, network) for known in checkpoints[1:]]
    if not others:  # a plane around one checkpoint: compare with the initial buffers
        others = [dict(network.named_buffers())]
    names = [
        name
        for name in matter
        if name not in statistics
        and any(not torch.equal(each[name], plain.buffers[name]) for each in others)
    ]
    if not names:
        return None
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"buffers of {checkpoints[0].file} everywhere: {', '.join(names[:_NAMED])}{more}"
