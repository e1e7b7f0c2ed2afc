"""Along a curve: loss and error of each split, beside the straight line between its ends.

Batch-norm statistics are recomputed at every point. The ensemble of the start with the point at
t averages their softmaxes: where its error is lower than either's, the curve has come to a
function that errs on other examples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline import caption
from pipeline.errors import LossatlasError
from pipeline.evaluation.crosscheck import crosscheck
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.plain_torch import PlainTorch
from pipeline.geometry.plane import Vector
from pipeline.geometry.planes import Checkpoints
from pipeline.problem import data, network, state_dict, trust
from pipeline.problem.checkpoint import Known
from pipeline.problem.layout import Layout
from pipeline.problem.losses import LossFunction, classes_last, cross_entropy, misclassified
from pipeline.problem.norms import has_batch_norm
from pipeline.problem.problem import Problem, Splits, problem_of
from pipeline.spec import RenderSpec
from pipeline.training import curve
from pipeline.training.curve import Curve
from pipeline.training.spec import ConnectSpec

OnProgress = Callable[[int, int], None]

DEFAULT_POINTS = 61


class ReportError(LossatlasError):
    """There is no curve to report on."""


@dataclass(frozen=True)
class Profile:
    """What is met along one way from the start to the end.

    Attributes:
        distance: from the start, Euclidean in weight space, float64 (T,).
        length: of the way, measured from point to point.
        values: quantity → float64 (splits, T). `loss`; with cross-entropy, in nats, also `error`,
            and `ensemble_loss` and `ensemble_error` of the averaged softmax.
    """

    distance: Vector
    length: float
    values: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class CurveReport:
    """A curve and the straight line between its ends, at the same t.

    Attributes:
        kind, bends: of the curve.
        splits: their names, in the order of the values.
        t: even steps from 0 to 1, float64 (T,).
        curve, line: what is met.
        batch_norm: how it was treated, in words; None where the network has none.
        network: its name; empty where nobody has said it.
        measures: quantity → its unit, or what its figures are.
    """

    kind: str
    bends: int
    splits: tuple[str, ...]
    t: Vector
    curve: Profile
    line: Profile
    batch_norm: str | None
    network: str = ""
    measures: Mapping[str, str] = field(default_factory=dict)

    def summary(self, profile: Profile, quantity: str, split: str) -> dict[str, float]:
        """max (and the t where it is), min and mean over the points; NaN if any value is."""
        values = profile.values[quantity][self.splits.index(split)]
        return {
            "max": float(values.max()),
            "max_t": float(self.t[values.argmax()]),
            "min": float(values.min()),
            "mean": float(values.mean()),
        }

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain lists and numbers. NaN and inf stay what they are."""
        return {
            "kind": self.kind,
            "bends": self.bends,
            "batch_norm": self.batch_norm,
            "network": self.network,
            "measures": dict(self.measures),
            "t": self.t.tolist(),
            "curve": self._profile(self.curve),
            "line": self._profile(self.line),
        }

    def table(self) -> str:
        """Plain text: a row a point, then max, min and mean of the curve and of the line."""
        plural = "" if self.bends == 1 else "s"
        title = (
            f"{self.kind} curve with {self.bends} bend{plural}, length {self.curve.length:.4g}; "
            f"line: the straight line between its ends, length {self.line.length:.4g}"
        )
        columns = [(split, *column) for split in self.splits for column in self._columns()]
        heads = ["t", "distance", *(head for _, head, _, _ in columns)]
        groups = ["", "", *(split for split, _, _, _ in columns)]
        rows = [
            [f"{t:.4f}", f"{self.curve.distance[i]:.4f}"]
            + [f"{self._of(split, p, q)[i]:.4f}" for split, _, p, q in columns]
            for i, t in enumerate(self.t)
        ]
        feet = [
            [name, ""] + [f"{fold(self._of(split, p, q)):.4f}" for split, _, p, q in columns]
            for name, fold in (("max", np.max), ("min", np.min), ("mean", np.mean))
        ]
        return "\n".join([title, "", *_aligned([groups, heads], rows, feet)])

    def _profile(self, profile: Profile) -> dict[str, Any]:
        return {
            "length": profile.length,
            "distance": profile.distance.tolist(),
            "splits": {
                split: {
                    quantity: {"values": values[index].tolist()}
                    | self.summary(profile, quantity, split)
                    for quantity, values in profile.values.items()
                }
                for index, split in enumerate(self.splits)
            },
        }

    def _columns(self) -> list[tuple[str, Profile, str]]:
        """Head, whose value, and which, of the columns of each split."""
        columns = [("loss", self.curve, "loss"), ("line loss", self.line, "loss")]
        if "error" in self.curve.values:
            columns += [("error", self.curve, "error"), ("line error", self.line, "error")]
            columns += [("ensemble", self.curve, "ensemble_error")]
        return columns

    def _of(self, split: str, profile: Profile, quantity: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = profile.values[quantity][self.splits.index(split)]
        return values


def of_run(
    folder: str | Path,
    points: int = DEFAULT_POINTS,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
    frame: int | None = None,
    spec: ConnectSpec | None = None,
    given: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> CurveReport:
    """The report on a curve that `connect` trained, or on one of its frames.

    Args:
        folder: of the training.
        points, device, on_progress: as for `along`.
        frame: its number; None for the trained curve.
        spec: whose words are used; None is the one that the training began with.
        given, tell: as for `trust.require`.

    Raises:
        TrustError: the folder names code that no spec on this machine named.
        ReportError: the curve is not trained to its end, or there is no such frame.
        LossatlasError: one line on whatever is missing or has changed.
    """
    prepared = curve.prepare_again(folder, given, tell)
    net = prepared.network()
    layout = Layout.of(net)
    if frame is None:
        path = prepared.folder / "curve.safetensors"
        if not path.exists():
            raise ReportError(
                f"{folder} holds no curve.safetensors: its training has not ended; wanted a whole "
                "one. Run lossatlas connect again, or name a frame"
            )
        found = curve.load(path, layout)
    else:
        kept = {each.number: each for each in curve.frames(folder)}
        if frame not in kept:
            raise ReportError(
                f"{folder} has no frame {frame}; wanted one of {min(kept)} to {max(kept)}"
            )
        found = curve.load_frame(kept[frame], layout)
    ends = {0: "start", len(found.points) - 1: "end"}
    buffers = state_dict.buffers(net.state_dict(), net)
    known = [
        Known(
            ends.get(index, "bend"),
            Path(folder).name,
            {**state_dict.named(each, layout), **buffers},
        )
        for index, each in enumerate(found.points)
    ]
    problem = prepared.inputs.problem
    report = _checked(found, known, problem, points, device, on_progress)
    words = spec or prepared.spec
    measures = _measures(problem, words.unit)
    return replace(report, network=_label(words, net), measures=measures)


def of_render(
    spec: RenderSpec,
    points: int = DEFAULT_POINTS,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> CurveReport:
    """The report on the curve of a render's plane, over the render's own data.

    Raises:
        ReportError: the plane is of another kind.
        LossatlasError: one line on whatever is missing or does not fit.
    """
    if spec.plane.kind != "curve":
        raise ReportError(
            f"plane.kind is {spec.plane.kind}; wanted curve. Give the spec of a curve's plane, or "
            "the folder of lossatlas connect"
        )
    if spec.plane.frames is not None:
        raise ReportError(
            "plane.frames is the curves of a film; wanted one. Give a spec with start, bend and "
            "end as plane.weights, or what lossatlas connect was given, with --frame"
        )
    loss = spec.evaluate.loss
    codes = trust.read_codes(spec.network, spec.data, loss)
    net = network.build(spec.network.factory, spec.network.kwargs, codes.network)
    checkpoints = Checkpoints(spec, net)
    loaded = checkpoints.of_plane()
    flat = tuple(state_dict.weights(state, checkpoints.layout) for _, state in loaded)
    subsamples = data.ordered(data.load(spec.data, codes.data, loss), spec.calibrating)
    problem = problem_of(spec.network, loss, codes, subsamples)
    known = [
        Known(name, file, state)
        for name, (file, state) in zip(("start", "bend", "end"), loaded, strict=True)
    ]
    found = Curve(spec.plane.curve, flat)
    report = _checked(found, known, problem, points, device, on_progress)
    measures = _measures(problem, spec.evaluate.unit)
    return replace(report, network=_label(spec, net), measures=measures)


def _checked(
    found: Curve,
    known: Sequence[Known],
    problem: Problem,
    points: int,
    device: str,
    on_progress: OnProgress | None,
) -> CurveReport:
    """The report, once the evaluator is held to plain torch at the points that define the curve.

    The buffers are those of the first of them.
    """
    net = problem.network()
    buffers = state_dict.buffers(known[0].state, net)
    plain = PlainTorch(problem, buffers, "recompute", next(iter(problem.splits)))
    crosscheck(plain, known, plain.evaluator().example_bytes)
    for name, buffer in net.named_buffers():
        if name in buffers:
            buffer.copy_(buffers[name])
    loss = problem.loss_function()
    return along(found, net, problem.splits, points, loss, device, on_progress)


def _label(spec: RenderSpec | ConnectSpec, net: nn.Module) -> str:
    asked = spec.network
    return caption.network_label(asked.factory, asked.label, type(net).__name__)


def _measures(problem: Problem, unit: str | None) -> dict[str, str]:
    _, targets = next(iter(problem.splits.values()))
    unit = caption.loss_unit(problem.loss, unit, data.positions(targets))
    return caption.measures(problem.loss, unit)


def along(
    curve: Curve,
    network: nn.Module,
    splits: Splits,
    points: int = DEFAULT_POINTS,
    loss: LossFunction = cross_entropy,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> CurveReport:
    """Evaluate a curve, and the line between its ends, at `points` even steps of t.

    Args:
        curve: over the network's P parameters.
        network: taken over, and changed.
        splits: name → inputs (n, …) and targets (n, …); the first one calibrates batch norm.
        points: at least 2.
        loss: outputs, targets → one value an example (n,).
        device: where to compute.
        on_progress: called with the number of points done and of all.

    Raises:
        ReportError: fewer than 2 points.
        EvaluateError: network, data and loss do not fit together.
    """
    if points < 2:
        raise ReportError(f"{points} points along the curve; wanted at least 2, its ends")
    recomputed = f"batch norm recomputed at every point, over the {next(iter(splits))} split"
    batch_norm = recomputed if has_batch_norm(network) else None
    measure = _Measure(network, splits, loss, device)
    start, end = (point.astype(np.float64) for point in (curve.points[0], curve.points[-1]))
    t = np.linspace(0.0, 1.0, points)
    ways: list[Callable[[float], Vector]] = [curve.weights, lambda t: (1 - t) * start + t * end]
    profiles = []
    for number, way in enumerate(ways):
        walk, values = _Walk(), []
        for index, at in enumerate(t):
            weights = way(float(at))
            walk.to(weights)
            values.append(measure(weights))
            if on_progress is not None:
                on_progress(number * points + index + 1, 2 * points)
        stacked = {q: np.stack([each[q] for each in values], axis=1) for q in values[0]}
        profiles.append(Profile(np.array(walk.distances), walk.length, stacked))
    bends = len(curve.points) - 2
    on_curve, on_line = profiles
    return CurveReport(curve.kind, bends, tuple(splits), t, on_curve, on_line, batch_norm)


class _Measure:
    """The quantities at given weights, and those of the ensemble with the first ones given."""

    def __init__(self, network: nn.Module, splits: Splits, loss: LossFunction, device: str) -> None:
        self._classifies = loss is cross_entropy
        quantities = ("loss", "error") if self._classifies else ("loss",)
        # The evaluator gives outputs to its loss alone, in the order of splits and examples.
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._evaluator = Evaluator(network, splits, quantities, self._heard(loss), device=device)
        self._sizes = [len(targets) for _, targets in splits.values()]
        self._first: list[Tensor] | None = None

    def __call__(self, weights: Vector) -> dict[str, NDArray[np.float64]]:
        self._seen.clear()
        measured = self._evaluator.at(weights)
        values = {q: of_splits.astype(np.float64) for q, of_splits in measured.items()}
        if not self._classifies:
            return values
        # The last ones: a try that did not fit the device's memory was heard as well.
        count = sum(self._sizes)
        heard = (torch.cat(each)[-count:] for each in zip(*self._seen, strict=True))
        outputs, targets = (torch.split(each, self._sizes) for each in heard)
        pairs = list(zip(outputs, targets, strict=True))
        softmaxes = [classes_last(*pair).double().softmax(-1) for pair in pairs]
        self._first = self._first or softmaxes
        both = [(own + first) / 2 for own, first in zip(softmaxes, self._first, strict=True)]
        pairs = list(zip(both, targets, strict=True))
        # The logarithm of a softmax is a row of outputs with that softmax.
        values["ensemble_loss"] = np.array(
            [float(cross_entropy(p.log(), y).mean()) for p, y in pairs]
        )
        values["ensemble_error"] = np.array([float(misclassified(p, y).mean()) for p, y in pairs])
        return values

    def _heard(self, loss: LossFunction) -> LossFunction:
        """`loss`, with all that it is given kept."""

        @functools.wraps(loss)
        def heard(outputs: Tensor, targets: Tensor) -> Tensor:
            self._seen.append((outputs, targets))
            return loss(outputs, targets)

        return heard


class _Walk:
    """Distances met on a way, with no more than two of its points held."""

    def __init__(self) -> None:
        self.distances: list[float] = []
        self.length = 0.0

    def to(self, weights: Vector) -> None:
        if not self.distances:
            self._first = self._last = weights
        self.length += float(np.linalg.norm(weights - self._last))
        self.distances.append(float(np.linalg.norm(weights - self._first)))
        self._last = weights


def _aligned(heads: list[list[str]], rows: list[list[str]], feet: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in heads + rows + feet) for i in range(len(heads[0]))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    head, body, foot = (
        ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in part]
        for part in (heads, rows, feet)
    )
    return [*head, rule, *body, rule, *foot]
