"""A training as values: what is trained, on which data, how, and which files are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pipeline.problem.forward import Inputs, examples, mapped
from pipeline.training.inputs import TrainingInputs
from pipeline.training.spec import ConnectSpec, FitSpec, FramesSpec, KeepSpec, TrainSpec

# What is trained, buffers, inputs, targets, random numbers → what is minimised, mean loss.
Objective = Callable[
    [Tensor, dict[str, Tensor], Inputs, Tensor, np.random.Generator], tuple[Tensor, Tensor]
]
Tensors = Mapping[str, Tensor]


@dataclass
class State:
    """What changes in a training.

    Attributes:
        step: steps done.
        trained, momentum: one shape, any.
        squares: Adam's mean of squared gradients, of the same shape; None for SGD.
        buffers: the network's, where training changes them.
        loss_sum: float64, over the examples of the running epoch.
        losses: mean loss of each epoch done (nats).
    """

    step: int
    trained: Tensor
    momentum: Tensor
    buffers: dict[str, Tensor]
    loss_sum: Tensor
    losses: list[float] = field(default_factory=list)
    squares: Tensor | None = None


@dataclass(frozen=True)
class Files:
    """What a training writes besides its newest checkpoint.

    Attributes:
        result: the name of the file of the trained weights.
        trained: state → the tensors of that file.
        frame: state → the tensors of a frame.
        ends: the name of a file that is written before the first step, and its tensors; None
            for none.
    """

    result: str
    trained: Callable[[State], Tensors]
    frame: Callable[[State], Tensors]
    ends: tuple[str, Tensors] | None = None


@dataclass(frozen=True)
class Job:
    """What is trained, on which data, and how. All tensors are on one device.

    Attributes:
        objective: to be minimised.
        initial: where the search begins.
        buffers: those of the network that training changes, by name.
        inputs, targets: (n, …) of the training split; inputs may be several tensors.
        recipe: of SGD, or of Adam.
        frames: which states are kept; None for none.
        keep: which weights are kept as a trajectory; None for none.
        fill: the value of black (channels,) after normalisation, for `augment: crop-flip`.
        files: what is written.
    """

    objective: Objective
    initial: Tensor
    buffers: Mapping[str, Tensor]
    inputs: Inputs
    targets: Tensor
    recipe: TrainSpec
    frames: FramesSpec | None
    keep: KeepSpec | None
    fill: Tensor | None
    files: Files

    @property
    def steps_an_epoch(self) -> int:
        return -(-examples(self.inputs) // self.recipe.batch)

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_an_epoch


def job_of(
    inputs: TrainingInputs,
    objective: Objective,
    initial: Tensor,
    buffers: Mapping[str, Tensor],
    spec: ConnectSpec | FitSpec,
    files: Files,
) -> Job:
    """The job of training on the split that trains, on the device of `initial`; see `Job`."""
    arrays, targets = inputs.training
    x = mapped(arrays, lambda each: torch.tensor(each).to(initial.device))
    y = torch.tensor(targets).to(initial.device)
    fill = None
    if spec.train.augment == "crop-flip":
        black, normalise = torch.zeros(x.shape[1]), inputs.normalise
        if normalise is not None:
            black = (black - torch.tensor(normalise.mean)) / torch.tensor(normalise.std)
        fill = black.to(initial.device)
    keep = spec.keep if isinstance(spec, FitSpec) else None
    return Job(objective, initial, buffers, x, y, spec.train, spec.frames, keep, fill, files)
