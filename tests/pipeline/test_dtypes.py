"""Networks whose parameters are float64 or complex compute in that, from spec to numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline import spec
from pipeline.errors import LossatlasError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.geometry.directions import random_directions
from pipeline.geometry.plane import Plane
from pipeline.prepare import prepare
from pipeline.problem import checkpoint, network, state_dict, usercode
from pipeline.problem.layout import Layout, flattened, separated
from pipeline.training import fit
from tests.bowl import write_bowl
from tests.pipeline.test_fit import MOONS, fit_spec, quick

CODE = """
import torch
from torch import nn

class Double(nn.Module):
    def __init__(self, norm=True, dtype="float64"):
        super().__init__()
        self.first = nn.Linear(2, 8, dtype=getattr(torch, dtype))
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        assert x.dtype == self.last.weight.dtype
        return self.last(torch.tanh(self.norm(self.first(x))))

class Complex(nn.Module):
    def __init__(self, dtype="complex64"):
        super().__init__()
        dtype = getattr(torch, dtype)
        self.scale = nn.Parameter(torch.ones(3))
        self.first = nn.Linear(2, 4, dtype=dtype)
        self.mix = nn.Parameter(torch.randn(4, 2, 1, 1, dtype=dtype))
        self.last = nn.Linear(4, 2, dtype=dtype)

    def forward(self, x):
        z = self.first(x.to(self.first.weight.dtype)) + self.mix.sum((1, 2, 3))
        return self.last(z / (1 + z.abs())).abs() * self.scale[0]
"""
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((24, 2))
Y = RANDOM.integers(0, 2, 24)


def made(tmp_path: Path, name: str, seed: int = 0, **kwargs: Any) -> nn.Module:
    (tmp_path / "net.py").write_text(CODE)
    code = usercode.read(str(tmp_path / "net.py"))
    return network.build(f"net.py:{name}", kwargs, code, seed=seed)


def weights_of(net: nn.Module) -> np.ndarray:
    return flattened(dict(net.named_parameters()), Layout.of(net)).numpy()


@pytest.mark.parametrize(
    ("name", "dtype", "precision"),
    [
        ("Double", "float64", "float64"),
        ("Double", "float32", "float32"),
        ("Double", "bfloat16", "float32"),
        ("Complex", "complex64", "complex64"),
        ("Complex", "complex128", "complex128"),
    ],
)
def test_a_network_has_one_precision(tmp_path: Path, name: str, dtype: str, precision: str) -> None:
    net = made(tmp_path, name, dtype=dtype)
    layout = Layout.of(net)
    assert layout.precision == precision
    is_double = precision in ("float64", "complex128")
    wanted = (torch.float64, torch.complex128) if is_double else (torch.float32, torch.complex64)
    assert {p.dtype for p in net.parameters()} <= set(wanted)
    flat = flattened(dict(net.named_parameters()), layout)
    assert len(flat) == layout.size
    again = separated(flat, layout)
    for key, parameter in net.named_parameters():
        assert torch.equal(again[key], parameter)
    assert state_dict.weights(net.state_dict(), layout).tobytes() == flat.numpy().tobytes()


@pytest.mark.parametrize("norm", [False, True])
def test_float64_keeps_its_digits(tmp_path: Path, norm: bool) -> None:
    """A point a ten-millionth away, at weights near a thousand, is another point."""
    net = made(tmp_path, "Double", norm=norm)
    weights = weights_of(net) + 1000
    plane = Plane(weights, np.ones(len(weights)), np.zeros(1), "euclidean")
    points = np.array([[0.0, 0.0], [1e-7, 0.0]])
    seen: list[torch.Tensor] = []

    def own(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(outputs.clone())
        return F.cross_entropy(outputs, targets, reduction="none")

    Evaluator(net, {"a": (X, Y)}, ["loss"], own, chunk=7).evaluate(plane, points)
    reference = made(tmp_path, "Double", norm=norm)
    outputs = torch.cat(seen[-8:]).reshape(2, 24, 2)
    for at, found in zip(points, outputs, strict=True):
        moved = separated(torch.tensor(plane.weights(*at)), Layout.of(reference))
        reference.load_state_dict(moved, strict=False)
        wanted = _plainly(reference, norm)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    assert not torch.equal(outputs[0], outputs[1])


def _plainly(net: Any, norm: bool) -> torch.Tensor:
    with torch.no_grad():
        hidden = net.first(torch.tensor(X))
        if norm:
            hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
            hidden = hidden * net.norm.weight + net.norm.bias
        outputs: torch.Tensor = net.last(torch.tanh(hidden))
        return outputs


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_networks_against_plain_torch(tmp_path: Path, dtype: str) -> None:
    net = made(tmp_path, "Complex", dtype=dtype)
    layout = Layout.of(net)
    plane = random_directions(weights_of(net).astype("f8"), layout.reals, 0)
    inputs = X if dtype == "complex128" else X.astype("f4")
    points = np.array([[0.0, 0.0], [0.4, -0.3], [-1.0, 1.0]])
    found = Evaluator(net, {"a": (inputs, Y)}, chunk=7).evaluate(plane, points)["loss"][0]
    exact = made(tmp_path, "Complex", dtype="complex128")
    for at, loss in zip(points, found, strict=True):
        exact.load_state_dict(separated(torch.tensor(plane.weights(*at)), Layout.of(exact)))
        with torch.no_grad():
            wanted = F.cross_entropy(exact(torch.tensor(X)), torch.tensor(Y))
        assert loss == pytest.approx(float(wanted), rel=2e-6)
    moved = separated(torch.tensor(plane.u), Layout.of(exact))
    own = separated(torch.tensor(plane.origin), Layout.of(exact))
    for name in ("first.weight", "mix", "last.weight"):  # each filter has the norm of its own
        norms = [each[name].flatten(1).abs().square().sum(1).sqrt() for each in (moved, own)]
        torch.testing.assert_close(norms[0], norms[1])
    for name in ("scale", "first.bias", "last.bias"):
        assert not moved[name].any()


def own_spec(folder: Path, name: str, dtype: str, **evaluate: Any) -> spec.RenderSpec:
    path = write_bowl(
        folder,
        network={"factory": f"net.py:{name}", "kwargs": {"dtype": dtype}},
        plane={"kind": "random", "weights": ["w.pt"]},
        evaluate=evaluate,
        data={"source": "points.npz", "splits": {"train": 20}},
    )
    np.savez(folder / "points.npz", x=X, y=Y)
    torch.save(made(folder, name, seed=1, dtype=dtype).state_dict(), folder / "w.pt")
    return spec.read(path)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("Double", "float64"), ("Complex", "complex64"), ("Complex", "complex128")],
)
def test_a_render_says_what_it_computes_in(tmp_path: Path, name: str, dtype: str) -> None:
    prepared = prepare(own_spec(tmp_path / "own", name, dtype))
    assert prepared.facts["network"]["precision"] == dtype
    assert prepared.parts["network.precision"] == dtype
    wanted = "float64" if dtype in ("float64", "complex128") else "float32"
    assert prepared.inputs.problem.splits["train"][0].dtype == wanted  # type: ignore[union-attr]
    weights = prepared.first_plane().origin
    layout = prepared.evaluator.layout
    state = checkpoint.load(str(tmp_path / "own" / "w.pt"))
    assert weights.tolist() == state_dict.weights(state, layout).astype("f8").tolist()
    assert len(weights) == layout.size


def test_a_float32_render_does_not_say_it(tmp_path: Path) -> None:
    facts = prepare(own_spec(tmp_path / "own", "Double", "float32")).facts
    assert "precision" not in facts["network"]


@pytest.mark.parametrize(
    ("name", "dtype", "evaluate", "message"),
    [
        ("Double", "float64", {"precision": "bf16"}, "precision: bf16 is given .* in float64, as"),
        ("Complex", "complex64", {"compile": True}, "compile is given .* in complex64, as its"),
    ],
)
def test_what_such_networks_cannot_have(
    tmp_path: Path, name: str, dtype: str, evaluate: Any, message: str
) -> None:
    with pytest.raises(LossatlasError, match=message):
        prepare(own_spec(tmp_path / "own", name, dtype, **evaluate))


def test_complex_weights_of_a_real_network(tmp_path: Path) -> None:
    asked = own_spec(tmp_path / "own", "Double", "float32")
    state = torch.load(tmp_path / "own" / "w.pt")
    state["first.weight"] = state["first.weight"].to(torch.complex64)
    torch.save(state, tmp_path / "own" / "w.pt")
    with pytest.raises(LossatlasError, match="first.weight is complex, and real in the network"):
        prepare(asked)


@pytest.mark.parametrize(("name", "dtype"), [("Double", "float64"), ("Complex", "complex64")])
def test_such_networks_can_be_trained(tmp_path: Path, name: str, dtype: str) -> None:
    asked = fit_spec(tmp_path, MOONS, train={"epochs": 4, "lr": 0.1})
    (tmp_path / "net.py").write_text(CODE)
    changes = {"factory": f"{tmp_path}/net.py:{name}", "kwargs": {"dtype": dtype}}
    net = asked.network.model_copy(update=changes)
    with quick():
        outcome = fit.fit(fit.prepare(asked.model_copy(update={"network": net})))
    assert outcome.losses[-1] < outcome.losses[0]
    trained = checkpoint.load(str(outcome.result))
    assert str(trained["first.weight"].dtype) == f"torch.{dtype}"


def test_files_of_trainings_cannot_hold_complex128(tmp_path: Path) -> None:
    asked = fit_spec(tmp_path, MOONS)
    (tmp_path / "net.py").write_text(CODE)
    changes = {"factory": f"{tmp_path}/net.py:Complex", "kwargs": {"dtype": "complex128"}}
    net = asked.network.model_copy(update=changes)
    with pytest.raises(LossatlasError, match="complex128 parameters, which the files of"):
        fit.prepare(asked.model_copy(update={"network": net}))
