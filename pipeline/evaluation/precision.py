"""The precision of computing, and a check that fewer bits, or compiling, do not move the losses.

float32 is the reference. On CUDA, `tf32` rounds the operands of convolutions and matrix products
to 10 bits of mantissa; elsewhere it is float32. `bf16` rounds the operands and the
results to 7 bits, as torch's autocast does. In all of them weights are computed in float64, moments
of batch norms in float32 or better, and losses in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import LossatlasError

Precision = Literal["float32", "tf32", "bf16"]
DEFAULT_TOLERANCE = 1e-3
# Losses below this (nats) are compared in absolute terms: near 0 a ratio says little.
_SMALLEST_LOSS = 1e-2
_WANTED_SHARE = 0.99


class PrecisionError(LossatlasError):
    """The precision asked for, or compiling, moves the numbers too far."""


@dataclass(frozen=True)
class Fidelity:
    """How far losses are from the reference's, over points and splits.

    The reference computes in float32, operator by operator.

    Attributes:
        precision, compiled: what was checked.
        points: how many grid points were compared.
        largest: deviation of a loss, relative to the reference (to 0.01 nats where that is less);
            inf where one of them alone is finite.
        median: of the same.
        within: share of values within `tolerance`.
        largest_error: deviation of an error, a fraction; 0 where there is none.
        tolerance: what was allowed.
    """

    precision: Precision
    compiled: bool
    points: int
    largest: float
    median: float
    within: float
    largest_error: float
    tolerance: float

    @property
    def is_faithful(self) -> bool:
        return self.within >= _WANTED_SHARE

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity: an infinite deviation is null."""
        return {k: None if v == np.inf else v for k, v in asdict(self).items()}

    def require(self) -> None:
        """Raises PrecisionError where too many losses deviate."""
        if self.is_faithful:
            return
        keys = [f"precision: {self.precision}"] if self.precision != "float32" else []
        keys += ["compile: true"] if self.compiled else []
        raise PrecisionError(
            f"evaluate.{' with '.join(keys)} moves losses by up to {self.largest:.1e} of their "
            f"float32 values ({self.within:.0%} at {self.points} grid points stay within "
            f"{self.tolerance:.0e}); wanted {_WANTED_SHARE:.0%}. Leave it out, or raise "
            "evaluate.tolerance"
        )


def compare(
    reference: Mapping[str, NDArray[np.float32]],
    found: Mapping[str, NDArray[np.float32]],
    precision: Precision,
    tolerance: float,
    compiled: bool = False,
) -> Fidelity:
    """`found` against the `reference`, both quantity → (splits, points)."""
    exact, low = (np.asarray(_losses(values), "float64") for values in (reference, found))
    with np.errstate(invalid="ignore"):
        deviation = np.abs(low - exact) / np.maximum(np.abs(exact), _SMALLEST_LOSS)
    same = (low == exact) | (np.isnan(low) & np.isnan(exact))
    deviation = np.where(same, 0.0, np.where(np.isfinite(deviation), deviation, np.inf))
    errors = 0.0
    if "error" in reference:
        errors = float(np.abs(found["error"] - reference["error"]).max())
    return Fidelity(
        precision=precision,
        compiled=compiled,
        points=exact.shape[1],
        largest=float(deviation.max()),
        median=float(np.median(deviation)),
        within=float((deviation <= tolerance).mean()),
        largest_error=errors,
        tolerance=tolerance,
    )


def _losses(values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The losses; where there are none, the first quantity."""
    return values["loss"] if "loss" in values else next(iter(values.values()))


def spread(count: int) -> NDArray[np.float64]:
    """`count` points of the unit square: its corners, then evenly spread; float64 (count, 2)."""
    corners = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
    # The additive sequence of the plastic number fills a square evenly at every length.
    steps = np.arange(1, max(0, count - 4) + 1)[:, None] / 1.32471795724474602596 ** np.arange(1, 3)
    return np.concatenate([corners, (0.5 + steps) % 1])[:count]


@contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """torch's libraries compute in `precision`, and the same way at every call.

    Their defaults are not float32: cuDNN's convolutions use TF32 unless told otherwise, and a
    user's `torch.set_float32_matmul_precision` would change the rest. The process's settings are
    put back afterwards.
    """
    backends: Any = torch.backends
    cuda, cudnn, cpu = backends.cuda.matmul, backends.cudnn, backends.mkldnn
    # The global setting comes first: setting it changes some of the others.
    parts = (backends, cuda, cudnn, cudnn.conv, cudnn.rnn, cpu, cpu.matmul, cpu.conv, cpu.rnn)
    before = [(part, part.fp32_precision) for part in parts]
    old, ways = _old_names(), (cudnn.benchmark, cudnn.deterministic)
    for part in parts:
        part.fp32_precision = "ieee"
    # By their old names too: torch and users' code read those, which otherwise raises.
    cudnn.allow_tf32 = cuda.allow_tf32 = precision == "tf32"
    # Choosing algorithms by measuring differs between workers, and so do the last bits.
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        if old is not None:
            torch.set_float32_matmul_precision(old[0])
            cudnn.allow_tf32 = old[1]
        for part, mode in before:
            part.fp32_precision = mode
        cudnn.benchmark, cudnn.deterministic = ways


def _old_names() -> tuple[str, bool] | None:
    """The values of torch's older settings; None where they contradict the newer ones."""
    try:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return None


def lowered(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """This thread's forward passes compute products in bf16 if `precision` is bf16."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
