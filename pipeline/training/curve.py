"""Curves between two modes, and the files that hold them.

The folder of a curve's training holds the files that `session` lists, and:

    ends.safetensors               start and end
    frames/frame-0000.safetensors  the bends alone, and frame-0000.json: epoch, step, train_loss
    curve.safetensors              the trained curve: start, bends and end

ends and curve are named as in the authors' code: `net.<parameter>_0` is the start's, `_1` the
first bend's, and so on to the end's; `coeff_layer.*` are the curve's constants. Batch-norm
statistics are in neither: along a curve they have to be recomputed at every point. Other buffers
are the start's.

A frame with one bend is a checkpoint of the network at the bend: parameters by their own names,
and the start's buffers, batch-norm statistics included, so that it can be loaded like any other.
`plane: {kind: curve, weights: [start, end], frames: <out>/frames}` makes a film of them. Several
bends span no plane; their frames have the numbered names of curve.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import LossatlasError
from pipeline.geometry.plane import Vector, curve_coefficients
from pipeline.problem import checkpoint, state_dict
from pipeline.problem.layout import Layout, persistent_buffers
from pipeline.problem.norms import running_statistics

Kind = Literal["bezier", "chain"]
Weights = NDArray[np.float32]

_CONSTANTS = "coeff_layer."
_NET = "net."


class CurveError(LossatlasError):
    """The states of a curve's training cannot be read."""


@dataclass(frozen=True)
class Curve:
    """Start, bends in order, and end: float32 (P,) each."""

    kind: Kind
    points: tuple[Weights, ...]

    def weights(self, t: float) -> Vector:
        """θ(t) for t in [0, 1], float64 (P,)."""
        coefficients = curve_coefficients(self.kind, np.array([t]), len(self.points))[0]
        theta: Vector = coefficients @ np.stack(self.points).astype(np.float64)
        return theta


@dataclass(frozen=True)
class Frame:
    """One kept state of a curve's training.

    Attributes:
        number: from 0, in the order of training.
        epoch: epochs done, with the fraction of one.
        step: steps done.
        train_loss: mean loss (nats) over the epoch's batches so far, each at its own random t;
            None for the state before the first step.
        path: of the bends.
    """

    number: int
    epoch: float
    step: int
    train_loss: float | None
    path: Path


def frames(folder: str | Path) -> list[Frame]:
    """The kept states of a curve's training, in its order.

    Args:
        folder: of the training, or its `frames`.

    Raises:
        CurveError: there is no such folder, no frame in it, or one cannot be read.
    """
    folder = Path(folder)
    folder = folder / "frames" if (folder / "frames").is_dir() else folder
    found = []
    for path in sorted(folder.glob("frame-*.json")):
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            number, epoch, step = int(facts["frame"]), float(facts["epoch"]), int(facts["step"])
            loss = None if facts["train_loss"] is None else float(facts["train_loss"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise CurveError(
                f"{path} cannot be read ({error}); wanted frame, epoch, step and train_loss as "
                "JSON. Run lossatlas connect again"
            ) from None
        found.append(Frame(number, epoch, step, loss, path.with_suffix(".safetensors")))
    if not found:
        raise CurveError(
            f"{folder} holds no frames; wanted frame-0000.json and so on, as lossatlas connect "
            "leaves them. Check the path"
        )
    return sorted(found, key=lambda frame: frame.number)


def load_frame(frame: Frame, layout: Layout) -> Curve:
    """The curve of one frame: its bends, and the ends from ends.safetensors one folder up.

    Raises:
        CheckpointError: a file is missing or broken, or belongs to another network.
    """
    ends = checkpoint.load(str(frame.path.parent.parent / "ends.safetensors"))
    bends = checkpoint.load(str(frame.path))
    if not state_dict.bends_alone(bends, layout):  # a single one is a state of the network
        state_dict.match(bends, layout, str(frame.path))
        bends = named_point(layout, 1, state_dict.weights(bends, layout))
    return _curve(ends | bends, layout, str(frame.path))


def load(path: str | Path, layout: Layout, kind: Kind | None = None) -> Curve:
    """A curve checkpoint, ours or the authors'.

    Args:
        path: of the file.
        layout: of the network that it is of.
        kind: of the curve; by default what the file's constants say.

    Raises:
        CheckpointError: no curve checkpoint, or one of another network.
    """
    curve = _curve(checkpoint.load(str(path)), layout, str(path))
    return curve if kind is None else replace(curve, kind=kind)


def _curve(state: Mapping[str, Tensor], layout: Layout, where: str) -> Curve:
    # Only the Bézier curve has binomials among its constants.
    is_bezier = f"{_CONSTANTS}binom" in state_dict.constants(state)
    kind: Kind = "bezier" if is_bezier else "chain"
    return Curve(kind, tuple(state_dict.curve_points(state, layout, where)))


def named_bends(layout: Layout, bends: Tensor) -> dict[str, Tensor]:
    """Every bend of `bends` (bends, P) by the names of a curve checkpoint."""
    named: dict[str, Tensor] = {}
    for index, bend in enumerate(bends.cpu().numpy()):
        named |= named_point(layout, index + 1, bend)
    return named


def named_point(layout: Layout, index: int, flat: Weights) -> dict[str, Tensor]:
    """Point number `index` of a curve by the names of a curve checkpoint."""
    return {f"{_NET}{name}_{index}": t for name, t in state_dict.named(flat, layout).items()}


def constants(kind: Kind, points: int) -> dict[str, Tensor]:
    """The buffers of the authors' `Bezier` and `PolyChain` modules; they tell the kind."""
    steps = torch.arange(points, dtype=torch.float32)
    if kind == "chain":
        return {f"{_CONSTANTS}range": steps}
    degree = points - 1
    binomials = np.cumprod([1.0, *((degree - k) / (k + 1) for k in range(degree))])
    return {
        f"{_CONSTANTS}binom": torch.tensor(binomials, dtype=torch.float32),
        f"{_CONSTANTS}range": steps,
        f"{_CONSTANTS}rev_range": steps.flip(0),
    }


def other_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Buffers that are no statistics of a batch norm, by the names of a curve checkpoint."""
    statistics = running_statistics(network)
    return {
        f"{_NET}{name}": buffer
        for name, buffer in persistent_buffers(network).items()
        if name not in statistics
    }
