"""The numbers of a run in the files of other programs, read back by their own readers."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pipeline import imported
from pipeline.store.store import Store
from renders.data import DataFileError, export_data
from renders.files import vtp
from renders.source.surface import SurfaceError
from tests.renders.surfaces import landscape

MakeStore = Callable[..., str]

TYPES = {"Float32": "<f4", "Float64": "<f8", "Int64": "<i8"}


def arrays_of(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The counts and the arrays of a .vtp file; `Lines/offsets` and so on."""
    piece = next(ElementTree.parse(path).getroot().iter("Piece"))
    found = {}
    for part in piece:
        for array in part:
            content = base64.b64decode(str(array.text).strip())
            assert int.from_bytes(content[:8], "little") == len(content) - 8
            values = np.frombuffer(content[8:], TYPES[array.attrib["type"]])
            found[f"{part.tag}/{array.attrib['Name']}"] = values
    return piece.attrib, found


def test_a_surface_for_paraview(make_store: MakeStore, tmp_path: Path) -> None:
    url, out = make_store(landscape(12, 16)), tmp_path / "a.vtp"
    facts = export_data(url, out, quantity="error", split="test")
    assert (facts.width, facts.height, facts.share) == (16, 12, 1.0)
    counts, arrays = arrays_of(out)
    assert (counts["NumberOfPoints"], counts["NumberOfPolys"]) == ("192", "165")
    store = Store.open(url)
    points = arrays["Points/Points"].reshape(-1, 3)
    np.testing.assert_array_equal(points[:, 2], store.read("error", "test").ravel())
    np.testing.assert_array_equal(points[:16, 0], np.linspace(-2, 2, 16))
    np.testing.assert_array_equal(points[:, 1], np.repeat(np.linspace(-1.5, 1.5, 12), 16))
    loss = store.read("loss", "train").ravel()
    np.testing.assert_array_equal(arrays["PointData/train loss"], loss)
    cells = arrays["Polys/connectivity"].reshape(-1, 4)
    assert cells[0].tolist() == [0, 1, 17, 16]
    np.testing.assert_array_equal(arrays["Polys/offsets"], np.arange(4, 4 * 166, 4))
    # Counter-clockwise from above, so that the lit side is the upper one.
    edges = points[cells[:, [1, 3]], :2] - points[cells[:, [0]], :2]
    assert (np.linalg.det(edges) > 0).all()


def test_points_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    height = np.arange(12, dtype="f4").reshape(3, 4)
    height[1, 1], height[0, 3] = np.inf, np.nan
    vtp.write(tmp_path / "a.vtp", np.arange(4.0), np.arange(3.0), height, {"<&": height})
    counts, arrays = arrays_of(tmp_path / "a.vtp")
    assert counts["NumberOfPoints"] == "10"
    assert arrays["PointData/<&"].tolist() == [0, 1, 2, 4, 6, 7, 8, 9, 10, 11]
    assert arrays["Polys/connectivity"].tolist() == [4, 5, 9, 8]


def test_a_line_is_a_line(make_store: MakeStore, tmp_path: Path) -> None:
    export_data(make_store(landscape(1, 9)), tmp_path / "a.vtp")
    counts, arrays = arrays_of(tmp_path / "a.vtp")
    assert (counts["NumberOfLines"], counts["NumberOfPolys"]) == ("1", "0")
    assert arrays["Lines/connectivity"].tolist() == list(range(9))


def test_numpy_round_trip(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(12, 16), skip={(0, 1)})
    facts = export_data(url, tmp_path / "a.npz")
    assert facts.share == pytest.approx(1 - 64 / 192)
    with np.load(tmp_path / "a.npz") as read:
        assert read["finished"].mean() == pytest.approx(facts.share)
        assert np.isnan(read["train_loss"][:8, 8:]).all()
        loss = Store.open(url).read("loss", "train")
        np.testing.assert_array_equal(read["train_loss"][8:], loss[8:])
    Store.open(url, writable=True).remove()
    export_data(make_store(landscape(12, 16)), tmp_path / "b.npz")
    found = imported.read(str(tmp_path / "b.npz"))
    assert set(found.values) == {"loss", "error"}


def test_hdf5_round_trip(make_store: MakeStore, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra peers")
    fractions = landscape(12, 16) / 100
    url = make_store(fractions, frames=2)
    export_data(url, tmp_path / "a.h5", frame=1)
    store, found = Store.open(url), imported.read(str(tmp_path / "a.h5"))
    for split in store.splits:
        for quantity in ("loss", "error"):
            expected = store.read(quantity, split, 1)
            np.testing.assert_allclose(found.values[quantity][split], expected, atol=1e-7)
    store = Store.open(url, writable=True)
    store.remove()
    export_data(make_store(fractions, skip={(0, 1)}), tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as file:
        assert (file["train_loss"][:8, 8:] == -1).all()
        assert file["train_loss"].shape == (12, 16)


def test_netcdf_holds_the_whole_run(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(12, 16), frames=2)
    facts = export_data(url, tmp_path / "a.nc")
    assert facts.frames == 2
    with xr.open_dataset(tmp_path / "a.nc") as read:
        np.testing.assert_array_equal(read.loss[0, 1], Store.open(url).read("loss", "train", 1))
        assert bool(read.finished.all())


def test_an_imported_surface_says_so_and_nothing_else(tmp_path: Path) -> None:
    from renders.source.provenance import provenance

    x = np.linspace(0, 1, 4)
    np.savez(tmp_path / "mine.npz", x=x, y=x, train_loss=np.ones((4, 4)))
    store, _ = imported.import_surface(str(tmp_path / "mine.npz"), str(tmp_path / "s.zarr"))
    found = provenance(store, 0)
    assert (found.name, found.data) == ("mine", "imported from mine.npz")
    assert (found.network, found.units, found.normalisation) == ("", "", "")
    assert found.measures["loss"] == ""


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("a.csv", {}, r"a\.csv: wanted one of \.nc, \.npz, \.h5, \.vtp"),
        ("a.nc", {"frame": 1}, r"--frame is given with \.nc, which holds all frames"),
        ("a.npz", {"quantity": "error"}, r"--quantity or --split is given with \.npz"),
        ("gone/a.npz", {}, "is no folder: wanted one to write into"),
    ],
)
def test_what_cannot_be_written(
    make_store: MakeStore, tmp_path: Path, name: str, asked: dict[str, object], message: str
) -> None:
    with pytest.raises(DataFileError, match=message):
        export_data(make_store(landscape(4, 4)), tmp_path / name, **asked)  # type: ignore[arg-type]


def test_what_the_run_does_not_have(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(4, 4))
    with pytest.raises(SurfaceError, match="has no quantity 'los'"):
        export_data(url, tmp_path / "a.vtp", quantity="los")
    with pytest.raises(SurfaceError, match="has no frame 3"):
        export_data(url, tmp_path / "a.npz", frame=3)
    assert not list(tmp_path.glob("*.npz"))


def test_frozen_statistics_are_said_with_their_file(make_store: MakeStore) -> None:
    from renders.source.provenance import provenance

    store = Store.open(make_store(landscape(4, 4)))
    frozen = {"batch_norm": "frozen: running statistics of last.pt"}
    store.attrs["network"] = store.attrs.get("network", {}) | frozen
    assert provenance(store, 0).normalisation == "batch norm frozen: statistics of last.pt"
