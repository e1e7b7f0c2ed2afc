"""A problem: the network, the loss and the data that a render, a training or a report is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.loss_names import Mean
from pipeline.loss_spec import AsksLoss, mean_of
from pipeline.problem import criterion, network, usercode
from pipeline.problem.criterion import Criterion
from pipeline.problem.data import Subsample
from pipeline.problem.forward import Arrays, first_of
from pipeline.problem.losses import LossError, Options
from pipeline.problem.outputs import Key
from pipeline.problem.trust import Codes
from pipeline.problem.usercode import UserCode
from pipeline.spec import NetworkSpec

Splits = Mapping[str, tuple[Arrays, NDArray[np.generic]]]


@dataclass(frozen=True)
class Problem:
    """A network, a loss and data. It holds values only and can be pickled for a worker.

    Attributes:
        factory, kwargs, network_code: what `network.build` takes.
        loss, loss_code: the name in the spec, and the user's code behind it.
        splits: name → inputs (n, …), an array or several, and targets (n, …).
        output: which part of what the network returns is its output; None to find it.
        options, mean, is_weighed: of the loss; see `Criterion`.
        metrics: name → what the spec calls a function of the user's, and its code.
    """

    factory: str
    kwargs: Mapping[str, Any]
    network_code: UserCode | None
    loss: str
    loss_code: UserCode | None
    splits: Splits
    output: Key | None = None
    options: Options = field(default_factory=Options)
    mean: Mean = "example"
    is_weighed: bool = False
    metrics: Mapping[str, tuple[str, UserCode]] = field(default_factory=dict)

    def network(self, seed: int = 0, in_eval: bool = True) -> nn.Module:
        """A new network with the initial weights of `seed`; see `network.build`."""
        return network.build(
            self.factory, self.kwargs, self.network_code, seed=seed, in_eval=in_eval
        )

    def criterion(self) -> Criterion:
        """What is computed of each example.

        Raises:
            LossError: the loss is unknown, or does not go with the other keys.
            UserCodeError: the user's code cannot be imported, or has no such function.
        """
        own = None
        if self.loss_code is not None:
            own = usercode.attribute(self.loss_code, self.loss.rpartition(":")[2])
        metrics = {
            name: usercode.attribute(code, called.rpartition(":")[2])
            for name, (called, code) in self.metrics.items()
        }
        made = criterion.named(self.loss, own)
        if self.output is not None and made.takes_network:
            raise LossError(
                f"network.output is {self.output!r} with a loss that calls the network itself; "
                "wanted the part taken there. Leave network.output out"
            )
        return replace(
            made,
            options=self.options,
            mean=self.mean,
            output=self.output,
            is_weighed=self.is_weighed,
            metrics=metrics,
        )

    def of_first(self, count: int) -> Problem:
        """The same with the first examples of each split."""
        first = {
            name: (first_of(inputs, count), targets[:count])
            for name, (inputs, targets) in self.splits.items()
        }
        return self.with_splits(first)

    def with_splits(self, splits: Splits) -> Problem:
        """The same network and loss on other data."""
        return replace(self, splits=splits)


def problem_of(
    asked: NetworkSpec, loss: AsksLoss, codes: Codes, subsamples: Sequence[Subsample]
) -> Problem:
    """The problem that a spec names.

    Args:
        asked: the network of the spec.
        loss: the part of the spec that says which loss, and how it is averaged.
        codes: the user's code behind all of it.
        subsamples: the data, in the order that the splits shall have.
    """
    options = loss.loss_options.model_dump(exclude_none=True) if loss.loss_options else {}
    return Problem(
        factory=asked.factory,
        kwargs=asked.kwargs,
        network_code=codes.network,
        loss=loss.loss,
        loss_code=codes.loss,
        splits={s.name: (s.inputs, s.targets) for s in subsamples},
        output=asked.output,
        options=Options(**options),
        mean=mean_of(loss),
        metrics={name: (loss.metrics[name], code) for name, code in codes.metrics.items()},
    )
