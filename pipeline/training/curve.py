"""Curves of low loss between two modes, after Garipov et al. 2018 (arXiv:1802.10026).

The folder of a curve's training holds, besides what `training` says:

    ends.safetensors               start and end
    frames/frame-0000.safetensors  the bends alone, and frame-0000.json: epoch, step, train_loss
    curve.safetensors              the trained curve: start, bends and end

ends and curve are named as in the authors' code: `net.<parameter>_0` is the start's, `_1` the
first bend's, and so on to the end's; `coeff_layer.*` are the curve's constants. Batch-norm
statistics are in neither: along a curve they have to be recomputed at every point. Other buffers
are the start's.

A frame with one bend is a checkpoint of the network at the bend: parameters by their own names,
and the start's buffers, batch-norm statistics included, so that it can be loaded like any other.
`plane: {kind: curve, weights: [start, end], frames: <out>/frames}` makes a film of them. Several
bends span no plane; their frames have the numbered names of curve.safetensors.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import LossatlasError
from pipeline.fingerprint import differences, digest_of_array
from pipeline.geometry.plane import Vector, curve_coefficients
from pipeline.problem import checkpoint, state_dict, trust
from pipeline.problem.layout import Layout, persistent_buffers
from pipeline.problem.losses import LossFunction
from pipeline.problem.norms import running_statistics
from pipeline.problem.trust import Codes, Named
from pipeline.spec import validate
from pipeline.training import inputs, session, sgd
from pipeline.training.inputs import TrainingInputs
from pipeline.training.run_folder import claimed, described, write_tensors
from pipeline.training.session import Job, Objective, Outcome, Progress, State
from pipeline.training.spec import ConnectSpec

Kind = Literal["bezier", "chain"]
Weights = NDArray[np.float32]

_CONSTANTS = "coeff_layer."
_NET = "net."


class CurveError(LossatlasError):
    """No curve can be trained between these ends, or read from this place."""


@dataclass(frozen=True)
class Curve:
    """Start, bends in order, and end: float32 (P,) each."""

    kind: Kind
    points: tuple[Weights, ...]

    def weights(self, t: float) -> Vector:
        """θ(t) for t in [0, 1], float64 (P,)."""
        coefficients = curve_coefficients(self.kind, np.array([t]), len(self.points))[0]
        theta: Vector = coefficients @ np.stack(self.points).astype(np.float64)
        return theta


@dataclass(frozen=True)
class Frame:
    """One kept state of a curve's training.

    Attributes:
        number: from 0, in the order of training.
        epoch: epochs done, with the fraction of one.
        step: steps done.
        train_loss: mean loss (nats) over the epoch's batches so far, each at its own random t;
            None for the state before the first step.
        path: of the bends.
    """

    number: int
    epoch: float
    step: int
    train_loss: float | None
    path: Path


@dataclass(frozen=True)
class Prepared:
    """A curve's training that is ready to start; by value, so that a worker can do it.

    Attributes:
        spec: what was asked for, with absolute paths.
        inputs: network, data and loss.
        start, end: float32 (P,).
        buffers: the start's, by name.
        facts: what session.json will say; `parts` decide whether a training is the same.
        code: what of it is the user's own.
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
    loss: LossFunction,
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
        loss: outputs, targets → one value an example (n,).
        weight_decay: at least 0.

    Source: Garipov et al. 2018, arXiv:1802.10026, eq. 2 and §3.2; the penalty, which is of the
        whole θ(t) rather than of the bends, is that of their code (`l2_regularizer`).
    """
    network.train()

    def at_random_t(
        bends: Tensor,
        _buffers: dict[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        random: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        theta = point(kind, start, bends, end, random.random())
        buffers = {name: buffer.clone() for name, buffer in constants.items()}
        return sgd.penalised_loss(network, theta, buffers, inputs, targets, loss, weight_decay)

    return at_random_t


def initial_bends(prepared: Prepared) -> Weights:
    """Where the bends begin, float32 (bends, P): on the line between the ends, or at random."""
    asked = prepared.spec.curve
    if asked.init == "linear":
        share = (np.arange(1, asked.bends + 1) / (asked.bends + 1))[:, None]
        ends = (prepared.start.astype("f8"), prepared.end.astype("f8"))
        on_line: Weights = ((1 - share) * ends[0] + share * ends[1]).astype(np.float32)
        return on_line
    seed = prepared.spec.train.seed
    fresh = (prepared.inputs.fresh_network(seed, which) for which in range(asked.bends))
    flat = [nn.utils.parameters_to_vector(net.parameters()).detach() for net in fresh]
    bends: Weights = torch.stack(flat).numpy()
    return bends


def prepare(spec: ConnectSpec, codes: Codes | None = None) -> Prepared:
    """Load and check everything `spec` names; nothing is written.

    Args:
        spec: with absolute paths, as `connect_spec.read_connect` returns it.
        codes: the user's code, where it is known by value already; else read from its files.

    Raises:
        CurveError: the ends are identical.
        LossatlasError: one line on whatever is missing or does not fit.
    """
    codes = codes or inputs.read_codes(spec)
    loaded, net, parts = inputs.load_inputs(spec, codes)
    layout, ends = Layout.of(net), []
    for where, path in (("start", spec.start), ("end", spec.end)):
        state = checkpoint.load(path)
        state_dict.match(state, layout, f"{where} ({Path(path).name})")
        ends.append(state)
    start, end = (state_dict.weights(state, layout) for state in ends)
    if np.array_equal(start, end):
        raise CurveError(
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
        CurveError: it is not a curve's, or an end or the data is no longer what it was.
        LossatlasError: one line on whatever is missing.
    """
    folder = Path(folder).absolute()
    facts = described(folder)
    if facts.get("kind") != "connect":
        raise CurveError(f"{folder} holds the training of a mode; wanted that of a curve")
    spec = validate(ConnectSpec, facts["spec"], str(folder)).model_copy(update={"out": str(folder)})
    prepared = prepare(spec, inputs.recorded_codes(spec, facts, given, tell))
    changed = differences(facts["parts"], prepared.facts["parts"])
    if changed:
        raise CurveError(
            f"the inputs of {folder} have changed: {'; '.join(changed)}. Put the old files back, "
            "or train in a new folder"
        )
    return prepared


def connect(
    prepared: Prepared,
    device: str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
    checkpoint_seconds: float = session.CHECKPOINT_SECONDS,
) -> Outcome:
    """Train a curve, or go on with its training, in the folder of its spec.

    Args:
        prepared: what to train.
        device: `cpu`, `cuda` or `cuda:1`.
        on_progress: called between two steps, about five times a second; may raise to stop.
        checkpoint_seconds: how much work a kill may cost.

    Raises:
        TrainingError: the folder belongs to another training, the training diverged, or a file
            cannot be written.
    """
    began = time.monotonic()
    folder = prepared.folder
    job = _job(prepared, torch.device(device))
    with claimed(folder, prepared.facts):
        trust.note(prepared.code)
        result = folder / "curve.safetensors"
        net, kind = prepared.network(), prepared.spec.curve.kind
        layout = Layout.of(net)
        last = prepared.spec.curve.bends + 1
        constants = _constants(kind, last + 1) | _other_buffers(net)
        ends = _named(layout, 0, prepared.start) | _named(layout, last, prepared.end)
        write_tensors(folder / "ends.safetensors", ends | constants)
        state, resumed_at = session.train(job, folder, on_progress, checkpoint_seconds)
        write_tensors(result, ends | constants | _bends(layout, state.trained))
    seconds = time.monotonic() - began
    return Outcome(folder, result, resumed_at, job.steps, tuple(state.losses), seconds)


def frames(folder: str | Path) -> list[Frame]:
    """The kept states of a curve's training, in its order.

    Args:
        folder: of the training, or its `frames`.

    Raises:
        CurveError: there is no such folder, no frame in it, or one cannot be read.
    """
    folder = Path(folder)
    folder = folder / "frames" if (folder / "frames").is_dir() else folder
    found = []
    for path in sorted(folder.glob("frame-*.json")):
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            number, epoch, step = int(facts["frame"]), float(facts["epoch"]), int(facts["step"])
            loss = None if facts["train_loss"] is None else float(facts["train_loss"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise CurveError(
                f"{path} cannot be read ({error}); wanted frame, epoch, step and train_loss as "
                "JSON. Run lossatlas connect again"
            ) from None
        found.append(Frame(number, epoch, step, loss, path.with_suffix(".safetensors")))
    if not found:
        raise CurveError(
            f"{folder} holds no frames; wanted frame-0000.json and so on, as lossatlas connect "
            "leaves them. Check the path"
        )
    return sorted(found, key=lambda frame: frame.number)


def load_frame(frame: Frame, layout: Layout) -> Curve:
    """The curve of one frame: its bends, and the ends from ends.safetensors one folder up.

    Raises:
        CheckpointError: a file is missing or broken, or belongs to another network.
    """
    ends = checkpoint.load(str(frame.path.parent.parent / "ends.safetensors"))
    bends = checkpoint.load(str(frame.path))
    if not state_dict.bends_alone(bends, layout):  # a single one is a state of the network
        state_dict.match(bends, layout, str(frame.path))
        bends = _named(layout, 1, state_dict.weights(bends, layout))
    return _curve(ends | bends, layout, str(frame.path))


def load(path: str | Path, layout: Layout, kind: Kind | None = None) -> Curve:
    """A curve checkpoint, ours or the authors'.

    Args:
        path: of the file.
        layout: of the network that it is of.
        kind: of the curve; by default what the file's constants say.

    Raises:
        CheckpointError: no curve checkpoint, or one of another network.
    """
    curve = _curve(checkpoint.load(str(path)), layout, str(path))
    return curve if kind is None else replace(curve, kind=kind)


def _curve(state: Mapping[str, Tensor], layout: Layout, where: str) -> Curve:
    # Only the Bézier curve has binomials among its constants.
    is_bezier = f"{_CONSTANTS}binom" in state_dict.constants(state)
    kind: Kind = "bezier" if is_bezier else "chain"
    return Curve(kind, tuple(state_dict.curve_points(state, layout, where)))


def _job(prepared: Prepared, device: torch.device) -> Job:
    spec, net = prepared.spec, prepared.network().requires_grad_(False).to(device)
    start, end = (torch.tensor(w).to(device) for w in (prepared.start, prepared.end))
    trained = objective(
        net,
        spec.curve.kind,
        start,
        end,
        dict(net.named_buffers()),
        prepared.inputs.problem.loss_function(),
        spec.train.weight_decay,
    )

    layout, buffers = Layout.of(net), persistent_buffers(net)

    def frame(state: State) -> dict[str, Tensor]:
        if len(state.trained) > 1:
            return _bends(layout, state.trained)
        return state_dict.named(state.trained[0].cpu().numpy(), layout) | buffers

    initial = torch.tensor(initial_bends(prepared)).to(device)
    return session.job(prepared.inputs, trained, initial, {}, spec, frame)


def _bends(layout: Layout, bends: Tensor) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for index, bend in enumerate(bends.cpu().numpy()):
        named |= _named(layout, index + 1, bend)
    return named


def _named(layout: Layout, index: int, flat: Weights) -> dict[str, Tensor]:
    return {f"{_NET}{name}_{index}": t for name, t in state_dict.named(flat, layout).items()}


def _constants(kind: Kind, points: int) -> dict[str, Tensor]:
    """The buffers of the authors' `Bezier` and `PolyChain` modules, by which a kind is known."""
    steps = torch.arange(points, dtype=torch.float32)
    if kind == "chain":
        return {f"{_CONSTANTS}range": steps}
    degree = points - 1
    binomials = np.cumprod([1.0, *((degree - k) / (k + 1) for k in range(degree))])
    return {
        f"{_CONSTANTS}binom": torch.tensor(binomials, dtype=torch.float32),
        f"{_CONSTANTS}range": steps,
        f"{_CONSTANTS}rev_range": steps.flip(0),
    }


def _other_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Buffers that are no statistics of a batch norm, by the names of a curve checkpoint."""
    statistics = running_statistics(network)
    return {
        f"{_NET}{name}": buffer
        for name, buffer in persistent_buffers(network).items()
        if name not in statistics
    }
