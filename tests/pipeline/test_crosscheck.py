"""What the evaluator says of odd networks: plain torch's number, or why it cannot."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from pipeline import prepare, spec
from pipeline.errors import LossatlasError
from pipeline.evaluation.crosscheck import crosscheck
from pipeline.evaluation.plain_torch import CrosscheckError, Known, PlainTorch
from pipeline.prepare import Prepared
from pipeline.problem.problem import Problem, Splits
from tests.pipeline import odd

Prepare = Callable[..., Prepared]
COUNT = 24
NAMES = ("start", "a.pt"), ("end", "b.pt")


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    """Prepares a render of a network of `odd` through two checkpoints on a line."""

    def make(kind: type[nn.Module], **evaluate: Any) -> Prepared:
        for number, name in enumerate("ab"):
            torch.save(_trained(kind, number).state_dict(), tmp_path / f"{name}.pt")
        np.savez(tmp_path / "data.npz", x=DATA[0], y=DATA[1])
        content = {
            "network": {"factory": f"{odd.__file__}:{kind.__name__}"},
            "plane": {"kind": "interpolation", "weights": ["a.pt", "b.pt"]},
            "grid": {"width": 3, "height": 1},
            "data": {"source": "data.npz", "splits": {"train": COUNT}, "select": "head"},
            "evaluate": evaluate,
        }
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(content))
        return prepare.prepare(spec.read(tmp_path / "spec.yaml"))

    return make


def _data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.standard_normal((COUNT, 4)).astype("f4"), generator.integers(0, 3, COUNT)


DATA = _data()


def _trained(kind: type[nn.Module], seed: int) -> nn.Module:
    """Weights, and the buffers that some steps of training leave."""
    torch.manual_seed(seed + 1)
    net = kind()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))
    net.train()
    for _ in range(20):
        net((1 + 3 * seed) * torch.randn(COUNT, 4) + 2 * seed)
    for name, buffer in net.named_buffers():
        if name.startswith("moving"):
            buffer.copy_(torch.rand_like(buffer) + 0.5 + seed)
    return net.eval()


def _plain(kind: type[nn.Module], seed: int, calibrated: bool = False) -> float:
    """The loss that plain torch finds at one checkpoint with its own buffers."""
    state = _trained(kind, seed).state_dict()
    net = kind()
    net.load_state_dict(state)
    net.eval()
    if calibrated:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.train()
    x, y = (torch.from_numpy(each) for each in DATA)
    with torch.no_grad():
        return float(F.cross_entropy(net(x), y))


def _found(made: Prepared) -> list[float]:
    """The losses at the two ends of the line."""
    plane, ends = made.first_plane(), made.frames[0].anchors
    at = np.array([[anchor.x, anchor.y] for anchor in ends])
    return [float(loss) for loss in made.evaluator.evaluate(plane, at)["loss"][0]]


@pytest.mark.parametrize(
    "kind",
    [
        odd.Plain,
        odd.GathersWhenEvaluating,
        odd.CachesWhenEvaluating,
        odd.MergesWhenEvaluating,
        odd.DrawsForNothing,
    ],
)
def test_what_is_made_from_weights_follows_them(prepared: Prepare, kind: type[nn.Module]) -> None:
    made = prepared(kind)
    assert _found(made) == pytest.approx([_plain(kind, 0), _plain(kind, 1)], rel=1e-5)
    assert made.facts["network"]["own_losses"] == []
    assert made.facts["network"]["buffers"] is None


@pytest.mark.parametrize("kind", [odd.Normed, odd.Hooked, odd.HookedBefore, odd.Parametrized])
@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_batch_norms_keep_hooks_and_parametrizations(
    prepared: Prepare, kind: type[nn.Module], mode: str
) -> None:
    made = prepared(kind, batch_norm=mode)
    calibrated = mode == "recompute"
    expected = [_plain(kind, seed, calibrated) for seed in range(2)]
    if calibrated:
        assert _found(made) == pytest.approx(expected, rel=1e-5)
        assert made.facts["network"]["own_losses"] == []
        return
    # The statistics of the first checkpoint are used at the second one as well, and it is said.
    assert _found(made)[0] == pytest.approx(expected[0], rel=1e-5)
    (told,) = made.facts["network"]["own_losses"]
    assert (told["anchor"], told["file"], told["split"]) == ("end", "b.pt", "train")
    assert told["loss"] == pytest.approx(_found(made)[1], rel=1e-6)
    assert told["own"] == pytest.approx(expected[1], rel=1e-5)
    assert not math.isclose(told["loss"], told["own"], rel_tol=1e-2)


@pytest.mark.parametrize(
    "kind", [odd.Spectral, odd.HandWrittenNorm, odd.InstanceStatistics, odd.CountsByName]
)
def test_buffers_of_one_checkpoint_are_told_with_both_losses(
    prepared: Prepare, kind: type[nn.Module]
) -> None:
    made = prepared(kind)
    facts = made.facts["network"]
    (told,) = facts["own_losses"]
    assert _found(made) == pytest.approx([_plain(kind, 0), told["loss"]], rel=1e-5)
    assert told["own"] == pytest.approx(_plain(kind, 1), rel=1e-5)
    assert not math.isclose(told["loss"], told["own"], rel_tol=1e-2)
    assert facts["buffers"].startswith("buffers of a.pt everywhere: ")
    assert facts["batch_norm"] is None


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (odd.KeepsAProduct, "keeps something that it made from its weights"),
        (odd.KeepsAView, "keeps something that it made from its weights"),
        (odd.ProductOfTheConstructor, "do not depend on its parameters"),
        (odd.ReadsStatistics, "Use evaluate.batch_norm: frozen"),
        (odd.OwnForward, "Use batch_norm: frozen"),
        (odd.Dropping, "draws random numbers"),
        (odd.Noisy, "draws random numbers"),
        (odd.SeldomNoisy, "draws random numbers"),
        (odd.RandomFeatures, "no checkpoint holds"),
        (odd.ExtraState, "Register a buffer instead"),
        (odd.NormalisesTheBatch, "depends on which others are in the batch"),
    ],
)
def test_what_would_be_wrong_is_refused_with_the_reason(
    prepared: Prepare, kind: type[nn.Module], why: str
) -> None:
    with pytest.raises(LossatlasError, match=why) as error:
        prepared(kind)
    assert "\n" not in str(error.value)


def _plain_torch(kind: type[nn.Module], splits: Splits) -> PlainTorch:
    factory = f"{odd.__file__}:{kind.__name__}"
    problem = Problem(factory, {}, None, "cross_entropy", None, splits)
    buffers = dict(problem.network().named_buffers())
    return PlainTorch(problem, buffers, "recompute", next(iter(splits)))


def test_every_checkpoint_is_looked_at() -> None:
    """The first one has the initial weights, of which the network keeps the right product."""
    plain = _plain_torch(odd.KeepsAProduct, {"train": DATA})
    states = plain.problem.network().state_dict(), _trained(odd.KeepsAProduct, 1).state_dict()
    first, second = (Known(*names, state) for names, state in zip(NAMES, states, strict=True))
    crosscheck(plain, [first], 16)
    with pytest.raises(CrosscheckError, match=r"^end \(b.pt\): .*keeps something"):
        crosscheck(plain, [first, second], 16)


def test_other_splits_use_the_variance_of_the_calibrating_population() -> None:
    """As both ways do: with a sample's, so few examples would differ by more than rounding."""
    other = DATA[0][::2] + 1, DATA[1][::2]
    plain = _plain_torch(odd.Normed, {"train": DATA, "test": other})
    crosscheck(plain, [Known("start", "a.pt", _trained(odd.Normed, 0).state_dict())], 16)


def test_frozen_statistics_may_be_read(prepared: Prepare) -> None:
    made = prepared(odd.ReadsStatistics, batch_norm="frozen")
    assert _found(made)[0] == pytest.approx(_plain(odd.ReadsStatistics, 0), rel=1e-5)
