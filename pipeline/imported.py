"""Surfaces that other programs computed, as stores: pictures can be drawn, nothing is computed.

Source: the files of Li et al. 2018, arXiv:1712.09913, whose code writes `xcoordinates`,
`ycoordinates`, `train_loss`, `train_acc` and so on with h5py.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import memory, naming
from pipeline.errors import LossatlasError, one_line
from pipeline.geometry.grid import Extent, Grid
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.store import Store

_AXES = {"x": ("xcoordinates", "x"), "y": ("ycoordinates", "y")}
_VALUES = re.compile(r"(?:(.+)_)?(loss|acc|err|error)")
_NOT_COMPUTED = -1.0  # what the code of Li et al. puts where it has not been yet
_UNEVEN = 1e-3  # of a step: coordinates may be float32
_LARGEST_TILE = 512
_WANTED = (
    "wanted xcoordinates, ycoordinates and train_loss, as plot_surface.py of Li et al. writes them"
)

Array = NDArray[np.float64]


class SurfaceFileError(LossatlasError):
    """A file holds no surface that can be imported."""


@dataclass(frozen=True)
class Imported:
    """A surface as it was read.

    Attributes:
        x, y: coordinates, ascending, evenly spaced; y is (0,) for a line.
        values: quantity → split → float32 (y, x); the same splits for all quantities.
        left_out: names in the file that are not used.
        around_weights: whether (0, 0) is the network's own weights.
    """

    x: Array
    y: Array
    values: Mapping[str, Mapping[str, NDArray[np.float32]]]
    left_out: tuple[str, ...]
    around_weights: bool


def read(path: str, split: str = "data") -> Imported:
    """Read a surface from an .h5 or .npz file.

    Args:
        path: of the file; local.
        split: what a loss without the name of a split is of.

    Raises:
        SurfaceFileError: no such file, another kind of file, or no finished surface in it.
        RoomError: it would unpack to more than the memory that is free.
    """
    is_npz = path.lower().endswith(".npz")
    arrays = _of_npz(path) if is_npz else _of_h5(path)
    where = Path(path).name
    x, y = (_axis(arrays, axis, where) for axis in ("x", "y"))
    found: dict[str, dict[str, NDArray[np.float32]]] = {"loss": {}, "error": {}}
    used = {name for names in _AXES.values() for name in names}
    for name, array in arrays.items():
        named = _VALUES.fullmatch(name)
        if named is None or name in used:
            continue
        surface = _surface(array, name, (x, y), where, is_npz)
        quantity = "loss" if named[2] == "loss" else "error"
        found[quantity][named[1] or split] = _in_fractions(surface, name, named[2], where)
        used.add(name)
    splits = set(found["loss"])
    if not splits:
        held = ", ".join(list(arrays)[:8]) or "nothing"
        raise SurfaceFileError(f"{where} holds {held}; {_WANTED}")
    values = {
        quantity: {name: _ascending(of_splits[name], x, y) for name in sorted(splits, key=_rank)}
        for quantity, of_splits in found.items()
        if splits <= of_splits.keys()
    }
    left_out = set(arrays) - used
    if "error" not in values:
        left_out |= {name for name in arrays if (m := _VALUES.fullmatch(name)) and m[2] != "loss"}
    left_out -= {"dir_file", "finished"}
    return Imported(np.sort(x), np.sort(y), values, tuple(sorted(left_out)), not is_npz)


def import_surface(path: str, url: str, split: str = "data") -> tuple[Store, Imported]:
    """Make a finished store of a surface in a file.

    Args:
        path: of the .h5 or .npz file.
        url: of the store, at which there is nothing yet.
        split: what a loss without the name of a split is of.

    Raises:
        SurfaceFileError, RoomError: as `read`.
        StoreError: the store cannot be written.
    """
    found = read(path, split)
    height, width = len(found.y), len(found.x)
    grid = Grid(width, height, min(_LARGEST_TILE, max(width, height)), 1)
    extent = Extent(*(float(at) for at in (found.x[0], found.x[-1], found.y[0], found.y[-1])))
    anchors = (Anchor("θ", 0.0, 0.0, 0.0),) if found.around_weights else ()
    splits = list(found.values["loss"])
    frames = [FrameFacts(extent, anchors, None)]
    store = Store.create(url, grid, splits, list(found.values), frames, _facts(path, height == 1))
    for tile in grid.tiles():
        rows, columns = grid.window(tile)
        stacked = {
            quantity: np.stack([of_splits[name][rows, columns] for name in splits])
            for quantity, of_splits in found.values.items()
        }
        store.commit(tile, stacked, seconds=0.0, worker=0)
    return store, found


def run_name(path: str) -> str:
    """What a run of a file's surface is called; peers' file names are long and full of marks."""
    stem = Path(path).stem
    return stem[:60].strip(" .") if naming.fault(stem[:60].strip(" .")) is None else "surface"


def _facts(path: str, is_line: bool) -> dict[str, Any]:
    """The attributes of the store. What the file does not tell is not in them."""
    try:
        own = version("lossatlas")
    except PackageNotFoundError:
        own = "source"
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "name": run_name(path),
        "imported": {"file": Path(path).name, "digest": digest},
        **({"plane": {"kind": "line"}} if is_line else {}),
        "unit": "",
        "fingerprint": digest,
        "versions": {"lossatlas": own},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _of_npz(path: str) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(member.file_size for member in archive.infolist())
        memory.require(declared, path, "Check where the file is from")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SurfaceFileError(
            f"{path} is no .npz file of plain arrays ({one_line(error, 120)}); {_WANTED}"
        ) from None


def _of_h5(path: str) -> dict[str, NDArray[Any]]:
    try:
        import h5py
    except ModuleNotFoundError:
        raise SurfaceFileError(
            f"{path} is read with h5py, which is not installed; wanted it. Install it with pip "
            "install 'lossatlas[peers]'"
        ) from None
    try:
        with h5py.File(path, "r") as file:
            sets = {name: of for name, of in file.items() if isinstance(of, h5py.Dataset)}
            memory.require(sum(of.nbytes for of in sets.values()), path, "Check where it is from")
            return {name: np.asarray(of[()]) for name, of in sets.items()}
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise SurfaceFileError(
            f"{path} cannot be read as HDF5 ({one_line(error, 120)}); {_WANTED}"
        ) from None


def _missing(path: str) -> SurfaceFileError:
    return SurfaceFileError(f"{path}: no such file; wanted a surface, .h5 or .npz. Check the path")


def _axis(arrays: Mapping[str, NDArray[Any]], axis: str, where: str) -> Array:
    """The coordinates along an axis, as they are in the file; zero where a line has no y."""
    name = next((name for name in _AXES[axis] if name in arrays), None)
    if name is None and axis == "y":
        return np.zeros(1)
    if name is None:
        raise SurfaceFileError(f"{where} holds no {_AXES[axis][0]}; {_WANTED}")
    found = arrays[name]
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "fiu":
        raise SurfaceFileError(
            f"{where}: {name} is {found.dtype} {found.shape}; wanted numbers (n,)"
        )
    at = found.astype("f8")
    steps = np.diff(at)
    even = len(at) < 2 or np.abs(steps - steps.mean()).max() <= _UNEVEN * abs(steps.mean())
    if not np.isfinite(at).all() or not even or (len(at) > 1 and steps.mean() == 0):
        raise SurfaceFileError(
            f"{where}: {name} is not evenly spaced; wanted equal steps. Resample the surface"
        )
    return at


def _surface(
    array: NDArray[Any], name: str, axes: tuple[Array, Array], where: str, is_npz: bool
) -> Array:
    """One surface, float64 (y, x), in the order of the file's coordinates.

    The code of Li et al. makes its arrays (x, y) and fills them in the order of a mesh (y, x), so
    that the shape is of no use where the axes have different lengths.
    """
    width, height = (len(axis) for axis in axes)
    fitting = {(height, width), *(() if is_npz else ((width, height),))}
    if height == 1:
        fitting.add((width,))
    if array.shape not in fitting or array.dtype.kind not in "fiu":
        raise SurfaceFileError(
            f"{where}: {name} is {array.dtype} {array.shape} with {width} x and {height} y; wanted "
            f"numbers ({height}, {width})"
        )
    surface = array.astype("f8").reshape(height, width)
    missing = int((surface == _NOT_COMPUTED).sum())
    if missing:
        raise SurfaceFileError(
            f"{where}: {missing:,} of {surface.size:,} points of {name} are −1, not computed yet; "
            "wanted a finished surface. Let its program end"
        )
    return surface


def _in_fractions(surface: Array, name: str, kind: str, where: str) -> NDArray[np.float32]:
    """A loss as it is, an error as a fraction; float32 (y, x). Accuracies are in per cent."""
    if kind in ("loss", "error"):
        return surface.astype("f4")
    finite = surface[np.isfinite(surface)]
    if finite.size and (finite.min() < 0 or finite.max() > 100):
        raise SurfaceFileError(
            f"{where}: {name} reaches from {finite.min():g} to {finite.max():g}; wanted per cent"
        )
    return ((1 - surface / 100) if kind == "acc" else surface / 100).astype("f4")


def _ascending(surface: NDArray[np.float32], x: Array, y: Array) -> NDArray[np.float32]:
    """The surface with the lowest coordinates first."""
    rows = slice(None, None, -1 if y[-1] < y[0] else 1)
    columns = slice(None, None, -1 if x[-1] < x[0] else 1)
    return surface[rows, columns]


def _rank(split: str) -> tuple[bool, str]:
    """`train` comes first, as in a render."""
    return split != "train", split
