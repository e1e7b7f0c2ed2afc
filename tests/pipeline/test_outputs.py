"""What networks return besides a tensor is taken apart, in one way everywhere."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import LossatlasError
from pipeline.evaluation.crosscheck import crosscheck
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.plain_torch import PlainTorch
from pipeline.problem.checkpoint import Known
from pipeline.problem.criterion import Criterion, named
from pipeline.problem.outputs import OutputError, key_of, part, tensors_of
from pipeline.problem.problem import Problem
from pipeline.training import curve_report, fit
from pipeline.training.curve import Curve
from tests.pipeline.test_fit import MOONS, fit_spec, quick

RANDOM = np.random.default_rng(0)
DATA = {"train": (RANDOM.normal(size=(23, 4)).astype("f4"), RANDOM.integers(0, 3, 23))}

Pair = namedtuple("Pair", ["first", "second"])


@dataclass
class Output:
    logits: Tensor | None = None
    hidden: Tensor | None = None
    loss: Tensor | None = None


class Wrapping(nn.Module):
    """Two layers; `wrap` makes of logits and hidden what is returned."""

    def __init__(self, wrap: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.first(x))
        return self.wrap(self.last(hidden), hidden)


def found(wrap: Callable[[Tensor, Tensor], Any], loss: Criterion | None = None) -> Any:
    torch.manual_seed(0)
    network = Wrapping(wrap)
    weights = nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
    return Evaluator(network, DATA, loss=loss or named("cross_entropy")).at(weights)


PLAIN = {name: values.tolist() for name, values in found(lambda y, _: y).items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y, h: Output(y, h),
        lambda y, h: Output(logits=y),
        lambda y, h: {"hidden": h, "logits": y},
        lambda y, h: SimpleNamespace(logits=y, hidden=h),
        lambda y, h: (y,),
        lambda y, h: [y, None],
        lambda y, h: (y, h.mean(0, keepdim=True)),
        lambda y, h: (y, (h, h)),
        lambda y, h: {"scores": y, "loss": y.mean()},
        lambda y, h: Pair(y, None),
    ],
)
def test_the_output_is_found_by_itself(wrap: Callable[[Tensor, Tensor], Any]) -> None:
    assert {name: values.tolist() for name, values in found(wrap).items()} == PLAIN


@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda y, h: (h, y), 1),
        (lambda y, h: {"a": h, "b": y}, "b"),
        (lambda y, h: Output(hidden=y, loss=h), "hidden"),
        (lambda y, h: Pair(h, y), "second"),
        (lambda y, h: Pair(h, y), 1),
    ],
)
def test_a_spec_may_name_the_output(wrap: Callable[[Tensor, Tensor], Any], key: Any) -> None:
    loss = Criterion("cross_entropy", named("cross_entropy").function, output=key)
    assert {name: values.tolist() for name, values in found(wrap, loss).items()} == PLAIN
    with pytest.raises(LossatlasError, match=r"2 examples .* wanted one of them. Name it: network"):
        found(wrap)


def test_what_is_no_output_is_told_with_shapes() -> None:
    x = torch.zeros(2, 7)
    told = r"the network gives dict of a: \(2, 7\), b: \(2, 7\) for 2 .* network.output: a or b$"
    with pytest.raises(OutputError, match=told):
        key_of({"a": x, "b": x}, 2, "train")
    with pytest.raises(OutputError, match=r"gives tuple of 0: \(\) for 2 examples of data split t"):
        key_of((x.mean(),), 2, "train")
    with pytest.raises(OutputError, match="the network gives NoneType for 2 examples"):
        key_of(None, 2, "train")
    with pytest.raises(OutputError, match=r"network.output is 'c' and the network gives dict of a"):
        part({"a": x}, "c")
    with pytest.raises(OutputError, match=r"network.output is 0 and the network gives \(2, 7\)"):
        part(x, 0)
    assert len(tensors_of({"a": x, "b": (x, [Output(x, x)])})) == 4


def test_a_loss_of_the_users_gets_what_the_network_returned() -> None:
    def own(outputs: Any, targets: Tensor) -> Tensor:
        logits = outputs if isinstance(outputs, Tensor) else outputs.logits
        return nn.functional.cross_entropy(logits.double(), targets, reduction="none")

    given: list[Any] = []
    heard = Criterion("own", lambda o, t: [given.append(o), own(o, t)][1])
    torch.manual_seed(0)
    network = Wrapping(lambda y, h: Output(y, h))
    weights = nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
    loss = Evaluator(network, DATA, ["loss"], heard).at(weights)["loss"]
    assert isinstance(given[-1], Output)
    np.testing.assert_allclose(loss, PLAIN["loss"], rtol=1e-6)
    named_ = Criterion("own", own, output="logits")
    torch.manual_seed(0)
    network = Wrapping(lambda y, h: Output(y, h))
    assert Evaluator(network, DATA, ["loss"], named_).at(weights)["loss"].tolist() == loss.tolist()


CODE = """
from dataclasses import dataclass
import torch

@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor

class Net(torch.nn.Module):
    def __init__(self, classes=3, inputs=4, wraps=True):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, classes)
        self.wraps = wraps

    def forward(self, x):
        y = self.layer(x)
        return Output(y, x) if self.wraps else y

def own(outputs, targets):
    logits = outputs.logits if hasattr(outputs, "logits") else outputs
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")
"""


@pytest.mark.parametrize("loss", ["cross_entropy", "net.py:own"])
def test_the_check_at_the_start_takes_them_too(tmp_path: Any, loss: str) -> None:
    """With an object that torch's own tree functions do not look into."""
    from pipeline.problem import usercode

    (tmp_path / "net.py").write_text(CODE)
    code = usercode.read(str(tmp_path / "net.py"))
    own = code if loss.endswith("own") else None
    problem = Problem("net.py:Net", {}, code, loss, own, DATA)
    state = {k: v + 1 for k, v in problem.network(seed=1).state_dict().items()}
    plain = PlainTorch(problem, {}, "recompute", "train")
    crosscheck(plain, [Known("θ", "a.pt", state)], 100)
    assert len(plain.evaluate(Known("θ", "a.pt", state)).tensors) == 2


def test_trainings_and_reports_take_them_too(tmp_path: Any) -> None:
    results = []
    for wraps in (True, False):
        folder = tmp_path / str(wraps)
        spec = fit_spec(folder, MOONS, train={"epochs": 2})
        (folder / "net.py").write_text(CODE)
        network = spec.network.model_copy(
            update={
                "factory": f"{folder}/net.py:Net",
                "kwargs": {"inputs": 2, "classes": 2, "wraps": wraps},
            }
        )
        with quick():
            made = fit.prepare(spec.model_copy(update={"network": network}))
            assert made.inputs.problem.output == ("logits" if wraps else None)
            results.append(fit.fit(made).result.read_bytes())
    assert results[0] == results[1]
    ends = Curve("chain", tuple(np.full(43, v, "f4") for v in (0.1, 0.2, 0.3)))
    reports = [
        curve_report.along(ends, Wrapping(wrap), DATA, points=3).curve.values
        for wrap in (lambda y, h: Output(y, h), lambda y, h: y)
    ]
    assert reports[0].keys() == reports[1].keys()
    for name, values in reports[0].items():
        np.testing.assert_array_equal(values, reports[1][name])
