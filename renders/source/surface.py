"""One frame of a store: its values as a labelled array, and what lies in its plane."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import LossatlasError
from pipeline.geometry.grid import Tile
from pipeline.geometry.plane import Anchor
from renders.source.marks import MarkGroup, read_marks
from renders.source.missing import cure, lost

if TYPE_CHECKING:
    import xarray as xr

    from pipeline.refinement.preview import Preview
    from pipeline.store.reader import StoreReader

SAMPLE = 4_000_000
"""How many values a tone is fitted to at most; beyond, every n-th."""
TITLES = {
    "loss": "loss",
    "error": "error",
    "loss_stderr": "standard error of the loss",
    "lambda_max": "largest eigenvalue of the Hessian",
    "lambda_min": "smallest eigenvalue of the Hessian",
    "negative": "negative curvature",
    "trace": "trace of the Hessian",
    "gradient_norm": "norm of the gradient",
    "lambda_max_residual": "residual of the largest eigenvalue",
    "lambda_min_residual": "residual of the smallest eigenvalue",
    "lanczos_steps": "steps of Lanczos",
    "trace_stderr": "standard error of the trace",
}
_SHORT = {
    "loss_stderr": "standard error",
    "lambda_max": "largest eigenvalue",
    "lambda_min": "smallest eigenvalue",
    "trace": "trace",
    "gradient_norm": "gradient norm",
    "lambda_max_residual": "residual",
    "lambda_min_residual": "residual",
    "lanczos_steps": "Lanczos steps",
    "trace_stderr": "standard error",
}


def short_title(quantity: str) -> str:
    """A quantity in one to two words, for the heading of a number."""
    return _SHORT.get(quantity) or TITLES.get(quantity, quantity)


class SurfaceError(LossatlasError):
    """The store does not hold what the picture asks for."""


@dataclass(frozen=True, eq=False)
class Surface:
    """One quantity over one split and one frame.

    Attributes:
        data: float32 (y, x) with the plane's coordinates, ascending; named after the quantity, with
            scalar coordinates `split` and `frame`, and the store's attributes (units, long_name).
            NaN and inf are results.
        finished: bool (height, width): whether a cell's tile is committed, or in a preview whether
            the cell is evaluated or predicted.
        extent: x0, x1, y0, y1 of the outermost cell centres.
        anchors: named points of the plane.
        curve: float64 (points, 3): x, y, distance off the plane; None where there is none.
        absent: committed tiles that have lost a chunk, which count as not finished.
        marks: named sets of weights beside the plane, in groups.
        unsure: bool (height, width): where an eigenvalue is not as exact as asked; None where the
            quantity is none.
    """

    data: xr.DataArray
    finished: npt.NDArray[np.bool_]
    extent: tuple[float, float, float, float]
    anchors: tuple[Anchor, ...] = ()
    curve: npt.NDArray[np.float64] | None = None
    absent: tuple[Tile, ...] = ()
    marks: tuple[MarkGroup, ...] = ()
    unsure: npt.NDArray[np.bool_] | None = None

    @property
    def values(self) -> npt.NDArray[np.float32]:
        return self.data.values

    @property
    def quantity(self) -> str:
        return str(self.data.name)

    @property
    def split(self) -> str:
        return str(self.data.coords["split"].item())

    @property
    def frame(self) -> int:
        return int(self.data.coords["frame"].item())


def labelled(
    values: npt.NDArray[np.float32],
    extent: tuple[float, float, float, float],
    quantity: str = "loss",
    split: str = "train",
    frame: int = 0,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Values (height, width), row 0 at the lowest y, as the `data` of a `Surface`."""
    import xarray as xr  # half a second that a misspelt option need not wait for

    x0, x1, y0, y1 = extent
    height, width = values.shape
    at = {
        "y": np.linspace(y0, y1, height),
        "x": np.linspace(x0, x1, width),
        "split": split,
        "frame": frame,
    }
    return xr.DataArray(values, at, ("y", "x"), quantity, attrs)


def opened(url: str) -> StoreReader:
    """The store at `url`; a preview of it where it is being refined.

    Raises:
        LossatlasError: there is no store, or it cannot be read.
    """
    # Zarr takes most of a second to import; a misspelt option need not wait for it.
    from pipeline.store.store import Store

    store = Store.open(url)
    if not store.refined:
        return store
    from pipeline.refinement.preview import Preview

    return Preview.of(store)


def read_surface(
    store: StoreReader,
    quantity: str,
    split: str | None,
    frame: int,
    finished: npt.NDArray[np.bool_] | None = None,
) -> Surface:
    """One frame of a store; `split` None takes the first of the quantity's own.

    The first of a store is the one that calibrates batch norm.

    Args:
        store, quantity, split, frame: what is read.
        finished: the frame's own of `store.finished_frames`, where it is known, bool (height,
            width); it may be False everywhere. None lists the store's commits, which films of many
            frames cannot afford once a frame.

    Raises:
        SurfaceError: no such quantity, split or frame, or no tile of the frame is finished.
    """
    _known("quantity", quantity, store.quantities, store.url)
    splits = store.fields.splits_of(quantity)
    split = splits[0] if split is None else split
    where = store.url if splits == store.splits else f"{store.url}: {quantity}"
    _known("split", split, splits, where)
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
    rim = store.extent(frame)
    extent = rim.x0, rim.x1, rim.y0, rim.y1
    values = store.read(quantity, split, frame)
    absent = absent_tiles(store, quantity, split, frame, values, finished)
    finished = without(store, finished, absent)
    if absent and not known and not finished.any():
        raise SurfaceError(f"{store.url}: {lost(absent)}; wanted one to draw. {cure(store.url)}")
    return Surface(
        labelled(values, extent, quantity, split, frame, store.group[quantity].attrs.asdict()),
        finished,
        extent,
        tuple(store.anchors(frame)),
        store.curve(frame),
        tuple(absent),
        read_marks(store, split, frame),
        _unsure(store, quantity, frame),
    )


def _unsure(store: StoreReader, quantity: str, frame: int) -> npt.NDArray[np.bool_] | None:
    if "curvature" not in store.attrs:
        return None
    from pipeline.store.convergence import unconverged

    return unconverged(store, quantity, frame)


def absent_tiles(
    store: StoreReader,
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
    store: StoreReader, finished: npt.NDArray[np.bool_], absent: Collection[Tile]
) -> npt.NDArray[np.bool_]:
    """`finished` of a frame, bool (height, width), without tiles of it that have lost a chunk."""
    if absent:
        finished = finished.copy()
        for tile in absent:
            finished[store.grid.window(tile)] = False
    return finished


def finished_values(
    store: StoreReader, quantity: str, splits: Sequence[str], absent: set[Tile] | None = None
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


def sample_stride(store: StoreReader) -> int:
    """Keep every n-th value so that a tone fit stays within `SAMPLE` values."""
    return -(-store.frames * store.height * store.width // SAMPLE)


def is_preview(store: StoreReader) -> bool:
    """Whether the store is shown as far as its refinement has come."""
    return _previewed(store) is not None


def lasting_share(store: StoreReader, frame: int, finished: npt.NDArray[np.bool_]) -> float:
    """Which part of a frame is as it will stay, in [0, 1]: finished, in a preview evaluated."""
    preview = _previewed(store)
    return float(finished.mean()) if preview is None else preview.evaluated_share(frame)


def _previewed(store: StoreReader) -> Preview | None:
    if not store.refined:
        return None
    from pipeline.refinement.preview import Preview

    return store if isinstance(store, Preview) else None


def _known(what: str, name: str, known: Sequence[str], where: str) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"the nearest is {near[0]!r}" if near else f"it has {', '.join(known)}"
    raise SurfaceError(f"{where} has no {what} {name!r}: wanted one it was rendered with; {hint}")
