"""Curves: their geometry, their gradient, their training, and what is kept of it."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from pipeline import prepare, spec
from pipeline.errors import LossatlasError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.problem import checkpoint, network, state_dict
from pipeline.problem.layout import Layout
from pipeline.problem.losses import cross_entropy
from pipeline.training import connect, curve, curve_report, fit, session, sgd
from pipeline.training import spec as connect_spec
from pipeline.training.connect import ConnectError
from pipeline.training.curve import Curve, CurveError
from pipeline.training.run_folder import TrainingError
from pipeline.training.spec import ConnectSpec
from tests.pipeline.test_fit import (
    IMAGES,
    MOONS,
    StopError,
    bytes_of,
    fit_spec,
    kill_while_training,
    quick,
    stop_at,
)


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with quick():
        yield


@pytest.fixture(scope="module")
def modes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two modes of the moons, two of the images, and the data."""
    folder = tmp_path_factory.mktemp("modes")
    for kind, content in (("moons", MOONS), ("images", IMAGES)):
        for seed in (0, 1):
            spec = fit_spec(folder, content, train={"seed": seed}, out=f"{kind}{seed}")
            fit.fit(fit.prepare(spec))
    return folder


@pytest.fixture
def moons(modes: Path, tmp_path: Path) -> Callable[..., ConnectSpec]:
    return lambda **changes: _spec(modes, tmp_path, "moons", MOONS, changes)


@pytest.fixture
def images(modes: Path, tmp_path: Path) -> Callable[..., ConnectSpec]:
    return lambda **changes: _spec(modes, tmp_path, "images", IMAGES, changes)


def _spec(
    modes: Path, folder: Path, kind: str, base: dict[str, Any], changes: dict[str, Any]
) -> ConnectSpec:
    content = base | {
        "start": f"{kind}0/mode.safetensors",
        "end": f"{kind}1/mode.safetensors",
        "out": str(folder / "run"),
    }
    for key, value in changes.items():
        content[key] = content[key] | value if key in ("train", "data") else value
    path = modes / f"{folder.name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return connect_spec.read_connect(path)


def _points(count: int, size: int = 7) -> tuple[np.ndarray, ...]:
    return tuple(np.random.default_rng(0).standard_normal((count, size)).astype("f4"))


@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_points_of_curves_in_closed_form(t: float) -> None:
    a, b, c, d = (p.astype("f8") for p in _points(4))
    quadratic = Curve("bezier", _points(4)[:3]).weights(t)
    np.testing.assert_allclose(quadratic, (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c)
    one_bend = Curve("chain", _points(4)[:3]).weights(t)
    expected = (1 - 2 * t) * a + 2 * t * b if t <= 0.5 else (2 - 2 * t) * b + (2 * t - 1) * c
    np.testing.assert_allclose(one_bend, expected, atol=1e-12)
    cubic = Curve("bezier", _points(4)).weights(t)
    s = 1 - t
    expected = s**3 * a + 3 * s**2 * t * b + 3 * s * t**2 * c + t**3 * d
    np.testing.assert_allclose(cubic, expected)
    piece = min(int(3 * t), 2)
    low, high = (a, b, c, d)[piece : piece + 2]
    np.testing.assert_allclose(
        Curve("chain", _points(4)).weights(t), (1 - 3 * t + piece) * low + (3 * t - piece) * high,
        atol=1e-12,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["bezier", "chain"])
@pytest.mark.parametrize("bends", [1, 2, 3])
def test_the_trained_point_is_the_curves_point(kind: Any, bends: int) -> None:
    points = _points(bends + 2)
    tensors = [torch.tensor(p).double() for p in points]
    for t in (0.0, 0.3, 0.77, 1.0):
        found = connect.point(kind, tensors[0], torch.stack(tensors[1:-1]), tensors[-1], t)
        np.testing.assert_allclose(found.numpy(), Curve(kind, points).weights(t), atol=1e-14)


@pytest.mark.parametrize("kind", ["bezier", "chain"])
@pytest.mark.parametrize("bends", [1, 2])
def test_the_gradient_of_the_curves_loss_in_float64(kind: Any, bends: int) -> None:
    """Against the chain rule, c_j(t) ∇L(θ(t)) for bend j, and against central differences."""
    torch.manual_seed(0)
    # With batch norm, since its batch statistics depend on θ(t) as well.
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2)).double()
    size = sum(p.numel() for p in net.parameters())
    start, end, *inner = torch.randn(bends + 2, size, dtype=torch.float64)
    points = torch.stack(inner).requires_grad_(True)
    inputs, targets = torch.randn(9, 2).double(), torch.arange(9) % 2
    constants = {name: buffer.clone() for name, buffer in net.named_buffers()}
    decay = 0.1
    lossy = connect.objective(net, kind, start, end, constants, cross_entropy, decay)

    def value(at: torch.Tensor) -> torch.Tensor:
        return lossy(at, {}, inputs, targets, np.random.default_rng(4))[0]

    (found,) = torch.autograd.grad(value(points), points)
    t = np.random.default_rng(4).random()
    coefficients = curve.curve_coefficients(kind, np.array([t]), bends + 2)[0]
    theta = connect.point(kind, start, points, end, t).detach().requires_grad_(True)
    at_theta = sgd.penalised_loss(net, theta, constants, inputs, targets, cross_entropy, decay)[0]
    (gradient,) = torch.autograd.grad(at_theta, theta)
    chained = torch.tensor(coefficients[1:-1])[:, None] * gradient
    torch.testing.assert_close(found, chained, rtol=1e-10, atol=1e-12)
    step = 1e-5
    differences = torch.zeros_like(found)
    for index in np.ndindex(*found.shape):
        shift = torch.zeros_like(found)
        shift[index] = step
        with torch.no_grad():
            differences[index] = (value(points + shift) - value(points - shift)) / (2 * step)
    torch.testing.assert_close(found, differences, rtol=1e-6, atol=1e-8)


def test_buffers_are_neither_trained_nor_changed() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    constants = {name: buffer.clone() for name, buffer in net.named_buffers()}
    before = {name: buffer.clone() for name, buffer in constants.items()}
    size = sum(p.numel() for p in net.parameters())
    points = torch.randn(3, size)
    lossy = connect.objective(net, "bezier", points[0], points[2], constants, cross_entropy, 0.0)
    lossy(points[1:2], {}, torch.randn(8, 2), torch.zeros(8).long(), np.random.default_rng(0))
    for name, buffer in (*constants.items(), *net.named_buffers()):
        assert torch.equal(buffer, before[name])


@pytest.mark.parametrize("kind", ["bezier", "chain"])
@pytest.mark.parametrize("bends", [1, 3])
def test_the_search_begins_on_the_line(
    moons: Callable[..., ConnectSpec], kind: Any, bends: int
) -> None:
    prepared = connect.prepare(moons(curve={"kind": kind, "bends": bends}))
    initial = Curve(kind, (prepared.start, *connect.initial_bends(prepared), prepared.end))
    for t in (0.0, 0.25, 0.6, 1.0):
        line = (1 - t) * prepared.start.astype("f8") + t * prepared.end
        np.testing.assert_allclose(initial.weights(t), line, atol=1e-6)


def test_or_at_random(moons: Callable[..., ConnectSpec]) -> None:
    random = {"kind": "chain", "bends": 2, "init": "random"}
    first, second = connect.initial_bends(connect.prepare(moons(curve=random)))
    assert np.linalg.norm(first - second) > 1
    again = connect.initial_bends(connect.prepare(moons(curve=random)))
    np.testing.assert_array_equal(again[0], first)
    other = connect.initial_bends(connect.prepare(moons(curve=random, train={"seed": 9})))
    assert np.linalg.norm(other[0] - first) > 1


@pytest.mark.parametrize("asked", [{"kind": "bezier"}, {"kind": "chain", "bends": 2}])
def test_training_lowers_the_highest_loss_along_the_curve(
    moons: Callable[..., ConnectSpec], asked: dict[str, Any]
) -> None:
    prepared = connect.prepare(moons(curve=asked, train={"epochs": 60, "lr": 0.1}))
    outcome = connect.connect(prepared)
    trained = curve.load(outcome.result, Layout.of(prepared.network()))
    np.testing.assert_array_equal(trained.points[0], prepared.start)
    np.testing.assert_array_equal(trained.points[-1], prepared.end)
    found = curve_report.along(
        trained, prepared.network(), prepared.inputs.problem.splits, points=15
    )
    for split, margin in (("train", 0.6), ("test", 0.8)):
        highest = found.summary(found.curve, "loss", split)["max"]
        assert highest < margin * found.summary(found.line, "loss", split)["max"]


@pytest.mark.parametrize("at", [1, 9])
def test_an_interrupted_training_goes_on_bit_for_bit(
    images: Callable[..., ConnectSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    kept = {"every": 3, "unit": "step"}
    whole = connect.prepare(images(frames=kept, out=str(tmp_path / "whole")))
    connect.connect(whole)
    parts = connect.prepare(images(frames=kept, out=str(tmp_path / "parts")))
    monkeypatch.setattr(session, "_PROGRESS_SECONDS", 0)
    with pytest.raises(StopError):
        connect.connect(parts, on_progress=stop_at(at), checkpoint_seconds=0)
    assert not (parts.folder / "curve.safetensors").exists()
    torch.manual_seed(at)
    outcome = connect.connect(connect.prepare_again(parts.folder), checkpoint_seconds=0)
    assert outcome.resumed_at == at
    assert bytes_of(parts.folder) == bytes_of(whole.folder)


def test_a_killed_training_goes_on_bit_for_bit(
    modes: Path, images: Callable[..., ConnectSpec], tmp_path: Path
) -> None:
    train = {"epochs": 40}
    whole = connect.prepare(images(train=train, out=str(tmp_path / "whole")))
    connect.connect(whole)
    spec = images(train=train)
    kill_while_training("connect", modes / f"{tmp_path.name}.yaml", Path(spec.out))
    assert curve.frames(spec.out)[0].number == 0
    outcome = connect.connect(connect.prepare(spec))
    assert 7 <= outcome.resumed_at < outcome.steps
    left, expected = (
        {name: content for name, content in bytes_of(folder).items() if "state" not in name}
        for folder in (Path(spec.out), whole.folder)
    )
    assert {n: c for n, c in left.items() if not n.endswith(".partial")} == expected


def test_frames_hold_the_bends_and_the_ends_are_shared(moons: Callable[..., ConnectSpec]) -> None:
    asked = {"kind": "chain", "bends": 2}
    train = {"epochs": 5, "lr": 0.1}
    prepared = connect.prepare(moons(curve=asked, train=train, frames={"every": 2}))
    outcome = connect.connect(prepared)
    net = prepared.network()
    kept = curve.frames(prepared.folder)
    assert kept == curve.frames(prepared.folder / "frames")
    assert [frame.number for frame in kept] == [0, 1, 2, 3]
    assert [frame.epoch for frame in kept] == [0, 2, 4, 5]
    assert [frame.step for frame in kept] == [0, 8, 16, 20]
    assert kept[0].train_loss is None
    assert [frame.train_loss for frame in kept[1:]] == [outcome.losses[i] for i in (1, 3, 4)]
    size = kept[1].path.stat().st_size
    assert size < 1.2 * 2 * 4 * prepared.start.size + 2000
    first, last = (curve.load_frame(frame, Layout.of(net)) for frame in (kept[0], kept[-1]))
    np.testing.assert_array_equal(first.points[1], connect.initial_bends(prepared)[0])
    whole = curve.load(outcome.result, Layout.of(net))
    assert first.kind == last.kind == whole.kind == "chain"
    for found, expected in zip(last.points, whole.points, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_frames_within_an_epoch(moons: Callable[..., ConnectSpec]) -> None:
    prepared = connect.prepare(
        moons(train={"epochs": 2, "lr": 0.1}, frames={"every": 3, "unit": "step"})
    )
    connect.connect(prepared)
    assert [frame.epoch for frame in curve.frames(prepared.folder)] == [0, 0.75, 1.5, 2]


def test_what_is_written_are_checkpoints(images: Callable[..., ConnectSpec]) -> None:
    """The curve in the layout of the authors' code, a frame in that of the network."""
    prepared = connect.prepare(images(train={"epochs": 1}))
    outcome = connect.connect(prepared)
    state = checkpoint.load(str(outcome.result))
    assert state_dict.is_curve(state, Layout.of(prepared.network()))
    assert not [name for name in state if "running" in name]
    start, bend, end = state_dict.curve_points(state, Layout.of(prepared.network()), "curve")
    np.testing.assert_array_equal(start, prepared.start)
    np.testing.assert_array_equal(end, prepared.end)
    assert not np.array_equal(bend, (start + end) / 2)
    frame = checkpoint.load(str(curve.frames(prepared.folder)[-1].path))
    state_dict.match(frame, Layout.of(prepared.network()), "frame")
    np.testing.assert_array_equal(state_dict.weights(frame, Layout.of(prepared.network())), bend)


_HOLDER = """
import torch

class Holder(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.add_module(name, torch.nn.Linear(2, 2))

    def forward(self, x):
        (inner,) = self.children()
        return inner(x)
"""


@pytest.mark.parametrize("name", ["net", "module", "_orig_mod", "coeff_layer"])
@pytest.mark.parametrize("bends", [1, 2])
def test_curves_of_networks_that_name_a_module_as_a_curve_does(
    moons: Callable[..., ConnectSpec], tmp_path: Path, name: str, bends: int
) -> None:
    (tmp_path / "holder.py").write_text(_HOLDER)
    for index, end in enumerate(("start", "end")):
        state = {f"{name}.weight": torch.eye(2) + index, f"{name}.bias": torch.ones(2)}
        checkpoint.save(str(tmp_path / f"{end}.safetensors"), state)
    factory = {"factory": str(tmp_path / "holder.py:Holder"), "kwargs": {"name": name}}
    ends = {end: str(tmp_path / f"{end}.safetensors") for end in ("start", "end")}
    made = moons(network=factory, curve={"bends": bends}, train={"epochs": 1}, **ends)
    prepared = connect.prepare(made)
    whole = curve.load(connect.connect(prepared).result, Layout.of(prepared.network()))
    frames = curve.frames(prepared.folder)
    for found in (whole, curve.load_frame(frames[-1], Layout.of(prepared.network()))):
        np.testing.assert_array_equal(found.points[0], prepared.start)
        np.testing.assert_array_equal(found.points[-1], prepared.end)
        np.testing.assert_array_equal(found.points[1], whole.points[1])
    first = curve.load_frame(frames[0], Layout.of(prepared.network()))
    np.testing.assert_array_equal(first.points[1:-1], connect.initial_bends(prepared))


def test_the_frames_make_a_film(images: Callable[..., ConnectSpec], tmp_path: Path) -> None:
    made = images(train={"epochs": 3})
    connect.connect(connect.prepare(made))
    film = {
        "name": "film",
        "store": str(tmp_path / "film.zarr"),
        "network": made.network.model_dump(),
        "data": made.data.model_dump(mode="json"),
        "plane": {
            "kind": "curve",
            "weights": [made.start, made.end],
            "frames": f"{made.out}/frames",
        },
        "grid": {"width": 2, "height": 2},
    }
    prepared = prepare.prepare(spec.parse(film))
    assert len(prepared.frames) == 4
    assert [anchor.name for anchor in prepared.frames[3].anchors] == ["start", "bend", "end"]


def test_another_network_cannot_read_a_frame(images: Callable[..., ConnectSpec]) -> None:
    prepared = connect.prepare(images(train={"epochs": 1}))
    connect.connect(prepared)
    other = network.build("mlp", {"inputs": 2})
    with pytest.raises(LossatlasError, match="not the same network"):
        curve.load_frame(curve.frames(prepared.folder)[0], Layout.of(other))


def test_what_is_prepared_can_be_sent(images: Callable[..., ConnectSpec]) -> None:
    prepared = pickle.loads(pickle.dumps(connect.prepare(images(train={"epochs": 1}))))
    splits = (array for pair in prepared.inputs.problem.splits.values() for array in pair)
    for array in (prepared.start, prepared.end, *prepared.buffers.values(), *splits):
        array.flags.writeable = False  # as what Ray shares is
    assert connect.connect(prepared).result.exists()


def test_ends_that_cannot_be_connected(
    images: Callable[..., ConnectSpec], modes: Path, tmp_path: Path
) -> None:
    same = images(end="images0/mode.safetensors")
    with pytest.raises(ConnectError, match=r"identical weights; wanted two modes"):
        connect.prepare(same)
    with pytest.raises(LossatlasError, match=r"^end \(mode.safetensors\) has .* not the same net"):
        connect.prepare(images(end="moons1/mode.safetensors"))
    with pytest.raises(LossatlasError, match="none.pt: no such file"):
        connect.prepare(images(start="none.pt"))
    state = checkpoint.load(str(modes / "images0/mode.safetensors"))
    state["head.bias"][0] = float("nan")
    checkpoint.save(str(tmp_path / "nan.safetensors"), state)
    with pytest.raises(LossatlasError, match="head.bias holds NaN"):
        connect.prepare(images(start=str(tmp_path / "nan.safetensors")))
    with pytest.raises(TrainingError, match="train.batch is 61"):
        connect.prepare(images(train={"batch": 61}))


def test_another_training_is_refused_with_the_differences(
    images: Callable[..., ConnectSpec],
) -> None:
    connect.connect(connect.prepare(images(train={"epochs": 1})))
    other = images(train={"epochs": 2}, curve={"kind": "chain"}, start="images1/mode.safetensors",
                   end="images0/mode.safetensors")  # fmt: skip
    with pytest.raises(TrainingError) as error:
        connect.connect(connect.prepare(other))
    for part in ("curve.kind: bezier in the store, chain here", "end: ", "start: ", "train.epochs"):
        assert part in str(error.value)


def test_a_diverged_curve_stops(moons: Callable[..., ConnectSpec]) -> None:
    prepared = connect.prepare(moons(train={"lr": 1e15, "momentum": 0.99}))
    with pytest.raises(TrainingError, match="the training diverged"):
        connect.connect(prepared)
    for frame in curve.frames(prepared.folder):
        curve.load_frame(frame, Layout.of(prepared.network()))


def test_folders_without_frames(
    images: Callable[..., ConnectSpec], modes: Path, tmp_path: Path
) -> None:
    with pytest.raises(CurveError, match="holds no frames"):
        curve.frames(tmp_path)
    prepared = connect.prepare(images(train={"epochs": 1}))
    connect.connect(prepared)
    kept = curve.frames(prepared.folder)
    kept[0].path.with_suffix(".json").write_text("{")
    with pytest.raises(CurveError, match=r"frame-0000.json cannot be read"):
        curve.frames(prepared.folder)
    kept[1].path.write_bytes(kept[1].path.read_bytes()[:100])
    with pytest.raises(LossatlasError, match="not a whole safetensors file"):
        curve.load_frame(kept[1], Layout.of(prepared.network()))
    with pytest.raises(TrainingError, match="the training of a mode"):
        connect.prepare_again(modes / "images0")
    with pytest.raises(TrainingError, match="the training of a curve"):
        fit.prepare_again(prepared.folder)


def test_a_moved_training_is_found_again(
    images: Callable[..., ConnectSpec], tmp_path: Path
) -> None:
    prepared = connect.prepare(images(train={"epochs": 1}))
    connect.connect(prepared)
    shutil.move(prepared.folder, tmp_path / "moved")
    again = connect.connect(connect.prepare_again(tmp_path / "moved"))
    assert again.resumed_at == again.steps
    assert json.loads((tmp_path / "moved/training.json").read_text())["kind"] == "connect"


def test_the_authors_curve_is_read(shared_data: Path) -> None:
    folder = shared_data / "checkpoints" / "preresnet20"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    net = network.build("preresnet20", {})
    found = curve.load(folder / "bezier-14.pt", Layout.of(net))
    assert found.kind == "bezier"
    mode = state_dict.weights(checkpoint.load(str(folder / "mode1-14.pt")), Layout.of(net))
    np.testing.assert_array_equal(found.weights(0.0), mode)
    line = curve.load(folder / "bezier-0.pt", Layout.of(net))
    np.testing.assert_allclose(line.points[1], (line.points[0] + line.points[2]) / 2, atol=1e-6)


SLOW_IMAGES, SLOW_EPOCHS = 2000, 14


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_curve_found_is_about_as_low_as_the_authors(shared_data: Path, tmp_path: Path) -> None:
    """Same ends, same number of epochs, same subsample to be judged on.

    The authors' code saw 10,000 images in each of its 14 epochs, this test a fifth of them, which
    are also what it is judged on. So the ratio says that the search works, not that its curve is
    as good: on images that neither saw, the authors' is lower.
    """
    folder = shared_data / "checkpoints" / "preresnet20"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    content = {
        "network": {"factory": "preresnet20"},
        "start": str(folder / "mode1-14.pt"),
        "end": str(folder / "mode2-14.pt"),
        "data": {
            "source": str(shared_data / "cifar10"),
            "splits": {"train": SLOW_IMAGES},
            "select": "head",
            "normalise": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]},
        },
        "train": {"epochs": SLOW_EPOCHS, "batch": 64, "lr": 0.03, "weight_decay": 3e-4},
    }
    path = tmp_path / "connect.yaml"
    path.write_text(yaml.safe_dump(content))
    prepared = connect.prepare(connect_spec.read_connect(path))
    outcome = connect.connect(prepared)
    evaluator = Evaluator(prepared.network(), prepared.inputs.problem.splits, ("loss",))
    highest = {}
    for name, file in (("found", outcome.result), ("authors", folder / "bezier-14.pt")):
        points = curve.load(file, Layout.of(prepared.network()))
        losses = [evaluator.at(points.weights(t))["loss"][0] for t in np.linspace(0, 1, 9)]
        highest[name] = float(max(losses))
    print(highest, highest["found"] / highest["authors"], outcome.seconds)
    assert highest["found"] <= 1.1 * highest["authors"]
