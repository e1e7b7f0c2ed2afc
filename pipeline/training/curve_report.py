"""Along a curve: loss and error of each split, beside the straight line between its ends.

Batch-norm statistics are recomputed at every point. The ensemble of the start with the point at
t averages their softmaxes. Where its error is lower than either's, the two functions make errors
on different examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

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
from pipeline.geometry.plane_checkpoints import Checkpoints
from pipeline.loss_names import WITH_ERROR
from pipeline.problem import data, network, state_dict, trust
from pipeline.problem.checkpoint import Known
from pipeline.problem.criterion import Criterion, criterion_of
from pipeline.problem.layout import Layout
from pipeline.problem.losses import LossFunction, classes_last, cross_entropy
from pipeline.problem.means import over_examples
from pipeline.problem.problem import Problem, Splits, problem_of
from pipeline.spec import RenderSpec
from pipeline.training import connect, curve
from pipeline.training.curve import Curve
from pipeline.training.curve_profile import CurveReport, Profile
from pipeline.training.spec import ConnectSpec

OnProgress = Callable[[int, int], None]

DEFAULT_POINTS = 61


class ReportError(LossatlasError):
    """There is no curve to report on."""


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
        spec: for the network's label and the loss's unit; by default the training's own.
        given, tell: as for `trust.require`.

    Raises:
        TrustError: the folder names code that no spec on this machine named.
        ReportError: the curve is not trained to its end, or there is no such frame.
        LossatlasError: one line on whatever is missing or has changed.
    """
    prepared = connect.prepare_again(folder, given, tell)
    net = prepared.network()
    layout = Layout.of(net)
    found = _trained(folder, prepared.folder, layout, frame)
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
    codes = trust.read_codes(spec.network, spec.data, spec.evaluate)
    net = network.build(spec.network.factory, spec.network.kwargs, codes.network)
    checkpoints = Checkpoints(spec, net)
    loaded = checkpoints.of_plane()
    flat = tuple(state_dict.weights(state, checkpoints.layout) for _, state in loaded)
    reals = np.float64 if checkpoints.layout.is_double else np.float32
    examples = data.load(spec.data, codes.data, spec.evaluate.loss, reals)
    subsamples = data.ordered(examples, spec.calibrating)
    problem = problem_of(spec.network, spec.evaluate, codes, subsamples)
    known = [
        Known(name, file, state)
        for name, (file, state) in zip(("start", "bend", "end"), loaded, strict=True)
    ]
    found = Curve(spec.plane.curve, flat)
    report = _checked(found, known, problem, points, device, on_progress)
    measures = _measures(problem, spec.evaluate.unit)
    return replace(report, network=_label(spec, net), measures=measures)


def _trained(folder: str | Path, kept_in: Path, layout: Layout, frame: int | None) -> Curve:
    """The trained curve in `kept_in`, or one of its frames; `folder` is what the user calls it."""
    if frame is None:
        path = kept_in / "curve.safetensors"
        if not path.exists():
            raise ReportError(
                f"{folder} holds no curve.safetensors: its training has not ended; wanted a whole "
                "one. Run lossatlas connect again, or name a frame"
            )
        return curve.load(path, layout)
    kept = {each.number: each for each in curve.frames(folder)}
    if frame not in kept:
        raise ReportError(
            f"{folder} has no frame {frame}; wanted one of {min(kept)} to {max(kept)}"
        )
    return curve.load_frame(kept[frame], layout)


def _checked(
    found: Curve,
    known: Sequence[Known],
    problem: Problem,
    points: int,
    device: str,
    on_progress: OnProgress | None,
) -> CurveReport:
    """The report, after the evaluator was compared with plain torch at the points of the curve.

    The buffers are those of the first point.
    """
    net = problem.network()
    buffers = state_dict.buffers(known[0].state, net)
    for name, buffer in net.named_buffers():
        if name in buffers:
            buffer.copy_(buffers[name])
    measure = _Measure(net, problem.splits, problem.criterion(), device)
    plain = PlainTorch(problem, buffers, "recompute", next(iter(problem.splits)))
    crosscheck(plain, known, measure.example_bytes)
    return _report(found, measure, points, on_progress)


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
    loss: LossFunction | Criterion = cross_entropy,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> CurveReport:
    """Evaluate a curve, and the line between its ends, at `points` even steps of t.

    Args:
        curve: over the network's P parameters.
        network: taken over, and changed.
        splits: name → inputs (n, …) and targets (n, …); the first one calibrates batch norm.
        points: at least 2.
        loss: outputs, targets → one value an example (n,); or a criterion.
        device: where to compute.
        on_progress: called with the number of points done and of all.

    Raises:
        ReportError: fewer than 2 points.
        EvaluateError: network, data and loss do not fit together.
    """
    measure = _Measure(network, splits, loss, device)
    return _report(curve, measure, points, on_progress)


def _report(
    curve: Curve, measure: _Measure, points: int, on_progress: OnProgress | None
) -> CurveReport:
    if points < 2:
        raise ReportError(f"{points} points along the curve; wanted at least 2, its ends")
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
    return CurveReport(curve.kind, bends, measure.splits, t, on_curve, on_line, measure.batch_norm)


class _Measure:
    """The quantities at given weights, and those of the ensemble with the first weights."""

    def __init__(
        self,
        network: nn.Module,
        splits: Splits,
        loss: LossFunction | Criterion,
        device: str,
    ) -> None:
        # The evaluator gives outputs to its loss alone, in the order of splits and examples.
        self._calls: list[tuple[Tensor, Tensor]] = []
        criterion = replace(criterion_of(loss), metrics={})
        self._classifies = criterion.has_classes
        quantities = ("loss", "error") if criterion.name in WITH_ERROR else ("loss",)
        if self._classifies:
            criterion = replace(criterion, heard=lambda *call: self._calls.append(call))
        self._evaluator = Evaluator(network, splits, quantities, criterion, device=device)
        self.splits = tuple(splits)
        self._sizes = [len(targets) for _, targets in splits.values()]
        self._first: list[Tensor] | None = None

    @property
    def example_bytes(self) -> int:
        """The largest activation of one example."""
        return self._evaluator.example_bytes

    @property
    def batch_norm(self) -> str | None:
        """How batch norm is treated, in words; None where the network has none."""
        if not self._evaluator.recomputes:
            return None
        return f"batch norm recomputed at every point, over the {self.splits[0]} split"

    def __call__(self, weights: Vector) -> dict[str, NDArray[np.float64]]:
        self._calls.clear()
        measured = self._evaluator.at(weights)
        values = {q: of_splits.astype(np.float64) for q, of_splits in measured.items()}
        if not self._classifies:
            return values
        # The last ones: attempts that did not fit the device's memory were kept as well.
        count = sum(self._sizes)
        kept = (torch.cat(each)[-count:] for each in zip(*self._calls, strict=True))
        outputs, targets = (torch.split(each, self._sizes) for each in kept)
        pairs = list(zip(outputs, targets, strict=True))
        softmaxes = [classes_last(*pair).double().softmax(-1) for pair in pairs]
        self._first = self._first or softmaxes
        both = [(own + first) / 2 for own, first in zip(softmaxes, self._first, strict=True)]
        pairs = list(zip(both, targets, strict=True))
        # The logarithms of a softmax are outputs with that softmax.
        criterion = replace(self._evaluator.criterion, heard=None)
        ensembles = [criterion.of_outputs(p.log(), y, ("error",)) for p, y in pairs]
        for name in ("loss", "error"):
            values[f"ensemble_{name}"] = np.array(
                [
                    float(over_examples(name, {name: each[name].at_one_point()}, criterion.mean))
                    for each in ensembles
                ]
            )
        return values


class _Walk:
    """Distances along a path, with at most two of its points in memory."""

    def __init__(self) -> None:
        self.distances: list[float] = []
        self.length = 0.0

    def to(self, weights: Vector) -> None:
        if not self.distances:
            self._first = self._last = weights
        self.length += float(np.linalg.norm(weights - self._last))
        self.distances.append(float(np.linalg.norm(weights - self._first)))
        self._last = weights
