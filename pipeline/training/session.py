"""Training that may be killed at any moment and then goes on bit for bit. torch alone.

A training is a folder, and one process at a time works in it:

    training.json           what it is: spec, the user's code, fingerprint; written first
    state.safetensors       the newest checkpoint: what is trained, momentum, buffers, progress
    frames/frame-0000.*     kept states: .safetensors, then .json with epoch, step, train_loss
    epoch-000.safetensors   weights of a trajectory, or step-000000.safetensors; facts in the header
    <result>.safetensors    the trained weights; written last

Files are never partial (`run_folder.py`). All random numbers (batches, t, augmentation,
dropout) derive from the seed, the epoch and the step (`sgd.py`), so a frame that is written again
after a kill is the same file. Bit for bit means on the same kind of device, with as many threads.
"""

from __future__ import annotations

import json
import operator
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import is_out_of_memory, one_line
from pipeline.evaluation.precision import arithmetic
from pipeline.problem import trust
from pipeline.problem.forward import mapped
from pipeline.problem.trust import Named
from pipeline.training.job import Job, State
from pipeline.training.run_folder import TrainingError, locked, write, write_tensors
from pipeline.training.sgd import (
    adam_step,
    batches,
    channels_last,
    crop_flip,
    generator,
    learning_rate,
    private_random_numbers,
    seed_torch,
    sgd_step,
)
from pipeline.training.spec import FramesSpec

CHECKPOINT_SECONDS = 10.0
_PROGRESS_SECONDS = 0.2


class Prepared(Protocol):
    """A training that is ready to start. It can be pickled for a worker.

    Attributes:
        facts: for training.json.
        code: the user's own code in it.
    """

    @property
    def folder(self) -> Path: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    @property
    def code(self) -> Named: ...

    def job(self, device: torch.device) -> Job:
        """What is trained, on `device`."""
        ...


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


def run(
    prepared: Prepared,
    device: str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Outcome:
    """Train, or go on with a training, in its folder.

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
    folder, job = prepared.folder, prepared.job(torch.device(device))
    files = job.files
    with locked(folder, prepared.facts):
        trust.note(prepared.code)
        if files.ends is not None:
            name, tensors = files.ends
            write_tensors(folder / name, tensors)
        state, resumed_at = _train(job, folder, on_progress, checkpoint_seconds)
        write_tensors(folder / files.result, files.trained(state))
    seconds = time.monotonic() - began
    losses = tuple(state.losses)
    return Outcome(folder, folder / files.result, resumed_at, job.steps, losses, seconds)


def _train(
    job: Job,
    folder: Path,
    on_progress: Callable[[Progress], None] | None,
    checkpoint_seconds: float,
) -> tuple[State, int]:
    """The last state, and the step at which this call took over.

    Raises:
        TrainingError: the loss or the weights are no longer finite, the device has no room for a
            step, or a file cannot be read or written.
    """
    keeper = _Keeper(job, folder, on_progress, checkpoint_seconds)
    state = _load(job, folder / "state.safetensors") or _begin(job)
    began = state.step
    size, seed = job.steps_an_epoch, job.recipe.seed
    with _room(job), arithmetic("float32"), private_random_numbers(job.initial.device):
        if state.step == 0:
            keeper.keep(state, seen=0)
        for epoch in range(state.step // size, job.recipe.epochs):
            pieces = batches(len(job.targets), job.recipe.batch, seed, epoch)
            for within in range(state.step % size, size):
                _step(job, state, epoch, within, torch.from_numpy(pieces[within]))
                keeper.after(state, seen=sum(len(piece) for piece in pieces[: within + 1]))
    return state, began


@contextmanager
def _room(job: Job) -> Iterator[None]:
    """Turn torch's error into one line where the device has no room for a step."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"{job.initial.device} has no room for a step of {job.recipe.batch} examples "
            f"({one_line(error, 300)}); wanted memory for it. Lower train.batch and change out, or "
            "use a larger device"
        ) from None


class _Keeper:
    """Writes frames, trajectories and checkpoints, and reports progress."""

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
        """Note that a step is done; `seen` examples of the epoch were used so far."""
        now = time.monotonic()
        ended = state.step % self._job.steps_an_epoch == 0
        last = state.step == self._job.steps
        save = last or now - self._saved >= self._checkpoint_seconds
        tell = ended or now - self._told >= _PROGRESS_SECONDS
        kept = self._is_frame(state.step) or bool(self._stems(state.step))
        if not (ended or save or tell or kept):
            return  # Reading the loss would wait for an accelerator.
        mean = float(state.loss_sum) / seen
        self._check(state, mean)
        if kept:
            self.keep(state, seen)
        if ended:
            state.losses.append(mean)
            state.loss_sum = torch.zeros_like(state.loss_sum)
        if save:
            _save(state, self._folder / "state.safetensors")
            self._saved = now
        if tell and self._on_progress is not None:
            self._told = now
            self._on_progress(self._progress(state, mean, now - self._began))

    def keep(self, state: State, seen: int) -> None:
        """Write the files that are due after the state's step."""
        facts = {
            "epoch": state.step / self._job.steps_an_epoch,
            "step": state.step,
            "train_loss": float(state.loss_sum) / seen if seen else None,
        }
        for stem in self._stems(state.step):
            path = self._folder / f"{stem}.safetensors"
            write_tensors(path, self._job.files.frame(state), facts)
        frames = self._job.frames
        if frames is not None and self._is_frame(state.step):
            self._keep_frame(state, -(-state.step // self._frame_steps(frames)), facts)

    def _keep_frame(self, state: State, number: int, facts: Mapping[str, Any]) -> None:
        stem = self._folder / "frames" / f"frame-{number:04d}"
        facts = {"frame": number, **facts}
        write_tensors(stem.with_suffix(".safetensors"), self._job.files.frame(state), facts)
        # The facts come last: with them the frame is complete.
        write(stem.with_suffix(".json"), (json.dumps(facts) + "\n").encode())

    def _stems(self, step: int) -> list[str]:
        job = self._job
        return [] if job.keep is None else job.keep.stems(step, job.steps, job.steps_an_epoch)

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


def _step(job: Job, state: State, epoch: int, within: int, rows: Tensor) -> None:
    recipe, device = job.recipe, job.initial.device
    rows = rows.to(device)
    inputs, targets = mapped(job.inputs, lambda each: each[rows]), job.targets[rows]
    if job.fill is not None and isinstance(inputs, Tensor):
        inputs = crop_flip(inputs, job.fill, generator(recipe.seed, epoch, within, "augment"))
    seed_torch(int(generator(recipe.seed, epoch, within, "torch").integers(2**63)), device)
    trained = state.trained.requires_grad_(True)
    minimised, mean = job.objective(
        trained,
        state.buffers,
        mapped(inputs, channels_last),
        targets,
        generator(recipe.seed, epoch, within, "curve"),
    )
    (gradient,) = torch.autograd.grad(minimised, trained)
    state.trained = trained.detach()
    lr = learning_rate(recipe, epoch + 1)
    state.step += 1
    if state.squares is None:
        sgd_step(state.trained, state.momentum, gradient, lr, recipe)
    else:
        of_adam = state.momentum, state.squares, gradient, lr, recipe, state.step
        adam_step(state.trained, *of_adam)
    state.loss_sum = state.loss_sum + mean.double() * len(rows)


def _begin(job: Job) -> State:
    return State(
        step=0,
        trained=job.initial.clone(),
        momentum=torch.zeros_like(job.initial),
        buffers={name: buffer.clone() for name, buffer in job.buffers.items()},
        loss_sum=torch.zeros((), dtype=torch.float64, device=job.initial.device),
        squares=torch.zeros_like(job.initial) if job.recipe.optimiser == "adam" else None,
    )


def _save(state: State, path: Path) -> None:
    tensors = {"trained": state.trained, "momentum": state.momentum, "loss_sum": state.loss_sum}
    tensors |= {f"buffers.{name}": buffer for name, buffer in state.buffers.items()}
    if state.squares is not None:
        tensors["squares"] = state.squares
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
            step=operator.index(facts["step"]),
            trained=tensors["trained"].view_as(job.initial),
            momentum=tensors["momentum"].view_as(job.initial),
            buffers={name: tensors[f"buffers.{name}"] for name in job.buffers},
            loss_sum=tensors["loss_sum"],
            losses=[float(loss) for loss in facts["losses"]],
            squares=(
                tensors["squares"].view_as(job.initial) if job.recipe.optimiser == "adam" else None
            ),
        )
    except (
        safetensors.SafetensorError,
        *(OSError, ValueError, KeyError, TypeError, RuntimeError),  # RuntimeError: another shape
    ) as error:
        raise TrainingError(
            f"{path} is not a whole checkpoint ({one_line(error)}); wanted one. Delete it to train "
            "from the beginning"
        ) from None
