"""Capturing and replaying a point, with a capturer for CPUs that does what a CUDA graph does.

It takes down every operator with its arguments, and replays those: what Python does in between is
not done again, and a number that was asked for on the way cannot be had.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from benchmarks.subject import plane_of
from pipeline.evaluation import evaluator as evaluate
from pipeline.evaluation.cuda_graph import GraphReplay, capture_on
from pipeline.evaluation.evaluator import Evaluator
from pipeline.geometry.plane import Plane
from pipeline.problem.losses import cross_entropy
from pipeline.problem.networks.resnet import ResNet
from pipeline.problem.networks.small import MLP
from tests.pipeline.naive import Asking, Counting

POINTS = 2 * np.random.default_rng(0).random((9, 2)) - 1
ASKS_THE_HOST = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default}


class Tape(TorchDispatchMode):
    """The operators that run while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if operator in ASKS_THE_HOST:
            raise RuntimeError("operation not permitted when stream is capturing")
        outputs = operator(*args, **(kwargs or {}))
        self.operators.append((operator, args, kwargs or {}, outputs))
        return outputs

    def replay(self) -> dict[int, Tensor]:
        """Run them once more on what their inputs hold now: output then → output now."""
        now: dict[int, Tensor] = {}

        def current(value: Tensor) -> Tensor:
            return now.get(id(value), value)

        for operator, args, kwargs, outputs in self.operators:
            again = operator(
                *tree_map_only(Tensor, current, args), **tree_map_only(Tensor, current, kwargs)
            )
            for old, new in zip(_tensors(outputs), _tensors(again), strict=True):
                now[id(old)] = new
        return now


def _tensors(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [*outputs]


class Capturer:
    """Captures on a CPU; counts what it did."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.captures += 1
        with Tape() as tape:
            output = compute()

        def replay() -> None:
            self.replays += 1
            with torch.inference_mode():
                output.copy_(tape.replay()[id(output)])

        return replay, output


@pytest.fixture
def capturer(monkeypatch: pytest.MonkeyPatch) -> Capturer:
    made = Capturer()
    monkeypatch.setattr(evaluate, "capture_on", lambda device: made)
    return made


def _images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    images = generator.standard_normal((count, 3, 8, 8)).astype("f4")
    return images, generator.integers(0, 10, count)


def _resnet() -> nn.Module:
    torch.manual_seed(0)
    return ResNet(8)


DATA = {"train": _images(12, 0), "test": _images(7, 1)}


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_a_replayed_point_is_the_point_to_the_bit(
    capturer: Capturer, mode: Literal["recompute", "frozen"], precision: Any
) -> None:
    net, plane = _resnet(), plane_of(_resnet(), seed=1)
    given: dict[str, Any] = {"batch_norm": mode, "precision": precision, "chunk": 16}
    plain = Evaluator(copy.deepcopy(net), DATA, cuda_graph=False, **given)
    evaluator = Evaluator(net, DATA, **given)
    found, expected = evaluator.evaluate(plane, POINTS), plain.evaluate(plane, POINTS)
    assert (capturer.captures, capturer.replays) == (1, len(POINTS) - 1)
    assert (evaluator.is_replayed, plain.is_replayed) == (True, False)
    for quantity, values in expected.items():
        np.testing.assert_array_equal(found[quantity], values)
    assert len(np.unique(expected["loss"][0])) == len(POINTS)


def test_a_gpu_point_is_few_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a kernel or two, or a look at a tensor: on a fast GPU their number counts."""
    images = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype("f4")
    data, plane = {"train": (images, np.arange(8))}, plane_of(ResNet(20), seed=1)
    counts: list[int] = []

    def count(compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        with Tape() as tape:
            compute()
        counts.append(len(tape.operators))
        raise RuntimeError("only counted")

    monkeypatch.setattr(evaluate, "capture_on", lambda device: count)
    for at_once in (False, True):
        monkeypatch.setattr(evaluate, "takes_moments_at_once", lambda device, on=at_once: on)
        Evaluator(ResNet(20), data, quantities=["loss"]).evaluate(plane, POINTS[:2])
    # 20 convolutions and a matrix product, 19 batch norms, as many ReLUs, 9 sums, and the loss.
    assert counts[1] < 90 < 400 < counts[0]


def test_a_graph_goes_on_in_another_tile_and_on_another_plane(capturer: Capturer) -> None:
    net, plane = _resnet(), plane_of(_resnet(), seed=1)
    other = Plane(plane.origin * 0.9, plane.v, plane.u, "euclidean")
    plain = Evaluator(copy.deepcopy(net), DATA, chunk=16, cuda_graph=False)
    evaluator = Evaluator(net, DATA, chunk=16)
    for each, points in itertools.product((plane, other), (POINTS[:4], POINTS[4:])):
        found, expected = evaluator.evaluate(each, points), plain.evaluate(each, points)
        np.testing.assert_array_equal(found["loss"], expected["loss"])
    assert capturer.captures == 1


def test_nan_and_infinity_are_replayed(capturer: Capturer) -> None:
    net, plane = _resnet(), plane_of(_resnet(), seed=1)
    points = POINTS.copy()
    points[1::2] = 1e38, -1e38
    points[4] = np.nan, 0.0
    plain = Evaluator(copy.deepcopy(net), DATA, chunk=16, cuda_graph=False)
    found = Evaluator(net, DATA, chunk=16).evaluate(plane, points)
    np.testing.assert_array_equal(found["loss"], plain.evaluate(plane, points)["loss"])
    assert capturer.replays == len(points) - 1
    assert np.isnan(found["loss"][:, 4]).all()


@pytest.mark.parametrize(("make", "replays"), [(Asking, 0), (Counting, 1)])
def test_what_cannot_be_replayed_is_computed(
    capturer: Capturer, make: type[nn.Module], replays: int
) -> None:
    torch.manual_seed(0)
    net = make()
    generator = np.random.default_rng(2)
    data = {"train": (generator.random((9, 7), "f4"), generator.integers(0, 10, 9))}
    plane = plane_of(net, seed=1)
    plane = Plane(plane.origin, np.cos(np.arange(plane.origin.size)), plane.v, "euclidean")
    evaluator = Evaluator(copy.deepcopy(net), data)
    evaluator.group = 1  # as on a GPU
    found = evaluator.evaluate(plane, POINTS)["loss"]
    assert (capturer.captures, capturer.replays) == (1, replays)
    assert not evaluator.is_replayed
    if make is Asking:
        plain = Evaluator(copy.deepcopy(net), data, cuda_graph=False).evaluate(plane, POINTS)[
            "loss"
        ]
        np.testing.assert_array_equal(found, plain)


def test_chunks_with_a_barrier_and_losses_of_the_users_are_not_replayed(capturer: Capturer) -> None:
    plane = plane_of(_resnet(), seed=1)
    Evaluator(_resnet(), DATA, chunk=5).evaluate(plane, POINTS[:4])
    own: Callable[[Tensor, Tensor], Tensor] = lambda outputs, targets: cross_entropy(  # noqa: E731
        outputs, targets
    )
    Evaluator(_resnet(), DATA, loss=own, chunk=16).evaluate(plane, POINTS[:4])
    assert capturer.captures == 0
    # Frozen, chunks go one after the other.
    Evaluator(_resnet(), DATA, batch_norm="frozen", chunk=5).evaluate(plane, POINTS[:4])
    assert (capturer.captures, capturer.replays) == (1, 3)


def test_memory_that_runs_out_while_capturing_costs_no_point() -> None:
    calls = iter(range(100))

    def compute() -> Tensor:
        return torch.tensor([float(next(calls))])

    def capture(compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    replayed = GraphReplay(compute, capture)
    assert [float(replayed()) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert not replayed.is_replayed


def test_nothing_is_replayed_on_a_cpu() -> None:
    assert evaluate.capture_on(torch.device("cpu")) is None
    evaluator = Evaluator(MLP(7, (8,)), {"train": (np.ones((3, 7), "f4"), np.arange(3))})
    evaluator.at(np.zeros(sum(p.numel() for p in MLP(7, (8,)).parameters())))
    assert not evaluator.is_replayed


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_a_gpu_replays_to_the_bit(mode: Literal["recompute", "frozen"]) -> None:
    net, plane = _resnet(), plane_of(_resnet(), seed=1)
    plain = Evaluator(copy.deepcopy(net), DATA, batch_norm=mode, device="cuda", cuda_graph=False)
    evaluator = Evaluator(net, DATA, batch_norm=mode, device="cuda")
    found, expected = evaluator.evaluate(plane, POINTS), plain.evaluate(plane, POINTS)
    assert evaluator.is_replayed
    for quantity, values in expected.items():
        np.testing.assert_array_equal(found[quantity], values)


@pytest.mark.gpu
def test_a_gpu_goes_on_after_a_graph_that_failed() -> None:
    device = torch.device("cuda")
    value = torch.ones(3, device=device)
    stream = torch.cuda.current_stream()
    replayed = GraphReplay(lambda: value * value.sum().item(), capture_on(device))
    for factor in (1.0, 2.0, 3.0, 4.0):
        value.fill_(factor)
        assert replayed().tolist() == [3 * factor * factor] * 3
    assert not replayed.is_replayed
    assert torch.cuda.current_stream() == stream
