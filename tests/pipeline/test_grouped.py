"""Points of small networks in groups: no point can tell, to the last bit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.subject import plane_of
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.grouped import group_size, values_of_points
from pipeline.geometry.plane import Plane
from pipeline.problem import network
from pipeline.problem.criterion import criterion_of
from pipeline.problem.losses import cross_entropy, mean_squared_error, misclassified

POINTS = np.random.default_rng(7).uniform(-1, 1, (70, 2))
Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
Values = dict[str, np.ndarray]


def _data(shape: tuple[int, ...], classes: int, train: int = 37, test: int = 23) -> Arrays:
    generator = np.random.default_rng(0)
    return {
        name: (
            generator.standard_normal((count, *shape)).astype("f4"),
            generator.integers(0, classes, count),
        )
        for name, count in (("train", train), ("test", test))
    }


def _alone(evaluator: Evaluator, plane: Plane, points: np.ndarray) -> Values:
    each = [evaluator.evaluate(plane, point[None]) for point in points]
    return {q: np.concatenate([values[q] for values in each], axis=1) for q in each[0]}


def _assert_same(found: Values, expected: Values) -> None:
    assert set(found) == set(expected)
    for quantity, values in expected.items():
        np.testing.assert_array_equal(found[quantity], values, err_msg=quantity)


class Normed(nn.Module):
    """Widths that fit no vector unit, around a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(7, 13), nn.BatchNorm1d(13), nn.Linear(13, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(F.silu(self.norm(self.first(x))))
        return logits


def _mlp(inputs: int, width: int, classes: int) -> nn.Module:
    return network.build("mlp", {"inputs": inputs, "hidden": [width, width], "classes": classes})


@pytest.mark.parametrize("mode", ["recompute", "frozen"])
@pytest.mark.parametrize(
    ("net", "shape", "classes"),
    [
        (Normed(), (7,), 5),
        (_mlp(7, 16, 10), (7,), 10),
        (_mlp(3, 1, 2), (3,), 2),
        (_mlp(5, 33, 67), (5,), 67),
        (network.build("cnn", {"width": 3, "batch_norm": True}), (3, 8, 8), 10),
    ],
    ids=["batch norm", "mlp", "narrow mlp", "wide mlp", "cnn"],
)
def test_not_one_bit_depends_on_the_tile_or_the_order(
    net: nn.Module, shape: tuple[int, ...], classes: int, mode: Any
) -> None:
    evaluator = Evaluator(copy.deepcopy(net), _data(shape, classes), batch_norm=mode)
    assert evaluator.group > 7
    plane = plane_of(net, seed=1)
    expected = _alone(evaluator, plane, POINTS)
    _assert_same(evaluator.evaluate(plane, POINTS), expected)
    order = np.random.default_rng(0).permutation(len(POINTS))
    for part in np.split(order, [2, 9, 40]):
        some = {quantity: values[:, part] for quantity, values in expected.items()}
        _assert_same(evaluator.evaluate(plane, POINTS[part]), some)


def test_threads_do_not_matter() -> None:
    net = _mlp(7, 16, 10)
    evaluator, plane = Evaluator(net, _data((7,), 10, 500)), plane_of(net, seed=1)
    expected = _alone(evaluator, plane, POINTS[:20])
    torch.set_num_threads(3)
    _assert_same(evaluator.evaluate(plane, POINTS[:20]), expected)


def test_many_points_agree_with_a_float64_reference() -> None:
    """test_evaluate.py's three points go together as well."""
    net = _mlp(7, 16, 5)
    data, plane = _data((7,), 5), plane_of(net, seed=1)
    exact = copy.deepcopy(net).double()
    expected = np.empty((2, len(POINTS)))
    for index, (x, y) in enumerate(POINTS):
        weights = torch.from_numpy(plane.weights(x, y)).float().double()
        nn.utils.vector_to_parameters(weights, exact.parameters())
        for split, (inputs, targets) in enumerate(data.values()):
            with torch.no_grad():
                outputs = exact(torch.from_numpy(inputs).double())
            expected[split, index] = F.cross_entropy(outputs, torch.from_numpy(targets))
    found = Evaluator(net, data).evaluate(plane, POINTS)
    np.testing.assert_allclose(found["loss"], expected, rtol=2e-6)


@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_a_hostile_point_spoils_no_other(mode: Any) -> None:
    net = Normed()
    evaluator, plane = Evaluator(net, _data((7,), 5), batch_norm=mode), plane_of(net, seed=1)
    points = POINTS[:24].copy()
    points[1::4] = 1e38, -1e38
    points[2::4] = np.nan, 0
    points[3::4] = 1e15, 1e15
    found = evaluator.evaluate(plane, points)
    _assert_same(found, _alone(evaluator, plane, points))
    assert np.isfinite(found["loss"][:, ::4]).all()
    assert np.isnan(found["loss"][:, 2::4]).all()
    np.testing.assert_array_equal(found["error"][:, 2::4], 1)


class OwnWeights(nn.Module):
    """Gives out a view of its weights, not a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.arange(5.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1)


class OneBuffer(nn.Module):
    """Writes into the same tensor at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 5)
        self.kept: dict[int, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = self.layer(x)
        return self.kept.setdefault(len(x), torch.empty_like(outputs)).copy_(outputs)


class Branching(nn.Module):
    """What no batching over points takes: a choice by the data, and writing in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = self.layer(x)
        if outputs.sum() > 0:
            outputs[0] *= 2
        return outputs


@pytest.mark.parametrize("make", [OwnWeights, OneBuffer, Branching])
def test_whatever_a_forward_does_a_group_gives_the_same(make: type[nn.Module]) -> None:
    net = make()
    evaluator, plane = Evaluator(net, _data((7,), 5)), plane_of(net, seed=1)
    # Filter normalisation leaves vectors alone; here they are all there is.
    plane = Plane(plane.origin, np.cos(np.arange(plane.origin.size)), plane.v, "euclidean")
    found = evaluator.evaluate(plane, POINTS)
    _assert_same(found, _alone(evaluator, plane, POINTS))
    assert len(np.unique(found["loss"][0])) > 60


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_other_precisions_are_grouped_as_well(precision: Any) -> None:
    net = Normed()
    evaluator, plane = Evaluator(net, _data((7,), 5), precision=precision), plane_of(net, seed=1)
    found = evaluator.evaluate(plane, POINTS[:20])
    _assert_same(found, _alone(evaluator, plane, POINTS[:20]))
    float32 = Evaluator(Normed(), _data((7,), 5)).evaluate(plane, POINTS[:20])
    assert (found["loss"] != float32["loss"]).any() == (precision == "bf16")


def test_a_loss_of_the_users_is_called_for_one_point_at_a_time() -> None:
    seen: list[tuple[int, ...]] = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(outputs.shape))
        return cross_entropy(outputs, targets) - outputs.mean(1)

    net = Normed()
    evaluator, plane = Evaluator(net, _data((7,), 5), ["loss"], loss), plane_of(net, seed=1)
    assert evaluator.group == 1
    seen.clear()
    found = evaluator.evaluate(plane, POINTS[:9])
    assert seen == [(37, 5), (23, 5)] * 9
    _assert_same(found, _alone(evaluator, plane, POINTS[:9]))


def test_memory_that_runs_out_within_a_group_costs_no_point() -> None:
    class Cramped(Normed):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls > 10 and len(x) > 20:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    plane = plane_of(Normed(), seed=1)
    evaluator = Evaluator(Cramped(), _data((7,), 5), batch_norm="frozen")
    found = evaluator.evaluate(plane, POINTS)
    assert evaluator.group == 1
    expected = Evaluator(Normed(), _data((7,), 5), batch_norm="frozen").evaluate(plane, POINTS)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=5e-7)


def test_the_group_follows_from_the_network_and_the_data() -> None:
    def size(examples: int = 256, classes: int = 10, **changed: Any) -> int:
        given: dict[str, Any] = {
            "criterion": criterion_of(cross_entropy),
            "outputs": torch.Size((2, classes)),
            "targets": [torch.Size((examples,))],
            "chunk": 512,
        }
        return group_size(**given | changed)

    assert (size(), size(512), size(512, 1000)) == (32, 25, 1)
    # The larger split counts, and it may not need two passes.
    assert size(targets=[torch.Size((512,)), torch.Size((100,))]) == 25
    assert size(targets=[torch.Size((100,)), torch.Size((513,))]) == 1
    # A ResNet-20's chunk, and few examples.
    assert size(30, chunk=32) == 1
    assert size(criterion=criterion_of(mean_squared_error)) == 1
    assert size(outputs=torch.Size((2, 7, 10)), targets=[torch.Size((256, 7))]) == 1
    assert size(targets=[torch.Size((256, 1))]) == 1


@pytest.mark.parametrize("classes", [2, 3, 10, 17, 100])
def test_rows_taken_together_are_the_rows_taken_alone(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    outputs = torch.randn(32, 41, classes, generator=generator) * 30
    outputs[3, 5], outputs[4, 0, 0], outputs[5] = torch.nan, torch.inf, 1e38
    targets = torch.arange(41) % classes
    found = values_of_points(list(outputs), targets, with_errors=True)
    losses, errors = (found[name].sums for name in ("loss", "error"))
    for of_point, loss, error in zip(outputs, losses, errors, strict=True):
        assert torch.equal(loss.nan_to_num(-1), cross_entropy(of_point, targets).nan_to_num(-1))
        assert torch.equal(error, misclassified(of_point, targets))
        # And so are their sums.
    means = torch.stack([loss.mean() for loss in losses])
    assert torch.equal(losses.mean(1).nan_to_num(-1), means.nan_to_num(-1))


@pytest.mark.parametrize("classes", [2, 3, 10, 17, 1000])
def test_a_rows_loss_depends_on_nothing_but_the_row(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    for row in 3 * torch.randn(5, classes, generator=generator):
        target = int(torch.randint(classes, (), generator=generator))
        found = {
            float(loss)
            for count in (1, 2, 7, 15, 16, 17, 33, 257)
            for loss in cross_entropy(row.expand(count, -1), torch.full((count,), target))
        }
        assert len(found) == 1
        expected = -(row.double().log_softmax(0)[target])
        assert found.pop() == pytest.approx(float(expected), rel=1e-14)


def test_a_row_that_is_not_a_number_moves_no_other() -> None:
    rows = torch.randn(40, 10, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(40) % 10
    expected = cross_entropy(rows, targets)
    rows[3], rows[17, 4], rows[20, 2] = torch.nan, torch.inf, -torch.inf
    found = cross_entropy(rows, targets)
    assert found[[3, 17]].isnan().all()
    assert found[20] <= expected[20]
    others = [i for i in range(40) if i not in (3, 17, 20)]
    torch.testing.assert_close(found[others], expected[others], rtol=0, atol=0)


@pytest.mark.parametrize(("outputs", "targets"), [((20, 8, 5), (20,)), ((2, 5), (2, 8))])
def test_outputs_that_do_not_fit_the_targets_are_refused(
    outputs: tuple[int, ...], targets: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="to match target batch_size"):
        cross_entropy(torch.zeros(outputs), torch.zeros(targets, dtype=torch.int64))
