"""Marks by value: what a worker needs to find the weights of each.

Checkpoints stay in their files until they are evaluated. A mean, and the Gaussian that samples are
drawn from, travel as vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import InputsChangedError, LossatlasError
from pipeline.fingerprint import digest_of_array
from pipeline.geometry.mark_files import MarksError
from pipeline.geometry.weight_averages import Gaussian
from pipeline.problem import checkpoint, state_dict
from pipeline.problem.layout import Layout


@dataclass(frozen=True)
class Mark:
    """The weights of one mark, float32 (P,), and the buffers of its own, by the network's names."""

    weights: NDArray[np.float32]
    buffers: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        buffers = (self.buffers[name].numpy() for name in sorted(self.buffers))
        return digest_of_array(self.weights, *buffers)


@dataclass(frozen=True)
class FileMarks:
    """Checkpoints, each with the digest that the survey found."""

    paths: tuple[str, ...]
    digests: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class MeanMark:
    """The mean of some checkpoints, float32 (P,)."""

    weights: NDArray[np.float32]
    count: int = 1


@dataclass(frozen=True)
class SampleMarks:
    """Samples of a Gaussian that was fitted to some checkpoints; see `Gaussian.sample`."""

    gaussian: Gaussian
    count: int
    scale: float
    seed: int

    def weights(self, number: int) -> NDArray[np.float32]:
        return self.gaussian.sample(self.scale, self.seed, number)


MarkSource = FileMarks | MeanMark | SampleMarks


@dataclass(frozen=True)
class Marks:
    """The marks of a render, by value but for their files; numbered through their groups.

    `is_frozen` says that batch norms use each checkpoint's own running statistics.
    """

    groups: tuple[MarkSource, ...] = ()
    is_frozen: bool = False

    def load(self, number: int, layout: Layout) -> Mark:
        """Mark `number`; `layout` is of the network that it is of.

        Raises:
            InputsChangedError: its checkpoint was replaced after the survey.
            LossatlasError: it cannot be read.
        """
        for group in self.groups:
            if number >= group.count:
                number -= group.count
                continue
            match group:
                case FileMarks():
                    return self._of_file(group, number, layout)
                case MeanMark():
                    return Mark(group.weights)
                case SampleMarks():
                    return Mark(group.weights(number))
        raise IndexError(f"the marks have no number {number}")

    def _of_file(self, group: FileMarks, number: int, layout: Layout) -> Mark:
        path = group.paths[number]
        state = state_dict.load(path, layout)
        try:
            mark = mark_of(state, path, layout, self.is_frozen)
        except LossatlasError as error:
            raise _replaced(path, str(error)) from None
        if mark.digest != group.digests[number]:
            raise _replaced(path, "its weights differ")
        return mark


def mark_of(state: checkpoint.State, where: str, layout: Layout, is_frozen: bool) -> Mark:
    """The mark that a checkpoint is; that of a curve is its bend.

    Args:
        state: as `checkpoint.load` gives it.
        where: what messages call it.
        layout: of the network that it should be of.
        is_frozen: whether batch norms use its running statistics.

    Raises:
        LossatlasError: it is of another network, has several bends, or lacks running statistics.
    """
    weights = state_dict.weights_or_bend(state, layout, where)
    missing = state_dict.missing_statistic(state, layout)
    if is_frozen and missing is not None:
        raise MarksError(
            f"{where} holds no statistics of batch norms ({missing}), which evaluate.batch_norm: "
            "frozen wants of every mark. Use batch_norm: recompute"
        )
    unused = layout.step_counts if is_frozen else layout.step_counts | layout.statistics
    own = state_dict.own_buffers(state, layout)
    return Mark(weights, {name: own[name] for name in own if name not in unused})


def _replaced(path: str, what: str) -> InputsChangedError:
    return InputsChangedError(
        f"the mark {path} was replaced after the render began ({what}); wanted the checkpoint as "
        "it was. Put the old file back, or render to a new store"
    )
