"""Curvature, held to closed forms and to torch.func.hessian in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian

from benchmarks.subject import plane_of
from pipeline.curvature import lanczos
from pipeline.curvature.evaluator import CurvatureError, CurvatureEvaluator
from pipeline.curvature.hessian import Hessian
from pipeline.curvature.trace import trace
from pipeline.curvature_spec import CurvatureSpec
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.examples import Examples
from pipeline.problem.criterion import Criterion, criterion_of
from pipeline.problem.losses import BUILT_IN, Options, cross_entropy, mean_squared_error
from pipeline.quantities import with_companions
from tests.pipeline.naive import POINTS, two_splits

# torch.func.hessian registers its forward mode with it.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
ALL = with_companions(("lambda_max", "lambda_min", "negative", "trace", "gradient_norm"))


class Product(nn.Module):
    """Its output is w₁w₂, so that the squared error against one is (w₁w₂ − 1)²."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.w.prod().expand(len(x), 1)


def normed() -> nn.Module:
    """Two batch norms, and few weights."""
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


def mlp(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)
    return nn.Sequential(*layers).double().requires_grad_(False)


def rows(count: int = 23) -> Examples:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 5, generator=generator, dtype=torch.float64)
    return Examples("train", x, torch.arange(count) % 3)


def exact(network: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Hessian of the mean loss, by torch.func."""
    shapes = {name: p.shape for name, p in network.named_parameters()}
    flat = nn.utils.parameters_to_vector(network.parameters()).detach()

    def of_flat(vector: Tensor) -> Tensor:
        parts = torch.split(vector, [shape.numel() for shape in shapes.values()])
        named = {n: p.view(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        return loss(functional_call(network, named, (x,)))

    return hessian(of_flat)(flat)


def of_everything(
    network: nn.Module, asked: CurvatureSpec, quantities: tuple[str, ...] = ALL, **how: Any
) -> CurvatureEvaluator:
    evaluator = Evaluator(network, two_splits(), ("loss",), **how)
    return CurvatureEvaluator(evaluator, ("loss", *quantities), asked, "train")


# The Hessian


@pytest.mark.parametrize(
    ("at", "wanted"), [((1, 1), (0, 4)), ((0, 0), (-2, 2)), ((5, 0.2), (0, 50.08))]
)
def test_the_hessian_of_a_product_is_the_closed_form(
    at: tuple[float, float], wanted: tuple[float, float]
) -> None:
    splits = {"train": (np.zeros((4, 1), "f4"), np.ones((4, 1), "f4"))}
    evaluator = Evaluator(Product(), splits, ("loss",), mean_squared_error)
    found = CurvatureEvaluator(evaluator, ("loss", *ALL), CurvatureSpec(), "train").at(np.array(at))
    one, two = at
    gradient = 2 * (one * two - 1) * np.array([two, one])
    assert found["loss"][0] == pytest.approx((one * two - 1) ** 2, abs=1e-6)
    assert found["lambda_min"][0] == pytest.approx(wanted[0], abs=1e-5)
    assert found["lambda_max"][0] == pytest.approx(wanted[1], rel=1e-6)
    assert found["negative"][0] == pytest.approx(abs(wanted[0] / wanted[1]), abs=1e-6)
    assert found["trace"][0] == pytest.approx(sum(wanted), abs=1e-5)
    assert found["gradient_norm"][0] == pytest.approx(np.linalg.norm(gradient), abs=1e-5)
    assert found["lambda_max_residual"][0] == found["trace_stderr"][0] == 0


@pytest.mark.parametrize("chunk", [23, 5])
def test_a_small_mlp_has_the_spectrum_of_torch_func(chunk: int) -> None:
    network, data = mlp(), rows()
    wanted = exact(network, lambda z: cross_entropy(z, data.targets).mean(), data.inputs)
    of_network = Hessian(network, data.chunks(chunk), criterion_of(cross_entropy))
    matrix = of_network.matrix()
    torch.testing.assert_close(matrix, wanted, rtol=1e-9, atol=1e-12)
    values = torch.linalg.eigvalsh(wanted).numpy()
    assert (torch.linalg.eigvalsh(matrix).numpy() < 0).sum() == (values < 0).sum()
    first = lanczos.start(of_network.size, 0)
    found = lanczos.extremes(of_network.product, first, 100, 1e-9, largest=5, smallest=1)
    np.testing.assert_allclose(found.largest, values[::-1][:5], rtol=1e-6)
    np.testing.assert_allclose(found.smallest, values[:1], rtol=1e-6)
    for place in range(5):
        vector = found.vector(place)
        off = wanted @ vector - found.largest[place] * vector
        assert float(off.norm()) == pytest.approx(found.largest_residuals[place], abs=1e-10)
        assert float(off.norm()) <= 1e-9 * values[-1] + 1e-10


def test_the_gradient_is_that_of_the_mean() -> None:
    network, data = mlp(), rows()
    found = Hessian(network, data.chunks(4), criterion_of(cross_entropy)).gradient()
    network.requires_grad_(True)
    loss = cross_entropy(network(data.inputs), data.targets).mean()
    parts = torch.autograd.grad(loss, list(network.parameters()))
    wanted = torch.cat([part.reshape(-1) for part in parts])
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("mean", ["example", "token"])
def test_weighed_means_are_those_of_the_loss(mean: Any) -> None:
    """Examples whose positions count differently, in chunks that count differently."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    x = torch.randn(9, 6, 4, dtype=torch.float64)
    targets = torch.randint(3, (9, 6))
    targets[0] = targets[4, 2:] = -100
    options = Options(class_weights=(0.2, 1.0, 3.0)) if mean == "token" else Options()
    criterion = Criterion("cross_entropy", cross_entropy, options, mean, is_weighed=True)
    weights = torch.tensor(options.class_weights or (1.0, 1.0, 1.0), dtype=torch.float64)

    def loss(z: Tensor) -> Tensor:
        picked = -z.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        counts = torch.where(targets >= 0, weights[targets.clamp(min=0)], 0.0)
        if mean == "token":
            return (picked * counts).sum() / counts.sum()
        of_each = (picked * counts).sum(1)[1:] / counts.sum(1)[1:]
        return of_each.mean()

    wanted = exact(network, loss, x)
    chunks = Examples("train", x, targets).chunks(4)
    torch.testing.assert_close(
        Hessian(network, chunks, criterion).matrix(), wanted, rtol=1e-8, atol=1e-12
    )


# Batch norm


@pytest.mark.parametrize("statistics", ["held", "through", None])
def test_statistics_are_held_or_differentiated_through(statistics: Any) -> None:
    network, data = normed(), two_splits()
    reference = copy.deepcopy(network).double()
    asked = CurvatureSpec(split="test", examples=20, statistics=statistics)
    how: dict[str, Any] = {"batch_norm": "recompute" if statistics else "frozen", "chunk": 7}
    weights = nn.utils.parameters_to_vector(network.parameters()).detach().numpy().copy()
    found = of_everything(network, asked, **how).at(weights)
    calibrating, targets = torch.tensor(data["train"][0]).double(), data["test"][1][:20]
    x, y = torch.tensor(data["test"][0][:20]).double(), torch.tensor(targets)
    norms = [m for m in reference.modules() if isinstance(m, nn.BatchNorm2d)]
    if statistics:
        _recomputing(norms, is_through=statistics == "through", calibrating=len(calibrating))
        x = torch.cat([calibrating, x])
    else:
        reference.eval()
    wanted = exact(reference, lambda z: cross_entropy(z[-20:], y).mean(), x)
    values = torch.linalg.eigvalsh(wanted).numpy()
    assert found["lambda_max"][0] == pytest.approx(values[-1], rel=1e-4)
    assert found["lambda_min"][0] == pytest.approx(values[0], rel=1e-3)
    assert found["trace"][0] == pytest.approx(values.sum(), rel=1e-3)


def _recomputing(norms: list[Any], is_through: bool, calibrating: int) -> None:
    """Let batch norms normalise by the moments of the first rows."""
    for norm in norms:

        def forward(x: Tensor, norm: Any = norm) -> Tensor:
            mean = x[:calibrating].mean((0, 2, 3), keepdim=True)
            variance = (x[:calibrating] - mean).square().mean((0, 2, 3), keepdim=True)
            if not is_through:
                mean, variance = mean.detach(), variance.detach()
            whole = (x - mean) / (variance + norm.eps).sqrt()
            return whole * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)

        norm.forward = forward


def test_held_statistics_and_those_gone_through_differ() -> None:
    weights = nn.utils.parameters_to_vector(normed().parameters()).detach().numpy().copy()
    found = [
        of_everything(normed(), CurvatureSpec(statistics=each)).at(weights)["trace"][0]
        for each in ("held", "through")
    ]
    assert abs(found[0] / found[1] - 1) > 0.01


# Estimates


@pytest.fixture
def estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks are estimated as well."""
    monkeypatch.setattr("pipeline.curvature.evaluator.EXACT", 0)


@pytest.mark.usefixtures("estimated")
def test_estimates_are_those_of_all_eigenvalues(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = nn.utils.parameters_to_vector(normed().parameters()).detach().numpy().copy()
    asked = CurvatureSpec(statistics="held", tolerance=1e-4, steps=150, probes=200)
    found = of_everything(normed(), asked).at(weights)
    monkeypatch.setattr("pipeline.curvature.evaluator.EXACT", 10_000)
    wanted = of_everything(normed(), asked).at(weights)
    for name in ("lambda_max", "lambda_min", "negative"):
        assert found[name][0] == pytest.approx(wanted[name][0], rel=1e-3), name
    assert 0 < found["lambda_max_residual"][0] <= 1e-4
    assert found["lambda_min_residual"][0] <= 1e-4
    assert 10 < found["lanczos_steps"][0] <= 150
    assert abs(found["trace"][0] - wanted["trace"][0]) < 4 * found["trace_stderr"][0]


@pytest.mark.usefixtures("estimated")
def test_the_numbers_of_a_point_do_not_depend_on_others() -> None:
    network = normed()
    plane = plane_of(network, seed=1)
    asked = CurvatureSpec(statistics="held", examples=12, steps=20, probes=3)
    together = of_everything(copy.deepcopy(network), asked).evaluate(plane, POINTS)
    again = of_everything(copy.deepcopy(network), asked)
    for place in reversed(range(len(POINTS))):
        found = again.evaluate(plane, POINTS[place : place + 1])
        for name, values in found.items():
            np.testing.assert_array_equal(values[:, 0], together[name][:, place], err_msg=name)


@pytest.mark.usefixtures("estimated")
def test_few_steps_leave_a_residual_above_the_tolerance() -> None:
    weights = nn.utils.parameters_to_vector(normed().parameters()).detach().numpy().copy()
    asked = CurvatureSpec(statistics="held", steps=3)
    found = of_everything(normed(), asked).at(weights)
    assert found["lanczos_steps"][0] == 3
    assert found["lambda_min_residual"][0] > 1e-3


@pytest.mark.parametrize("is_exact", [True, False])
def test_what_diverged_is_nan(is_exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.curvature.evaluator.EXACT", 10_000 if is_exact else 0)
    network = normed()
    size = sum(p.numel() for p in network.parameters())
    found = of_everything(network, CurvatureSpec(statistics="held")).at(np.full(size, np.nan))
    assert all(np.isnan(found[name][0]) for name in ALL if name != "lanczos_steps")


def test_lanczos_finds_a_known_spectrum() -> None:
    diagonal = torch.cat([torch.linspace(-0.1, 1, 300), torch.tensor([-3.0, 5, 8])]).double()
    found = lanczos.extremes(lambda v: diagonal * v, lanczos.start(303, 1), 200, 1e-10, 2, 1)
    np.testing.assert_allclose(found.largest, [8, 5], rtol=1e-9)
    np.testing.assert_allclose(found.smallest, [-3], rtol=1e-9)
    assert found.steps < 100
    assert found.scale == pytest.approx(8)
    basis = found.basis @ found.basis.T
    torch.testing.assert_close(
        basis, torch.eye(len(basis), dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_lanczos_is_not_content_with_the_bulk_near_zero() -> None:
    """Its residual is small against the largest eigenvalue long before the smallest is found."""
    generator = torch.Generator().manual_seed(0)
    bulk = 0.01 * torch.randn(5000, generator=generator, dtype=torch.float64)
    diagonal = torch.cat([bulk, torch.tensor([-0.7, 1.5, 4.0, 19.0]).double()])
    found = lanczos.extremes(lambda v: diagonal * v, lanczos.start(5004, 0), 60, 1e-2)
    assert found.smallest[0] == pytest.approx(-0.7, abs=0.19)
    assert found.steps < 25


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_lanczos_ends_where_nothing_is_left(value: float) -> None:
    found = lanczos.extremes(lambda v: value * v, lanczos.start(9, 0), 20, 1e-6)
    assert (found.steps, found.largest[0], found.smallest[0]) == (1, value, value)
    assert found.is_within(1e-6) or value == 0.0
    some = torch.tensor([1.0, 1, 2, 2]).double()
    assert lanczos.extremes(lambda v: some * v, lanczos.start(4, 0), 9, 1e-12).steps == 2


def test_the_trace_is_within_its_error() -> None:
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(40, 40, generator=generator, dtype=torch.float64)
    matrix = given + given.T
    found = [trace(lambda v: v @ matrix, 40, 25, seed) for seed in range(200)]
    off = np.array([(each.value - float(matrix.trace())) / each.error for each in found])
    assert 0.8 < off.std() < 1.3
    assert abs(off.mean()) < 0.3


# What is refused


@pytest.mark.parametrize(
    ("how", "asked", "told"),
    [
        ({}, {}, "curvature.statistics is not given"),
        ({"batch_norm": "frozen"}, {"statistics": "held"}, "no batch norm recomputes"),
    ],
)
def test_statistics_have_to_be_named(how: Any, asked: Any, told: str) -> None:
    with pytest.raises(CurvatureError, match=told):
        of_everything(normed(), CurvatureSpec(**asked), **how)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * 2


class OnceDifferentiable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return Once.apply(self.inner(x))  # type: ignore[no-any-return]


def test_a_loss_without_a_second_derivative_is_refused() -> None:
    splits = {"train": (np.ones((4, 3), "f4"), np.zeros(4, "i8"))}
    evaluator = Evaluator(OnceDifferentiable(), splits, ("loss",))
    found = CurvatureEvaluator(evaluator, ("loss", "lambda_max"), CurvatureSpec(), "train")
    with pytest.raises(CurvatureError, match="cannot differentiate the loss twice"):
        found.graph_bytes(np.ones(8))


class Gathers(nn.Linear):
    def eval(self) -> Gathers:
        return super().eval()


def test_a_network_with_an_eval_of_its_own_is_refused() -> None:
    splits = {"train": (np.ones((4, 3), "f4"), np.zeros(4, "i8"))}
    evaluator = Evaluator(Gathers(3, 2), splits, ("loss",))
    with pytest.raises(CurvatureError, match="eval"):
        CurvatureEvaluator(evaluator, ("loss", "lambda_max"), CurvatureSpec(), "train")


def test_the_loss_of_the_network_has_a_curvature_too() -> None:
    def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return (network(x) - y).square().mean(1)

    splits = {"train": (np.zeros((4, 1), "f4"), np.ones((4, 1), "f4"))}
    evaluator = Evaluator(Product(), splits, ("loss",), loss)
    found = CurvatureEvaluator(evaluator, ("lambda_max",), CurvatureSpec(), "train")
    assert found.at(np.array([1.0, 1.0]))["lambda_max"][0] == pytest.approx(4)


def test_the_memory_of_a_graph_is_in_proportion() -> None:
    def of(chunk: int) -> int:
        evaluator = Evaluator(normed(), two_splits(), ("loss",), chunk=chunk)
        asked = CurvatureSpec(statistics="held")
        found = CurvatureEvaluator(evaluator, ("lambda_max",), asked, "train")
        size = sum(p.numel() for p in evaluator.network.parameters())
        return found.graph_bytes(np.ones(size))

    assert 0 < of(4) < of(16) <= 4.1 * of(4)


@pytest.mark.parametrize("name", ["mse", "huber", "bce_with_logits"])
def test_built_in_losses_are_differentiated_twice(name: str) -> None:
    network, data = mlp(), rows(6)
    targets = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).double()
    wanted = exact(network, lambda z: BUILT_IN[name](z, targets).mean(), data.inputs)
    chunks = Examples("train", data.inputs, targets).chunks(4)
    found = Hessian(network, chunks, Criterion(name, BUILT_IN[name])).matrix()
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-12)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.ones(3, 2, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.turn.dtype) @ self.turn).abs()


def test_complex_parameters_are_refused() -> None:
    splits = {"train": (np.ones((4, 3), "f4"), np.zeros(4, "i8"))}
    evaluator = Evaluator(Complex(), splits, ("loss",))
    with pytest.raises(CurvatureError, match=r"complex parameters \(turn\)"):
        CurvatureEvaluator(evaluator, ("loss", "lambda_max"), CurvatureSpec(), "train")
