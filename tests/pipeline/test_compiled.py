"""Compiled forward passes: the same numbers, or a line that says why not."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.subject import plane_of
from pipeline import opening, prepare, spec, task
from pipeline.evaluation import compiled, evaluator
from pipeline.evaluation.compiled import CompileError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.precision import PrecisionError
from pipeline.geometry.grid import Grid
from pipeline.geometry.plane import Plane
from pipeline.prepare import Prepared, PrepareError
from pipeline.spec import RenderSpec
from pipeline.spec_file import SpecError
from pipeline.store.store import Store
from pipeline.task import TileRenderer
from tests.pipeline.naive import POINTS, Asking, Counting, reference, small_net, two_splits

# torch's compiler uses what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
MakeSpec = Callable[..., RenderSpec]
needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler"
)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    yield
    torch.compiler.reset()


@needs_compiler
@pytest.mark.parametrize(
    ("mode", "chunk", "at_once"),
    [
        pytest.param("recompute", 16, False, marks=pytest.mark.slow, id="with a barrier"),
        pytest.param("recompute", None, True, id="at once"),
        pytest.param("frozen", 40, False, marks=pytest.mark.slow, id="frozen"),
    ],
)
def test_compiled_points_agree_with_the_float64_reference(
    mode: Literal["recompute", "frozen"],
    chunk: int | None,
    at_once: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluator, "takes_moments_at_once", lambda device: at_once)
    net, data = small_net(), two_splits()
    inputs, targets = data["train"]
    plane = plane_of(net, seed=1)
    made = Evaluator(copy.deepcopy(net), data, batch_norm=mode, chunk=chunk, compiled=True)

    def compare(rtol: float) -> None:
        # The evaluator's own images, which are changed in place: nothing is compiled again.
        for split, (given, classes) in zip(made._splits, data.values(), strict=True):
            split.inputs.copy_(torch.from_numpy(given))
            split.targets.copy_(torch.from_numpy(classes))
        expected = reference(net, data, plane, mode)
        found = made.evaluate(plane, POINTS)
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=rtol)
        np.testing.assert_allclose(found["loss_stderr"], expected["loss_stderr"], rtol=10 * rtol)
        np.testing.assert_array_equal(found["error"], expected["error"].astype("f4"))

    compare(2e-6)
    inputs[:, 1] = 0.5
    targets[:] = 3
    compare(2e-6)
    inputs += 30
    compare(2e-5)
    inputs[:] = 1e6 * np.random.default_rng(5).standard_normal(inputs.shape)
    compare(2e-5)


@needs_compiler
def test_what_is_not_a_number_stays_so_and_moves_no_neighbour() -> None:
    net, data = small_net(), two_splits()
    plane = plane_of(net, seed=1)
    made = Evaluator(net, data, chunk=16, compiled=True)
    points = np.array([[0.4, -0.2], [1e38, -1e38], [np.nan, 0.0], [0.4, -0.2]])
    loss = made.evaluate(plane, points)["loss"]
    assert not np.isfinite(loss[:, 1]).any()
    assert np.isnan(loss[:, 2]).all()
    np.testing.assert_array_equal(loss[:, 0], loss[:, 3])
    assert np.isfinite(loss[:, 0]).all()


class Branching(nn.Module):
    """Batch norms beside one another, which a compiler may take in any order, or leave out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU())
            for width, stride in ((4, 1), (4, 2), (6, 1), (4, 4))
        )
        self.unused = nn.BatchNorm2d(8)
        self.head = nn.Linear(18, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        self.unused(x)
        means = [branch(x).mean((2, 3)) for branch in self.branches]
        outputs: Tensor = self.head(torch.cat(means, 1))
        return outputs


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("at_once", [False, True])
def test_each_batch_norm_keeps_its_own_statistics(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "takes_moments_at_once", lambda device: at_once)
    torch.manual_seed(0)
    net, data = Branching(), two_splits()
    plane = plane_of(net, seed=1)
    expected = Evaluator(copy.deepcopy(net), data).evaluate(plane, POINTS)["loss"]
    found = Evaluator(net, data, compiled=True).evaluate(plane, POINTS)["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["recompute", "frozen"])
@pytest.mark.parametrize("chunk", [None, 16])
def test_a_gpu_compiles_and_replays_and_agrees_with_the_float64_reference(
    mode: Literal["recompute", "frozen"], chunk: int | None
) -> None:
    net, data = small_net(), two_splits()
    plane = plane_of(net, seed=1)
    expected = reference(net, data, plane, mode)["loss"]
    given: Any = {"batch_norm": mode, "chunk": chunk, "device": "cuda", "compiled": True}
    made = Evaluator(copy.deepcopy(net), data, **given)
    found = made.evaluate(plane, POINTS)["loss"]
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    assert made.is_replayed == (mode == "frozen" or chunk is None)
    launched = Evaluator(net, data, cuda_graph=False, **given).evaluate(plane, POINTS)["loss"]
    np.testing.assert_array_equal(found, launched)


@needs_compiler
@pytest.mark.parametrize("make", [Asking, Counting])
def test_a_forward_that_cannot_be_compiled_as_a_whole_is_refused(
    make: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_MOST_SHAPES", 3)
    net = make()
    plane = plane_of(net, seed=1)
    data = {"train": (np.ones((9, 7), "f4"), np.arange(9))}
    made = Evaluator(net, data, compiled=True)
    told = r"evaluate.compile: the network cannot be compiled .*Leave evaluate.compile out"
    with pytest.raises(CompileError, match=told):
        made.evaluate(plane, np.tile(POINTS, (3, 1)))


@pytest.mark.gpu
def test_no_process_is_left_compiling() -> None:
    """A worker that is killed would leave them behind."""
    net, data = small_net(), two_splits()
    plane = plane_of(net, seed=1)
    before = _children()
    Evaluator(net, data, device="cuda", compiled=True).evaluate(plane, POINTS[:1])
    assert _children() == before


def _children() -> set[str]:
    threads = Path("/proc/self/task").iterdir()
    return {child for thread in threads for child in (thread / "children").read_text().split()}


@needs_compiler
def test_a_cache_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/proc/nowhere")
    net, data = small_net(), two_splits()
    made = Evaluator(net, data, batch_norm="frozen", compiled=True)
    with pytest.raises(CompileError, match=r"nowhere.*a writable TORCHINDUCTOR_CACHE_DIR"):
        made.evaluate(plane_of(small_net(), seed=1), POINTS[:1])


def _prepared(make: MakeSpec, **evaluate: Any) -> tuple[Prepared, Store]:
    prepared = prepare.prepare(make(evaluate={"loss": "mse", **evaluate}))
    return prepared, opening.create(prepared, Grid(7, 5, 4))[0]


@needs_compiler
def test_a_worker_refuses_what_compiling_moves(
    bowl: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, store = _prepared(bowl, compile=True)
    renderer = TileRenderer(prepared.inputs, store.url, worker=3)
    note = store.read_note("precision/3.json") or {}
    assert (note["precision"], note["compiled"], note["points"]) == ("float32", True, 16)
    assert note["within"] == 1.0
    for tile in store.pending():
        renderer(tile)
    np.testing.assert_allclose(
        store.read("loss", "train"), _plain(prepared, store), rtol=1e-6, atol=0
    )

    class Coarse(Evaluator):
        def __init__(self, *given: Any, compiled: bool, **rest: Any) -> None:
            super().__init__(*given, compiled=compiled, **rest)
            self._factor = np.float32(1.002 if compiled else 1)

        def evaluate(self, plane: Plane, coordinates: Any) -> dict[str, Any]:
            found = super().evaluate(plane, coordinates)
            return {q: values * self._factor for q, values in found.items()}

    monkeypatch.setattr(task, "Evaluator", Coarse)
    told = r"evaluate.compile: true moves losses by up to 2.0e-03 .*Leave it out"
    with pytest.raises(PrecisionError, match=told):
        TileRenderer(prepared.inputs, store.url, worker=4)


def _plain(prepared: Prepared, store: Store) -> np.ndarray:
    grid = store.grid
    rows, columns = np.indices((grid.height, grid.width)).reshape(2, -1)
    points = grid.at(store.extent(), rows, columns)
    plain = task.evaluator(prepared.inputs.as_reference())
    values = plain.evaluate(prepared.first_plane(), points)["loss"][0]
    return values.reshape(grid.height, grid.width)


def test_a_store_goes_on_as_it_began(bowl: MakeSpec) -> None:
    _, store = _prepared(bowl)
    assert "evaluate.compile" not in store.attrs["parts"], "older stores know nothing of it"
    with pytest.raises(PrepareError, match=r"evaluate.compile: null in the store, true here"):
        _prepared(bowl, compile=True)


def test_compile_is_a_key_that_allows_a_tolerance(bowl: MakeSpec) -> None:
    content = bowl().model_dump(mode="json")
    parsed = spec.parse(content | {"evaluate": {"compile": True, "tolerance": 1e-4}})
    assert (parsed.evaluate.compile, parsed.evaluate.tolerance) == (True, 1e-4)
    with pytest.raises(SpecError, match=r"evaluate.compile: found 'fast'"):
        spec.parse(content | {"evaluate": {"compile": "fast"}})
    with pytest.raises(SpecError, match=r"wanted it with tf32, bf16 or compile"):
        spec.parse(content | {"evaluate": {"tolerance": 1e-4}})
