"""Planes that eigenvectors of the Hessian span."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lossatlas
from pipeline import eigenvectors, prepare, spec
from pipeline.curvature.evaluator import CurvatureError, CurvatureEvaluator
from pipeline.curvature.hessian import Hessian
from pipeline.curvature_spec import CurvatureSpec
from pipeline.errors import LossatlasError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.problem.criterion import criterion_of
from pipeline.problem.losses import cross_entropy
from pipeline.store.store import Store
from tests.pipeline.test_curvature import mlp, rows
from tests.test_curvature_render import AT, hessians, write

PLANE = {"kind": "directions", "weights": ["b.safetensors"], "eigen": [1, -1]}
CHANGES: dict[str, Any] = {"plane": PLANE, "evaluate": {"loss": "mse"}}


def test_the_axes_are_the_eigenvectors_at_the_weights(tmp_path: Path) -> None:
    asked = spec.read(write(tmp_path / "run", **CHANGES))
    made = prepare.prepare(asked)
    plane, at = made.first_plane(), np.array(AT["b"], "f4").astype("f8")
    (one, two), three = at, 3.0
    matrix = np.array(  # of (w₁w₂ − 3)², the train split's
        [[2 * two**2, 4 * one * two - 2 * three], [4 * one * two - 2 * three, 2 * one**2]]
    )
    values, vectors = np.linalg.eigh(matrix)
    for found, wanted in ((plane.u, vectors[:, 1]), (plane.v, vectors[:, 0])):
        assert abs(found @ wanted) == pytest.approx(1, abs=1e-6)
        assert np.abs(found).max() == found[np.abs(found).argmax()]
    assert plane.u @ plane.v == pytest.approx(0, abs=1e-9)
    assert plane.units == "euclidean"
    facts = made.facts["plane"]
    np.testing.assert_allclose(facts["eigen"]["values"], values[::-1], rtol=1e-5)
    assert facts["names"][0] == f"eigenvector 1 (λ = {values[1]:.3g})"
    assert facts["names"][1].startswith("eigenvector −1 (λ = ")


def test_a_line_along_the_second_eigenvector_of_a_split(tmp_path: Path) -> None:
    plane = PLANE | {"eigen": [2]}
    evaluate = {"loss": "mse", "curvature": {"split": "test"}}
    grid = {"width": 5, "height": 1}
    made = prepare.prepare(
        spec.read(write(tmp_path / "run", plane=plane, evaluate=evaluate, grid=grid))
    )
    values = np.linalg.eigvalsh(hessians(np.array(AT["b"])))
    assert made.facts["plane"]["eigen"]["values"][0] == pytest.approx(values[0], abs=1e-5)
    assert made.facts["curvature"]["split"] == "test"


def test_a_store_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = lossatlas.read_spec(write(tmp_path / "run", **CHANGES))
    lossatlas.render(asked, executor="serial")
    store = Store.open(asked.store)
    kept = eigenvectors.stored(store)
    assert kept is not None
    np.testing.assert_allclose(np.linalg.norm(kept.vectors, axis=1), 1)

    def refuse(*_: Any) -> None:
        raise AssertionError("found again")

    monkeypatch.setattr(eigenvectors, "find", refuse)
    assert lossatlas.resume(asked.store, executor="serial").state == "done"
    assert lossatlas.render(asked, executor="serial").state == "done"
    assert "direction" not in lossatlas.open(asked.store)


def test_damaged_directions_are_one_line(tmp_path: Path) -> None:
    asked = lossatlas.read_spec(write(tmp_path / "run", **CHANGES))
    lossatlas.render(asked, executor="serial")
    for chunk in (Path(asked.store) / "direction" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"nothing")
    with pytest.raises(LossatlasError, match="directions of its plane cannot be read"):
        lossatlas.render(asked, executor="serial")


def test_other_examples_are_another_render(tmp_path: Path) -> None:
    asked = lossatlas.read_spec(write(tmp_path / "run", **CHANGES))
    lossatlas.render(asked, executor="serial")
    other = CHANGES | {"evaluate": {"loss": "mse", "curvature": {"examples": 2}}}
    with pytest.raises(LossatlasError, match="another render: evaluate.curvature"):
        lossatlas.render(lossatlas.read_spec(write(tmp_path / "run", **other)), executor="serial")


@pytest.mark.parametrize(
    ("plane", "told"),
    [
        ({"eigen": [0, 1]}, "one or two different ones"),
        ({"eigen": [1, 1]}, "one or two different ones"),
        ({"eigen": [1, 2, 3]}, "one or two different ones"),
        ({"directions": ["a.safetensors"]}, "both directions and eigen"),
        ({"normalise": "filter"}, "keep their lengths"),
        ({"extent": [-1.0, 1.0]}, "four numbers"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, plane: dict[str, Any], told: str) -> None:
    with pytest.raises(LossatlasError, match=told):
        spec.read(write(tmp_path / "run", **(CHANGES | {"plane": PLANE | plane})))


def of_mlp(asked: CurvatureSpec) -> tuple[CurvatureEvaluator, np.ndarray, np.ndarray]:
    """The evaluator of a small network, its weights, and its exact Hessian."""
    network, data = mlp(), rows()
    matrix = Hessian(network, [data], criterion_of(cross_entropy)).matrix().numpy()
    weights = torch.nn.utils.parameters_to_vector(network.parameters()).numpy().copy()
    splits = {"train": (data.inputs.numpy().astype("f4"), data.targets.numpy())}
    evaluator = Evaluator(network.float(), splits, ("loss",))
    return CurvatureEvaluator(evaluator, ("loss",), asked, "train"), weights, matrix


def test_vectors_of_a_network_are_those_of_its_hessian() -> None:
    made, weights, matrix = of_mlp(CurvatureSpec(steps=100, tolerance=1e-4))
    found = made.eigenvectors(weights, (1, 3, -2))
    values, vectors = np.linalg.eigh(matrix)
    for own, place in zip(found.vectors, (-1, -3, 1), strict=True):
        assert abs(own @ vectors[:, place]) > 0.999
    np.testing.assert_allclose(found.values, values[[-1, -3, 1]], rtol=1e-3)
    assert max(found.residuals) <= 1e-4
    np.testing.assert_allclose(found.vectors @ found.vectors.T, np.eye(3), atol=1e-9)


def test_vectors_that_do_not_converge_are_refused() -> None:
    made, weights, _ = of_mlp(CurvatureSpec(steps=5))
    with pytest.raises(CurvatureError, match="after 5 products.*Use more evaluate.curvature.steps"):
        made.eigenvectors(weights, (1, -2))


def test_vectors_beyond_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made, weights, _ = of_mlp(CurvatureSpec(steps=50))
    monkeypatch.setattr("pipeline.memory.available", lambda: 8.0 * len(weights) * 20)
    with pytest.raises(CurvatureError, match="steps: 20"):
        made.eigenvectors(weights, (1,))
