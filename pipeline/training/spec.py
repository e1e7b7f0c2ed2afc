"""The specs of training: a curve between two modes, or a mode itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from pipeline.loss_names import Mean
from pipeline.loss_spec import LossOptions, check_loss
from pipeline.spec import DataSpec, NetworkSpec
from pipeline.spec_fields import Label, RunName, SpecModel
from pipeline.spec_file import SpecError, absolute, absolute_callable, read_yaml, validate
from pipeline.url import is_url


class CurveSpec(SpecModel):
    """The family of curves, and where the search begins.

    `init: linear` puts the bends on the line between the ends, evenly; `random` gives each the
    fresh weights of a network that was never trained.
    """

    kind: Literal["bezier", "chain"] = "bezier"
    bends: int = Field(default=1, ge=1)
    init: Literal["linear", "random"] = "linear"


class TrainSpec(SpecModel):
    """Stochastic gradient descent, or Adam, on the split `train`, or else the first of the data.

    `lr` is held for the first half of the epochs, falls linearly to its hundredth until nine
    tenths, and stays there. `augment: crop-flip` pads each image by 4 pixels of black, cuts it
    back at a random place and mirrors every second one.
    """

    epochs: int = Field(ge=1)
    batch: int = Field(default=128, ge=1)
    optimiser: Literal["sgd", "adam"] = "sgd"
    lr: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0)
    augment: Literal["none", "crop-flip"] = "none"
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> TrainSpec:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov with momentum 0; wanted a momentum above 0")
        if self.nesterov and self.optimiser == "adam":
            raise ValueError("nesterov with optimiser: adam; wanted it with sgd. Leave it out")
        return self


class FramesSpec(SpecModel):
    """Which states of the training are kept: every `every`-th epoch or step, and the last."""

    every: int = Field(default=1, ge=1)
    unit: Literal["epoch", "step"] = "epoch"


class KeepSpec(SpecModel):
    """Which weights of a training are kept as a trajectory.

    `every` keeps the first and the last weights as well; `steps` all weights from one step to
    another.
    """

    every: str | None = Field(default=None, pattern=r"^[1-9]\d* (epochs?|steps?)$")
    steps: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> KeepSpec:
        if self.every is None and self.steps is None:
            raise ValueError("keep is empty; wanted every: 1 epoch, or steps: [0, 300]")
        if self.steps is not None and not 0 <= self.steps[0] <= self.steps[1]:
            raise ValueError(f"keep.steps is {list(self.steps)}; wanted two that rise, from 0")
        return self

    def stems(self, step: int, steps: int, steps_an_epoch: int) -> list[str]:
        """The names of the files, without ending, that the weights after `step` steps go to.

        Args:
            step: from 0, of fresh weights, to `steps`.
            steps, steps_an_epoch: of the training.
        """
        found = []
        if self.every is not None:
            count, unit = int(self.every.split()[0]), self.every.split()[1].removesuffix("s")
            size = steps_an_epoch if unit == "epoch" else 1
            if step % (count * size) == 0 or step == steps:
                found.append(f"epoch-{step // size:03d}" if unit == "epoch" else _of_step(step))
        if self.steps is not None and self.steps[0] <= step <= self.steps[1]:
            found.append(_of_step(step))
        return list(dict.fromkeys(found))


class ConnectSpec(SpecModel):
    """A curve of low loss between two modes, and the folder that its training goes to.

    `unit` is of a loss of the user's own, for the report along the curve.
    """

    name: RunName
    network: NetworkSpec
    start: str = Field(min_length=1)
    end: str = Field(min_length=1)
    curve: CurveSpec = CurveSpec()
    data: DataSpec
    loss: str = "cross_entropy"
    loss_options: LossOptions | None = None
    mean: Mean | None = None
    unit: Label | None = None
    train: TrainSpec
    frames: FramesSpec = FramesSpec()
    out: str = Field(min_length=1)

    @model_validator(mode="after")
    def _measured(self) -> ConnectSpec:
        check_loss(self, self.unit)
        return self

    @property
    def metrics(self) -> dict[str, str]:
        """None: a training measures the loss alone."""
        return {}


class FitSpec(SpecModel):
    """A mode, trained from fresh weights, and the folder that its training goes to."""

    name: RunName
    network: NetworkSpec
    data: DataSpec
    loss: str = "cross_entropy"
    loss_options: LossOptions | None = None
    mean: Mean | None = None
    train: TrainSpec
    frames: FramesSpec | None = None
    keep: KeepSpec | None = None
    out: str = Field(min_length=1)

    @model_validator(mode="after")
    def _measured(self) -> FitSpec:
        check_loss(self)
        return self

    @property
    def metrics(self) -> dict[str, str]:
        """None: a training measures the loss alone."""
        return {}


Spec = TypeVar("Spec", ConnectSpec, FitSpec)


def read_connect(path: str | Path) -> ConnectSpec:
    """Read a YAML spec of a curve; relative paths in it are taken from the spec's own folder.

    `name` is the file's by default, and `out` `runs/<name>`.

    Raises:
        SpecError: the file is missing, is not YAML, or a key or value is wrong.
    """
    content, folder = _read(Path(path), "network, start, end, data, train")
    return resolved(validate(ConnectSpec, content, str(path)), folder)


def read_fit(path: str | Path) -> FitSpec:
    """Read a YAML spec of a mode, as `read_connect` does.

    Raises:
        SpecError: the file is missing, is not YAML, or a key or value is wrong.
    """
    content, folder = _read(Path(path), "network, data, train")
    return resolved(validate(FitSpec, content, str(path)), folder)


def resolved(spec: Spec, folder: Path) -> Spec:
    """`spec` with every path in it absolute, taken from `folder`.

    Raises:
        SpecError: `out` is a URL.
    """
    if is_url(spec.out):
        raise SpecError(
            f"out is {spec.out}; wanted a local folder, since a training replaces its checkpoint "
            "in place. Give a folder that the machine that trains can reach"
        )
    factory = absolute_callable(spec.network.factory, folder)
    source = absolute_callable(spec.data.source, folder, path_by_itself=True)
    changes: dict[str, Any] = {
        "network": spec.network.model_copy(update={"factory": factory}),
        "data": spec.data.model_copy(update={"source": source}),
        "loss": absolute_callable(spec.loss, folder),
        "out": absolute(spec.out, folder),
    }
    if isinstance(spec, ConnectSpec):
        changes |= {"start": absolute(spec.start, folder), "end": absolute(spec.end, folder)}
    return spec.model_copy(update=changes)


def _of_step(step: int) -> str:
    return f"step-{step:06d}"


def _read(path: Path, keys: str) -> tuple[dict[str, Any], Path]:
    content = read_yaml(path, keys)
    content.setdefault("name", path.stem)
    content.setdefault("out", f"runs/{content['name']}")
    return content, path.absolute().parent
