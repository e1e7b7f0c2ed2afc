"""From a store to a picture: one frame's numbers as a frozen value, and what is known of it.

This is the one module of `renders` that touches a store.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline import caption
from pipeline.errors import LossatlasError
from pipeline.grid import Tile
from pipeline.plane import Anchor
from renders.caveats import cure, lost
from renders.map.tone import SAMPLE

if TYPE_CHECKING:
    from pipeline.preview import Preview
    from pipeline.store import Store

_SPLITS = ("train", "test", "val", "valid", "validation", "data")
TITLES = {"loss": "loss", "error": "error", "loss_stderr": "standard error of the loss"}


class SurfaceError(LossatlasError):
    """The store does not hold what the picture asks for."""


@dataclass(frozen=True, eq=False)
class Surface:
    """One quantity over one split and one frame.

    Attributes:
        values: float32 (height, width), row 0 at the lowest y; NaN and inf are results.
        finished: bool, same shape: whether a cell's tile is committed, or in a preview whether the
            cell is evaluated or predicted.
        extent: x0, x1, y0, y1 of the outermost cell centres.
        anchors: named points of the plane.
        curve: float64 (points, 3): x, y, distance off the plane; None where there is none.
        absent: committed tiles that have lost a chunk, which count as not finished.
    """

    values: npt.NDArray[np.float32]
    finished: npt.NDArray[np.bool_]
    extent: tuple[float, float, float, float]
    anchors: tuple[Anchor, ...] = ()
    curve: npt.NDArray[np.float64] | None = None
    quantity: str = "loss"
    split: str = "train"
    frame: int = 0
    absent: tuple[Tile, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """What a picture's small print says; empty strings where the store does not know.

    `share` is what is shown of the frame; `preview` says that predictions will still change;
    `measures` is quantity → its unit, or what its figures are; `own_losses` says where a
    checkpoint's loss with its own buffers is another than in the picture.
    """

    name: str = ""
    network: str = ""
    data: str = ""
    normalisation: str = ""
    grid: str = ""
    plane: str = ""
    units: str = ""
    date: str = ""
    version: str = ""
    share: float = 1.0
    refinement: str = ""
    preview: bool = False
    measures: Mapping[str, str] = field(default_factory=dict)
    own_losses: str = ""
    buffers: str = ""


def opened(url: str) -> Store:
    """The store at `url`; a preview of it where it is being refined.

    Raises:
        LossatlasError: there is no store, or it cannot be read.
    """
    # Zarr takes most of a second to import; a misspelt option need not wait for it.
    from pipeline.store import Store

    store = Store.open(url)
    if not store.refined:
        return store
    from pipeline.preview import Preview

    return Preview.of(store)


def read_surface(
    store: Store,
    quantity: str,
    split: str | None,
    frame: int,
    finished: npt.NDArray[np.bool_] | None = None,
) -> Surface:
    """One frame of a store; `split` None takes the first, the one that calibrates batch norm.

    Args:
        store, quantity, split, frame: what is read.
        finished: the frame's own of `store.finished_frames`, where it is known, bool (height,
            width); it may be False everywhere. None lists the store's commits, which films of many
            frames cannot afford once a frame.

    Raises:
        SurfaceError: no such quantity, split or frame, or no tile of the frame is finished.
    """
    split = store.splits[0] if split is None else split
    _known("quantity", quantity, store.quantities, store.url)
    _known("split", split, store.splits, store.url)
    if not 0 <= frame < store.frames:
        raise SurfaceError(
            f"{store.url} has no frame {frame}: wanted one of 0 to {store.frames - 1}"
        )
    known = finished is not None
    finished = store.finished(frame) if finished is None else finished
    if not known and not finished.any():
        raise SurfaceError(
            f"{store.url} has no finished tile in frame {frame}: wanted at least one to draw; "
            f"run `lossatlas resume {shlex.quote(store.url)}` first"
        )
    extent = store.extent(frame)
    values = store.read(quantity, split, frame)
    absent = absent_tiles(store, quantity, split, frame, values, finished)
    finished = without(store, finished, absent)
    if absent and not known and not finished.any():
        raise SurfaceError(f"{store.url}: {lost(absent)}; wanted one to draw. {cure(store.url)}")
    return Surface(
        values,
        finished,
        (extent.x0, extent.x1, extent.y0, extent.y1),
        tuple(store.anchors(frame)),
        store.curve(frame),
        quantity,
        split,
        frame,
        tuple(absent),
    )


def absent_tiles(
    store: Store,
    quantity: str,
    split: str,
    frame: int,
    values: npt.NDArray[np.float32],
    finished: npt.NDArray[np.bool_],
) -> list[Tile]:
    """The tiles of a frame that are committed and have lost a chunk; Zarr reads it as NaN.

    Args:
        store, quantity, split, frame: of what was read.
        values: what was read, float32 (height, width). The store is asked only where a whole tile
            of it is NaN.
        finished: of the frame, bool (height, width).
    """
    if is_preview(store):  # made of records, which say themselves that one is missing
        return []
    suspect = np.isnan(values) & finished
    if not suspect.any():
        return []
    grid = store.grid
    for axis, count in ((0, grid.tile_rows), (1, grid.tile_columns)):
        suspect = np.logical_and.reduceat(suspect, np.arange(count) * grid.tile, axis=axis)
    tiles = [Tile(frame, row, column) for row, column in np.argwhere(suspect).tolist()]
    return store.absent(quantity, tiles, [split]) if tiles else []


def without(
    store: Store, finished: npt.NDArray[np.bool_], absent: Collection[Tile]
) -> npt.NDArray[np.bool_]:
    """`finished` of a frame, bool (height, width), without tiles of it that have lost a chunk."""
    if absent:
        finished = finished.copy()
        for tile in absent:
            finished[store.grid.window(tile)] = False
    return finished


def finished_values(
    store: Store, quantity: str, splits: Sequence[str], absent: set[Tile] | None = None
) -> Iterator[npt.NDArray[np.float32]]:
    """The finished values of every frame, one flat float32 array a frame and split.

    `absent` takes the tiles that turn out to have lost a chunk.
    """
    for frame, finished in sorted(store.finished_frames().items()):
        for split in splits:
            values = store.read(quantity, split, frame)
            if absent is not None:
                absent.update(absent_tiles(store, quantity, split, frame, values, finished))
            yield values[finished]


def sample_stride(store: Store) -> int:
    """Keep every n-th value so that a tone fit stays within `SAMPLE` values."""
    return -(-store.frames * store.height * store.width // SAMPLE)


def provenance(store: Store, frame: int) -> Provenance:
    """The facts for the small print, as far as the store's attributes hold them."""
    spec: Mapping[str, Any] = store.attrs.get("spec") or {}
    words = store.words
    labels = {anchor.name: anchor.shown for anchor in store.anchors(frame)}
    plane: Mapping[str, Any] = store.attrs.get("plane") or {}
    kind = str(plane.get("kind") or (spec.get("plane") or {}).get("kind") or "")
    return Provenance(
        name=str(spec.get("name") or PurePath(store.url).stem),
        network=words["network"],
        data=_data_line(store.attrs),
        normalisation=_normalisation(caption.batch_norm(store.attrs)),
        grid=f"{store.width:,} × {store.height:,}" + _of_frames(store.frames, frame),
        plane=kind,
        units=str(plane.get("units") or ("filter-normalised" if kind == "random" else "euclidean")),
        date=str(store.attrs.get("created") or "")[:10],
        version=_version(),
        share=float(store.finished(frame).mean()),
        refinement=_refinement(store, frame),
        preview=is_preview(store),
        measures=caption.measures(caption.loss_name(store.attrs), words["unit"]),
        own_losses=caption.shortened(caption.own_losses(store.attrs, labels)),
        buffers=caption.buffers(store.attrs),
    )


def is_preview(store: Store) -> bool:
    """Whether the store is shown as far as its refinement has come."""
    return _previewed(store) is not None


def lasting_share(store: Store, frame: int, finished: npt.NDArray[np.bool_]) -> float:
    """Which part of a frame is as it will stay, in [0, 1]: finished, in a preview evaluated."""
    preview = _previewed(store)
    return float(finished.mean()) if preview is None else preview.evaluated_share(frame)


def _previewed(store: Store) -> Preview | None:
    if not store.refined:
        return None
    from pipeline.preview import Preview

    return store if isinstance(store, Preview) else None


def _refinement(store: Store, frame: int) -> str:
    """What is evaluated of a frame, and how sure the rest is; empty where all of it is."""
    level = store.level(frame)
    if level is None:
        return ""
    from pipeline.account import Account
    from pipeline.course import Course

    evaluated, final = int((level >= 0).sum()), not is_preview(store)
    account = Account.of(Course.read(store), level.size, evaluated, final, store.words["unit"])
    return account.small_print()


def _known(what: str, name: str, known: Sequence[str], url: str) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"the nearest is {near[0]!r}" if near else f"it has {', '.join(known)}"
    raise SurfaceError(f"{url} has no {what} {name!r}: wanted one it was rendered with; {hint}")


def _data_line(attrs: Mapping[str, Any]) -> str:
    data = (attrs.get("spec") or {}).get("data") or {}
    if not data:
        return ""
    file, colon, _ = str(data.get("source") or "").rpartition(":")
    place = PurePath(file if colon and file.endswith(".py") else str(data.get("source") or ""))
    # A file that is called after its split says less than its folder.
    stem = place.parent.name if place.stem in _SPLITS and place.parent.name else place.stem
    source = place.name if colon and file.endswith(".py") else caption.proper(stem)
    return f"{source}, {caption.counts(attrs, data.get('splits') or {})}"


def _normalisation(said: str) -> str:
    """Batch norm in the few words of a picture; empty where the network has none."""
    return {
        "recompute": "batch norm recomputed at every point",
        "frozen": "batch norm frozen",
    }.get(said.partition(":")[0], said and f"batch norm {said}")


def _of_frames(frames: int, frame: int) -> str:
    return f", frame {frame + 1} of {frames}" if frames > 1 else ""


def _version() -> str:
    try:
        return importlib.metadata.version("lossatlas")
    except importlib.metadata.PackageNotFoundError:
        return "unreleased"
