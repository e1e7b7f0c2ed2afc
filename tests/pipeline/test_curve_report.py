"""The report along a curve, held to closed forms, naive references and the evaluator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from pipeline import plane_spec, spec
from pipeline.errors import LossatlasError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.examples import EvaluateError
from pipeline.problem import checkpoint, data, network, state_dict
from pipeline.problem.layout import Layout
from pipeline.problem.losses import mean_squared_error
from pipeline.spec import DataSpec, RenderSpec
from pipeline.training import connect, curve, curve_report, fit
from pipeline.training import spec as connect_spec
from pipeline.training.curve import Curve
from pipeline.training.curve_profile import CurveReport
from pipeline.training.curve_report import ReportError
from tests.pipeline.test_fit import IMAGES, StopError, fit_spec, quick, stop_at


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with quick():
        yield


class _Weights(nn.Module):
    """Its output is its weights: the mean squared error against zero is mean(θ²)."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.theta.expand(len(x), -1)


def _classified(counts: dict[str, int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    return {
        name: (random.standard_normal((count, 4)).astype("f4"), random.integers(0, 3, count))
        for name, count in counts.items()
    }


def _curve(net: nn.Module, kind: Any = "bezier", scale: float = 1.0) -> Curve:
    size = sum(p.numel() for p in net.parameters())
    points = np.random.default_rng(1).standard_normal((3, size)) * scale
    return Curve(kind, tuple(points.astype("f4")))


@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_a_bowl_in_closed_form(kind: Any) -> None:
    made = _curve(_Weights(), kind)
    splits = {"all": (np.zeros((3, 1), "f4"), np.zeros((3, 6), "f4"))}
    found = curve_report.along(made, _Weights(), splits, points=11, loss=mean_squared_error)
    start, end = made.points[0].astype("f8"), made.points[-1].astype("f8")
    np.testing.assert_allclose(found.t, np.linspace(0, 1, 11))
    assert set(found.curve.values) == {"loss"}
    for way, profile in (
        (made.weights, found.curve),
        (lambda t: (1 - t) * start + t * end, found.line),
    ):
        thetas = np.stack([way(t) for t in found.t])
        np.testing.assert_allclose(profile.values["loss"][0], (thetas**2).mean(1), rtol=1e-6)
        np.testing.assert_allclose(profile.distance, np.linalg.norm(thetas - start, axis=1))
    assert found.line.length == pytest.approx(np.linalg.norm(end - start))
    assert found.curve.length > found.line.length
    if kind == "chain":
        legs = np.diff([p.astype("f8") for p in made.points], axis=0)
        expected = np.linalg.norm(legs, axis=1).sum()
        # 11 points meet the bend, so that the way along them is the chain itself.
        assert found.curve.length == pytest.approx(expected)


def test_losses_errors_and_ensembles_against_a_naive_reference() -> None:
    net = network.build("mlp", {"inputs": 4, "hidden": [5], "classes": 3})
    made, splits = _curve(net), _classified({"train": 50, "test": 31})
    found = curve_report.along(made, net, splits, points=5)
    reference = network.build("mlp", {"inputs": 4, "hidden": [5], "classes": 3}).double()

    def softmax(theta: np.ndarray, inputs: np.ndarray) -> torch.Tensor:
        nn.utils.vector_to_parameters(torch.tensor(theta), reference.parameters())
        with torch.no_grad():
            return F.softmax(reference(torch.tensor(inputs).double()), dim=1)

    for number, (inputs, targets) in enumerate(splits.values()):
        y = torch.tensor(targets)
        first = softmax(made.weights(0.0), inputs)
        for index, t in enumerate(found.t):
            own = softmax(made.weights(t), inputs)
            values = {q: v[number, index] for q, v in found.curve.values.items()}
            both = (own + first) / 2
            assert values["loss"] == pytest.approx(float(F.nll_loss(own.log(), y)), rel=1e-5)
            assert values["error"] == pytest.approx(float((own.argmax(1) != y).double().mean()))
            assert values["ensemble_loss"] == pytest.approx(float(F.nll_loss(both.log(), y)), 1e-5)
            expected = float((both.argmax(1) != y).double().mean())
            assert values["ensemble_error"] == pytest.approx(expected)


def test_the_ensemble_follows_the_examples_through_chunks_and_batch_norm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Calibrating chunks run in threads; what they give has to come in the order of examples."""
    images = np.random.default_rng(0).standard_normal((700, 1, 8, 8)).astype("f4")
    labels = np.arange(700) % 4
    splits = {"train": (images, labels), "test": (images[::-1].copy(), labels[::-1].copy())}
    nets = [network.build("cnn", {"classes": 4, "channels": 1, "width": 4}) for _ in range(2)]
    made = _curve(nets[0], scale=0.3)
    small = curve_report.along(made, nets[0], splits, points=3)
    monkeypatch.setattr("pipeline.evaluation.chunks._LARGEST_CHUNK", {"cpu": 64})
    smaller = curve_report.along(made, nets[1], splits, points=3)
    for quantity, values in small.curve.values.items():
        np.testing.assert_array_equal(smaller.curve.values[quantity], values)
    train, test = small.curve.values["ensemble_loss"]
    np.testing.assert_allclose(train, test, rtol=1e-6)


def test_at_its_own_start_an_ensemble_is_the_network_itself() -> None:
    net = network.build("mlp", {"inputs": 4, "hidden": [5], "classes": 3})
    found = curve_report.along(_curve(net), net, _classified({"train": 40}), points=3)
    for profile in (found.curve, found.line):
        assert profile.values["ensemble_error"][0, 0] == pytest.approx(
            profile.values["error"][0, 0]
        )
        assert profile.values["ensemble_loss"][0, 0] == pytest.approx(profile.values["loss"][0, 0])
    for quantity, values in found.curve.values.items():
        for end in (0, -1):
            np.testing.assert_array_equal(values[:, end], found.line.values[quantity][:, end])


@pytest.fixture(scope="module")
def report() -> CurveReport:
    net = network.build("mlp", {"inputs": 4, "hidden": [5], "classes": 3})
    return curve_report.along(_curve(net), net, _classified({"train": 40, "test": 9}), points=4)


def test_the_summary(report: CurveReport) -> None:
    values = report.curve.values["loss"][1]
    found = report.summary(report.curve, "loss", "test")
    assert found["max"] == values.max()
    assert report.t[list(values).index(found["max"])] == found["max_t"]
    assert (found["min"], found["mean"]) == (values.min(), pytest.approx(sum(values) / 4))


def test_the_dictionary_is_json_and_holds_everything(report: CurveReport) -> None:
    found = json.loads(json.dumps(report.as_dict()))
    assert found["t"] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert (found["kind"], found["bends"]) == ("bezier", 1)
    for way in ("curve", "line"):
        assert len(found[way]["distance"]) == 4
        of_split = found[way]["splits"]["test"]
        assert set(of_split) == {"loss", "error", "ensemble_loss", "ensemble_error"}
        assert set(of_split["loss"]) == {"values", "max", "max_t", "min", "mean"}
    assert found["curve"]["splits"]["train"]["loss"]["values"] == list(
        report.curve.values["loss"][0]
    )


def test_the_table_has_a_row_a_point_and_even_columns(report: CurveReport) -> None:
    lines = report.table().splitlines()
    assert lines[0].startswith("bezier curve with 1 bend, length ")
    rows = lines[2:]
    assert len({len(line) for line in rows}) == 1
    assert [line.split()[0] for line in rows if line[:1] != "-"][2:] == [
        "0.0000", "0.3333", "0.6667", "1.0000", "max", "min", "mean",
    ]  # fmt: skip
    assert (
        rows[1].split()
        == ["t", "distance"] + ["loss", "line", "loss", "error", "line", "error", "ensemble"] * 2
    )
    assert f"{report.curve.values['loss'][1].max():.4f}" in rows[-3]


def test_not_a_number_is_a_result() -> None:
    net = network.build("mlp", {"inputs": 4, "hidden": [5], "classes": 3})
    made = Curve(
        "bezier", (*_curve(net).points[:1], np.full(43, 3e38, "f4"), _curve(net).points[2])
    )
    found = curve_report.along(made, net, _classified({"train": 8}), points=3)
    assert not np.isfinite(found.summary(found.curve, "loss", "train")["max"])
    assert np.isfinite(found.summary(found.line, "loss", "train")["max"])
    assert "nan" in found.table() or "inf" in found.table()


def test_progress_is_told() -> None:
    net = network.build("mlp", {"inputs": 4, "classes": 3})
    told: list[tuple[int, int]] = []
    curve_report.along(
        _curve(net), net, _classified({"a": 5}), 3, on_progress=lambda *at: told.append(at)
    )
    assert told == [(i, 6) for i in range(1, 7)]


def test_what_cannot_be_reported_on() -> None:
    net = network.build("mlp", {"inputs": 4, "classes": 3})
    with pytest.raises(ReportError, match="1 points along the curve; wanted at least 2"):
        curve_report.along(_curve(net), net, _classified({"a": 5}), points=1)
    other = {"a": (np.zeros((4, 7), "f4"), np.zeros(4, "i8"))}
    with pytest.raises(EvaluateError, match="does not take the data"):
        curve_report.along(_curve(net), net, other)


@pytest.fixture
def connected(tmp_path: Path) -> Callable[..., connect.Prepared]:
    def make(**changes: Any) -> connect.Prepared:
        for seed in (0, 1):
            fit.fit(fit.prepare(fit_spec(tmp_path, IMAGES, train={"seed": seed}, out=f"m{seed}")))
        content = IMAGES | {
            "start": "m0/mode.safetensors",
            "end": "m1/mode.safetensors",
            "data": IMAGES["data"] | {"splits": {"train": 60}},
        }
        path = tmp_path / "connect.yaml"
        path.write_text(yaml.safe_dump(content | changes))
        return connect.prepare(connect_spec.read_connect(path))

    return make


def test_of_a_run_and_of_its_frames(connected: Callable[..., connect.Prepared]) -> None:
    prepared = connected()
    with pytest.raises(StopError):
        connect.connect(prepared, on_progress=stop_at(4), checkpoint_seconds=0)
    with pytest.raises(ReportError, match="its training has not ended"):
        curve_report.of_run(prepared.folder)
    beginning = curve_report.of_run(prepared.folder, points=3, frame=0)
    np.testing.assert_allclose(
        beginning.curve.values["loss"], beginning.line.values["loss"], rtol=1e-5
    )
    outcome = connect.connect(prepared)
    found = curve_report.of_run(prepared.folder, points=3)
    middle = curve.load(outcome.result, Layout.of(prepared.network())).weights(0.5)
    evaluator = Evaluator(prepared.network(), prepared.inputs.problem.splits)
    assert found.curve.values["loss"][0, 1] == evaluator.at(middle)["loss"][0]
    last = curve_report.of_run(prepared.folder, points=3, frame=6)
    np.testing.assert_array_equal(last.curve.values["loss"], found.curve.values["loss"])
    with pytest.raises(ReportError, match="has no frame 7; wanted one of 0 to 6"):
        curve_report.of_run(prepared.folder, frame=7)


def _render(source: Path, folder: Path, weights: list[str], images: int) -> RenderSpec:
    content = {
        "network": {"factory": "preresnet20"},
        "plane": {"kind": "curve", "weights": weights},
        "grid": {"width": 2, "height": 2},
        "data": {
            "source": str(source / "cifar10"),
            "splits": {"train": images, "test": images // 2},
            "normalise": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]},
        },
    }
    path = folder / "render.yaml"
    path.write_text(yaml.safe_dump(content))
    return spec.read(path)


@pytest.mark.slow
def test_the_authors_curve_agrees_with_the_grids_evaluator(
    shared_data: Path, tmp_path: Path
) -> None:
    file = shared_data / "checkpoints" / "preresnet20" / "bezier-14.pt"
    if not file.exists():
        pytest.skip(f"needs {file}")
    read = _render(shared_data, tmp_path, [str(file)], 96)
    found = curve_report.of_render(read, points=3)
    net = network.build("preresnet20", {})
    state = checkpoint.load(str(file))
    start, bend, end = (
        p.astype("f8") for p in state_dict.curve_points(state, Layout.of(net), "curve")
    )
    for name, own in net.named_buffers():
        own.copy_(state_dict.buffers(state, net)[name])
    loaded = data.ordered(data.load(DataSpec(**read.data.model_dump())), read.calibrating)
    splits = {s.name: (s.inputs, s.targets) for s in loaded}
    evaluator = Evaluator(net, splits)
    middle = {"curve": (start + 2 * bend + end) / 4, "line": (start + end) / 2}
    for way, thetas in (
        (found.curve, (start, middle["curve"], end)),
        (found.line, (start, middle["line"], end)),
    ):
        for index, theta in enumerate(thetas):
            for quantity, values in evaluator.at(theta).items():
                if quantity in way.values:
                    np.testing.assert_allclose(
                        way.values[quantity][:, index], values, rtol=0, atol=1e-6
                    )
    assert found.curve.values["loss"][0, 1] < 0.7 * found.line.values["loss"][0, 1]


def test_other_planes_have_no_curve(shared_data: Path, tmp_path: Path) -> None:
    read = _render(shared_data, tmp_path, ["a.pt", "b.pt", "c.pt"], 4)
    points = read.model_copy(
        update={"plane": plane_spec.PointsPlane(kind="points", weights=read.plane.weights)}
    )
    with pytest.raises(ReportError, match="plane.kind is points; wanted curve"):
        curve_report.of_render(points)
    film = read.model_copy(
        update={
            "plane": plane_spec.CurvePlane(kind="curve", weights=["a.pt", "c.pt"], frames="states")
        }
    )
    with pytest.raises(ReportError, match="plane.frames is the curves of a film; wanted one"):
        curve_report.of_render(film)
    with pytest.raises(LossatlasError, match="a.pt: no such file"):
        curve_report.of_render(read)
