"""Growth: adding frames to the store of a film when its folder has new ones.

The old frames are never touched: arrays grow along the frame axis, and only new frames are written.
The attributes are written last. Until then the store has the old frames only, and growing it again
does the same once more.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import zarr

from pipeline.errors import LossatlasError
from pipeline.fingerprint import Parts, differences, digest_of_parts
from pipeline.geometry.plane import FrameFacts
from pipeline.store import keys
from pipeline.store.store import Store
from pipeline.url import UnreachableError

_EXTENT = "plane.extent"


class GrowthError(LossatlasError):
    """The new frames of a film cannot be added to its store."""


def has_fewer_frames(store: Store, stored: Parts, parts: Parts) -> bool:
    """Whether the store holds the first frames of the film of `parts`, and differs in nothing else.

    Args:
        store: of a render.
        stored: the parts that decide its numbers.
        parts: the parts of the render that is asked for now.
    """
    old, new = _digests(stored), _digests(parts)
    is_film = "frames" in store.attrs["plane"]
    if not is_film or len(old) >= len(new) or new[: len(old)] != old:
        return False
    return not differences(_without_frames(stored), _without_frames(parts))


def grow(
    store: Store, parts: Parts, frames: Sequence[FrameFacts], facts: Mapping[str, Any]
) -> Store:
    """Add the missing frames to a store. Only the holder of its lease may do this.

    Args:
        store: one that `has_fewer_frames`, opened for writing.
        parts, frames, facts: of the film that is asked for now.

    Returns:
        The store, opened again.

    Raises:
        GrowthError: the new frames would change rendered numbers, or the store cannot be written.
        UnreachableError: a remote store does not answer.
    """
    had = store.frames
    _require_room(store, parts, len(frames))
    # Commits beyond the old frames are from a growth that was interrupted.
    grid = replace(store.grid, frames=len(frames))
    beyond = Store(store.group, store.url)
    beyond.grid = grid
    now = {
        **store.attrs["parts"],
        **{f"plane.weights[{i}]": digest for i, digest in enumerate(_digests(parts))},
        _EXTENT: parts[_EXTENT],
    }
    attributes = {
        **store.attrs,
        "parts": now,
        "fingerprint": digest_of_parts(now),
        "plane": facts["plane"],
        "spec": {**store.attrs["spec"], "plane": facts["spec"]["plane"]},
        "grid": asdict(grid),
    }
    try:
        for tile in beyond.committed():
            if tile.frame >= had:
                beyond.withdraw(tile)
        _write(store.url, frames, had, attributes)
    except UnreachableError:
        raise
    except OSError as error:
        raise GrowthError(
            f"{store.url} cannot be written ({error.strerror or error}); wanted room and write "
            f"permission, to add {len(frames) - had} frames. Mend that, then render again"
        ) from None
    return Store.open(store.url, writable=True)


def _write(url: str, frames: Sequence[FrameFacts], had: int, attributes: Mapping[str, Any]) -> None:
    """Grow every array along its frames, label the new frames, and write the attributes last."""
    new = frames[had:]
    labels: dict[str, Any] = {
        "frame": np.arange(had, len(frames)),
        "extent": [(f.extent.x0, f.extent.x1, f.extent.y0, f.extent.y1) for f in new],
        "anchor": [[(a.x, a.y, a.off_plane) for a in f.anchors] for f in new],
        "curve": [f.curve for f in new],
        "mark": [f.marks for f in new],
    }
    with zarr.config.set({"array.write_empty_chunks": True}), warnings.catch_warnings():
        # Our notes are not part of the Zarr hierarchy; ignore warnings about them.
        warnings.filterwarnings("ignore", message=".*(onsolidated metadata|not recognized as a).*")
        group = keys.open_group(url, "r+", use_consolidated=False)
        for name, array in group.arrays():
            dimensions = getattr(array.metadata, "dimension_names", None) or ()
            if "frame" not in dimensions:
                continue
            axis = dimensions.index("frame")
            array.resize((*array.shape[:axis], len(frames), *array.shape[axis + 1 :]))
            if name in labels:
                array[had:] = np.array(labels[name], array.dtype)
        group = zarr.consolidate_metadata(group.store)
        group.attrs.put(dict(attributes))


def _require_room(store: Store, parts: Parts, frames: int) -> None:
    """Refuse new frames that would change rendered numbers.

    Raises:
        GrowthError: they would.
    """
    had = store.frames
    old, new = (_extents(p[_EXTENT], n) for p, n in ((store.attrs["parts"], had), (parts, frames)))
    found = f"{store.url} has {had} of the {frames} frames that plane.frames has now"
    cure = (
        f"lossatlas resume {store.url} finishes those that it has; for all {frames} change store "
        "in the spec"
    )
    if store.refined:
        raise GrowthError(
            f"{found}: what is predicted and audited in a refined render holds for its frames "
            f"together, and none can be added. {cure}"
        )
    if new[:had] != old:
        was, moved = (", ".join(f"{x:.4g}" for x in extents[0]) for extents in (old, new))
        raise GrowthError(
            f"{found}: the extent that they have in common would move from [{was}] to [{moved}], "
            f"and every point with it. {cure}; with plane.extent: [x0, x1, y0, y1] frames can be "
            "added to that one"
        )
    if all(extent == old[0] for extent in old) and any(extent != old[0] for extent in new):
        raise GrowthError(
            f"{found}: x and y are coordinates of one extent there, and the new frames have "
            f"others. {cure}"
        )


def _digests(parts: Parts) -> list[str]:
    """The digests of the frames, or of the plane's weights, in their order."""
    found: list[str] = []
    while (key := f"plane.weights[{len(found)}]") in parts:
        found.append(str(parts[key]))
    return found


def _without_frames(parts: Parts) -> dict[str, Any]:
    return {k: v for k, v in parts.items() if k != _EXTENT and not k.startswith("plane.weights[")}


def _extents(part: Any, frames: int) -> list[list[float]]:
    """One extent a frame; a part has a single one if all are equal."""
    return [list(each) for each in part] if isinstance(part[0], list) else [list(part)] * frames
