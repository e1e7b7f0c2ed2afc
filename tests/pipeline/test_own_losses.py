"""Losses and metrics of the user's own: what they ask for, what they may give."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline import opening, spec
from pipeline.errors import LossatlasError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.examples import EvaluateError
from pipeline.geometry.grid import Grid, Tile
from pipeline.prepare import prepare, prepare_resume
from pipeline.problem import trust
from pipeline.problem.criterion import Criterion
from pipeline.problem.losses import LossError
from pipeline.problem.trust import TrustError
from pipeline.spec import EvaluateSpec
from pipeline.task import TileRenderer
from pipeline.training import fit
from tests.bowl import write_bowl
from tests.pipeline.test_fit import MOONS, fit_spec, quick

RANDOM = np.random.default_rng(0)
POINTS = RANDOM.uniform(-1, 1, (23, 2)).astype("f4")
NONE = np.zeros(23, "f4")


class Smooth(nn.Module):
    """u(x, t) of two tanh layers; with batch norm where asked."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(2, 8), nn.Linear(8, 1)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(x))))


def burgers(network: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """u_t + u·u_x − ν·u_xx = 0 inside, u = 0 on the rim."""
    u = network(inputs)
    (slope,) = torch.autograd.grad(u.sum(), inputs, create_graph=True)
    (bend,) = torch.autograd.grad(slope[:, 0].sum(), inputs, create_graph=True)
    pde = (slope[:, 1] + u[:, 0] * slope[:, 0] - 0.1 * bend[:, 0]).square()
    rim = inputs.detach().clone()
    rim[:, 0] = rim[:, 0].sign()
    boundary = network(rim)[:, 0].square()
    return {"loss": pde + boundary, "pde": pde, "boundary": boundary}


def naive_burgers(network: nn.Module, x: np.ndarray) -> dict[str, float]:
    """One point after the other, in float64."""
    network = network.double()
    rows: dict[str, list[float]] = {"loss": [], "pde": [], "boundary": []}
    for place, time in torch.tensor(x).double():
        at = torch.stack([place, time]).requires_grad_()
        value = network(at[None])[0, 0]
        (slope,) = torch.autograd.grad(value, at, create_graph=True)
        (bend,) = torch.autograd.grad(slope[0], at)
        pde = float((slope[1] + value * slope[0] - 0.1 * bend[0]).detach()) ** 2
        boundary = float(network(torch.stack([place.sign(), time])[None]).detach()) ** 2
        for name, own in (("loss", pde + boundary), ("pde", pde), ("boundary", boundary)):
            rows[name].append(own)
    return {name: float(np.mean(own)) for name, own in rows.items()}


def weights_of(network: nn.Module) -> np.ndarray:
    return nn.utils.parameters_to_vector(network.parameters()).detach().numpy()


@pytest.mark.parametrize("chunk", [5, None])
def test_a_loss_may_differentiate_by_the_inputs(chunk: int | None) -> None:
    weights = weights_of(Smooth())
    names = ["loss", "pde", "boundary"]
    evaluator = Evaluator(Smooth(), {"a": (POINTS, NONE)}, names, burgers, chunk=chunk)
    found = {name: float(values[0]) for name, values in evaluator.at(weights).items()}
    assert found == pytest.approx(naive_burgers(Smooth(), POINTS), rel=1e-5)
    again = {name: float(values[0]) for name, values in evaluator.at(weights).items()}
    assert again == found
    assert all(p.grad is None for p in evaluator._module.parameters())


def test_statistics_of_batch_norm_are_constants_of_the_derivatives() -> None:
    """Whether the split is one chunk or several, each with a thread of its own."""
    made = Smooth(norm=True)
    weights, threads = weights_of(made), threading.active_count()
    reference = made.double().eval()
    with torch.no_grad():
        hidden = reference.first(torch.tensor(POINTS).double())
    reference.norm.running_mean = hidden.mean(0)
    reference.norm.running_var = hidden.var(0, correction=0)

    def loss(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(network(inputs).sum(), inputs)
        return slope.square().sum(1)

    for chunk in (6, 23):
        evaluator = Evaluator(Smooth(norm=True), {"a": (POINTS, NONE)}, ["loss"], loss, chunk=chunk)
        found = float(evaluator.at(weights)["loss"][0])
        evaluator.rest()
        wanted = loss(reference, torch.tensor(POINTS).double().requires_grad_(), torch.empty(0))
        assert found == pytest.approx(float(wanted.mean()), rel=1e-5)
    assert threading.active_count() <= threads + 8


def test_derivatives_of_a_loss_of_outputs_fail_with_the_cure() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.autograd.grad(outputs.sum(), targets)[0]

    told = r"A loss that needs derivatives takes \(network, inputs, targets\)$"
    with pytest.raises(EvaluateError, match=told):
        Evaluator(Smooth(), {"a": (POINTS, NONE)}, ["loss"], loss)


def test_q_learning_with_a_frozen_network() -> None:
    """Two calls of the network, another network beside it, and whole numbers among the inputs."""
    torch.manual_seed(1)
    frozen = Smooth()
    states, nexts = POINTS, POINTS[::-1].copy()

    def loss(network: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        assert inputs["done"].dtype == torch.int64
        with torch.no_grad():
            ahead = frozen(inputs["next"])[:, 0] * (1 - inputs["done"])
        wanted = targets + 0.9 * ahead
        return F.huber_loss(network(inputs["state"])[:, 0], wanted, reduction="none")

    done = np.arange(23) % 2
    splits = {"a": ({"state": states, "next": nexts, "done": done}, NONE + 1)}
    weights = weights_of(Smooth())
    found = float(Evaluator(Smooth(), splits, ["loss"], loss, chunk=6).at(weights)["loss"][0])
    online, target = Smooth().double(), frozen.double()
    ahead = target(torch.tensor(nexts).double())[:, 0] * (1 - torch.tensor(done))
    wanted = F.huber_loss(online(torch.tensor(states).double())[:, 0], 1 + 0.9 * ahead)
    assert found == pytest.approx(float(wanted.detach()), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda outputs: outputs, r"takes outputs; wanted a function of \(outputs, targets\), or"),
        (lambda a, b, c, d: a, r"takes a, b, c, d; wanted a function of"),
        (lambda outputs, targets: {"pde": outputs[:, 0]}, r"returns pde; wanted loss among them"),
        (lambda outputs, targets: 3.0, r"returns float; wanted a tensor \(n,\), or a dict"),
        (lambda outputs, targets: {"loss": outputs[:, 0], "b": 1}, r"loss: b is int; wanted a ten"),
        (
            lambda outputs, targets: {"loss": outputs[:, 0], "b": outputs},
            r"b gives \(2, 1\) for 2 examples; wanted one value an example",
        ),
        (lambda n, inputs, targets: n(inputs).mean(), r"the loss gives \(\) for 2 examples"),
    ],
)
def test_functions_that_are_no_losses(loss: Any, message: str) -> None:
    with pytest.raises(LossatlasError, match=message) as caught:
        Evaluator(Smooth(), {"a": (POINTS, NONE)}, ["loss"], loss)
    assert "\n" not in str(caught.value)


def test_a_quantity_that_nothing_gives() -> None:
    told = (
        r"has bounary, which nothing gives; wanted some of loss, pde, boundary, loss_stderr\. Let"
    )
    with pytest.raises(EvaluateError, match=told):
        Evaluator(Smooth(), {"a": (POINTS, NONE)}, ["loss", "bounary"], burgers)


def test_a_function_with_defaults_is_one_of_outputs() -> None:
    def loss(outputs: Tensor, targets: Tensor, power: int = 2, *rest: int) -> Tensor:
        return outputs[:, 0].abs() ** power

    assert not Criterion("own", loss).takes_network
    assert not Criterion("own", lambda *both: both[0]).takes_network
    assert Criterion("own", burgers).takes_network


CODE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.zeros(6))

    def forward(self, x):
        return self.theta.expand(len(x), -1) + 0 * x

def loss(network, inputs, targets):
    outputs = network(inputs)
    (slope,) = torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
    own = outputs.square()
    return {"loss": own.sum(1), "first": own[:, 0], "slope": slope.sum(1)}

def largest(outputs, targets):
    return outputs.abs().max(1).values
"""


def own_bowl(folder: Path, **changes: Any) -> spec.RenderSpec:
    """A bowl whose loss is Σθ², with its first term and a metric beside it."""
    path = write_bowl(
        folder,
        network={"factory": "own.py:Net"},
        evaluate={
            "loss": "own.py:loss",
            "quantities": ["loss", "first", "slope"],
            "metrics": {"largest": "own.py:largest"},
            **changes,
        },
    )
    (folder / "own.py").write_text(CODE)
    return spec.read(path)


def test_several_quantities_from_spec_to_store(tmp_path: Path) -> None:
    prepared = prepare(own_bowl(tmp_path / "own"))
    assert prepared.inputs.quantities == ("loss", "first", "slope", "largest")
    grid = Grid(7, 5, 3, 1)
    store, _ = opening.create(prepared, grid)
    renderer = TileRenderer(prepared.inputs, store.url)
    for tile in grid.tiles():
        renderer(Tile(*tile))
    plane = prepared.first_plane()
    x, y = grid.axes(store.extent(0))
    thetas = np.array([[plane.weights(a, b) for a in x] for b in y])
    wanted = {
        "loss": (thetas**2).sum(-1),
        "first": thetas[..., 0] ** 2,
        "slope": np.zeros(thetas.shape[:2]),
        "largest": np.abs(thetas).max(-1),
    }
    for name, values in wanted.items():
        np.testing.assert_allclose(store.read(name, "train", 0), values, rtol=1e-5, err_msg=name)
    assert store.group["first"].attrs["long_name"] == "mean of first over the examples"
    assert "units" not in store.group["first"].attrs
    parts = prepared.parts
    assert parts["evaluate.metrics.largest"] == "own.py:largest"
    assert len(parts["evaluate.metrics.largest.code"]) == 64
    resumed = prepare_resume(store)
    assert resumed.fingerprint == prepared.fingerprint


def test_code_of_metrics_is_trusted_like_any_other(tmp_path: Path) -> None:
    prepared = prepare(own_bowl(tmp_path / "own"))
    assert "metrics.largest own.py:largest" in str(prepared.code)
    store, _ = opening.create(prepared, Grid(7, 5, 3, 1))
    changed = CODE.replace("outputs.abs()", "-outputs.abs()")
    (tmp_path / "own" / "own.py").write_text(changed)
    other = prepare(own_bowl_again(tmp_path / "own"))
    assert other.fingerprint != prepared.fingerprint
    assert other.code.digest != prepared.code.digest
    with pytest.raises(TrustError, match="that no spec of yours here named: .* metrics.largest"):
        trust.require("place", other.code, None)
    codes = trust.recorded(
        store.attrs, prepared.spec.network, prepared.spec.data, prepared.spec.evaluate, "store"
    )
    assert codes.metrics["largest"].digest == parts_digest(prepared)


def own_bowl_again(folder: Path) -> spec.RenderSpec:
    return spec.read(folder / "bowl.yaml")


def parts_digest(prepared: Any) -> str:
    return str(prepared.parts["evaluate.metrics.largest.code"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compile": True}, "evaluate.compile is given with a loss that calls the network itself"),
        ({"precision": "bf16"}, "evaluate.precision: bf16 is given with a loss that calls"),
        (
            {"quantities": ["loss", "second"]},
            "has second, which nothing gives; wanted some",
        ),
    ],
)
def test_what_such_a_loss_cannot_have(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(LossatlasError, match=message):
        prepare(own_bowl(tmp_path / "own", **changes))


def test_the_output_is_taken_in_the_loss(tmp_path: Path) -> None:
    asked = own_bowl(tmp_path / "own")
    network = asked.network.model_copy(update={"output": "logits"})
    with pytest.raises(LossError, match="network.output is 'logits' with a loss that calls"):
        prepare(asked.model_copy(update={"network": network}))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"metrics": {"top 5": "a.py:f"}}, "'top 5' is no name of a quantity"),
        ({"metrics": {"error": "a.py:f"}}, "error is a quantity that lossatlas computes"),
        ({"metrics": {"level": "a.py:f"}}, "level is the name of an array of every store"),
        ({"metrics": {"top5": "top5"}}, "metrics.top5 is 'top5'; wanted path/file.py:callable"),
        ({"quantities": ["loss", "pde"]}, "quantities has pde, which loss: cross_entropy does not"),
        (
            {"metrics": {"top5": "a.py:f"}, "refine": {"nats": 0.1}},
            "refine.nats is of the loss alone, and top5 is stored too",
        ),
    ],
)
def test_names_that_cannot_be(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateSpec.model_validate(asked)


def test_a_metric_takes_each_example_by_itself() -> None:
    x, y = RANDOM.normal(size=(23, 2)).astype("f4"), RANDOM.integers(0, 1, 23)
    loss = Criterion("mse", F.mse_loss)

    def off(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().mean(1)  # (n, 1) against (n,)

    own = Criterion("own", lambda o, t: o[:, 0] ** 2, metrics={"off": off})
    with pytest.raises(EvaluateError, match="evaluate.loss or a metric gives an example of a ano"):
        Evaluator(Smooth(), {"a": (x, y.astype("f4") + x[:, 0])}, ["loss", "off"], own)
    assert loss.is_built_in


TRAINED = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x)

def plain(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")

def whole(network, inputs, targets):
    return {"loss": plain(network(inputs), targets), "other": targets.double()}

def steep(network, inputs, targets):
    outputs = network(inputs)
    (slope,) = torch.autograd.grad(outputs[:, 0].sum(), inputs, create_graph=True)
    return plain(outputs, targets) + slope.square().sum(1)
"""


def test_trainings_take_such_losses(tmp_path: Path) -> None:
    weights, losses = {}, {}
    for name in ("plain", "whole", "steep"):
        made = fit_spec(tmp_path / name, MOONS, train={"epochs": 5})
        (tmp_path / name / "net.py").write_text(TRAINED)
        network = made.network.model_copy(
            update={"factory": f"{tmp_path}/{name}/net.py:Net", "kwargs": {}}
        )
        loss = f"{tmp_path}/{name}/net.py:{name}"
        with quick():
            outcome = fit.fit(
                fit.prepare(made.model_copy(update={"network": network, "loss": loss}))
            )
        from pipeline.problem import checkpoint

        weights[name] = checkpoint.load(str(outcome.result))["layer.weight"]
        losses[name] = outcome.losses
    assert torch.equal(weights["plain"], weights["whole"])
    assert losses["plain"] == losses["whole"]
    # The penalty holds the first row of weights near zero: its derivative reached the weights.
    assert weights["steep"][0].norm() < weights["plain"][0].norm()
