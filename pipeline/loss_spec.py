"""The part of specs that says which loss is computed, and how it is averaged."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Protocol

from pydantic import Field

from pipeline.loss_names import BUILT_IN, OF_CLASSES, SHOWN, WITH_ERROR, Mean
from pipeline.quantities import CURVATURE, KNOWN, OF_CURVATURE
from pipeline.spec_fields import SpecModel


class LossOptions(SpecModel):
    """How `cross_entropy` and `nll` count positions."""

    ignore_index: int | None = None
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    class_weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None


class AsksLoss(Protocol):
    """A spec, or a part of one, that names a loss."""

    @property
    def loss(self) -> str: ...

    @property
    def loss_options(self) -> LossOptions | None: ...

    @property
    def mean(self) -> Mean | None: ...

    @property
    def metrics(self) -> Mapping[str, str]: ...


def mean_of(asked: AsksLoss) -> Mean:
    """Over what the loss is averaged, where the spec leaves it open.

    Weights of classes weigh positions against each other, in training as a rule over all of them.
    """
    options = asked.loss_options
    weighed = options is not None and options.class_weights is not None
    return asked.mean or ("token" if weighed else "example")


def check_loss(asked: AsksLoss, unit: str | None = None) -> None:
    """Refuse an unknown loss, and keys that the loss does not have.

    Raises:
        ValueError: with what was found, what was wanted, and the cure.
    """
    loss, options = asked.loss, asked.loss_options
    if loss not in BUILT_IN and ":" not in loss:
        near = difflib.get_close_matches(loss, BUILT_IN, n=1, cutoff=0.5)
        raise ValueError(
            f"loss is {loss!r}; wanted {', '.join(BUILT_IN)} or path/file.py:callable"
            + (f". Did you mean {near[0]}?" if near else "")
        )
    if unit is not None and loss in BUILT_IN:
        known = f"it is shown as {SHOWN[loss]}" if loss in SHOWN else "its unit is nats"
        raise ValueError(
            f"unit is {unit!r} with loss: {loss}, of which {known}; wanted a unit with a loss of "
            "your own alone. Leave it out"
        )
    for key, given in (("loss_options", options), ("mean: token", asked.mean == "token")):
        if given and loss not in OF_CLASSES:
            raise ValueError(
                f"{key} is given with loss: {loss}, which gives one value an example; wanted it "
                f"with {' or '.join(OF_CLASSES)}. Leave it out"
            )
    if options is not None and options.label_smoothing is not None and loss == "nll":
        raise ValueError(
            "loss_options.label_smoothing is given with loss: nll; wanted it with cross_entropy. "
            "Leave it out"
        )
    if options is not None and options.class_weights is not None and asked.mean == "example":
        raise ValueError(
            "loss_options.class_weights is given with mean: example; wanted mean: token, since "
            "weights compare positions. Leave mean out"
        )


def check_quantities(loss: str, quantities: Sequence[str], metrics: Mapping[str, str]) -> None:
    """Refuse quantities that nothing gives, as far as a spec tells.

    What a loss of the user's own gives is known when it is called.

    Raises:
        ValueError: with what was found, what was wanted, and the cure.
    """
    for name, called in metrics.items():
        if not called.rpartition(":")[0].endswith(".py"):
            raise ValueError(f"metrics.{name} is {called!r}; wanted path/file.py:callable")
    known = [*KNOWN, *CURVATURE, *metrics]
    for name in quantities if loss in BUILT_IN else ():
        if name not in (*known, *OF_CURVATURE):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise ValueError(
                f"quantities has {name}, which loss: {loss} does not give; wanted some of "
                f"{', '.join(known)}. "
                + (f"Did you mean {near[0]}?" if near else "Name a function for it in metrics")
            )
    if list(quantities) == ["error"] and loss not in WITH_ERROR:
        raise ValueError(
            f"quantities is [error], which loss {loss} has none of; wanted loss as well"
        )
