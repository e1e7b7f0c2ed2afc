"""Fewer bits: never by accident, and only where a check allows them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import opening, prepare, spec, task
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.precision import PrecisionError, arithmetic, compare, spread
from pipeline.geometry.grid import Grid
from pipeline.geometry.plane import Plane
from pipeline.prepare import Prepared
from pipeline.spec import RenderSpec
from pipeline.spec_file import SpecError
from pipeline.store.store import Store
from pipeline.task import TileRenderer

MakeSpec = Callable[..., RenderSpec]
BACKENDS: Any = torch.backends
ON_CUDA = (BACKENDS.cuda.matmul, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn)
ON_CPU = (BACKENDS.mkldnn.matmul, BACKENDS.mkldnn.conv, BACKENDS.mkldnn.rnn)


def _modes() -> list[str]:
    parts = (BACKENDS, BACKENDS.cudnn, BACKENDS.mkldnn, *ON_CUDA, *ON_CPU)
    return [part.fp32_precision for part in parts]


@pytest.fixture
def careless() -> Iterator[None]:
    """A process that allows everything, as a user's file may on being imported."""
    before = BACKENDS.fp32_precision, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    BACKENDS.cudnn.benchmark = True
    yield
    BACKENDS.cudnn.benchmark = False
    BACKENDS.fp32_precision = before[0]
    BACKENDS.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision(before[1])


class Looks(nn.Module):
    """Notes how products would be computed while it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.seen: list[tuple[set[str], set[str], bool, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(
            (
                {part.fp32_precision for part in ON_CUDA},
                {part.fp32_precision for part in ON_CPU},
                BACKENDS.cudnn.benchmark,
                BACKENDS.cudnn.deterministic,
            )
        )
        # What torch itself asks in places; it raises where the flags contradict one another.
        assert BACKENDS.cudnn.allow_tf32 == (ON_CUDA[1].fp32_precision == "tf32")
        return self.linear(x)


@pytest.mark.parametrize(("precision", "on_cuda"), [("float32", "ieee"), ("tf32", "tf32")])
def test_float32_is_float32_whatever_the_process_allows(
    careless: None, precision: Any, on_cuda: str
) -> None:
    before = _modes()
    assert "bf16" in before
    assert ON_CUDA[1].fp32_precision == "tf32"  # torch's own default
    net = Looks()
    evaluator = Evaluator(
        net, {"train": (np.ones((4, 3), "f4"), np.zeros(4, int))}, precision=precision
    )
    evaluator.at(np.ones(8))
    assert len(net.seen) == 2
    assert all(seen == ({on_cuda}, {"ieee"}, False, True) for seen in net.seen)
    assert _modes() == before
    assert BACKENDS.cudnn.benchmark
    assert (torch.get_float32_matmul_precision(), BACKENDS.cudnn.allow_tf32) == ("medium", True)


def test_a_process_that_set_the_newer_switches_keeps_them(careless: None) -> None:
    BACKENDS.cudnn.conv.fp32_precision = "ieee"  # against the older one, which now raises
    before = _modes()
    with arithmetic("tf32"):
        assert ON_CUDA[1].fp32_precision == "tf32"
    assert _modes() == before


def test_settings_are_put_back_after_an_error(careless: None) -> None:
    before = _modes()
    with pytest.raises(ZeroDivisionError), arithmetic("float32"):
        raise ZeroDivisionError
    assert _modes() == before


def _values(losses: list[float], errors: float = 0.0) -> dict[str, np.ndarray]:
    loss = np.array([losses], "f4")
    return {"loss": loss, "error": np.full_like(loss, errors)}


def test_deviations_are_relative_and_special_values_have_to_match() -> None:
    exact = _values([2.0, np.nan, np.inf, 1e-5])
    found = compare(exact, _values([2.002, np.nan, np.inf, 2e-5], 0.25), "bf16", 1.5e-3)
    assert found.largest == pytest.approx(1e-3, rel=1e-3)
    assert (found.points, found.within, found.largest_error) == (4, 1.0, 0.25)
    broken = compare(exact, _values([2.0, 1.0, np.nan, 1e-5]), "bf16", 1e-3)
    assert (broken.largest, broken.within) == (np.inf, 0.5)
    assert broken.as_dict()["largest"] is None


def test_one_point_in_a_hundred_may_deviate_and_no_more() -> None:
    exact = [1.0] * 200
    two = compare(_values(exact), _values([1.01] * 2 + exact[2:]), "bf16", 1e-3)
    assert two.is_faithful
    three = compare(_values(exact), _values([1.01] * 3 + exact[3:]), "bf16", 1e-3)
    told = r"moves losses by up to 1.0e-02 .*\(98% at 200 grid points.*Leave it out"
    with pytest.raises(PrecisionError, match=told):
        three.require()


def test_checked_points_are_spread_over_the_extent() -> None:
    points = spread(1000)
    assert points[:4].tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    counts, _, _ = np.histogram2d(*points.T, bins=5)
    assert counts.min() > 25
    np.testing.assert_array_equal(spread(16), points[:16])


@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_bf16_is_near_float32_and_is_not_it(mode: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5)
    )
    images = np.random.default_rng(0).standard_normal((40, 3, 6, 6)).astype("f4")
    data = {"train": (images, np.arange(40) % 5)}
    weights = torch.cat([p.detach().ravel() for p in net.parameters()]).numpy()
    made = [
        Evaluator(copy.deepcopy(net), data, batch_norm=mode, chunk=16, precision=precision).at(
            weights
        )
        for precision in ("float32", "bf16")
    ]
    found = compare(*({q: v[:, None] for q, v in each.items()} for each in made), "bf16", 0.02)
    assert found.is_faithful
    assert found.largest > 1e-6


def _prepared(make: MakeSpec, **evaluate: Any) -> tuple[Prepared, Store]:
    prepared = prepare.prepare(make(evaluate={"loss": "mse", **evaluate}))
    return prepared, opening.create(prepared, Grid(7, 5, 4))[0]


def test_a_worker_refuses_a_precision_that_moves_the_losses(
    bowl: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, store = _prepared(bowl, precision="tf32")
    TileRenderer(prepared.inputs, store.url, worker=3)
    note = store.read_note("precision/3.json")
    assert note is not None
    assert (note["precision"], note["device"], note["points"]) == ("tf32", "cpu", 16)
    assert (note["within"], note["tolerance"]) == (1.0, 1e-3)

    class Coarse(Evaluator):
        def evaluate(self, plane: Plane, coordinates: Any) -> dict[str, Any]:
            factor = 1.0 if self._precision == "float32" else 1.002
            found = super().evaluate(plane, coordinates)
            return {q: values * np.float32(factor) for q, values in found.items()}

    monkeypatch.setattr(task, "Evaluator", Coarse)
    with pytest.raises(PrecisionError, match=r"precision: tf32 moves losses by up to 2.0e-03"):
        TileRenderer(prepared.inputs, store.url, worker=4)
    assert (store.read_note("precision/4.json") or {})["within"] == 0.0
    TileRenderer(replace(prepared.inputs, tolerance=3e-3), store.url)
    TileRenderer(replace(prepared.inputs, precision="float32"), store.url)


def test_the_store_says_which_precision_and_no_other_goes_on(bowl: MakeSpec) -> None:
    _, store = _prepared(bowl, precision="tf32", tolerance=1e-2)
    assert store.attrs["spec"]["evaluate"]["precision"] == "tf32"
    assert store.attrs["parts"]["evaluate.precision"] == "tf32"
    assert prepare.prepare_resume(store).inputs.tolerance == 1e-2
    with pytest.raises(prepare.PrepareError, match=r"evaluate.precision: tf32 in the store, float"):
        _prepared(bowl, precision="float32")


def test_a_spec_names_a_precision_and_a_tolerance_that_is_used(bowl: MakeSpec) -> None:
    content = bowl().model_dump(mode="json")
    with pytest.raises(SpecError, match=r"evaluate.precision: found 'fp16'.*'tf32' or 'bf16'"):
        spec.parse(content | {"evaluate": {"precision": "fp16"}})
    with pytest.raises(SpecError, match=r"evaluate: tolerance is given with precision: float32"):
        spec.parse(content | {"evaluate": {"tolerance": 1e-3}})
    with pytest.raises(SpecError, match=r"evaluate.tolerance: found 0"):
        spec.parse(content | {"evaluate": {"precision": "bf16", "tolerance": 0}})
