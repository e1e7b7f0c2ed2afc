"""Finding a curve of low loss between two modes, after Garipov et al. 2018 (arXiv:1802.10026).

`curve` lists the files of such a training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import LossatlasError
from pipeline.fingerprint import digest_of_array
from pipeline.geometry.plane import curve_coefficients
from pipeline.problem import state_dict
from pipeline.problem.criterion import Criterion
from pipeline.problem.forward import Inputs
from pipeline.problem.layout import Layout, flattened, persistent_buffers
from pipeline.problem.losses import LossFunction
from pipeline.problem.trust import Codes, Named
from pipeline.training import inputs, session, sgd
from pipeline.training.curve import (
    Kind,
    Weights,
    constants,
    named_bends,
    named_point,
    other_buffers,
)
from pipeline.training.inputs import TrainingInputs
from pipeline.training.job import Files, Job, Objective, State, job_of
from pipeline.training.session import Outcome, Progress
from pipeline.training.spec import ConnectSpec


class ConnectError(LossatlasError):
    """No curve can be trained between these ends."""


@dataclass(frozen=True)
class Prepared:
    """A curve's training that is ready to start; see `session.Prepared`.

    Attributes:
        spec: what was asked for, with absolute paths.
        inputs: network, data and loss.
        start, end: float32 (P,).
        buffers: the start's, by name.
        facts: for training.json; `parts` decide whether a training is the same.
        code: the user's own code in it.
    """

    spec: ConnectSpec
    inputs: TrainingInputs
    start: Weights
    end: Weights
    buffers: Mapping[str, NDArray[np.generic]]
    facts: Mapping[str, Any]
    code: Named

    @property
    def folder(self) -> Path:
        return Path(self.spec.out)

    def network(self) -> nn.Module:
        """The network with the start's buffers, on the CPU, in eval mode."""
        net = self.inputs.problem.network()
        for name, buffer in net.named_buffers():
            if name in self.buffers:
                buffer.copy_(torch.tensor(self.buffers[name]))
        return net

    def job(self, device: torch.device) -> Job:
        """Training the bends between ends that are fixed."""
        spec, net = self.spec, self.network().requires_grad_(False).to(device)
        start, end = (torch.tensor(w).to(device) for w in (self.start, self.end))
        trained = objective(
            net,
            spec.curve.kind,
            start,
            end,
            dict(net.named_buffers()),
            self.inputs.problem.criterion(),
            spec.train.weight_decay,
        )
        initial = torch.tensor(initial_bends(self)).to(device)
        return job_of(self.inputs, trained, initial, {}, spec, self._files(net))

    def _files(self, net: nn.Module) -> Files:
        layout, buffers = Layout.of(net), persistent_buffers(net)
        last = self.spec.curve.bends + 1
        ends = {
            **named_point(layout, 0, self.start),
            **named_point(layout, last, self.end),
            **constants(self.spec.curve.kind, last + 1),
            **other_buffers(net),
        }

        def frame(state: State) -> dict[str, Tensor]:
            if len(state.trained) > 1:
                return named_bends(layout, state.trained)
            return state_dict.named(state.trained[0].cpu().numpy(), layout) | buffers

        def curve(state: State) -> dict[str, Tensor]:
            return ends | named_bends(layout, state.trained)

        return Files("curve.safetensors", curve, frame, ("ends.safetensors", ends))


def prepare(spec: ConnectSpec, codes: Codes | None = None) -> Prepared:
    """Load and check everything `spec` names; nothing is written.

    Args:
        spec: with absolute paths, as `spec.read_connect` returns it.
        codes: the user's code, where it is known by value already; else read from its files.

    Raises:
        ConnectError: the ends are identical.
        LossatlasError: one line on whatever is missing or does not fit.
    """
    codes = codes or inputs.read_codes(spec)
    loaded, net, parts = inputs.load_inputs(spec, codes)
    layout, ends = Layout.of(net), []
    for where, path in (("start", spec.start), ("end", spec.end)):
        state = state_dict.load(path, layout)
        state_dict.match(state, layout, f"{where} ({Path(path).name})")
        ends.append(state)
    start, end = (state_dict.weights(state, layout) for state in ends)
    if np.array_equal(start, end):
        raise ConnectError(
            f"start ({Path(spec.start).name}) and end ({Path(spec.end).name}) have identical "
            "weights; wanted two modes. Check start and end"
        )
    buffers = {name: b.numpy() for name, b in state_dict.buffers(ends[0], net).items()}
    parts |= {
        "start": digest_of_array(start),
        "end": digest_of_array(end),
        **{f"curve.{key}": value for key, value in spec.curve.model_dump(mode="json").items()},
    }
    facts, named = inputs.facts(spec, codes, parts), inputs.named(spec, codes)
    return Prepared(spec, loaded, start, end, buffers, facts, named)


def prepare_again(
    folder: str | Path, given: str | None = None, tell: Callable[[str], None] | None = None
) -> Prepared:
    """The same from the folder of a training, to go on with it or to report on it.

    Args:
        folder: of the training.
        given, tell: as for `trust.require`.

    Raises:
        TrustError: it names code that no spec on this machine named.
        TrainingError: it is not a curve's, or an end or the data is no longer what it was.
        LossatlasError: one line on whatever is missing.
    """
    prepared = prepare(*inputs.kept(folder, ConnectSpec, given, tell))
    inputs.require_unchanged(prepared.folder, prepared.facts)
    return prepared


def connect(
    prepared: Prepared,
    device: str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
    checkpoint_seconds: float = session.CHECKPOINT_SECONDS,
) -> Outcome:
    """Train a curve, or go on with its training; see `session.run`."""
    return session.run(prepared, device, on_progress, checkpoint_seconds)


def point(kind: Kind, start: Tensor, bends: Tensor, end: Tensor, t: float) -> Tensor:
    """θ(t), (P,), a differentiable function of the bends.

    Args:
        kind: of the curve.
        start, end: (P,).
        bends: (bends, P).
        t: in [0, 1].

    Source: Garipov et al. 2018, arXiv:1802.10026, eq. 4 and 5.
    """
    values = curve_coefficients(kind, np.array([t]), len(bends) + 2)[0]
    inner = torch.tensor(values[1:-1], dtype=bends.dtype, device=bends.device)
    return float(values[0]) * start + inner @ bends + float(values[-1]) * end


def objective(
    network: nn.Module,
    kind: Kind,
    start: Tensor,
    end: Tensor,
    constants: Mapping[str, Tensor],
    loss: LossFunction | Criterion,
    weight_decay: float,
) -> Objective:
    """What training minimises over the bends: at one t drawn evenly from [0, 1] a step,

        mean loss of the batch at θ(t)  +  weight_decay · ½‖θ(t)‖²

    with batch norm in train mode, so with the statistics of the batch. The ends are fixed.

    Args:
        network: any; changed to train mode. Its own weights play no part.
        kind: of the curve.
        start, end: (P,), on the network's device.
        constants: the network's buffers. Each step begins with them: none is trained.
        loss: outputs, targets → one value an example (n,); or a criterion.
        weight_decay: at least 0.

    Source: Garipov et al. 2018, arXiv:1802.10026, eq. 2 and §3.2; the penalty, which is of the
        whole θ(t) rather than of the bends, is that of their code (`l2_regularizer`).
    """
    network.train()

    def at_random_t(
        bends: Tensor,
        _buffers: dict[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        random: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        theta = point(kind, start, bends, end, random.random())
        buffers = {name: buffer.clone() for name, buffer in constants.items()}
        return sgd.penalised_loss(network, theta, buffers, inputs, targets, loss, weight_decay)

    return at_random_t


def initial_bends(prepared: Prepared) -> Weights:
    """Where the bends begin, (bends, P): on the line between the ends, or at random."""
    asked = prepared.spec.curve
    if asked.init == "linear":
        share = (np.arange(1, asked.bends + 1) / (asked.bends + 1))[:, None]
        ends = (prepared.start.astype("f8"), prepared.end.astype("f8"))
        on_line: Weights = ((1 - share) * ends[0] + share * ends[1]).astype(prepared.start.dtype)
        return on_line
    seed = prepared.spec.train.seed
    fresh = (prepared.inputs.fresh_network(seed, which) for which in range(asked.bends))
    flat = [flattened(dict(net.named_parameters()), Layout.of(net)) for net in fresh]
    bends: Weights = torch.stack(flat).numpy()
    return bends
