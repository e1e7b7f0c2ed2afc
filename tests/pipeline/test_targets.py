"""Targets against outputs: which shapes fit, and the right numbers where they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import LossatlasError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.examples import EvaluateError
from pipeline.problem.losses import LossError, mean_squared_error
from pipeline.problem.outputs import OutputError
from pipeline.problem.targets import fitted
from pipeline.training import curve_report, fit
from pipeline.training import spec as connect_spec
from pipeline.training.curve import Curve
from tests.pipeline.test_fit import MOONS, fit_spec, quick

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.integers(0, 5, 40)
SEQUENCES = RANDOM.integers(0, 5, (40, 7))
MASKS = RANDOM.integers(0, 5, (40, 2, 3))


class Scaled(nn.Module):
    """Gives its inputs, times one, with the axes moved as asked."""

    def __init__(self, move: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.move = move

    def forward(self, x: Tensor) -> Tensor:
        return self.move(x * self.scale)


def sure(classes: np.ndarray) -> np.ndarray:
    """Outputs (…, 5) that are sure of the right class."""
    return 30 * np.eye(5, dtype="f4")[classes]


def second(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


def measured(network: nn.Module, inputs: np.ndarray, targets: np.ndarray, **given: Any) -> Any:
    evaluator = Evaluator(network, {"train": (inputs, targets)}, **given)
    return {q: float(v[0]) for q, v in evaluator.at(np.ones(1)).items() if q != "loss_stderr"}


@pytest.mark.parametrize(
    ("classes", "targets", "move"),
    [
        (ROWS, ROWS[:, None], None),
        (SEQUENCES, SEQUENCES, None),
        (SEQUENCES, SEQUENCES[..., None], None),
        (SEQUENCES, SEQUENCES[:, None], None),
        (SEQUENCES, SEQUENCES, second),
        (MASKS, MASKS, second),
        (MASKS, MASKS[:, None], second),
        (SEQUENCES[:, :1], SEQUENCES[:, 0], second),
    ],
)
def test_classes_that_fit(
    classes: np.ndarray, targets: np.ndarray, move: Callable[[Tensor], Tensor] | None
) -> None:
    network = Scaled(move) if move else Scaled()
    found = measured(network, sure(classes), targets)
    assert found["error"] == 0
    assert found["loss"] < 1e-9
    wrong = measured(network, sure(classes), (targets + 1) % 5)
    assert wrong["error"] == 1
    assert wrong["loss"] == pytest.approx(30)


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        (
            (2, 5),
            torch.zeros(9, 5),
            r"^data split test has targets float32 \(n, 5\) and the network gives outputs "
            r"\(n, 5\); wanted classes as whole numbers for cross_entropy, \(n,\) where axis 1 "
            r"holds them\. If they are one-hot, give y\.argmax over the classes$",
        ),
        ((2, 5), torch.zeros(9, 5, dtype=torch.int64), r"one-hot, give y\.argmax"),
        ((2, 5), torch.zeros(9), r"Give whole numbers, as y\.astype\(int\) does"),
        (
            (2, 5),
            torch.tensor([0, 5]),
            r"axis 1 holds the classes, and the targets are 0 to 5; wan",
        ),
        (
            (2, 5, 7),
            torch.full((9, 7), -1),
            r"whose axis 1 holds the classes, .* -1 to -1; .*or if -1",
        ),
        (
            (2, 5, 7),
            torch.full((9, 7), -100),
            r"split test: all 63 targets are -100, which does not",
        ),
        ((2, 7, 5), torch.full((9, 7), 5), r"whose axis 2 holds the classes, .* are 5 to 5"),
        (
            (2, 5, 7),
            torch.zeros(9, 6, dtype=torch.int64),
            r"\(n, 5\) where axis 2 holds them, or \(n, 7\) where axis 1 holds them\. Check",
        ),
        ((2, 1), torch.tensor([0, 1]), r"For a single logit use bce_with_logits"),
        ((2,), torch.tensor([0, 1]), r"wanted outputs \(n, classes\) for cross_entropy"),
    ],
)
def test_classes_that_do_not_fit(outputs: tuple[int, ...], targets: Tensor, message: str) -> None:
    with pytest.raises(LossError, match=message) as caught:
        fitted(targets, torch.Size(outputs), "cross_entropy", "test")
    assert "\n" not in str(caught.value)


def test_values_have_the_outputs_shape_but_for_axes_of_one() -> None:
    column, images = RANDOM.normal(size=(9, 1)), RANDOM.normal(size=(9, 3, 4, 5))
    column, images = column.astype("f4"), images.astype("f4")
    given: dict[str, Any] = {"quantities": ["loss"], "loss": mean_squared_error}
    for inputs, targets, move in (
        (column, column[:, 0], lambda x: x),
        (column, column, lambda x: x[:, 0]),
        (images, images, lambda x: x),
        (images[:, :1], images[:, 0], lambda x: x),
        (images[:, :1], images[:, 0, :, :, None], lambda x: x),
    ):
        assert measured(Scaled(move), inputs, targets, **given) == {"loss": 0}
        found = measured(Scaled(move), inputs, targets + 2, **given)
        assert found["loss"] == pytest.approx(4)
    told = r"targets float32 \(n, 4, 5, 3\) .* outputs \(n, 3, 4, 5\); wanted .* Bring the axes"
    with pytest.raises(LossError, match=told):
        measured(Scaled(), images, images.transpose(0, 2, 3, 1), **given)
    with pytest.raises(LossError, match=r"\(n, 60\) .* Check network and data"):
        measured(Scaled(), images, images.reshape(9, 60), **given)
    with pytest.raises(LossError, match="of mse; wanted one shape"):
        mean_squared_error(torch.zeros(3, 1), torch.zeros(3))


def test_outputs_that_are_no_rows_are_refused() -> None:
    for move, told in (
        (lambda x: (x, x), r"the network gives tuple of 0: \(2, 5\), 1: \(2, 5\) for 2 examples"),
        (lambda x: x[:1], r"the network gives \(1, 5\) for 2 examples"),
        (lambda x: x.mean(), r"the network gives \(\) for 2 examples"),
    ):
        with pytest.raises(OutputError, match=told):
            measured(Scaled(move), sure(ROWS), ROWS)


def test_a_loss_of_the_users_takes_each_example_by_itself() -> None:
    inputs = RANDOM.normal(size=(9, 1)).astype("f4")

    def broadcasts(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(1)

    given: dict[str, Any] = {"quantities": ["loss"], "loss": broadcasts}
    assert measured(Scaled(), inputs, inputs, **given) == {"loss": 0}
    with pytest.raises(EvaluateError, match=r"another value alone than beside .*\(n, 1\) against"):
        measured(Scaled(), inputs, inputs[:, 0], **given)
    given["loss"] = lambda outputs, targets: (outputs - targets).square()
    with pytest.raises(EvaluateError, match=r"the loss gives \(2, 1\) for 2 examples"):
        measured(Scaled(), inputs, inputs, **given)


@pytest.mark.parametrize("move", [lambda x: x, second])
def test_reports_along_a_curve_take_the_same_targets(move: Callable[[Tensor], Tensor]) -> None:
    ends = Curve("chain", tuple(np.full(1, v, "f4") for v in (1.0, 2.0, 3.0)))
    splits = {"train": (sure(SEQUENCES), SEQUENCES[..., None])}
    found = curve_report.along(ends, Scaled(move), splits, points=3).curve.values
    for quantity, values in found.items():
        np.testing.assert_allclose(values, 0, atol=1e-9, err_msg=quantity)
    rows = {"train": (sure(ROWS), ROWS[:, None])}
    found = curve_report.along(ends, Scaled(), rows, points=3).curve.values
    assert not found["error"].any()
    assert not found["ensemble_error"].any()


def test_trainings_take_the_same_targets(tmp_path: Any) -> None:
    """Labels (n, 1) train to the same bits as labels (n,)."""
    results = []
    for name in ("rows", "columns"):
        spec = fit_spec(tmp_path / name, MOONS, train={"epochs": 2})
        if name == "columns":
            for path in (tmp_path / name / "moons").glob("*.npz"):
                with np.load(path) as arrays:
                    x, y = arrays["x"], arrays["y"]
                np.savez(path, x=x, y=y[:, None])
        head = spec.model_copy(update={"data": spec.data.model_copy(update={"select": "head"})})
        with quick():
            results.append(fit.fit(fit.prepare(head)).result.read_bytes())
    assert results[0] == results[1]


def test_trainings_refuse_what_renders_refuse(tmp_path: Any) -> None:
    spec = fit_spec(tmp_path, MOONS)
    for path in (tmp_path / "moons").glob("*.npz"):
        with np.load(path) as arrays:
            x, y = arrays["x"], arrays["y"]
        np.savez(path, x=x, y=np.eye(2, dtype="f4")[y])
    assert isinstance(spec, connect_spec.FitSpec)
    with pytest.raises(LossatlasError, match="If they are one-hot, give y.argmax"):
        fit.prepare(spec)
