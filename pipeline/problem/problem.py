"""A problem: the network, the loss and the data that a render, a training or a report is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.problem import network, usercode
from pipeline.problem.data import Subsample
from pipeline.problem.losses import LossFunction, loss_function
from pipeline.problem.trust import Codes
from pipeline.problem.usercode import UserCode
from pipeline.spec import NetworkSpec

Splits = Mapping[str, tuple[NDArray[np.generic], NDArray[np.generic]]]


@dataclass(frozen=True)
class Problem:
    """A network, a loss and data. It holds values only and can be pickled for a worker.

    Attributes:
        factory, kwargs, network_code: what `network.build` takes.
        loss, loss_code: the name in the spec, and the user's code behind it.
        splits: name → inputs (n, …) and targets (n, …).
    """

    factory: str
    kwargs: Mapping[str, Any]
    network_code: UserCode | None
    loss: str
    loss_code: UserCode | None
    splits: Splits

    def network(self, seed: int = 0, in_eval: bool = True) -> nn.Module:
        """A new network with the initial weights of `seed`; see `network.build`."""
        return network.build(
            self.factory, self.kwargs, self.network_code, seed=seed, in_eval=in_eval
        )

    def loss_function(self) -> LossFunction:
        """Outputs, targets → one value an example (n,)."""
        custom = None
        if self.loss_code is not None:
            custom = usercode.attribute(self.loss_code, self.loss.rpartition(":")[2])
        return loss_function(self.loss, custom)

    def with_splits(self, splits: Splits) -> Problem:
        """The same network and loss on other data."""
        return replace(self, splits=splits)


def problem_of(
    asked: NetworkSpec, loss: str, codes: Codes, subsamples: Sequence[Subsample]
) -> Problem:
    """The problem that a spec names.

    Args:
        asked: the network of the spec.
        loss: its name in the spec.
        codes: the user's code behind both.
        subsamples: the data, in the order that the splits shall have.
    """
    return Problem(
        factory=asked.factory,
        kwargs=asked.kwargs,
        network_code=codes.network,
        loss=loss,
        loss_code=codes.loss,
        splits={s.name: (s.inputs, s.targets) for s in subsamples},
    )
