"""The public Python API: a run as a dataset, and values as Datashader's images."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import datashader.transfer_functions as tf
import numpy as np
import pytest
import xarray as xr

import lossatlas
from pipeline.errors import LossatlasError
from pipeline.store.store import Store
from tests.bowl import write_bowl
from tests.renders.conftest import make_store as make_store
from tests.renders.surfaces import landscape

MakeStore = Callable[..., str]


def test_a_run_opens_lazily_with_names_units_and_what_is_finished(make_store: MakeStore) -> None:
    values = landscape(20, 26)
    values[2, 3] = np.inf
    run = lossatlas.open(make_store(values, frames=2, skip={(0, 1)}))
    assert run.loss.dims == ("split", "frame", "y", "x")
    assert not run.loss.variable._in_memory
    assert run.loss.attrs["long_name"] == "mean loss per example"
    assert run.x.values[[0, -1]].tolist() == [-2.0, 2.0]
    one = run.loss.sel(split="test").isel(frame=1)
    assert one.isel(x=3, y=2).item() == np.inf
    assert np.isnan(one.values[0, 8])
    np.testing.assert_array_equal(one.values[8:], values[8:])
    np.testing.assert_array_equal(run.loss.isel(split=0, frame=0, y=slice(9, 12)), values[9:12])
    expected = np.ones((20, 26), dtype=bool)
    expected[:8, 8:16] = False
    np.testing.assert_array_equal(one.finished, expected)
    one.values[3, 3] = 7.0
    assert one[3, 3] == 7.0


def test_a_damaged_chunk_is_named_when_it_is_looked_at(make_store: MakeStore) -> None:
    url = make_store(landscape(20, 26))
    run = lossatlas.open(url)
    store = Store.open(url)
    with open(f"{url}/loss/c/0/0/1/1", "r+b") as chunk:
        chunk.seek(-6, 2)
        chunk.write(b"\0\1\2")
    with pytest.raises(LossatlasError, match="loss/c/0/0/1/1|tile|damaged"):
        run.loss.isel(split=0, frame=0).load()
    with pytest.raises(LossatlasError):
        store.read("loss", "train", 0)


def test_values_become_datashaders_image(make_store: MakeStore) -> None:
    run = lossatlas.open(make_store(landscape(20, 26), skip={(0, 1)}))
    loss = run.loss.sel(split="train").isel(frame=0)
    image = lossatlas.shade(loss, width=200)
    assert isinstance(image, tf.Image)
    assert image.shape == (150, 200)
    assert image.dtype == np.uint32
    assert (np.diff(image.y) > 0).all()
    np.testing.assert_allclose(image.x[[0, -1]], [-1.99, 1.99])
    # On its head, as files are, and on a ground.
    picture = tf.set_background(image, "white").to_pil()
    assert picture.size == (200, 150)
    # Given one tone, a piece of the values looks as it does within all of them.
    tone = lossatlas.fit_tone([loss.values[loss.finished.values]])
    whole = lossatlas.shade(loss, tone, width=200, light=False, contours=False)
    assert not image.equals(whole)
    flipped = lossatlas.shade(
        loss.isel(y=slice(None, None, -1)), tone, width=200, light=False, contours=False
    )
    assert whole.equals(flipped)


def test_any_even_grid_can_be_shaded_and_nothing_else() -> None:
    x = np.linspace(0, 1, 9)
    plain = xr.DataArray(np.add.outer(x, x) + 1, {"y": x, "x": x}, ("y", "x"), name="height")
    assert lossatlas.shade(plain, width=30).name == "height"
    with pytest.raises(LossatlasError, match=r"wanted \('y', 'x'\); choose one, as in .sel"):
        lossatlas.shade(plain.expand_dims("frame"))
    with pytest.raises(LossatlasError, match="x is not evenly spaced"):
        lossatlas.shade(plain.assign_coords(x=x**2))
    with pytest.raises(LossatlasError, match="none of 81 finished values is finite"):
        lossatlas.shade(plain * np.nan)


def test_help_and_status_wait_for_no_canvas(make_store: MakeStore) -> None:
    heavy = ["datashader", "numba", "pyvips", "scipy", "pandas", "xarray", "torch", "ray"]
    code = f"""
import sys
from cluster.cli import main
codes = [main.run(line) for line in (["export", "--help"], ["status", sys.argv[1]])]
print(codes, [name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""
    command = [sys.executable, "-c", code, make_store(landscape(8, 8))]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert done.stderr.strip() == "[0, 0] []"


def test_a_run_becomes_netcdf(make_store: MakeStore, tmp_path: Path) -> None:
    run = lossatlas.open(make_store(landscape(20, 26), frames=2))
    run.to_netcdf(tmp_path / "run.nc")
    with xr.open_dataset(tmp_path / "run.nc") as read:
        np.testing.assert_array_equal(read.loss, run.loss)
        assert read.split.values.tolist() == ["train", "test"]
        assert read.loss.attrs["long_name"] == "mean loss per example"
        assert json.loads(read.attrs["spec"])["name"] == "two-wells"


def test_a_render_from_python(tmp_path: Path) -> None:
    spec = lossatlas.read_spec(write_bowl(tmp_path))
    planned = lossatlas.plan(spec, workers=1)
    before = Path.cwd()
    found = lossatlas.render(spec, executor="serial")
    assert Path.cwd() == before
    assert found.state == "done"
    assert found.points == planned.points
    assert lossatlas.status(spec.store).state == found.state
    assert lossatlas.resume(spec.store, executor="serial").points_done == found.points
    run = lossatlas.open(spec.store)
    assert bool(run.finished.all())
    made = lossatlas.export_poster(spec.store, tmp_path / "bowl.png", width=300)
    assert made.width == 300


def test_what_is_wrong_is_an_exception(tmp_path: Path) -> None:
    with pytest.raises(LossatlasError, match="no such store"):
        lossatlas.status(tmp_path / "none.zarr")
    with pytest.raises(LossatlasError):
        lossatlas.read_spec(tmp_path / "none.yaml")
    with pytest.raises(AttributeError, match="has no attribute 'rendr'"):
        lossatlas.rendr  # noqa: B018


def test_all_names_are_there_and_are_said() -> None:
    assert set(lossatlas.__all__) == set(dir(lossatlas))
    for name in lossatlas.__all__:
        assert getattr(lossatlas, name).__doc__, name
    source = Path(lossatlas.__file__).read_text(encoding="utf-8")
    assert all(f" as {name}\n" in source for name in lossatlas.__all__)


def test_looking_at_a_run_takes_neither_torch_nor_ray(make_store: MakeStore) -> None:
    code = (
        "import sys, lossatlas; run = lossatlas.open(sys.argv[1]); lossatlas.status(sys.argv[1]); "
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, make_store(landscape(8, 8))]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1])
