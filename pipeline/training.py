"""Training that may be killed at any moment and then goes on bit for bit. torch alone.

A training is a folder, and one process at a time works in it:

    training.json           what it is: spec, the user's code, fingerprint; written first
    state.safetensors       the newest checkpoint: what is trained, momentum, buffers, progress
    frames/frame-0000.*     kept states: .safetensors, then .json with epoch, step, train_loss
    <result>.safetensors    the trained weights; written last

Every file is written under another name, flushed and renamed, so it is whole or not there. All
random numbers (batches, t, augmentation, dropout) derive from the seed, the epoch and the step,
so no generator has a state to keep, and a frame that is written again after a kill is the same
file. Bit for bit means: on the same kind of device, with as many threads.
"""

from __future__ import annotations

import dataclasses
import fcntl
import importlib
import json
import operator
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from pipeline import data, network, usercode
from pipeline.connect_spec import ConnectSpec, FitSpec, FramesSpec, TrainSpec
from pipeline.data import Subsample
from pipeline.errors import LossatlasError
from pipeline.evaluate import Evaluator
from pipeline.fingerprint import differences, digest_of_parts
from pipeline.losses import LossFunction, available_quantities, loss_function
from pipeline.prepare import Codes
from pipeline.spec import NormaliseSpec
from pipeline.usercode import UserCode

# Raised when the same spec would train to other weights than before.
NUMERICS = 1
CHECKPOINT_SECONDS = 10.0
_PROGRESS_SECONDS = 0.2
_PADDING_PX = 4
_PURPOSES = ("order", "curve", "augment", "torch", "weights")

# What is trained, buffers, inputs, targets, random numbers → what is minimised, mean loss.
Objective = Callable[
    [Tensor, dict[str, Tensor], Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]
]


class TrainingError(LossatlasError):
    """A training cannot begin, go on, or be kept."""


@dataclass(frozen=True)
class Material:
    """What a training or a report needs, by value, so that it can be sent to a worker.

    Attributes:
        factory, kwargs, network_code: what `network.build` takes.
        loss, loss_code: the name in the spec, and the user's code behind it.
        splits: name → inputs (n, …) and targets (n, …); the first one trains.
        normalise: of the data; None for none.
    """

    factory: str
    kwargs: Mapping[str, Any]
    network_code: UserCode | None
    loss: str
    loss_code: UserCode | None
    splits: Mapping[str, tuple[NDArray[np.generic], NDArray[np.generic]]]
    normalise: NormaliseSpec | None

    def network(self) -> nn.Module:
        """The network with the factory's weights, on the CPU, in eval mode."""
        return network.build(self.factory, self.kwargs, self.network_code)

    def fresh_network(self, seed: int, which: int = 0) -> nn.Module:
        """A network that was never trained, its weights drawn by `seed`; which of several."""
        self.network()  # Whatever is wrong with the factory is said here, in one line.
        place, _, name = self.factory.rpartition(":")
        if not place:
            make: Any = network.BUILT_IN[name]
        elif self.network_code is not None:
            make = usercode.attribute(self.network_code, name)
        else:
            make = operator.attrgetter(name)(importlib.import_module(place))
        with _private_random_numbers(torch.device("cpu")):
            draw = generator(seed, 0, which, "weights")
            _seed_torch(int(draw.integers(2**63)), torch.device("cpu"))
            made: nn.Module = make(**self.kwargs)
        return made.float().eval()

    def loss_function(self) -> LossFunction:
        custom = None
        if self.loss_code is not None:
            custom = usercode.attribute(self.loss_code, self.loss.rpartition(":")[2])
        return loss_function(self.loss, custom)


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        epoch: epochs done, with the fraction of the one that runs.
        epochs, step, steps: in all; `step` are done.
        loss: mean loss (nats) over the batches of the running epoch, without the penalty.
        lr: learning rate of the last step.
        seconds: since this process took over.
    """

    epoch: float
    epochs: int
    step: int
    steps: int
    loss: float
    lr: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """A finished training.

    Attributes:
        folder: of the training.
        result: the file of the trained weights.
        resumed_at: the step at which this process took over; `steps` if nothing was left to do.
        steps: in all.
        losses: mean loss of each epoch (nats), without the penalty.
        seconds: that this process took.
    """

    folder: Path
    result: Path
    resumed_at: int
    steps: int
    losses: tuple[float, ...]
    seconds: float


@dataclass
class State:
    """What changes in a training.

    Attributes:
        step: steps done.
        trained, momentum: one shape, any.
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


@dataclass(frozen=True)
class Job:
    """What is trained, on what, and how. All tensors are on one device.

    Attributes:
        objective: to be minimised.
        initial: where the search begins.
        buffers: those of the network that training changes, by name.
        inputs, targets: (n, …) of the training split.
        recipe: of the descent.
        frames: which states are kept; None for none.
        fill: the value of black (channels,) after normalisation, for `augment: crop-flip`.
        named: state → the tensors of a frame.
    """

    objective: Objective
    initial: Tensor
    buffers: Mapping[str, Tensor]
    inputs: Tensor
    targets: Tensor
    recipe: TrainSpec
    frames: FramesSpec | None
    fill: Tensor | None
    named: Callable[[State], dict[str, Tensor]]

    @property
    def steps_an_epoch(self) -> int:
        return -(-len(self.inputs) // self.recipe.batch)

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_an_epoch


def read_codes(spec: ConnectSpec | FitSpec) -> Codes:
    """The user's code that `spec` names.

    Raises:
        UserCodeError: a file cannot be read, or imports what cannot travel.
    """
    return Codes(
        network=network.source(spec.network.factory),
        loss=read_loss(spec.loss),
        data=data.source_code(spec.data),
    )


def read_loss(loss: str) -> UserCode | None:
    """The user's code behind a loss `path/file.py:callable`; None for a built-in one."""
    return usercode.read(loss.rpartition(":")[0]) if ".py:" in loss else None


def load_material(
    spec: ConnectSpec | FitSpec, codes: Codes
) -> tuple[Material, nn.Module, dict[str, Any]]:
    """Load and check what `spec` names, but for weights.

    Returns:
        The material, a network, and the parts of a fingerprint: what decides the numbers. Only
        the first split does; the others are for reports.

    Raises:
        LossatlasError: one line on whatever is missing or does not fit.
    """
    net = network.build(spec.network.factory, spec.network.kwargs, codes.network)
    subsamples = data.load(spec.data, codes.data)
    material = Material(
        factory=spec.network.factory,
        kwargs=spec.network.kwargs,
        network_code=codes.network,
        loss=spec.loss,
        loss_code=codes.loss,
        splits={s.name: (s.inputs, s.targets) for s in subsamples},
        normalise=spec.data.normalise,
    )
    first = subsamples[0]
    _check(material, spec.train, first)
    normalise = spec.data.normalise
    parts = {
        "numerics": NUMERICS,
        # A path is a name on one machine; the code it leads to counts by its digest.
        "network.factory": spec.network.factory.rpartition("/")[2],
        "network.kwargs": spec.network.kwargs,
        "network.code": codes.network.digest if codes.network else None,
        "loss": spec.loss.rpartition("/")[2],
        "loss.code": codes.loss.digest if codes.loss else None,
        f"data.{first.name}": first.digest,
        "data.normalise": normalise.model_dump(mode="json") if normalise else None,
        **{f"train.{key}": value for key, value in spec.train.model_dump(mode="json").items()},
        "frames": spec.frames.model_dump(mode="json") if spec.frames else None,
    }
    return material, net, parts


def facts(spec: ConnectSpec | FitSpec, codes: Codes, parts: Mapping[str, Any]) -> dict[str, Any]:
    """What training.json says: enough to go on, and to report, without the spec's file."""
    return {
        "kind": "connect" if isinstance(spec, ConnectSpec) else "fit",
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "fingerprint": digest_of_parts(parts),
        "parts": dict(parts),
        "code": {
            name: None if code is None else dataclasses.asdict(code)
            for name, code in vars(codes).items()
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def recorded_codes(facts: Mapping[str, Any]) -> Codes:
    """The user's code that training.json holds."""
    return Codes(
        **{name: None if code is None else UserCode(**code) for name, code in facts["code"].items()}
    )


def job(
    material: Material,
    objective: Objective,
    initial: Tensor,
    buffers: Mapping[str, Tensor],
    spec: ConnectSpec | FitSpec,
    named: Callable[[State], dict[str, Tensor]],
) -> Job:
    """The job of training on the first split, on the device of `initial`; see `Job`."""
    inputs, targets = (torch.tensor(a).to(initial.device) for a in _first(material))
    fill = None
    if spec.train.augment == "crop-flip":
        black = torch.zeros(inputs.shape[1])
        if material.normalise is not None:
            mean, std = (torch.tensor(v) for v in (material.normalise.mean, material.normalise.std))
            black = (black - mean) / std
        fill = black.to(initial.device)
    return Job(objective, initial, buffers, inputs, targets, spec.train, spec.frames, fill, named)


def learning_rate(recipe: TrainSpec, epoch: int) -> float:
    """The learning rate of `epoch`, from 1.

    lr until half of the epochs; from there linearly to lr/100 at nine tenths; then constant.

    Source: `learning_rate_schedule` in the code of Garipov et al. 2018, arXiv:1802.10026.
    """
    done = epoch / recipe.epochs
    if done <= 0.5:
        return recipe.lr
    return recipe.lr * (1 - (min(done, 0.9) - 0.5) / 0.4 * 0.99)


def generator(
    seed: int,
    epoch: int,
    step: int,
    purpose: Literal["order", "curve", "augment", "torch", "weights"],
) -> np.random.Generator:
    """Random numbers for one purpose in one step, from nothing but the arguments."""
    entropy = [seed, epoch, step, _PURPOSES.index(purpose)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def batches(count: int, size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """A permutation of `count` examples, cut into ⌈count/size⌉ pieces as equal as can be.

    So no batch is left with only a few examples, whose batch statistics would be noise.
    """
    order = generator(seed, epoch, 0, "order").permutation(count)
    return np.array_split(order, -(-count // size))


def crop_flip(inputs: Tensor, fill: Tensor, random: np.random.Generator) -> Tensor:
    """Pad images by 4 pixels, cut them back at a random place, mirror every second one.

    Args:
        inputs: (n, channels, height, width).
        fill: what the padding holds, (channels,).
        random: gives each image its own place and side.

    Source: the training transform of Garipov et al. 2018 for CIFAR.
    """
    count, channels, height, width = inputs.shape
    shape = (count, channels, height + 2 * _PADDING_PX, width + 2 * _PADDING_PX)
    padded = fill.view(-1, 1, 1).expand(shape).clone()
    padded[:, :, _PADDING_PX:-_PADDING_PX, _PADDING_PX:-_PADDING_PX] = inputs
    top, left = random.integers(0, 2 * _PADDING_PX + 1, (2, count, 1))
    rows, columns = top + np.arange(height), left + np.arange(width)
    mirrored = random.random((count, 1)) < 0.5
    columns = np.where(mirrored, columns[:, ::-1], columns)
    device = inputs.device
    return padded[
        torch.arange(count, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[:, None, None],
        torch.from_numpy(rows).to(device)[:, None, :, None],
        torch.from_numpy(columns).to(device)[:, None, None, :],
    ]


def views(theta: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """θ (P,) as name → tensor of the parameter's shape; differentiable.

    Images' filters come channels-last, which is the faster order for their convolutions.
    """
    parts = torch.split(theta, [shape.numel() for shape in shapes.values()])
    return {
        name: _channels_last(part.view(shape))
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def penalised_loss(
    network: nn.Module,
    theta: Tensor,
    buffers: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    loss: LossFunction,
    weight_decay: float,
) -> tuple[Tensor, Tensor]:
    """Mean loss of a batch at θ plus weight_decay · ½‖θ‖², and the mean loss alone.

    ‖θ‖² is over all parameters, biases and norm scales included, as in the code of Garipov et
    al. 2018 (`l2_regularizer`; for a single network it is SGD's `weight_decay`).

    Args:
        network: in the mode (train or eval) that is wanted; its own weights play no part.
        theta: (P,), in `named_parameters()` order.
        buffers: by name; a batch norm in train mode updates its own in place.
        inputs, targets: (n, …).
        loss: outputs, targets → one value an example (n,).
        weight_decay: at least 0.
    """
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    outputs = functional_call(network, {**views(theta, shapes), **buffers}, (inputs,))
    mean = loss(outputs, targets).mean()
    return mean + 0.5 * weight_decay * theta.square().sum(), mean.detach()


def descend(
    trained: Tensor, momentum: Tensor, gradient: Tensor, lr: float, recipe: TrainSpec
) -> None:
    """One step of SGD with momentum, in place; the same as `torch.optim.SGD`."""
    momentum.mul_(recipe.momentum).add_(gradient)
    step = gradient.add(momentum, alpha=recipe.momentum) if recipe.nesterov else momentum
    trained.sub_(step, alpha=lr)


@contextmanager
def claimed(folder: Path, facts: Mapping[str, Any]) -> Iterator[None]:
    """The folder of a training, made or found again, and held for this process alone.

    Args:
        folder: new, empty, or of the same training.
        facts: what training.json says; `parts` among them decides whether it is the same.

    Raises:
        TrainingError: the folder belongs to something else, another process is at work in it,
            or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be written ({error.strerror}); wanted a folder. Change out"
        ) from None
    with lock:  # The lock goes with the process, however it ends.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"another process is training in {folder}; wanted one at a time. Wait for it, or "
                "stop it"
            ) from None
        _match_or_write(folder, facts)
        yield


def described(folder: Path) -> dict[str, Any]:
    """What training.json in `folder` says.

    Raises:
        TrainingError: there is none, or it cannot be read.
    """
    path = folder / "training.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainingError(
            f"{folder} holds no training.json; wanted the folder of a training. Check the path"
        ) from None
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read ({error}); wanted JSON") from None
    return content


def train(
    job: Job,
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> tuple[State, int]:
    """Train `job` in `folder`, from its newest checkpoint if there is one.

    Args:
        job: the same at every call for one folder.
        folder: held by `claimed`.
        on_progress: called between two steps, about five times a second; may raise to stop.
        checkpoint_seconds: how much work a kill may cost.

    Returns:
        The last state, and the step at which this call took over.

    Raises:
        TrainingError: the loss or the weights are no longer finite, or a file cannot be
            read or written.
    """
    keeper = _Keeper(job, folder, on_progress, checkpoint_seconds)
    state = _load(job, folder / "state.safetensors") or _begin(job)
    began = state.step
    size, seed = job.steps_an_epoch, job.recipe.seed
    with _private_random_numbers(job.initial.device):
        if state.step == 0:
            keeper.keep_frame(state, seen=0)
        for epoch in range(state.step // size, job.recipe.epochs):
            pieces = batches(len(job.inputs), job.recipe.batch, seed, epoch)
            for within in range(state.step % size, size):
                _step(job, state, epoch, within, torch.from_numpy(pieces[within]))
                keeper.after(state, seen=sum(len(piece) for piece in pieces[: within + 1]))
    return state, began


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
    """Write tensors as safetensors, with `facts` as JSON in the header; whole or not at all.

    Raises:
        TrainingError: the place cannot be written.
    """
    import safetensors.torch

    copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    metadata = None if facts is None else {"facts": json.dumps(facts)}
    write(path, safetensors.torch.save(copies, metadata))


def write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, even if the power fails.

    Raises:
        TrainingError: the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"{path} cannot be written ({error.strerror}); wanted a folder with room. Make room "
            "and run the same command again"
        ) from None


class _Keeper:
    """Keeps frames and checkpoints, and tells of progress."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        on_progress: Callable[[Progress], None] | None,
        checkpoint_seconds: float,
    ) -> None:
        self._job, self._folder, self._on_progress = job, folder, on_progress
        self._checkpoint_seconds = checkpoint_seconds
        self._began = self._saved = time.monotonic()
        self._told = -float("inf")

    def after(self, state: State, seen: int) -> None:
        """A step is done; `seen` examples of the epoch have been met."""
        now = time.monotonic()
        ended = state.step % self._job.steps_an_epoch == 0
        last = state.step == self._job.steps
        save = last or now - self._saved >= self._checkpoint_seconds
        tell = ended or now - self._told >= _PROGRESS_SECONDS
        frame = self._is_frame(state.step)
        if not (ended or save or tell or frame):
            return  # Nobody asks for a number: an accelerator is not waited for.
        mean = float(state.loss_sum) / seen
        self._check(state, mean)
        if frame:
            self.keep_frame(state, seen)
        if ended:
            state.losses.append(mean)
            state.loss_sum = torch.zeros_like(state.loss_sum)
        if save:
            _save(state, self._folder / "state.safetensors")
            self._saved = now
        if tell and self._on_progress is not None:
            self._told = now
            self._on_progress(self._progress(state, mean, now - self._began))

    def keep_frame(self, state: State, seen: int) -> None:
        frames = self._job.frames
        if frames is None:
            return
        number = -(-state.step // self._frame_steps(frames))
        stem = self._folder / "frames" / f"frame-{number:04d}"
        facts = {
            "frame": number,
            "epoch": state.step / self._job.steps_an_epoch,
            "step": state.step,
            "train_loss": float(state.loss_sum) / seen if seen else None,
        }
        write_tensors(stem.with_suffix(".safetensors"), self._job.named(state), facts)
        # The facts come last: a frame is there when they are.
        write(stem.with_suffix(".json"), (json.dumps(facts) + "\n").encode())

    def _is_frame(self, step: int) -> bool:
        frames = self._job.frames
        if frames is None:
            return False
        return step % self._frame_steps(frames) == 0 or step == self._job.steps

    def _frame_steps(self, frames: FramesSpec) -> int:
        return frames.every * (self._job.steps_an_epoch if frames.unit == "epoch" else 1)

    def _progress(self, state: State, mean: float, seconds: float) -> Progress:
        job = self._job
        epoch = state.step / job.steps_an_epoch
        lr = learning_rate(job.recipe, -(-state.step // job.steps_an_epoch))
        return Progress(epoch, job.recipe.epochs, state.step, job.steps, mean, lr, seconds)

    def _check(self, state: State, mean: float) -> None:
        if np.isfinite(mean) and bool(torch.isfinite(state.trained).all()):
            return
        found = "the weights hold NaN or inf" if np.isfinite(mean) else f"the loss is {mean}"
        raise TrainingError(
            f"the training diverged: {found} after step {state.step} of {self._job.steps} (epoch "
            f"{state.step / self._job.steps_an_epoch:.2f}); wanted finite numbers. Lower train.lr "
            f"({self._job.recipe.lr:g}) and change out"
        )


def _first(material: Material) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    return next(iter(material.splits.values()))


def _check(material: Material, recipe: TrainSpec, first: Subsample) -> None:
    """Whatever would stop the training later is said now."""
    if recipe.batch > len(first.targets):
        raise TrainingError(
            f"train.batch is {recipe.batch:,} and data.splits.{first.name} has "
            f"{len(first.targets):,} examples; wanted a batch no larger. Lower train.batch"
        )
    if recipe.augment == "crop-flip" and first.inputs.ndim != 4:
        raise TrainingError(
            f"train.augment is crop-flip and the inputs of data.splits.{first.name} are "
            f"{first.inputs.shape[1:]} each; wanted images. Leave train.augment out"
        )
    # The lowest and the highest class of each split tell whether the network has them all.
    extremes = {}
    for name, (inputs, targets) in material.splits.items():
        rows = targets.reshape(len(targets), -1)
        chosen = [int(rows.min(1).argmin()), int(rows.max(1).argmax())]
        extremes[name] = (inputs[chosen], targets[chosen])
    quantities = available_quantities(material.loss, ("loss", "error"))
    Evaluator(material.network(), extremes, quantities, material.loss_function())


def _step(job: Job, state: State, epoch: int, within: int, rows: Tensor) -> None:
    recipe, device = job.recipe, job.initial.device
    rows = rows.to(device)
    inputs, targets = job.inputs[rows], job.targets[rows]
    if recipe.augment == "crop-flip" and job.fill is not None:
        inputs = crop_flip(inputs, job.fill, generator(recipe.seed, epoch, within, "augment"))
    _seed_torch(int(generator(recipe.seed, epoch, within, "torch").integers(2**63)), device)
    trained = state.trained.requires_grad_(True)
    minimised, mean = job.objective(
        trained,
        state.buffers,
        _channels_last(inputs),
        targets,
        generator(recipe.seed, epoch, within, "curve"),
    )
    (gradient,) = torch.autograd.grad(minimised, trained)
    state.trained = trained.detach()
    lr = learning_rate(recipe, epoch + 1)
    descend(state.trained, state.momentum, gradient, lr, recipe)
    state.loss_sum = state.loss_sum + mean.double() * len(rows)
    state.step += 1


def _begin(job: Job) -> State:
    return State(
        step=0,
        trained=job.initial.clone(),
        momentum=torch.zeros_like(job.initial),
        buffers={name: buffer.clone() for name, buffer in job.buffers.items()},
        loss_sum=torch.zeros((), dtype=torch.float64, device=job.initial.device),
    )


def _save(state: State, path: Path) -> None:
    tensors = {"trained": state.trained, "momentum": state.momentum, "loss_sum": state.loss_sum}
    tensors |= {f"buffers.{name}": buffer for name, buffer in state.buffers.items()}
    write_tensors(path, tensors, {"step": state.step, "losses": state.losses})


def _load(job: Job, path: Path) -> State | None:
    import safetensors

    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name).to(job.initial.device) for name in file.keys()}  # noqa: SIM118
        return State(
            step=facts["step"],
            trained=tensors["trained"].view_as(job.initial),
            momentum=tensors["momentum"].view_as(job.initial),
            buffers={name: tensors[f"buffers.{name}"] for name in job.buffers},
            loss_sum=tensors["loss_sum"],
            losses=facts["losses"],
        )
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        line = " ".join(str(error).split())
        raise TrainingError(
            f"{path} is not a whole checkpoint ({line}); wanted one. Delete it to train from the "
            "beginning"
        ) from None


def _match_or_write(folder: Path, facts: Mapping[str, Any]) -> None:
    if (folder / "training.json").exists():
        changed = differences(described(folder)["parts"], facts["parts"])
        if changed:
            raise TrainingError(
                f"{folder} belongs to another training: {'; '.join(changed)}. Change out in the "
                "spec, or delete that folder"
            )
        return
    others = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    if others:
        raise TrainingError(
            f"{folder} holds {others[0]} and no training; wanted a new or empty folder. Change out"
        )
    write(folder / "training.json", json.dumps(facts, indent=1).encode())


@contextmanager
def _private_random_numbers(device: torch.device) -> Iterator[None]:
    """Seeding inside leaves torch's generators outside as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def _seed_torch(seed: int, device: torch.device) -> None:
    # Not torch.manual_seed: that would seed every accelerator.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _channels_last(tensor: Tensor) -> Tensor:
    if tensor.ndim != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)
