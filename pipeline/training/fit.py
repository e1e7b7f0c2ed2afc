"""Training a mode from fresh weights, for people who have no checkpoints.

The folder holds the files that `session` lists, and mode.safetensors: the network's parameters and
buffers by name. Frames, where the spec asks for them, hold the same tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.problem.criterion import Criterion
from pipeline.problem.forward import Inputs
from pipeline.problem.layout import Layout, flattened
from pipeline.problem.losses import LossFunction
from pipeline.problem.trust import Codes, Named
from pipeline.training import inputs, session, sgd
from pipeline.training.inputs import TrainingInputs
from pipeline.training.job import Files, Job, Objective, State, job_of
from pipeline.training.session import Outcome, Progress
from pipeline.training.spec import FitSpec


@dataclass(frozen=True)
class Prepared:
    """A mode's training that is ready to start; see `session.Prepared`."""

    spec: FitSpec
    inputs: TrainingInputs
    facts: Mapping[str, Any]
    code: Named

    @property
    def folder(self) -> Path:
        return Path(self.spec.out)

    def job(self, device: torch.device) -> Job:
        """Training all parameters from fresh ones."""
        spec, loss = self.spec, self.inputs.problem.criterion()
        net = self.inputs.fresh_network(spec.train.seed).requires_grad_(False).to(device)
        parameters = dict(net.named_parameters())
        persistent = net.state_dict()

        def named(state: State) -> dict[str, Tensor]:
            kept = {name: b for name, b in state.buffers.items() if name in persistent}
            return sgd.views(state.trained, parameters) | kept

        return job_of(
            self.inputs,
            objective(net, loss, spec.train.weight_decay),
            flattened(parameters, Layout.of(net)),
            dict(net.named_buffers()),
            spec,
            Files("mode.safetensors", named, named),
        )


def prepare(spec: FitSpec, codes: Codes | None = None) -> Prepared:
    """Load and check everything `spec` names; nothing is written.

    Args:
        spec: with absolute paths, as `spec.read_fit` returns it.
        codes: the user's code, where it is known by value already; else read from its files.

    Raises:
        LossatlasError: one line on whatever is missing or does not fit.
    """
    codes = codes or inputs.read_codes(spec)
    loaded, _, parts = inputs.load_inputs(spec, codes)
    return Prepared(spec, loaded, inputs.facts(spec, codes, parts), inputs.named(spec, codes))


def prepare_again(
    folder: str | Path, given: str | None = None, tell: Callable[[str], None] | None = None
) -> Prepared:
    """The same from the folder of a training, to go on with it.

    Args:
        folder: of the training.
        given, tell: as for `trust.require`.

    Raises:
        TrustError: it names code that no spec on this machine named.
        TrainingError: it is not a mode's, or the data is no longer what it was.
        LossatlasError: one line on whatever is missing.
    """
    prepared = prepare(*inputs.kept(folder, FitSpec, given, tell))
    inputs.require_unchanged(prepared.folder, prepared.facts)
    return prepared


def fit(
    prepared: Prepared,
    device: str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
    checkpoint_seconds: float = session.CHECKPOINT_SECONDS,
) -> Outcome:
    """Train a mode, or go on with its training; see `session.run`.

    The initial weights are those of the factory under `train.seed`; two seeds give two modes.
    """
    return session.run(prepared, device, on_progress, checkpoint_seconds)


def objective(network: nn.Module, loss: LossFunction | Criterion, weight_decay: float) -> Objective:
    """What training minimises: mean loss of the batch at θ, plus weight_decay · ½‖θ‖².

    Batch norm is in train mode: it uses the statistics of the batch and updates its running ones.

    Args:
        network: any; changed to train mode. Its own weights play no part.
        loss: outputs, targets → one value an example (n,); or a criterion.
        weight_decay: at least 0.
    """
    network.train()

    def at_weights(
        theta: Tensor,
        buffers: dict[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        _random: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        return sgd.penalised_loss(network, theta, buffers, inputs, targets, loss, weight_decay)

    return at_weights
