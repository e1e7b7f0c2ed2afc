"""Evaluating a problem with plain torch, to compare the evaluator with.

Plain torch means a fresh network, `load_state_dict`, `eval()`, and a forward pass over each split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.errors import LossatlasError, is_out_of_memory, one_line
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.room import NoRoomError
from pipeline.problem import state_dict
from pipeline.problem.checkpoint import Known, State
from pipeline.problem.forward import mapped
from pipeline.problem.means import over_examples
from pipeline.problem.problem import Problem


class CrosscheckError(LossatlasError):
    """The network cannot be evaluated as it is: its numbers would be wrong."""


@dataclass(frozen=True)
class PlainLosses:
    """What plain torch finds.

    Attributes:
        losses: the mean of each split, float64 (splits,); NaN where plain torch has none.
        tensors: what the network gives for the calibrating split.
    """

    losses: NDArray[np.float64]
    tensors: list[Tensor]


@dataclass(frozen=True)
class PlainTorch:
    """Evaluates a problem with plain torch.

    Attributes:
        problem: network, loss and data.
        buffers: of the render, by the network's own names.
        batch_norm: as for the evaluator.
        calibrate: the split whose statistics batch norms use, where they are recomputed.
    """

    problem: Problem
    buffers: Mapping[str, Tensor]
    batch_norm: Literal["recompute", "frozen"]
    calibrate: str

    def of_first(self, count: int) -> PlainTorch:
        """The same with the first examples of each split."""
        return replace(self, problem=self.problem.of_first(count))

    def evaluator(self, state: State | None = None, chunk: int | None = None) -> Evaluator:
        """The evaluator to compare with, of the loss alone.

        Args:
            state: what its network starts from; None for the initial weights.
            chunk: as for the evaluator.
        """
        return Evaluator(
            self._loaded(state),
            self.problem.splits,
            ("loss",),
            self.problem.criterion(),
            self.batch_norm,
            chunk=chunk,
            calibrate=self.calibrate,
        )

    def network(self, state: State | None, seed: int = 0) -> nn.Module:
        """A fresh network in eval mode with the weights of `state`, or initial ones.

        Its buffers are those of the render.
        """
        return self._loaded(state, seed).eval()

    def evaluate(self, known: Known | None, seed: int = 0) -> PlainLosses:
        """The losses at a checkpoint, or at the initial weights of `seed`.

        Raises:
            CrosscheckError: plain torch cannot evaluate the network.
            NoRoomError: there is not enough memory for all examples in one batch.
        """
        network = self.network(None if known is None else known.state, seed)
        try:
            with torch.no_grad():
                return self._pass(network)
        except Exception as error:
            if is_out_of_memory(error):
                raise NoRoomError(
                    f"plain torch has no memory for {self._examples:,} examples in one batch "
                    f"({one_line(error, 200)}); wanted it, to hold the evaluator to it. Use a "
                    "machine with more memory, or fewer examples in data.splits"
                ) from None
            raise CrosscheckError(
                f"{known or 'the network'}: plain torch cannot evaluate it in one batch "
                f"({one_line(error, 300)}); wanted a network that takes the data in eval mode. "
                "Check the network and the data"
            ) from error

    def _loaded(self, state: State | None, seed: int = 0) -> nn.Module:
        network = self.problem.network(seed, in_eval=False)
        if state is not None:
            network.load_state_dict(state_dict.state_for(state, network))
        own = dict(network.named_buffers())
        for name, buffer in self.buffers.items():
            own[name].copy_(buffer)
        return network

    def _pass(self, network: nn.Module) -> PlainLosses:
        criterion, splits = self.problem.criterion(), self.problem.splits
        losses, first = dict.fromkeys(splits, np.nan), None
        norms = _Calibration(network) if self.batch_norm == "recompute" else None
        for split in sorted(splits, key=lambda name: name != self.calibrate):
            inputs, targets = splits[split]
            values, tensors = criterion.evaluated(
                network, mapped(inputs, torch.tensor), torch.tensor(targets), split
            )
            first = tensors if first is None else first
            loss = over_examples("loss", {"loss": values["loss"].at_one_point()}, criterion.mean)
            losses[split] = float(loss)
            if norms is not None and not norms.keep():
                break
        assert first is not None
        return PlainLosses(np.array(list(losses.values())), first)

    @property
    def _examples(self) -> int:
        return len(next(iter(self.problem.splits.values()))[1])


class _Calibration:
    """Batch norms in training mode for one pass, then with the statistics of that pass."""

    def __init__(self, network: nn.Module) -> None:
        self._norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
        self._counts: dict[nn.Module, list[int]] = {norm: [] for norm in self._norms}
        self._hooks = []
        for norm in self._norms:
            if norm.running_mean is None:
                norm.running_mean = torch.zeros(norm.num_features)
                norm.running_var = torch.ones(norm.num_features)
                norm.num_batches_tracked = torch.tensor(0)
                norm.track_running_stats = True
            norm.momentum = 1.0
            norm.train()
            self._hooks.append(norm.register_forward_pre_hook(self._count))

    def _count(self, norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._counts[norm].append(inputs[0].numel() // inputs[0].shape[1])

    def keep(self) -> bool:
        """Use the statistics of the first pass from now on; False where there are several each."""
        for hook in self._hooks:
            hook.remove()
        if not self._hooks:
            return True
        self._hooks = []
        for norm, counts in self._counts.items():
            if len(counts) > 1:
                return False
            if counts and isinstance(norm.running_var, Tensor):
                norm.running_var *= (counts[0] - 1) / counts[0]  # of the population, not a sample
            norm.eval()
        return True
