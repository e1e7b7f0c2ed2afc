"""Trajectories as HDF5, in the layout that the code of Li et al. reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.geometry.grid import Extent, Grid
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.store import Store
from renders.files.trajectory import TrajectoryError, export_trajectory

h5py = pytest.importorskip("h5py")


def _store(folder: Path, groups: dict[str, int], lines: tuple[str, ...] = ()) -> Store:
    marks: list[dict[str, Any]] = [
        {
            "label": label,
            "line": label in lines,
            "glyph": None,
            "colour": None,
            "count": count,
            "names": [f"{label}-{n}" for n in range(count)],
            "numbers": [None] * count,
        }
        for label, count in groups.items()
    ]
    places = np.random.default_rng(0).standard_normal((2, sum(groups.values()), 3))
    frames = [FrameFacts(Extent(-1, 1, -1, 1), (Anchor("θ", 0, 0, 0),), None, p) for p in places]
    facts = {"marks": marks, "plane": {"kind": "fit", "explained": [0.75, 0.125]}}
    grid = Grid(4, 4, 4, frames=2)
    return Store.create(str(folder / "run.zarr"), grid, ["train"], ["loss"], frames, facts)


def test_a_line_of_marks_is_a_trajectory(tmp_path: Path) -> None:
    store = _store(tmp_path, {"swa": 1, "path": 5}, lines=("path",))
    out = tmp_path / "path_proj_cos.h5"
    assert export_trajectory(store.url, out, frame=1) == 5
    with h5py.File(out) as found:
        np.testing.assert_array_equal(found["proj_xcoord"], store.group["mark"][1, 1:, 0])
        np.testing.assert_array_equal(found["proj_ycoord"], store.group["mark"][1, 1:, 1])
        np.testing.assert_array_equal(found["explained_variance_ratio_"], [0.75, 0.125])
    assert export_trajectory(store.url, out, label="swa") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"run.zarr", out.name}


@pytest.mark.parametrize(
    ("groups", "how", "message"),
    [
        ({"a": 2, "b": 3}, {}, "several groups of marks; wanted one of a, b"),
        ({"a": 2, "b": 3}, {"label": "c"}, "no group of marks c; wanted one of a, b"),
        ({"a": 2}, {"frame": 2}, "no frame 2; wanted one of 0 to 1"),
        ({"a": 2}, {"out": "x.csv"}, r"ends in .csv; wanted .h5"),
        ({"a": 2}, {"out": "none/x.h5"}, "cannot be written"),
    ],
)
def test_what_is_no_trajectory_is_one_line(
    tmp_path: Path, groups: dict[str, int], how: dict[str, Any], message: str
) -> None:
    store = _store(tmp_path, groups)
    how = {"out": "x.h5"} | how
    with pytest.raises(TrajectoryError, match=message):
        export_trajectory(store.url, tmp_path / how.pop("out"), **how)


def test_a_run_without_marks_has_no_trajectory(tmp_path: Path) -> None:
    frames = [FrameFacts(Extent(-1, 1, -1, 1), (Anchor("θ", 0, 0, 0),), None)]
    store = Store.create(str(tmp_path / "a.zarr"), Grid(4, 4, 4), ["train"], ["loss"], frames, {})
    with pytest.raises(TrajectoryError, match="has no marks"):
        export_trajectory(store.url, tmp_path / "x.h5")
