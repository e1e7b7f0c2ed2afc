"""Stores with marks, whose every value is known: arrays as `docs/reference/store.md` says."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.errors import ZarrUserWarning

from renders.source.marks import MarkGroup

Places = npt.ArrayLike


def with_marks(
    url: str,
    groups: list[dict[str, Any]],
    places: Places,
    own: dict[str, npt.ArrayLike],
    done: npt.ArrayLike | None = None,
) -> str:
    """Give a finished store marks.

    Args:
        url: of the store.
        groups: the attribute; `count` may be left out of a single group.
        places: (n, 3), the same in all frames, or (frame, n, 3).
        own: quantity → values (split, n), or (n,) for all splits.
        done: which are evaluated, (n,); all by default.
    """
    group = zarr.open_group(url, mode="a", use_consolidated=False)
    frames, splits = group["loss"].shape[1], group["loss"].shape[0]  # type: ignore[union-attr]
    quantities: list[str] = group.attrs["quantities"]  # type: ignore[assignment]
    at = np.asarray(places, dtype="f8")
    at = np.broadcast_to(at, (frames, *at.shape[-2:]))
    count = at.shape[1]
    block = count if done is None else 1
    with zarr.config.set({"array.write_empty_chunks": True}):
        group.create_array("mark", data=np.array(at), chunks=(1, count, 3))
        for quantity in quantities:
            values = np.asarray(own.get(quantity, np.nan), dtype="f4")
            found = np.array(np.broadcast_to(values, (splits, count)))
            group.create_array(f"mark_{quantity}", data=found, chunks=(splits, block))
        commits = group.create_array(
            "mark_done", shape=(count,), dtype="u1", chunks=(block,), fill_value=0
        )
    for start in range(0, count, block):  # a chunk is a commit
        if done is None or np.asarray(done)[start]:
            commits[start : start + block] = 1
    group.attrs["marks"] = [_whole({"count": count, **each}) for each in groups]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(url)
    return url


def _whole(group: dict[str, Any]) -> dict[str, Any]:
    """A group's attribute, what it leaves out filled in."""
    count = group["count"]
    names, numbers = [f"epoch-{k}" for k in range(count)], [None] * count
    plain = {"label": "marks", "line": False, "glyph": None, "colour": None}
    return {**plain, "names": names, "numbers": numbers, **group}


def group_of(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    off_plane: npt.ArrayLike = 0.0,
    own: npt.ArrayLike | None = None,
    finished: npt.ArrayLike = True,
    **more: Any,
) -> MarkGroup:
    """A group of marks at these places, with own losses; distances fade by the greatest of them."""
    across = np.asarray(x, dtype="f8")
    off = np.array(np.broadcast_to(np.asarray(off_plane, "f8"), across.shape))
    count = len(across)
    values = {} if own is None else {"loss": np.asarray(own, dtype="f8")}
    return MarkGroup(
        more.pop("label", "walk"),
        across,
        np.asarray(y, dtype="f8"),
        off,
        off / max(float(off.max(initial=0.0)), 1e-300),
        values,
        np.array(np.broadcast_to(np.asarray(finished, bool), across.shape)),
        more.pop("names", tuple(f"epoch-{k:03d}" for k in range(count))),
        np.asarray(more.pop("numbers", np.arange(count)), dtype="f8"),
        **more,
    )
