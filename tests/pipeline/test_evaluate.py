"""The evaluator, held to naive float64 references."""

from __future__ import annotations

import copy
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.subject import plane_of
from pipeline.evaluation import evaluator as evaluate
from pipeline.evaluation.barrier import BarrierError
from pipeline.evaluation.batch_norm import BatchNormError, population
from pipeline.evaluation.chunks import chunk_size
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.examples import EvaluateError
from pipeline.evaluation.room import NoRoomError, room_on
from pipeline.evaluation.weights import WeightsError
from pipeline.geometry.plane import Plane
from pipeline.problem import network
from pipeline.problem.losses import cross_entropy, mean_squared_error, misclassified
from pipeline.problem.means import Values, over_examples
from tests.pipeline.naive import POINTS, Arrays, reference, small_images, small_net, two_splits


@pytest.fixture
def data() -> Arrays:
    return two_splits()


@pytest.fixture
def net() -> nn.Module:
    return small_net()


@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_all_quantities_agree_with_the_float64_reference(
    net: nn.Module, data: Arrays, mode: Any
) -> None:
    plane = plane_of(net, seed=1)
    expected = reference(net, data, plane, mode)
    found = Evaluator(copy.deepcopy(net), data, batch_norm=mode).evaluate(plane, POINTS)
    assert set(found) == set(expected)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=2e-6)
    np.testing.assert_allclose(found["loss_stderr"], expected["loss_stderr"], rtol=1e-5)
    np.testing.assert_array_equal(found["error"], expected["error"].astype("f4"))


def test_recomputed_and_frozen_statistics_differ(net: nn.Module, data: Arrays) -> None:
    plane = plane_of(net, seed=1)
    made = [
        Evaluator(copy.deepcopy(net), data, batch_norm=mode).evaluate(plane, POINTS)["loss"]
        for mode in ("recompute", "frozen")
    ]
    assert np.abs(made[0] - made[1]).min() > 1e-3


@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_the_chunk_matters_at_most_in_the_last_bit(net: nn.Module, data: Arrays, mode: Any) -> None:
    plane = plane_of(net, seed=1)
    expected = Evaluator(copy.deepcopy(net), data, batch_norm=mode, chunk=64).evaluate(
        plane, POINTS
    )
    for chunk in (1, 5, 16):
        evaluator = Evaluator(copy.deepcopy(net), data, batch_norm=mode, chunk=chunk)
        found = evaluator.evaluate(plane, POINTS)
        for quantity, values in expected.items():
            # A matrix product of few rows may sum in another order.
            np.testing.assert_allclose(found[quantity], values, rtol=5e-7, err_msg=quantity)


def test_recomputed_statistics_of_a_real_network_do_not_depend_on_the_chunk() -> None:
    torch.manual_seed(0)
    net = network.build("resnet20", {"classes": 5})
    images = np.random.default_rng(0).standard_normal((2, 90, 3, 32, 32)).astype("f4")
    data = {name: (x, np.arange(90) % 5) for name, x in zip(("train", "test"), images, strict=True)}
    plane = plane_of(net, seed=1)
    made = [
        Evaluator(copy.deepcopy(net), data, chunk=chunk).evaluate(plane, POINTS[1:2])
        for chunk in (16, 32, 90)
    ]
    for other in made[1:]:
        for quantity, values in made[0].items():
            np.testing.assert_array_equal(other[quantity], values)


def test_not_one_bit_depends_on_the_points_evaluated_before(net: nn.Module, data: Arrays) -> None:
    plane = plane_of(net, seed=1)
    evaluator = Evaluator(net, data)
    together = evaluator.evaluate(plane, POINTS)
    for index, point in enumerate(POINTS[::-1]):
        alone = evaluator.evaluate(plane, point[None])
        np.testing.assert_array_equal(alone["loss"][:, 0], together["loss"][:, -1 - index])


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_statistics_survive_a_large_mean(net: nn.Module, offset: float) -> None:
    """E[x²] − E[x]² would lose everything here."""
    inputs, targets = small_images(40, 3)
    data = {"train": (inputs + np.float32(offset), targets)}
    plane = plane_of(net, seed=1)
    expected = reference(net, data, plane, "recompute")["loss"]
    found = Evaluator(net, data, chunk=8).evaluate(plane, POINTS)["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-5 if offset == 0 else 2e-3)


def test_constant_channels_and_one_class(net: nn.Module) -> None:
    inputs, targets = small_images(20, 4)
    inputs[:, 1] = 0.5
    data = {"train": (inputs, np.zeros_like(targets))}
    net.conv1.weight.data[2] = 0
    plane = plane_of(net, seed=1)
    expected = reference(net, data, plane, "recompute")
    found = Evaluator(net, data, chunk=8).evaluate(plane, POINTS)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_array_equal(found["error"], expected["error"].astype("f4"))


def test_not_a_number_is_stored_as_it_comes_and_no_prediction(data: Arrays) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(90, 5))
    plane = plane_of(net, seed=1)
    evaluator = Evaluator(net, data)
    broken = plane.origin.copy()
    broken[0] = np.nan
    found = evaluator.at(broken)
    assert np.isnan(found["loss"]).all()
    np.testing.assert_array_equal(found["error"], [1, 1])
    assert np.isfinite(evaluator.at(plane.origin)["loss"]).all()


def test_a_batch_norm_in_several_places_is_recomputed_in_each(data: Arrays) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 4, 3), norm, nn.Flatten(), nn.Linear(8, 5)
    )
    inputs, targets = (torch.from_numpy(array) for array in data["train"])
    weights = torch.cat([p.detach().ravel() for p in net.parameters()]).numpy()
    with torch.no_grad():
        outputs = copy.deepcopy(net).double().train()(inputs.double())
    found = Evaluator(net, data, chunk=16).at(weights)
    expected = float(F.cross_entropy(outputs, targets))
    assert found["loss"][0] == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_a_batch_norm_has_an_eps_of_its_own(data: Arrays, mode: Any) -> None:
    net = small_net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.5
    plane = plane_of(net, seed=1)
    expected = reference(net, data, plane, mode)["loss"]
    found = Evaluator(copy.deepcopy(net), data, batch_norm=mode).evaluate(plane, POINTS)["loss"]
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_a_population_is_summed_in_float64() -> None:
    """A million examples' moments: sums in float32 would lose what few of them differ by."""
    generator = np.random.default_rng(0)
    means = (1000 + generator.standard_normal((4000, 3))).astype("f4")
    squares = generator.random((4000, 3)).astype("f4")
    parts = [
        (torch.from_numpy(means[i : i + 700]), torch.from_numpy(squares[i : i + 700]), 7)
        for i in range(0, 4000, 700)
    ]
    mean, variance = population(parts)
    exact = means.astype("f8")
    expected = exact.var(0) + squares.astype("f8").mean(0) / 7
    np.testing.assert_array_equal(mean.numpy(), exact.mean(0).astype("f4"))
    np.testing.assert_allclose(variance.numpy(), expected, rtol=1e-7)


def test_examples_are_summed_in_float64() -> None:
    """In float32, the small ones beside 2²⁴ would add up to nothing."""
    losses = torch.ones(2, 1001, dtype=torch.float64)
    losses[:, 0] = 2.0**24
    found = over_examples("loss", {"loss": Values(losses)})
    assert found.tolist() == [(2.0**24 + 1000) / 1001] * 2
    pairs = Values(losses[:, 1:3] * torch.tensor([1.0, 3.0]))
    spread = over_examples("loss_stderr", {"loss": pairs})
    assert spread.tolist() == [1.0, 1.0]  # √2, of a sample, over √2


def test_a_batch_norm_that_does_more_is_refused(data: Arrays) -> None:
    class Activated(nn.BatchNorm2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return F.relu(super().forward(input))

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Activated(4), nn.Flatten(), nn.Linear(48, 5))
    with pytest.raises(BatchNormError, match=r"network's 1 is a Activated, .*batch_norm: frozen"):
        Evaluator(copy.deepcopy(net), data)
    plane = plane_of(net, seed=1)
    expected = reference(net, data, plane, "frozen")
    found = Evaluator(net, data, batch_norm="frozen").evaluate(plane, POINTS)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=2e-6)


def test_statistics_that_are_not_kept_cannot_be_frozen(data: Arrays) -> None:
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    net = nn.Sequential(norm, nn.Flatten(), nn.Linear(90, 5))
    with pytest.raises(BatchNormError, match=r"0 keeps no running statistics .*recompute"):
        Evaluator(copy.deepcopy(net), data, batch_norm="frozen")
    assert np.isfinite(Evaluator(net, data).evaluate(plane_of(net, seed=1), POINTS)["loss"]).all()


def test_a_network_of_one_parameter() -> None:
    net = nn.Linear(1, 1, bias=False)
    data = {"train": (np.ones((4, 1), "f4"), np.zeros((4, 1), "f4"))}
    evaluator = Evaluator(net, data, ["loss"], mean_squared_error)
    plane = Plane(np.array([2.0]), np.array([1.0]), np.array([0.0]), "euclidean")
    assert evaluator.evaluate(plane, np.array([[1.0, 5.0]]))["loss"][0, 0] == 9.0
    assert evaluator.at(np.array([4.0]))["loss"][0] == 16.0


def test_a_thread_that_cannot_be_had_ends_the_call_and_not_the_evaluator(
    net: nn.Module, data: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = Evaluator(net, data, chunk=8)
    plane = plane_of(net, seed=1)
    submit = ThreadPoolExecutor.submit
    asked: list[object] = []

    def few(self: ThreadPoolExecutor, *rest: Any) -> Any:
        asked.append(rest)
        if len(asked) == 3:
            raise RuntimeError("can't start new thread")
        return submit(self, *rest)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", few)
    with pytest.raises(BarrierError, match="no thread for each of 5 chunks"):
        evaluator.evaluate(plane, POINTS)
    assert np.isfinite(evaluator.evaluate(plane, POINTS)["loss"]).all()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norms as on a GPU: one operator each, where the calibration set is one chunk."""
    monkeypatch.setattr(evaluate, "takes_moments_at_once", lambda device: True)


@pytest.mark.parametrize("hostile", ["", "large mean", "constant channels", "one class"])
def test_moments_taken_at_once_agree_with_the_float64_reference(
    at_once: None, net: nn.Module, data: Arrays, hostile: str
) -> None:
    images, targets = data["train"]
    if hostile == "large mean":
        images += 30
    elif hostile == "constant channels":
        images[:, 1] = 0.5
        net.conv1.weight.data[2] = 0
    elif hostile == "one class":
        targets[:] = 3
    plane = plane_of(net, seed=1)
    expected = reference(net, data, plane, "recompute")
    found = Evaluator(net, data).evaluate(plane, POINTS)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=2e-5)
    np.testing.assert_allclose(found["loss_stderr"], expected["loss_stderr"], rtol=5e-5)
    np.testing.assert_array_equal(found["error"], expected["error"].astype("f4"))


def test_moments_are_taken_at_once_only_where_one_chunk_holds_them_all(
    at_once: None, monkeypatch: pytest.MonkeyPatch, net: nn.Module, data: Arrays
) -> None:
    taken = []
    original = torch.native_batch_norm
    monkeypatch.setattr(
        torch, "native_batch_norm", lambda x, *rest: (taken.append(len(x)), original(x, *rest))[1]
    )
    plane = plane_of(net, seed=1)
    whole = Evaluator(copy.deepcopy(net), data).evaluate(plane, POINTS[:1])
    assert taken == [37] * 3, "each batch norm of the calibrating split, and of no other"
    parts = Evaluator(net, data, chunk=16).evaluate(plane, POINTS[:1])
    assert len(taken) == 3
    np.testing.assert_allclose(whole["loss"], parts["loss"], rtol=1e-5)


def test_moments_taken_at_once_do_not_depend_on_the_points_before(
    at_once: None, net: nn.Module, data: Arrays
) -> None:
    plane = plane_of(net, seed=1)
    evaluator = Evaluator(net, data)
    expected = evaluator.evaluate(plane, POINTS[:1])["loss"]
    broken = evaluator.evaluate(plane, np.array([[1e38, -1e38], [np.nan, 0.0]]))["loss"]
    assert not np.isfinite(broken).any()
    np.testing.assert_array_equal(evaluator.evaluate(plane, POINTS[:1])["loss"], expected)


@pytest.mark.gpu
@pytest.mark.parametrize("offset", [0.0, 30.0, 1e3])
@pytest.mark.parametrize("chunk", [None, 16])
def test_a_gpu_agrees_with_the_float64_reference(
    net: nn.Module, data: Arrays, offset: float, chunk: int | None
) -> None:
    data["train"][0][:] += np.float32(offset)
    plane = plane_of(net, seed=1)
    expected = reference(net, data, plane, "recompute")["loss"]
    found = Evaluator(net, data, device="cuda", chunk=chunk).evaluate(plane, POINTS)["loss"]
    np.testing.assert_allclose(found, expected, rtol=2e-3 if offset == 1e3 else 2e-5)


def test_overflow_is_infinity_or_not_a_number_not_an_error(net: nn.Module, data: Arrays) -> None:
    plane = plane_of(net, seed=1)
    found = Evaluator(net, data).evaluate(plane, np.array([[1e38, -1e38]]))
    assert not np.isfinite(found["loss"]).any()


def test_one_example_has_no_standard_error(net: nn.Module) -> None:
    data = {"train": small_images(30, 0), "one": small_images(1, 1)}
    found = Evaluator(net, data).evaluate(plane_of(net, seed=1), POINTS[:1])
    assert np.isfinite(found["loss"]).all()
    assert np.isnan(found["loss_stderr"][1]).all()


def test_shared_parameters_move_together(data: Arrays) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(90, 90, bias=False)
            self.second = nn.Linear(90, 90, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x.flatten(1)))

    net = Tied()
    plane = plane_of(net, seed=1)
    weights = torch.from_numpy(plane.weights(0.3, 0.1)).float().view(90, 90).double()
    inputs = torch.from_numpy(data["train"][0]).double().flatten(1)
    expected = F.cross_entropy(inputs @ weights.T @ weights.T, torch.from_numpy(data["train"][1]))
    found = Evaluator(net, data).evaluate(plane, np.array([[0.3, 0.1]]))
    assert found["loss"][0, 0] == pytest.approx(float(expected), rel=1e-5)


def test_token_ids_and_a_loss_at_every_position() -> None:
    net = nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 11))
    tokens = np.random.default_rng(0).integers(0, 11, (9, 6))
    plane = plane_of(net, seed=1)
    found = Evaluator(net, {"train": (tokens, tokens)}, chunk=4).evaluate(plane, POINTS[:1])
    outputs = net(torch.from_numpy(tokens))
    expected = F.cross_entropy(outputs.reshape(-1, 11), torch.from_numpy(tokens).reshape(-1))
    assert found["loss"][0, 0] == pytest.approx(float(expected), rel=1e-6)
    wrong = (outputs.argmax(-1).numpy() != tokens).mean()
    assert found["error"][0, 0] == pytest.approx(wrong)


def test_vectors_and_mean_squared_error() -> None:
    generator = np.random.default_rng(0)
    inputs, targets = generator.random((12, 3), "f4"), generator.random((12, 2), "f4")
    net = nn.Linear(3, 2)
    evaluator = Evaluator(net, {"train": (inputs, targets)}, ["loss"], mean_squared_error)
    plane = plane_of(net, seed=1)
    weights = plane.weights(0.5, 0.5)
    outputs = inputs @ weights[:6].reshape(2, 3).T + weights[6:]
    found = evaluator.evaluate(plane, np.array([[0.5, 0.5]]))
    assert found["loss"][0, 0] == pytest.approx(((outputs - targets) ** 2).mean(), rel=1e-5)


def test_read_only_arrays_are_taken(net: nn.Module, data: Arrays) -> None:
    for inputs, targets in data.values():
        inputs.flags.writeable = targets.flags.writeable = False
    plane = plane_of(net, seed=1)
    plane.origin.flags.writeable = False
    assert np.isfinite(Evaluator(net, data).evaluate(plane, POINTS)["loss"]).all()


def test_misfits_are_named(net: nn.Module, data: Arrays) -> None:
    misfit = np.zeros((4, 7), "f4"), np.zeros(4, int)
    told = r"does not take the data of {} \(inputs float32 \(2, 7\)"
    with pytest.raises(EvaluateError, match=told.format("train")):
        Evaluator(copy.deepcopy(net), {"train": misfit})
    with pytest.raises(EvaluateError, match=told.format("test")):
        Evaluator(copy.deepcopy(net), {"train": data["train"], "test": misfit})
    with pytest.raises(EvaluateError, match="one value an example"):
        Evaluator(net, data, ["loss"], lambda outputs, targets: outputs.mean())


def test_a_plane_of_another_network_is_refused(net: nn.Module, data: Arrays) -> None:
    plane = plane_of(net, seed=1)
    other = Plane(plane.origin[1:], plane.u[1:], plane.v[1:], "euclidean")
    size = plane.origin.size
    with pytest.raises(WeightsError, match=f"{size - 1} values and the network {size} param"):
        Evaluator(net, data).evaluate(other, POINTS)


def test_a_network_whose_examples_take_different_ways_is_refused() -> None:
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x) if x[0, 0] > 0 else x

    inputs = np.ones((8, 3), "f4")
    inputs[4:] *= -1
    evaluator = Evaluator(Fickle(), {"train": (inputs, np.zeros(8, int))}, chunk=4)
    plane = Plane(np.ones(6), np.zeros(6), np.zeros(6), "euclidean")
    with pytest.raises(Exception, match="different number of batch norms"):
        evaluator.evaluate(plane, POINTS)


def test_an_error_in_one_chunk_frees_the_others() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x[0, 0] < 0:
                raise RuntimeError("poison")
            return self.norm(self.norm(x))

    inputs = np.ones((12, 3), "f4")
    inputs[4:8] *= -1
    evaluator = Evaluator(Fails(), {"train": (inputs, np.zeros(12, int))}, chunk=4)
    plane = Plane(np.ones(6), np.zeros(6), np.zeros(6), "euclidean")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="poison"):
            evaluator.evaluate(plane, POINTS)


def test_cross_entropy_of_huge_logits_is_exact() -> None:
    outputs = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    assert cross_entropy(outputs, torch.tensor([0, 0])).tolist() == [0.0, 1e4]


class Cramped(nn.Module):
    """ResNet-20 on a device whose memory holds `room` examples; remembers what it was given."""

    def __init__(self, room: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside = network.build("resnet20", {"classes": 5})
        self.room = room
        self.tried: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.tried.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")
        return self.inside(x)


@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_out_of_memory_halves_the_chunk_and_not_one_bit_changes(mode: Any) -> None:
    images = np.random.default_rng(0).standard_normal((2, 48, 3, 32, 32)).astype("f4")
    data = {name: (x, np.arange(48) % 5) for name, x in zip(("train", "test"), images, strict=True)}
    plane = plane_of(Cramped(48), seed=1)
    expected = Evaluator(Cramped(48), data, batch_norm=mode, chunk=48).evaluate(plane, POINTS[:2])
    net = Cramped(16)
    evaluator = Evaluator(net, data, batch_norm=mode, chunk=48)
    net.tried.clear()
    found = evaluator.evaluate(plane, POINTS[:2])
    assert (net.tried[:3], set(net.tried[3:]), evaluator.chunk) == ([48, 24, 12], {12}, 12)
    for quantity, values in expected.items():
        np.testing.assert_array_equal(found[quantity], values)


def test_what_filled_the_memory_is_let_go_before_the_next_try() -> None:
    class Hoards(nn.Module):
        """Its first chunks wait at a barrier holding memory, then the last finds none left."""

        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.held: list[weakref.ref[torch.Tensor]] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 2:
                hoard = x + 1
                self.held.append(weakref.ref(hoard))
                if len(self.held) == 2:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return self.norm(hoard) + hoard
            assert all(reference() is None for reference in self.held)
            return self.norm(x)

    net = Hoards()
    evaluator = Evaluator(net, {"train": (np.ones((8, 3), "f4"), np.zeros(8, int))}, chunk=4)
    plane = Plane(np.ones(6), np.zeros(6), np.zeros(6), "euclidean")
    assert np.isfinite(evaluator.evaluate(plane, POINTS)["loss"]).all()
    assert (len(net.held), evaluator.chunk) == (2, 2)


def test_a_device_without_room_for_one_example_is_told_plainly() -> None:
    net = Cramped(2)
    evaluator = Evaluator(net, {"train": (np.zeros((4, 3, 32, 32), "f4"), np.zeros(4, int))})
    net.room = 0
    told = r"cpu has no room for one example at a time \(CUDA out of memory. Tried .*fewer examples"
    with pytest.raises(NoRoomError, match=told):
        evaluator.evaluate(plane_of(net, seed=1), POINTS)
    told = "cuda:1 has no room for the network and the data"
    with pytest.raises(NoRoomError, match=told), room_on("cuda:1"):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_the_chunk_follows_from_the_network_and_the_kind_of_device() -> None:
    image_of_resnet20 = 16 * 32 * 32 * 4
    assert chunk_size(image_of_resnet20, "cpu") == 32
    assert chunk_size(image_of_resnet20, "cuda") == 8192
    assert (chunk_size(8, "cpu"), chunk_size(8, "cuda")) == (512, 8192)
    assert (chunk_size(1 << 30, "cpu"), chunk_size(1 << 30, "cuda")) == (1, 1)


def test_an_output_with_a_nan_anywhere_is_wrong() -> None:
    outputs = torch.tensor([[0.0, 2.0, 1.0], [float("nan"), 2.0, 1.0], [0.0, 2.0, float("nan")]])
    assert misclassified(outputs, torch.tensor([1, 1, 1])).tolist() == [0.0, 1.0, 1.0]
    infinite = torch.tensor([[-torch.inf, torch.inf], [-torch.inf, -torch.inf]])
    assert misclassified(infinite, torch.tensor([1, 0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("scale", [1e3, 1e15])
@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_huge_activations_agree_with_the_reference(
    net: nn.Module, data: Arrays, mode: Any, scale: float
) -> None:
    hostile = {name: (inputs * np.float32(scale), y) for name, (inputs, y) in data.items()}
    plane = plane_of(net, seed=1)
    expected = reference(net, hostile, plane, mode)
    found = Evaluator(copy.deepcopy(net), hostile, batch_norm=mode, chunk=8).evaluate(plane, POINTS)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_array_equal(found["error"], expected["error"].astype("f4"))


@pytest.mark.parametrize("mode", ["recompute", "frozen"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_poisoned_image_poisons_what_it_should_and_nothing_else(
    net: nn.Module, data: Arrays, mode: Any, value: float
) -> None:
    inputs, _ = data["train"]
    inputs[3, 1, 2, 2] = value
    plane = plane_of(net, seed=1)
    with np.errstate(invalid="ignore"):
        expected = reference(net, data, plane, mode)
    for chunk in (8, 64):
        found = Evaluator(copy.deepcopy(net), data, batch_norm=mode, chunk=chunk).evaluate(
            plane, POINTS
        )
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
        assert np.isnan(found["loss"][0]).all()
        # Statistics of a set with a NaN in it are NaN for every split; frozen ones are not.
        assert np.isnan(found["loss"][1]).all() == (mode == "recompute")


def test_a_real_network_on_hostile_images_agrees_with_the_reference() -> None:
    """Constant channels, one class, and an image a thousand times as bright."""
    net = network.build("resnet20", {"classes": 5})
    images = np.random.default_rng(0).standard_normal((2, 20, 3, 32, 32)).astype("f4")
    images[:, :, 1] = 0.25
    images[0, 0] *= 1000
    data = {name: (x, np.full(20, 3)) for name, x in zip(("train", "test"), images, strict=True)}
    plane = plane_of(net, seed=1)
    expected = reference(net, data, plane, "recompute")
    found = Evaluator(copy.deepcopy(net), data, chunk=8).evaluate(plane, POINTS)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-4)
