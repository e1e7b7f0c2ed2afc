"""What a training works on: a problem, and which split trains."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.evaluation.batch_norm import check_recomputable
from pipeline.evaluation.examples import Examples, tried
from pipeline.evaluation.precision import arithmetic
from pipeline.fingerprint import differences, digest_of_parts
from pipeline.loss_parts import parts_of_loss, parts_of_network
from pipeline.problem import data, network, trust
from pipeline.problem.data import Subsample
from pipeline.problem.forward import Arrays, first_of, forwarded, told
from pipeline.problem.layout import Layout, is_double
from pipeline.problem.problem import Problem, problem_of
from pipeline.problem.trust import Codes, Named
from pipeline.spec import NormaliseSpec
from pipeline.spec_file import validate
from pipeline.training.run_folder import TrainingError, described
from pipeline.training.sgd import generator
from pipeline.training.spec import ConnectSpec, FitSpec, Spec, TrainSpec

# Raised when the same spec would train to other weights than before.
NUMERICS = 3  # since cross-entropy is taken of several rows at once
# What training.json calls them.
_KINDS = {FitSpec: "fit", ConnectSpec: "connect"}


@dataclass(frozen=True)
class TrainingInputs:
    """What a training needs besides its starting weights. It can be pickled for a worker.

    Attributes:
        problem: network, loss and data; the split that trains comes first.
        trains: the name of that split.
        normalise: of the data; None for none.
    """

    problem: Problem
    trains: str
    normalise: NormaliseSpec | None

    @property
    def training(self) -> tuple[Arrays, NDArray[np.generic]]:
        """Inputs (n, …) and targets (n, …) of the split that trains."""
        return self.problem.splits[self.trains]

    def fresh_network(self, seed: int, which: int = 0) -> nn.Module:
        """A network that was never trained, its weights drawn by `seed`; which of several."""
        draw = generator(seed, 0, which, "weights")
        return self.problem.network(int(draw.integers(2**63)))


def read_codes(spec: ConnectSpec | FitSpec) -> Codes:
    """The user's code that `spec` names; see `trust.read_codes`."""
    return trust.read_codes(spec.network, spec.data, spec)


def load_inputs(
    spec: ConnectSpec | FitSpec, codes: Codes
) -> tuple[TrainingInputs, nn.Module, dict[str, Any]]:
    """Load and check what `spec` names, except weights.

    Returns:
        The inputs, a network, and the parts of the fingerprint, which decide the numbers. Of the
        splits only the one that trains is among them; the others are for reports.

    Raises:
        LossatlasError: one line on whatever is missing or does not fit.
    """
    net = network.build(spec.network.factory, spec.network.kwargs, codes.network)
    if Layout.of(net).precision == "complex128":
        raise TrainingError(
            f"network.factory {spec.network.factory} has complex128 parameters, which the files of "
            "a training cannot hold; wanted complex64. Train it elsewhere, and render its "
            "checkpoints"
        )
    trains = training_split(spec)
    reals = np.float64 if is_double(net) else np.float32
    subsamples = data.ordered(data.load(spec.data, codes.data, spec.loss, reals), trains)
    first = subsamples[0]
    _require_trainable(spec.train, first)
    problem = problem_of(spec.network, spec, codes, subsamples)
    problem = _with_fitted_targets(problem, net)
    inputs = TrainingInputs(problem, trains, spec.data.normalise)
    normalise = spec.data.normalise
    parts = {
        "numerics": NUMERICS,
        # A path is a name on one machine; the code it leads to counts by its digest.
        "network.factory": spec.network.factory.rpartition("/")[2],
        "network.kwargs": spec.network.model_dump(mode="json")["kwargs"],
        "network.code": codes.network.digest if codes.network else None,
        "loss": spec.loss.rpartition("/")[2],
        "loss.code": codes.loss.digest if codes.loss else None,
        f"data.{first.name}": first.digest,
        "data.normalise": normalise.model_dump(mode="json") if normalise else None,
        **{f"train.{key}": value for key, value in spec.train.model_dump(mode="json").items()},
        "frames": spec.frames.model_dump(mode="json") if spec.frames else None,
        **parts_of_network(Layout.of(net).precision),
        **parts_of_loss(spec.network, spec, codes, ""),
    }
    if spec.train.optimiser == "sgd":
        del parts["train.optimiser"]  # trainings of earlier versions do not have it
    if isinstance(spec, FitSpec) and spec.keep is not None:
        parts["keep"] = spec.keep.model_dump(mode="json")
    return inputs, net, parts


def training_split(spec: ConnectSpec | FitSpec) -> str:
    """The split that trains: `train` where there is one, else the first.

    A training that has begun goes on with the split that it began with.
    """
    try:
        parts = described(Path(spec.out)).get("parts", {})
    except TrainingError:  # none has begun, or locking the folder will refuse it
        parts = {}
    begun = (name for name in spec.data.splits if name != "normalise" and f"data.{name}" in parts)
    return next(begun, spec.data.leading)


def facts(spec: ConnectSpec | FitSpec, codes: Codes, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of training.json: enough to go on and to report without the spec's file."""
    return {
        "kind": _KINDS[type(spec)],
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "fingerprint": digest_of_parts(parts),
        "parts": dict(parts),
        "code": {
            role: None if code is None else dataclasses.asdict(code)
            for role, code in codes.by_role().items()
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def named(spec: ConnectSpec | FitSpec, codes: Codes) -> Named:
    """The code that a training runs."""
    return trust.named(spec.network, spec.data, spec, codes)


def kept(
    folder: str | Path, model: type[Spec], given: str | None, tell: Callable[[str], None] | None
) -> tuple[Spec, Codes]:
    """The spec and the user's code that the folder of a training holds, if it may run here.

    Args:
        folder: of the training.
        model: the kind of spec that is wanted.
        given, tell: as for `trust.require`.

    Raises:
        TrainingError: it is a training of the other kind.
        TrustError: it names code that no spec on this machine named.
        UserCodeError: the code is not what its digest and the fingerprint say.
    """
    folder = Path(folder).absolute()
    facts = described(folder)
    if facts.get("kind") != _KINDS[model]:
        found, wanted = ("curve", "mode") if model is FitSpec else ("mode", "curve")
        raise TrainingError(f"{folder} holds the training of a {found}; wanted that of a {wanted}")
    spec = validate(model, facts["spec"], str(folder)).model_copy(update={"out": str(folder)})
    codes = trust.recorded(facts, spec.network, spec.data, spec, spec.out)
    trust.require(spec.out, named(spec, codes), given, tell)
    return spec, codes


def require_unchanged(folder: Path, facts: Mapping[str, Any]) -> None:
    """See that a training goes on with what it began with.

    Args:
        folder: of the training.
        facts: of what its spec leads to now.

    Raises:
        TrainingError: a checkpoint or the data is no longer what it was.
    """
    changed = differences(described(folder)["parts"], facts["parts"])
    if changed:
        raise TrainingError(
            f"the inputs of {folder} have changed: {'; '.join(changed)}. Put the old files back, "
            "or train in a new folder"
        )


def _require_trainable(recipe: TrainSpec, first: Subsample) -> None:
    """Raises TrainingError where the recipe does not fit the split that trains."""
    if recipe.batch > len(first.targets):
        raise TrainingError(
            f"train.batch is {recipe.batch:,} and data.splits.{first.name} has "
            f"{len(first.targets):,} examples; wanted a batch no larger. Lower train.batch"
        )
    is_image = isinstance(first.inputs, np.ndarray) and first.inputs.ndim == 4
    if recipe.augment == "crop-flip" and not is_image:
        raise TrainingError(
            f"train.augment is crop-flip and the inputs of data.splits.{first.name} are "
            f"{told(first.inputs)}; wanted images. Leave train.augment out"
        )


def _with_fitted_targets(problem: Problem, net: nn.Module) -> Problem:
    """`problem` with targets in the shape that the loss wants.

    Args:
        problem: as it was loaded.
        net: its network.

    Raises:
        LossatlasError: network, data and loss do not fit together.
    """
    check_recomputable(net)
    criterion, splits, cpu = problem.criterion(), {}, torch.device("cpu")
    for name, (inputs, targets) in problem.splits.items():
        few = first_of(inputs, 2)
        with arithmetic("float32"):
            found, criterion = tried(
                Examples.of(name, few, targets, cpu), net, partial(forwarded, net), criterion
            )
        splits[name] = inputs, found.targets.numpy()
    problem = problem.with_splits(splits)
    return replace(problem, output=criterion.output, is_weighed=criterion.is_weighed)
