"""Curvature through the whole pipeline, of a loss whose Hessian is known at every point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file

import lossatlas
from pipeline import prepare, spec, verify
from pipeline.errors import LossatlasError
from pipeline.footprint import FootprintError
from pipeline.plan import resolve_grid
from pipeline.store.convergence import counts, phrases, unconverged
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store
from renders.source.surface import SurfaceError, read_surface

PRODUCT = '''
import torch

class Product(torch.nn.Module):
    """Its output is w₁w₂, so that mse against one is (w₁w₂ − 1)²."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.w.prod().expand(len(x), 1)
'''
ASKED = ["loss", "lambda_max", "lambda_min", "negative", "trace", "gradient_norm"]
AT = {"a": (0.3, 0.2), "b": (2.1, 0.4), "c": (0.5, 1.7)}
EVALUATE = {"loss": "mse", "quantities": ASKED, "curvature": {"split": "test"}}


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "product.py").write_text(PRODUCT)
    for name, at in AT.items():
        save_file({"w": torch.tensor(at)}, folder / f"{name}.safetensors")
    zero, one = np.zeros((5, 1), "f4"), np.ones((5, 1), "f4")
    np.savez(folder / "data.npz", train_x=zero, train_y=3 * one, test_x=zero, test_y=one)
    content: dict[str, Any] = {
        "name": "product",
        "network": {"factory": "product.py:Product"},
        "plane": {"kind": "points", "weights": [f"{n}.safetensors" for n in AT]},
        "grid": {"width": 9, "height": 7, "tile": 4},
        "data": {"source": "data.npz", "splits": {"train": 4, "test": 5}},
        "evaluate": EVALUATE,
        "store": "product.zarr",
    }
    path = folder / "product.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path


def rendered(folder: Path, **changes: Any) -> Store:
    asked = lossatlas.read_spec(write(folder, **changes))
    lossatlas.render(asked, executor="serial")
    return Store.open(asked.store, writable=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return rendered(tmp_path_factory.mktemp("product") / "run")


def weights(store: Store) -> NDArray[np.float64]:
    """The weights of every point of the grid, (height, width, 2)."""
    a, b, c = (np.array(AT[name]) for name in AT)
    u = (b - a) / np.linalg.norm(b - a)
    v = c - a - ((c - a) @ u) * u
    v /= np.linalg.norm(v)
    x, y = store.grid.axes(store.extent())
    return np.asarray(a + x[None, :, None] * u + y[:, None, None] * v)


def hessians(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of (w₁w₂ − 1)², (…, 2, 2)."""
    one, two = w[..., 0], w[..., 1]
    across = 4 * one * two - 2
    return np.moveaxis(np.array([[2 * two**2, across], [across, 2 * one**2]]), (0, 1), (-2, -1))


def test_the_maps_are_the_closed_form(store: Store) -> None:
    w = weights(store)
    values = np.linalg.eigvalsh(hessians(w))
    gradient = 2 * np.abs(w.prod(-1) - 1) * np.linalg.norm(w, axis=-1)
    wanted = {
        "lambda_max": values[..., 1],
        "lambda_min": values[..., 0],
        "negative": np.abs(values[..., 0] / values[..., 1]),
        "trace": values.sum(-1),
        "gradient_norm": gradient,
    }
    for name, known in wanted.items():
        found = store.read(name, "test")
        np.testing.assert_allclose(found, known, rtol=2e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(store.read("loss", "test"), (w.prod(-1) - 1) ** 2, atol=1e-5)
    np.testing.assert_allclose(store.read("loss", "train"), (w.prod(-1) - 3) ** 2, atol=1e-5)


def test_what_says_how_good_they_are_is_stored_beside(store: Store) -> None:
    assert store.quantities[-4:] == (
        *("lambda_max_residual", "lambda_min_residual", "lanczos_steps", "trace_stderr"),
    )
    for name in store.quantities[-4:]:
        assert (store.read(name, "test") == 0).all()
    assert counts(store) == {"lambda_max": 0, "lambda_min": 0, "negative": 0}
    assert phrases(store) == []


def test_curvature_is_of_one_split(store: Store) -> None:
    assert store.fields.splits_of("trace") == ("test",)
    assert read_surface(store, "trace", None, 0).split == "test"
    with pytest.raises(SurfaceError, match="trace has no split 'train'"):
        read_surface(store, "trace", "train", 0)
    found = lossatlas.open(store.url)
    assert found["lambda_max"].sel(split="train").isnull().all()
    assert found["lambda_max"].sel(split="test").notnull().all()


def test_the_numbers_do_not_depend_on_the_tile(store: Store, tmp_path: Path) -> None:
    other = rendered(tmp_path / "run", grid={"width": 9, "height": 7, "tile": 9})
    for name in store.quantities:
        for split in store.fields.splits_of(name):
            np.testing.assert_array_equal(store.read(name, split), other.read(name, split))


def test_damage_is_found_put_back_and_computed_again(tmp_path: Path) -> None:
    made, name = rendered(tmp_path / "run"), "lambda_max_residual"
    before = made.read(name, "test")
    chunk = Path(made.url) / name / "c" / "1" / "0" / "0" / "1"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(bytes(content))
    damages = verify.verify(made)
    assert len(damages) == 1
    verify.withdraw(made, damages)
    lossatlas.resume(made.url, executor="serial")
    np.testing.assert_array_equal(Store.open(made.url).read(name, "test"), before)
    assert not (Path(made.url) / name / "c" / "0").exists()


def test_a_refined_map_is_within_its_tolerance(tmp_path: Path) -> None:
    refine = {"audit": 60, "beyond": 0.1, "tolerance": 0.01}
    made = rendered(
        tmp_path / "run",
        grid={"width": 65, "height": 65, "tile": 32},
        evaluate={**EVALUATE, "quantities": ["loss", "lambda_max", "trace"], "refine": refine},
    )
    level = made.level()
    assert level is not None
    assert 0.05 < (level >= 0).mean() < 0.8
    known = np.linalg.eigvalsh(hessians(weights(made)))[..., 1]
    off = np.abs(made.read("lambda_max", "test") - known)
    assert np.quantile(off, 0.95) < 0.02 * (known.max() - known.min())
    errors = made.predicted_error("lambda_max", "test")
    assert errors is not None
    assert (errors[level < 0] > 0).all()
    assert verify.verify(made) == []


def test_marks_have_a_curvature_of_their_own(tmp_path: Path) -> None:
    made = rendered(tmp_path / "run", marks=[{"weights": ["c.safetensors", "a.safetensors"]}])
    at = made.splits.index("test")
    found = StoredMarks(made).values("lambda_max")
    wanted = np.linalg.eigvalsh(hessians(np.array([AT["c"], AT["a"]])))[:, 1]
    np.testing.assert_allclose(found[at], wanted, rtol=1e-5)
    assert np.isnan(found[1 - at]).all()


def test_a_store_names_what_was_asked_of_curvature(store: Store) -> None:
    assert store.attrs["curvature"] == {
        "split": "test",
        "examples": 5,
        "tolerance": 1e-3,
        "steps": 60,
        "seed": 0,
        "statistics": None,
        "probes": 30,
    }
    assert store.attrs["parts"]["evaluate.curvature"] == store.attrs["curvature"]


def test_a_render_without_curvature_says_nothing_of_it(tmp_path: Path) -> None:
    made = prepare.prepare(spec.read(write(tmp_path / "run", evaluate={"loss": "mse"})))
    assert "curvature" not in made.facts
    assert "evaluate.curvature" not in made.parts


def test_values_above_the_tolerance_are_counted(tmp_path: Path) -> None:
    made = rendered(tmp_path / "run")
    rows, columns = made.grid.window(next(iter(made.grid.tiles())))
    made.group["lambda_min_residual"][1, 0, rows, columns] = np.float32(0.5)
    expected = (rows.stop - rows.start) * (columns.stop - columns.start)
    assert counts(made) == {"lambda_max": 0, "lambda_min": expected, "negative": expected}
    mask = unconverged(made, "lambda_min", 0)
    assert mask is not None
    assert mask[rows, columns].all()
    assert mask.sum() == expected
    assert unconverged(made, "loss", 0) is None
    assert phrases(made)[0] == "16 of 63 values of lambda_min not converged to 0.001"
    surface = read_surface(made, "negative", None, 0)
    assert surface.unsure is not None
    assert surface.unsure.sum() == expected


@pytest.mark.parametrize(
    ("evaluate", "told"),
    [
        ({"curvature": {}}, "nothing that it is for"),
        ({"quantities": ["trace"], "curvature": {"split": "val"}}, "split is val"),
        ({"quantities": ["trace"], "curvature": {"split": "test", "examples": 6}}, "has 5"),
        ({"quantities": ["trace"], "precision": "bf16"}, "precision: bf16"),
        ({"quantities": ["trace"], "compile": True}, "compile"),
        ({"quantities": ["trace"], "loss": "l1"}, "no second derivative"),
        ({"quantities": ["trace_stderr"]}, "stored with what it is of"),
        ({"quantities": ["trace"], "curvature": {"tolerance": 1e-9}}, "0.00001"),
        ({"quantities": ["lambda_mx"]}, "Did you mean lambda_max"),
        ({"quantities": ["trace"], "metrics": {"trace": "a.py:f"}}, "lossatlas computes"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path, evaluate: dict[str, Any], told: str
) -> None:
    path = write(tmp_path / "run", evaluate={"loss": "mse", **evaluate})
    with pytest.raises(LossatlasError, match=told) as refused:
        spec.read(path)
    assert "\n" not in str(refused.value)


def test_vectors_beyond_memory_are_refused_with_the_steps_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spec.read(write(tmp_path / "run"))
    prepared = prepare.prepare(asked)
    monkeypatch.setattr("pipeline.footprint.memory.available", lambda: 16.0 * (12 + 40))
    with pytest.raises(FootprintError, match="Use steps: 40"):
        prepared.footprint.differentiates(60, 0)
    prepared.footprint.differentiates(40, 0)


def test_tiles_are_smaller_where_points_take_longer(tmp_path: Path) -> None:
    grid = {"width": 400, "height": 400}
    prepared = prepare.prepare(spec.read(write(tmp_path / "run", grid=grid)))
    assert resolve_grid(prepared, 0.5, 2).tile == 4
