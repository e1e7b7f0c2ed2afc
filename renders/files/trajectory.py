"""A group of marks as the code of Li et al. 2018 writes a projected trajectory: HDF5.

Source: `projection.py` in the code of arXiv:1712.09913.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import LossatlasError
from renders.files.whole import whole_file
from renders.source.surface import opened

if TYPE_CHECKING:
    from pipeline.store.metadata import MarkGroup


class TrajectoryError(LossatlasError):
    """A run has no trajectory to write, or it cannot be written."""


def export_trajectory(url: str, out: str | Path, label: str | None = None, frame: int = 0) -> int:
    """Write where the marks of a group lie: `proj_xcoord` and `proj_ycoord`, float64 (n,) each.

    The plane's shares of variance are written as well, as `explained_variance_ratio_`.

    Args:
        url: of the store.
        out: a file ending in .h5; it is replaced whole.
        label: of the group; None where a run has one alone, or one with a line.
        frame: of a film.

    Returns:
        How many marks.

    Raises:
        TrajectoryError: no such group or frame, another ending, or h5py is not installed.
        LossatlasError: the store cannot be read.
    """
    from pipeline.store.marks import StoredMarks

    out = Path(out)
    if out.suffix.lower() != ".h5":
        raise TrajectoryError(f"{out} ends in {out.suffix or 'nothing'}; wanted .h5")
    try:
        import h5py
    except ImportError:
        raise TrajectoryError(
            f"{out} is HDF5, which h5py writes; wanted it installed. Use pip install "
            "'lossatlas[peers]'"
        ) from None
    store = opened(url)
    if not 0 <= frame < store.frames:
        raise TrajectoryError(f"{url} has no frame {frame}; wanted one of 0 to {store.frames - 1}")
    marks = StoredMarks(store)
    which = _chosen(marks.groups, label, url)
    start = sum(group.count for group in marks.groups[:which])
    places = marks.places(frame)[start : start + marks.groups[which].count]
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["proj_xcoord"], file["proj_ycoord"] = places[:, 0], places[:, 1]
        if "explained" in store.attrs["plane"]:
            file["explained_variance_ratio_"] = np.array(store.attrs["plane"]["explained"])
    with whole_file(out, TrajectoryError) as partial:
        partial.write_bytes(content.getvalue())
    return len(places)


def _chosen(groups: tuple[MarkGroup, ...], label: str | None, url: str) -> int:
    """The number of the group that is asked for, or that can be meant."""
    if not groups:
        raise TrajectoryError(f"{url} has no marks; wanted a group of them. Render it with marks")
    named = [number for number, group in enumerate(groups) if group.label == label]
    lines = [number for number, group in enumerate(groups) if group.line]
    found = named if label is not None else lines or list(range(len(groups)))
    if len(found) == 1:
        return found[0]
    what = f"no group of marks {label}" if label is not None else "several groups of marks"
    if len(named) > 1:
        what = f"several groups of marks {label}"
    labels = ", ".join(group.label for group in groups)
    raise TrajectoryError(f"{url} has {what}; wanted one of {labels}. Name it with --group")
