"""Built-in losses, and means over examples or tokens, held to torch in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import LossatlasError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.problem.criterion import Criterion, named
from pipeline.problem.losses import LossError, Options
from pipeline.problem.means import Values, of_batch, over_examples
from pipeline.problem.targets import fitted, ignored_in_words
from pipeline.spec import EvaluateSpec
from pipeline.training import curve_report, fit, sgd
from pipeline.training.curve import Curve
from tests.pipeline.test_fit import MOONS, fit_spec, quick

RANDOM = np.random.default_rng(0)
TOKENS, LENGTH, COUNT = 7, 6, 29


class Words(nn.Module):
    """A language model as small as can be."""

    def __init__(self, log_probabilities: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(TOKENS, 5), nn.Linear(5, TOKENS)
        self.log_probabilities = log_probabilities

    def forward(self, ids: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.tanh(self.embed(ids)))
        return outputs.log_softmax(-1) if self.log_probabilities else outputs


def padded(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of unequal lengths; the third example has no token at all."""
    random = np.random.default_rng(seed)
    x, y = (random.integers(0, TOKENS, (COUNT, LENGTH)) for _ in range(2))
    lengths = random.integers(1, LENGTH + 1, COUNT)
    lengths[2] = 0
    y[np.arange(LENGTH) >= lengths[:, None]] = -100
    return x, y


def criterion(name: str = "cross_entropy", mean: Any = "example", **options: Any) -> Criterion:
    own = named(name)
    return Criterion(name, own.function, Options(**options), mean)


def weights_of(network: nn.Module) -> np.ndarray:
    return nn.utils.parameters_to_vector(network.parameters()).detach().numpy()


def measured(network: nn.Module, data: Any, loss: Any, **given: Any) -> dict[str, float]:
    weights = weights_of(network)
    found = Evaluator(network, {"train": data}, loss=loss, **given).at(weights)
    return {name: float(values[0]) for name, values in found.items()}


def logits_of(network: nn.Module, x: np.ndarray) -> Tensor:
    with torch.no_grad():
        outputs: Tensor = network.double()(torch.tensor(x))
    network.float()
    return outputs


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 3.0, 1.0, 0.25, 1.5)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("chunk", [5, None])
def test_the_mean_over_tokens_is_that_of_torch(weights: Any, smoothing: float, chunk: Any) -> None:
    x, y = padded()
    loss = criterion(mean="token", class_weights=weights, label_smoothing=smoothing)
    found = measured(Words(), (x, y), loss, chunk=chunk)
    logits = logits_of(Words(), x).reshape(-1, TOKENS)
    by_class = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    wanted = F.cross_entropy(
        logits, torch.tensor(y).reshape(-1), by_class, label_smoothing=smoothing
    )
    assert found["loss"] == pytest.approx(float(wanted), rel=1e-6)
    counts = y.reshape(-1) != -100
    wrong = (logits.argmax(1).numpy() != y.reshape(-1))[counts]
    assert found["error"] == pytest.approx(wrong.mean(), rel=1e-6)


@pytest.mark.parametrize("ignore", [-100, 3])
def test_the_mean_over_examples_takes_each_by_itself(ignore: int) -> None:
    x, y = padded()
    y = np.where(y == -100, ignore, y)
    found = measured(Words(), (x, y), criterion(ignore_index=ignore), chunk=4)
    logits = logits_of(Words(), x)
    own, wrong = [], []
    for of_example, targets in zip(logits, torch.tensor(y), strict=True):
        kept = targets != ignore
        if not kept.any():
            continue
        own.append(float(F.cross_entropy(of_example[kept], targets[kept])))
        wrong.append(float((of_example[kept].argmax(1) != targets[kept]).double().mean()))
    assert len(own) < COUNT
    assert found["loss"] == pytest.approx(np.mean(own), rel=1e-6)
    assert found["error"] == pytest.approx(np.mean(wrong), rel=1e-6)
    assert found["loss_stderr"] == pytest.approx(np.std(own, ddof=1) / len(own) ** 0.5, rel=1e-6)


def test_the_standard_error_of_a_mean_over_tokens_is_that_of_repeated_sampling() -> None:
    random = np.random.default_rng(1)
    population = 40_000
    counts = random.integers(0, 20, population).astype("f8")
    # The longer an example, the higher its losses.
    sums = counts * (1 + 0.1 * counts + random.normal(0, 0.3, population))
    means, errors = [], []
    for _ in range(400):
        rows = random.integers(0, population, 250)
        values = {"loss": Values(torch.tensor(sums[None, rows]), torch.tensor(counts[None, rows]))}
        means.append(float(over_examples("loss", values, "token")))
        errors.append(float(over_examples("loss_stderr", values, "token")))
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.12)


def test_where_all_weigh_the_same_both_means_agree() -> None:
    sums = torch.rand(3, 50, dtype=torch.float64)
    values = {"loss": Values(4 * sums, torch.full_like(sums, 4))}
    plain = {"loss": Values(sums)}
    for quantity in ("loss", "loss_stderr"):
        wanted = over_examples(quantity, plain)
        for mean in ("example", "token"):
            found = over_examples(quantity, values, mean)  # type: ignore[arg-type]
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    one = {"loss": Values(sums[:, :1], sums[:, :1])}
    assert math.isnan(over_examples("loss_stderr", one, "token")[0])


def test_a_split_with_padding_leaves_another_what_it_is() -> None:
    x, y = padded()
    whole = np.where(y == -100, 0, y)
    both = Evaluator(Words(), {"train": (x, whole), "test": (x, y)}, loss=criterion())
    alone = Evaluator(Words(), {"train": (x, whole)}, loss=criterion())
    weights = weights_of(Words())
    for name, values in alone.at(weights).items():
        np.testing.assert_allclose(both.at(weights)[name][0], values[0], rtol=1e-6)


def test_log_probabilities() -> None:
    x, y = padded()
    for mean in ("example", "token"):
        wanted = measured(Words(), (x, y), criterion(mean=mean))
        found = measured(Words(log_probabilities=True), (x, y), criterion("nll", mean))
        assert found == pytest.approx(wanted, rel=1e-5)
    whole = np.abs(y)  # nothing is left out
    wanted = measured(Words(), (x, np.minimum(whole, 6)), criterion())
    found = measured(Words(True), (x, np.minimum(whole, 6)), criterion("nll"))
    assert found == pytest.approx(wanted, rel=1e-5)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.5]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mse", F.mse_loss),
        ("l1", F.l1_loss),
        ("huber", F.huber_loss),
        ("bce_with_logits", F.binary_cross_entropy_with_logits),
    ],
)
def test_losses_of_values(name: str, wanted: Any) -> None:
    x = RANDOM.normal(size=(23, 3, 2)).astype("f4") * 2
    y = RANDOM.uniform(size=(23, 3, 2)).astype("f4")
    found = measured(Scaled(), (x, y), named(name), quantities=["loss", "loss_stderr"], chunk=7)
    own = wanted(1.5 * torch.tensor(x).double(), torch.tensor(y).double(), reduction="none")
    own = own.reshape(23, -1).mean(1).numpy()
    assert found["loss"] == pytest.approx(own.mean(), rel=1e-6)
    assert found["loss_stderr"] == pytest.approx(own.std(ddof=1) / 23**0.5, rel=1e-6)


def test_logits_of_two_classes_have_a_side() -> None:
    x = np.array([[-2.0], [0.5], [3.0], [-1.0], [np.nan]], "f4")
    y = np.array([0, 1, 0, 1, 1])
    found = measured(Scaled(), (x, y), named("bce_with_logits"), quantities=["error"])
    assert found["error"] == pytest.approx(3 / 5)
    with pytest.raises(LossError, match="targets 0 to 2; wanted 0 to 1 for bce_with_logits"):
        fitted(torch.tensor([0, 2]), torch.Size((2, 1)), "bce_with_logits", "train")


def test_what_does_not_count_is_told() -> None:
    _, y = padded()
    told = ignored_in_words(y, Options())
    assert told == (
        f"{(y == -100).sum()} of {y.size} targets are -100 and do not count; 1 example has no other"
    )
    assert ignored_in_words(np.arange(4), Options()) == ""


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        ([0, 1], {"class_weights": (1.0, 2.0)}, r"class_weights has 2 numbers .* wanted 3 weights"),
        ([-100, -100], {}, r"split test: all 2 targets are -100, which does not count"),
        ([-1, 1], {}, r"-1 to 1; wanted classes 0 to 2\. .*or if -1 is padding: loss_options.ign"),
        ([255, 1], {}, r"or if 255 is padding"),
        ([-100, 1], {"ignore_index": 2}, r"are -100 to 1; wanted classes 0 to 2"),
    ],
)
def test_classes_that_do_not_fit(targets: list[int], options: Any, message: str) -> None:
    with pytest.raises(LossError, match=message) as caught:
        fitted(
            torch.tensor(targets), torch.Size((2, 3)), "cross_entropy", "test", Options(**options)
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"loss": "mse", "mean": "token"}, "mean: token is given with loss: mse, which gives one"),
        ({"loss": "a.py:f", "loss_options": {}}, "loss_options is given with loss: a.py:f"),
        ({"loss": "nll", "loss_options": {"label_smoothing": 0.1}}, "label_smoothing is given"),
        (
            {"loss_options": {"class_weights": [1, 2]}, "mean": "example"},
            "class_weights is given with mean: example",
        ),
        ({"loss": "huber", "unit": "mm"}, "of which it is shown as Huber loss"),
        ({"loss": "mae"}, "loss is 'mae'; wanted"),
        ({"loss_options": {"label_smoothing": 1}}, "label_smoothing"),
    ],
)
def test_options_that_do_not_go_together(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateSpec.model_validate(asked)


def test_errors_are_stored_where_there_are_any() -> None:
    def stored(**asked: Any) -> tuple[str, ...]:
        return EvaluateSpec.model_validate(asked).stored

    assert stored() == stored(loss="nll") == ("loss", "error", "loss_stderr")
    assert stored(loss="bce_with_logits") == ("loss", "error", "loss_stderr")
    assert stored(loss="l1") == ("loss", "loss_stderr")


@pytest.mark.parametrize("mean", ["example", "token"])
def test_a_batch_is_averaged_as_a_split_is(mean: Any) -> None:
    """And its gradient is that of torch."""
    x, y = (torch.tensor(each) for each in padded())
    network = Words()
    theta = torch.tensor(weights_of(network)).requires_grad_()
    loss = criterion(mean=mean)
    loss = Criterion(**{**vars(loss), "is_weighed": True})
    minimised, _ = sgd.penalised_loss(network, theta, {}, x, y, loss, 0.0)
    (gradient,) = torch.autograd.grad(minimised, theta)
    outputs = network(x)
    if mean == "token":
        wanted = F.cross_entropy(outputs.reshape(-1, TOKENS), y.reshape(-1))
    else:
        kept = [F.cross_entropy(o, t) for o, t in zip(outputs, y, strict=True) if (t >= 0).any()]
        wanted = torch.stack(kept).mean()
    wanted.backward()
    assert float(minimised.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    own = nn.utils.parameters_to_vector([p.grad for p in network.parameters()])  # type: ignore[misc]
    torch.testing.assert_close(gradient, own, rtol=1e-5, atol=1e-7)


def test_a_batch_of_padding_alone_trains_nothing() -> None:
    sums = torch.zeros(3, requires_grad=True, dtype=torch.float64)
    for mean in ("example", "token"):
        loss = of_batch(Values(2 * sums, torch.zeros(3, dtype=torch.float64)), mean)  # type: ignore[arg-type]
        assert float(loss.detach()) == 0
        assert torch.isfinite(torch.autograd.grad(loss, sums)[0]).all()


def test_trainings_leave_out_what_does_not_count(tmp_path: Any) -> None:
    """Labels of −100 train as if their examples were not there, in one batch."""
    results = []
    for name in ("ignored", "absent"):
        spec = fit_spec(tmp_path / name, MOONS, train={"epochs": 3, "batch": 40})
        for path in (tmp_path / name / "moons").glob("*.npz"):
            with np.load(path) as arrays:
                x, y = arrays["x"][:40], arrays["y"][:40].copy()
            y[30:] = -100
            rows = slice(None) if name == "ignored" else slice(30)
            np.savez(path, x=x[rows], y=y[rows])
        count = 40 if name == "ignored" else 30
        changes = {"splits": {"train": count}, "select": "head"}
        data = spec.data.model_copy(update=changes)
        train = spec.train.model_copy(update={"batch": count})
        with quick():
            made = fit.prepare(spec.model_copy(update={"data": data, "train": train}))
            results.append(fit.fit(made).losses)
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_reports_along_a_curve_leave_it_out_too() -> None:
    x, y = padded()
    network = Words()
    size = sum(p.numel() for p in network.parameters())
    ends = Curve("chain", tuple(RANDOM.standard_normal((3, size)).astype("f4")))
    found = curve_report.along(ends, network, {"train": (x, y)}, points=2, loss=criterion())
    values = found.curve.values
    for name in ("loss", "error"):  # the ensemble of the start with itself
        np.testing.assert_allclose(values[f"ensemble_{name}"][0, 0], values[name][0, 0], rtol=1e-6)


def test_complex_outputs_have_no_classes() -> None:
    class Turned(Scaled):
        def forward(self, x: Tensor) -> Tensor:
            return torch.complex(x * self.scale, x)

    x = RANDOM.normal(size=(9, 3)).astype("f4")
    wanted = np.abs(1.5 * x + 1j * x - (x + 0j)) ** 2
    found = measured(Turned(), (x, x), named("mse"), quantities=["loss"])
    assert found["loss"] == pytest.approx(wanted.mean(), rel=1e-6)
    with pytest.raises(LossatlasError, match="complex"):
        measured(Turned(), (x, np.zeros(9, "i8")), named("cross_entropy"))
