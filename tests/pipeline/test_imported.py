"""Surfaces of other programs become finished stores; what is no finished surface is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import imported, memory
from pipeline.imported import SurfaceFileError
from pipeline.memory import RoomError
from pipeline.store.errors import StoreError
from pipeline.store.store import Store
from pipeline.verify import verify

X, Y = np.linspace(-1, 1, 7), np.linspace(-2, 2, 5)


def heights(x: Any = X, y: Any = Y) -> np.ndarray:
    """A tilted bowl whose value tells its place, float64 (y, x)."""
    return np.asarray(x)[None, :] ** 2 + 3 * np.asarray(y)[:, None] + 10


def npz(tmp_path: Path, **arrays: Any) -> str:
    path = tmp_path / "surface.npz"
    np.savez(path, **arrays)
    return str(path)


def h5(tmp_path: Path, name: str = "surface.h5", **arrays: Any) -> str:
    h5py = pytest.importorskip("h5py", reason="needs the extra peers")
    path = tmp_path / name
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return str(path)


def reference(tmp_path: Path) -> str:
    """A file as plot_surface.py fills it, point by point, by the flat index of a mesh."""
    losses, accuracies = -np.ones((len(X), len(Y))), -np.ones((len(X), len(Y)))
    across, up = np.meshgrid(X, Y)
    for index in range(losses.size):
        x, y = across.ravel()[index], up.ravel()[index]
        losses.ravel()[index] = x**2 + 3 * y + 10
        accuracies.ravel()[index] = 90 - x
    return h5(
        tmp_path,
        dir_file="model_300.t7_weights_xnorm=filter.h5",
        xcoordinates=X,
        ycoordinates=Y,
        train_loss=losses,
        train_acc=accuracies,
    )


def test_a_surface_of_the_reference_implementation(tmp_path: Path) -> None:
    url = str(tmp_path / "runs/surface.zarr")
    store, found = imported.import_surface(reference(tmp_path), url)
    assert found.left_out == ()
    store = Store.open(url)
    assert (store.width, store.height, store.quantities) == (7, 5, ("loss", "error"))
    np.testing.assert_array_equal(store.read("loss", "train"), heights().astype("f4"))
    np.testing.assert_allclose(store.read("error", "train")[0], (10 + X) / 100, rtol=1e-6)
    extent = store.extent()
    assert (extent.x0, extent.x1, extent.y0, extent.y1) == (-1, 1, -2, 2)
    assert [(a.name, a.x, a.y) for a in store.anchors()] == [("θ", 0, 0)]
    assert not store.pending()
    assert verify(store) == []
    assert store.words == {"network": "", "labels": [], "unit": ""}
    assert store.attrs["imported"]["file"] == "surface.h5"


def test_nothing_can_be_computed_in_it(tmp_path: Path) -> None:
    path = npz(tmp_path, x=X, y=Y, loss=heights())
    store, _ = imported.import_surface(path, str(tmp_path / "s.zarr"))
    with pytest.raises(
        StoreError, match=r"was imported from surface\.npz, so there is no network in it"
    ):
        store.require("spec", "parts", "code")
    with pytest.raises(StoreError, match="exists and is not empty"):
        imported.import_surface(path, store.url)


@pytest.mark.parametrize(("down", "left"), [(False, False), (True, False), (True, True)])
def test_coordinates_may_fall(tmp_path: Path, down: bool, left: bool) -> None:
    x, y = X[:: -1 if left else 1], Y[:: -1 if down else 1]
    path = npz(tmp_path, x=x, y=y, test_loss=heights(x, y), test_error=heights(x, y) / 100)
    found = imported.read(path)
    np.testing.assert_array_equal(found.values["loss"]["test"], heights().astype("f4"))
    np.testing.assert_array_equal(found.x, X)
    assert list(found.values) == ["loss", "error"]


def test_a_line_and_what_is_left_out(tmp_path: Path) -> None:
    path = npz(tmp_path, x=X, train_loss=X**2, test_loss=X**2 + 1, train_err=50 + X, z=X)
    store, found = imported.import_surface(path, str(tmp_path / "line.zarr"))
    assert (store.height, store.splits, store.quantities) == (1, ("train", "test"), ("loss",))
    np.testing.assert_array_equal(store.read("loss", "test")[0], (X**2 + 1).astype("f4"))
    assert found.left_out == ("train_err", "z")
    assert store.anchors() == ()
    assert verify(store) == []


def test_diverged_points_stay_what_they_are(tmp_path: Path) -> None:
    values = heights()
    values[0, 0], values[1, 1] = np.nan, np.inf
    path = npz(tmp_path, x=X, y=Y, loss=values)
    store, _ = imported.import_surface(path, str(tmp_path / "s.zarr"), split="test")
    np.testing.assert_array_equal(store.read("loss", "test"), values.astype("f4"))


UNFINISHED = heights()
UNFINISHED[0, :3] = -1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"loss": heights()}, r"holds no xcoordinates; wanted xcoordinates, ycoord"),
        ({"x": X, "y": Y}, r"surface\.npz holds x, y; wanted xcoordinates"),
        ({"x": X, "y": Y, "loss": heights().T}, r"loss is float64 \(7, 5\) .*wanted .*\(5, 7\)"),
        ({"x": X, "y": Y, "loss": UNFINISHED}, r"3 of 35 points of loss are −1, not computed yet"),
        ({"x": X**3, "y": Y, "loss": heights()}, r"x is not evenly spaced; wanted equal steps"),
        ({"x": X * 0, "y": Y, "loss": heights()}, r"x is not evenly spaced"),
        ({"x": X * np.nan, "y": Y, "loss": heights()}, r"x is not evenly spaced"),
        ({"x": heights(), "y": Y, "loss": heights()}, r"x is float64 \(5, 7\); wanted numbers \(n"),
        (
            {"x": X, "y": Y, "loss": heights(), "acc": heights() * 9},
            r"acc reaches from 36 to 153; wanted per cent",
        ),
        ({"x": X, "y": Y, "loss": np.array([object()])}, r"is no \.npz file of plain arrays"),
    ],
)
def test_what_is_no_surface(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(SurfaceFileError, match=message) as caught:
        imported.read(npz(tmp_path, **arrays))
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.npz").write_text("<html>")
    with pytest.raises(SurfaceFileError, match=r"is no \.npz file of plain arrays"):
        imported.read(str(tmp_path / "a.npz"))
    with pytest.raises(SurfaceFileError, match="no such file; wanted a surface"):
        imported.read(str(tmp_path / "gone.npz"))
    path = npz(tmp_path, x=X, y=Y, loss=heights())
    monkeypatch.setattr(memory, "_SMALL_BYTES", 0)
    monkeypatch.setattr(memory, "available", lambda: 100.0)
    with pytest.raises(RoomError, match="unpacks to"):
        imported.read(path)


def test_hdf5_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("<html>")
    with pytest.raises(SurfaceFileError, match="cannot be read as HDF5|read with h5py, which is"):
        imported.read(str(tmp_path / "a.h5"))
    with pytest.raises(SurfaceFileError, match=r"holds nothing|holds no xcoordinates"):
        imported.read(h5(tmp_path, "b.h5"))
    with pytest.raises(SurfaceFileError, match="no such file"):
        imported.read(str(tmp_path / "gone.h5"))


def test_names_of_runs() -> None:
    long = "resnet56_xignore=biasbn_xnorm=filter.h5_[-1.0,1.0,51]x[-1.0,1.0,51].h5"
    assert imported.run_name(f"/data/{long}") == long[:60]
    assert imported.run_name("a\u202e.npz") == "surface"
