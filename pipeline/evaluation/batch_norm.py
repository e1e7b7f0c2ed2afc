"""Batch norm with the exact population statistics of a calibration set.

The statistics of a batch norm depend on the weights before it, so at every grid point they are
computed anew: the mean and the variance over the whole calibration set at those weights. This is
the limit that `update_bn` of Garipov et al. 2018 (arXiv:1802.10026) averages towards.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.errors import LossatlasError
from pipeline.evaluation.barrier import Barrier

_FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)

# The barrier of each thread's forward pass. Not in Statistics: an operator of torch's takes tensors
# and numbers alone.
_WAITING = threading.local()


class BatchNormError(LossatlasError):
    """A batch norm whose statistics cannot be computed, or are missing."""


class Statistics:
    """Mean and variance of every batch norm, in the order in which a forward pass meets them."""

    def __init__(self, device: torch.device) -> None:
        # Mean, variance and None; or mean, 1/√(variance + eps) and eps, float32 (C,) each.
        self._moments: list[tuple[Tensor, Tensor, float | None]] = []
        self._here = threading.local()
        self._turn = torch.zeros(1, device=device)

    def clear(self) -> None:
        """Forget the statistics of the last point."""
        self._moments = []

    @contextlib.contextmanager
    def calibrate(self, barrier: Barrier) -> Iterator[None]:
        """This thread's forward pass carries a part of the calibration set."""
        self._here.normalise = self._part
        _WAITING.barrier = lambda *part: barrier(part, self._combine)
        try:
            yield
        finally:
            del _WAITING.barrier

    def calibrate_at_once(self) -> None:
        """This thread's next forward pass carries all of the calibration set.

        Each batch norm is then one operator, moments included. On a GPU the number of operators
        matters most: ours takes about twenty, four of them over all activations (decision 019).
        torch's moments are as exact as float32 allows there; on a CPU they are slower than ours
        and less exact.
        """
        self._here.normalise = self._whole

    def apply(self) -> None:
        """This thread's next forward pass uses the statistics that the calibration left."""
        self._here.normalise = self._kept
        self._here.step = 0

    def hold(self) -> None:
        """Make constants of the statistics that the calibration left, for derivatives.

        Those of inference mode cannot be a part of a graph.
        """
        self._moments = [(mean.clone(), scale.clone(), eps) for mean, scale, eps in self._moments]

    def calibrate_through(self) -> None:
        """This thread's next forward pass carries all of the calibration set.

        Its moments stay functions of the weights, which derivatives go through.
        """
        self._moments = []
        self._here.normalise = self._through

    def apply_through(self) -> None:
        """This thread's next forward pass uses the statistics that `calibrate_through` left."""
        self._here.normalise = self._kept_through
        self._here.step = 0

    def normalise(self, x: Tensor, norm: PopulationNorm) -> Tensor:
        """`x` (n, C, …) at the next batch norm, normalised."""
        normalised: Tensor = self._here.normalise(x, norm)
        return normalised

    def _part(self, x: Tensor, norm: PopulationNorm) -> Tensor:
        # Where a loss differentiates by the inputs, statistics are constants, as in eval mode.
        part = moments_of_examples(x.detach() if x.requires_grad else x)
        if torch.compiler.is_compiling():
            return norm.with_moments(x, *torch.ops.lossatlas.barrier(*part, self._turn))
        return norm.with_moments(x, *_WAITING.barrier(*part))

    def _combine(self, parts: list[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor]:
        mean, variance = population(parts)
        self._moments.append((mean, variance, None))
        return mean, variance

    def _whole(self, x: Tensor, norm: PopulationNorm) -> Tensor:
        normalised, mean, scale = torch.native_batch_norm(
            x, norm.weight, norm.bias, None, None, True, 0.0, norm.eps
        )
        self._moments.append((mean, scale, norm.eps))
        return normalised

    def _through(self, x: Tensor, norm: PopulationNorm) -> Tensor:
        axes = (0, *range(2, x.ndim))
        mean, variance = x.mean(axes), x.var(axes, correction=0)
        self._moments.append((mean, variance, None))
        return _normalised(x, norm, mean, variance)

    def _kept_through(self, x: Tensor, norm: PopulationNorm) -> Tensor:
        mean, variance, _ = self._moments[self._here.step]
        self._here.step += 1
        return _normalised(x, norm, mean, variance)

    def _kept(self, x: Tensor, norm: PopulationNorm) -> Tensor:
        mean, variance, eps = self._moments[self._here.step]
        self._here.step += 1
        # Not at the calibration: it is needed only where there is another split.
        return norm.with_moments(x, mean, variance if eps is None else variance.pow(-2) - eps)


@functools.cache
def register_barrier() -> None:
    """Give compiled forward passes a barrier, as an operator of torch's: `lossatlas::barrier`.

    A compiler moves operators, and leaves out those whose result is not used. Batch norms are told
    apart by their order, so the operator declares that it changes a tensor, `turn`.
    """

    def barrier(means: Tensor, squares: Tensor, count: int, turn: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = _WAITING.barrier(means, squares, count)
        # Copies: an operator's outputs may be overwritten, and all chunks have the same two.
        return mean.clone(), variance.clone()

    def shapes(means: Tensor, squares: Tensor, count: int, turn: Tensor) -> tuple[Tensor, Tensor]:
        return means.new_empty(means.shape[1]), means.new_empty(means.shape[1])

    schema = "(Tensor means, Tensor squares, int count, Tensor(a!) turn) -> (Tensor, Tensor)"
    operator = torch.library.custom_op(
        "lossatlas::barrier", barrier, mutates_args=("turn",), schema=schema
    )
    operator.register_fake(shapes)


def moments_of_examples(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Per example and channel of `x` (n, C, …): mean and sum of squared deviations from it.

    Returns:
        Two tensors (n, C), float32 (float64 where `x` is), and how many values each is over. They
        are per example, so that they do not depend on the other examples of a chunk.
    """
    inner = tuple(range(2, x.ndim))
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if not inner:
        return x.to(dtype), torch.zeros_like(x, dtype=dtype), 1
    mean = x.mean(inner, keepdim=True, dtype=dtype)
    squares = (x - mean).square_().sum(inner)
    return mean.flatten(1), squares, x[0, 0].numel()


def population(parts: list[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Population mean and variance (C,) over all parts' examples, in float64 sums."""
    dtype = parts[0][0].dtype
    means = torch.cat([part[0] for part in parts]).double()
    squares = torch.cat([part[1] for part in parts]).double()
    count = parts[0][2]
    mean = means.mean(0)
    variance = (squares.sum(0) / count + (means - mean).square().sum(0)) / len(means)
    return mean.to(dtype), variance.to(dtype)


_CLASSES: dict[type[_BatchNorm], type[PopulationNorm]] = {}


class PopulationNorm(_BatchNorm):
    """A batch norm that takes its moments from `Statistics`.

    It is never constructed: `use_population_statistics` changes the class of the network's batch
    norms, which keep their hooks, parametrizations and names.
    """

    _statistics: Statistics

    def forward(self, x: Tensor) -> Tensor:
        return self._statistics.normalise(x, self)

    def with_moments(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """`x` (n, C, …) normalised by mean and variance, float32 (C,)."""
        return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)


def _normalised(x: Tensor, norm: PopulationNorm, mean: Tensor, variance: Tensor) -> Tensor:
    """As `with_moments`; torch's own function takes running moments for constants."""
    shape = (1, -1, *(1 for _ in range(x.ndim - 2)))
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    normalised = (x - mean.view(shape)) * scale.view(shape)
    return normalised if norm.bias is None else normalised + norm.bias.view(shape)


def statistics_of(network: nn.Module) -> Statistics | None:
    """Where the batch norms of a network take their moments from; None if they have their own."""
    norms = (each for each in network.modules() if isinstance(each, PopulationNorm))
    return next((norm._statistics for norm in norms), None)


def _population_class(kind: type[_BatchNorm]) -> type[PopulationNorm]:
    # PopulationNorm comes first: its forward replaces that of `kind`, the rest is inherited.
    if kind not in _CLASSES:
        _CLASSES[kind] = type(f"Population{kind.__name__}", (PopulationNorm, kind), {})
    return _CLASSES[kind]


def check_frozen(network: nn.Module) -> None:
    """Raises BatchNormError where a batch norm has no running statistics to use."""
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise BatchNormError(
                f"{_named(name)} keeps no running statistics (track_running_stats), which "
                "evaluate.batch_norm: frozen wants. Use batch_norm: recompute"
            )


def check_recomputable(network: nn.Module) -> None:
    """Raises BatchNormError where a batch norm has a forward of its own."""
    for name, module in network.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        if type(module).forward not in _FORWARDS or "forward" in vars(module):
            raise BatchNormError(
                f"{_named(name)} is a {type(module).__name__}, a batch norm with a "
                "forward of its own; wanted torch's, whose statistics can be recomputed. Use "
                "batch_norm: frozen, or keep the two apart"
            )


def use_population_statistics(network: nn.Module, statistics: Statistics) -> None:
    """Let every batch norm of `network` take its moments from `statistics`; in place.

    Their running statistics become NaN: nothing may read them.

    Raises:
        BatchNormError: as `check_recomputable`.
    """
    check_recomputable(network)
    for module in network.modules():
        if not isinstance(module, _BatchNorm):
            continue
        module.__class__ = _population_class(type(module))
        assert isinstance(module, PopulationNorm)
        module._statistics = statistics
        for running in (module.running_mean, module.running_var):
            if running is not None:
                running.fill_(math.nan)


def _named(name: str) -> str:
    return f"the network's {name}" if name else "the network"
