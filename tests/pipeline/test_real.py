"""The numbers that are known, on real checkpoints and real images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import opening, plan, prepare, spec
from pipeline.problem import checkpoint, state_dict
from pipeline.store.store import Store
from pipeline.task import TileRenderer

PREACTIVATION = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]}


def _render(content: dict[str, Any]) -> Store:
    prepared = prepare.prepare(spec.parse(content))
    store, _ = opening.create(prepared, plan.resolve_grid(prepared, 1.0, 1))
    renderer = TileRenderer(prepared.inputs, store.url)
    for tile in store.pending():
        renderer(tile)
    return store


@pytest.mark.slow
def test_the_centre_of_a_random_plane_is_the_published_checkpoint(
    shared_data: Path, tmp_path: Path
) -> None:
    store = _render(
        {
            "name": "resnet20",
            "network": {"factory": "resnet20"},
            "plane": {
                "kind": "random",
                "weights": [str(shared_data / "checkpoints/resnet-cifar10/resnet20-12fca82f.th")],
            },
            "grid": {"width": 3, "height": 1},
            "data": {
                "source": str(shared_data / "cifar10"),
                "splits": {"test": 10_000},
                "select": "head",
                "normalise": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
            },
            "evaluate": {"batch_norm": "frozen"},
            "store": str(tmp_path / "resnet20.zarr"),
        }
    )
    assert store.read("error", "test")[0, 1] == pytest.approx(0.1897, abs=1e-4)
    assert store.read("loss", "test")[0, 1] == pytest.approx(0.8788, abs=1e-4)
    assert (store.read("loss", "test")[0, [0, 2]] > 1.5).all()


@pytest.fixture(scope="module")
def curve(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A coarse grid of the plane of bezier-14 that has the ends and the line between on it."""
    return _render(_curve(shared_data, tmp_path_factory.mktemp("bezier") / "bezier.zarr"))


def _curve(shared_data: Path, store: Path) -> dict[str, Any]:
    return {
        "name": "bezier",
        "network": {"factory": "preresnet20"},
        "plane": {
            "kind": "curve",
            "weights": [str(shared_data / "checkpoints/preresnet20/bezier-14.pt")],
            "extent": [0, 47.33873573, 0, 7.27651123],
        },
        "grid": {"width": 5, "height": 3},
        "data": {
            "source": str(shared_data / "cifar10"),
            "splits": {"train": 128, "test": 32},
            "select": "head",
            "normalise": PREACTIVATION,
        },
        "store": str(store),
    }


def test_the_ends_and_the_bend_land_where_projection_says(curve: Store) -> None:
    start, bend, end = curve.anchors()
    assert (start.x, start.y) == pytest.approx((0, 0), abs=1e-9)
    assert (end.x, end.y) == pytest.approx((47.3387, 0), abs=1e-3)
    assert bend.y == pytest.approx(7.2765, abs=1e-3)
    assert max(anchor.off_plane for anchor in curve.anchors()) < 1e-6


def test_the_straight_line_crosses_a_ridge_and_the_curve_stays_low(curve: Store) -> None:
    loss = curve.read("loss", "train")
    ends = loss[0, [0, -1]]
    assert loss[0, 2] > 2.5 * ends.max()
    # The curve's highest point, halfway, is at half the height of the bend.
    assert loss[1, 2] < 1.3 * ends.max()


def test_the_grids_numbers_are_those_of_the_checkpoints(curve: Store, shared_data: Path) -> None:
    """The mode's own weights, loaded as they are, give what the grid has at the start."""
    content = curve.attrs["spec"] | {
        "plane": {
            "kind": "random",
            "weights": [str(shared_data / "checkpoints/preresnet20/mode1-14.pt")],
        },
        "grid": {"width": 1, "height": 1},
        "store": curve.url + ".mode1",
    }
    alone = _render(content)
    for quantity in curve.quantities:
        for split in curve.splits:
            np.testing.assert_allclose(
                alone.read(quantity, split)[0, 0], curve.read(quantity, split)[0, 0], rtol=1e-6
            )


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # torch's compiler uses what it deprecates
@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_a_compiled_curve_has_the_same_losses(shared_data: Path, tmp_path: Path, mode: str) -> None:
    content = _curve(shared_data, tmp_path / "compiled.zarr")
    content["evaluate"] = {"batch_norm": mode, "compile": True, "tolerance": 1e-5}
    found = _render(content)
    plain = content | {"evaluate": {"batch_norm": mode}, "store": str(tmp_path / "plain.zarr")}
    expected = _render(plain)
    for split in ("train", "test"):
        np.testing.assert_allclose(
            found.read("loss", split), expected.read("loss", split), rtol=1e-5
        )
        np.testing.assert_array_equal(found.read("error", split), expected.read("error", split))


def test_the_best_fit_plane_of_ten_states_of_a_curve(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "checkpoints/preresnet20"
    content = _curve(shared_data, tmp_path / "fit.zarr")
    content["plane"] = {"kind": "fit", "weights": str(folder / "bezier-*")}
    content["data"]["splits"] = {"train": 16}
    prepared = prepare.prepare(spec.parse(content))
    layout = prepared.evaluator.layout
    bends = [
        state_dict.weights_or_bend(checkpoint.load(path), layout, path)
        for path in prepared.spec.plane.weights
    ]
    exact = np.stack(bends).astype("f8")
    _, values, rows = np.linalg.svd(exact - exact.mean(axis=0), full_matrices=False)
    shares = values**2 / (values**2).sum()
    assert prepared.facts["plane"]["explained"] == pytest.approx(shares[:2].tolist(), rel=1e-6)
    assert shares[0] == pytest.approx(0.785, abs=5e-4)
    plane = prepared.first_plane()
    for direction, row in ((plane.u, rows[0]), (plane.v, rows[1])):
        assert abs(direction @ row) == pytest.approx(1, abs=1e-6)
        assert direction @ (exact[-1] - exact[0]) > 0
