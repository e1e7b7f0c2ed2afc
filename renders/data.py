"""The numbers of a run as files of other programs: netCDF, NumPy, HDF5 and VTK."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline import memory
from pipeline.errors import LossatlasError
from pipeline.store.reader import StoreReader
from renders.files import vtp
from renders.files.whole import checked_place, whole_file
from renders.source.dataset import open_run
from renders.source.surface import Surface, opened, read_surface

_SUFFIXES = (".nc", ".npz", ".h5", ".vtp")
_CURE = "Use a machine with more memory"

Surfaces = Mapping[tuple[str, str], Surface]


class DataFileError(LossatlasError):
    """The numbers cannot be written as asked."""


@dataclass(frozen=True)
class DataFacts:
    """What was written. `share` is what is computed of it."""

    path: str
    quantities: tuple[str, ...]
    splits: tuple[str, ...]
    frames: int
    width: int
    height: int
    bytes: int
    share: float
    seconds: float


def export_data(
    run: str,
    out: str | Path,
    *,
    quantity: str = "loss",
    split: str | None = None,
    frame: int | None = None,
) -> DataFacts:
    """Write the numbers of a run to a file of the kind that its suffix says.

    `.nc` is the whole run as netCDF; the others hold one frame. `.npz` has x, y, finished, and each
    quantity as `<split>_<quantity>` (y, x). `.h5` is what the code of Li et al. writes. `.vtp` is a
    surface for ParaView, as high as `quantity`, with all quantities at its points.

    Args:
        run: the store, a folder or a URL.
        out: the file.
        quantity, split: the height of a `.vtp`; None is the first split.
        frame: which; None is the first.

    Raises:
        DataFileError: another suffix, or an option that its kind does not have.
        LossatlasError: no such store, quantity, split or frame, or it cannot be written.
    """
    began, path = time.perf_counter(), Path(out)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataFileError(f"{path.name}: wanted one of {', '.join(_SUFFIXES)}")
    if suffix == ".nc" and frame is not None:
        raise DataFileError("--frame is given with .nc, which holds all frames; leave it out")
    if suffix != ".vtp" and (quantity != "loss" or split is not None):
        raise DataFileError(
            f"--quantity or --split is given with {suffix}, which holds all; leave it out"
        )
    store = opened(run)
    checked_place(path, DataFileError)
    if suffix == ".nc":
        share, frames = _write_netcdf(store, run, path), store.frames
    else:
        share, frames = _write_frame(store, path, suffix, frame or 0, (quantity, split)), 1
    return DataFacts(
        str(path),
        store.quantities,
        store.splits,
        frames,
        store.width,
        store.height,
        path.stat().st_size,
        share,
        time.perf_counter() - began,
    )


def _write_netcdf(store: StoreReader, run: str, path: Path) -> float:
    fields = len(store.quantities) * len(store.splits) * store.frames
    memory.require(4 * fields * store.width * store.height, run, _CURE)
    found = open_run(run)
    with warnings.catch_warnings(), whole_file(path, DataFileError) as partial:
        warnings.filterwarnings("ignore", message=".*netCDF.*")
        found.to_netcdf(partial, engine="scipy", format="NETCDF3_64BIT")
    return float(found.finished.mean())


def _write_frame(
    store: StoreReader, path: Path, suffix: str, frame: int, high: tuple[str, str | None]
) -> float:
    fields = len(store.quantities) * len(store.splits)
    memory.require(8 * fields * store.width * store.height, store.url, _CURE)
    first = read_surface(store, high[0], high[1], frame)  # names what it does not have
    surfaces = {
        (split, quantity): read_surface(store, quantity, split, frame)
        for split in store.splits
        for quantity in store.quantities
        if split in store.fields.splits_of(quantity)
    }
    with whole_file(path, DataFileError) as partial:
        match suffix:
            case ".npz":
                _write_npz(partial, surfaces, first)
            case ".h5":
                _write_h5(partial, surfaces, first)
            case _:
                named = {f"{s} {q}": _known(surface) for (s, q), surface in surfaces.items()}
                vtp.write(partial, *_axes(first), _known(first), named)
    return float(first.finished.mean())


def _write_npz(path: Path, surfaces: Surfaces, first: Surface) -> None:
    x, y = _axes(first)
    arrays = {f"{split}_{quantity}": _known(s) for (split, quantity), s in surfaces.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, x=x, y=y, finished=first.finished, **arrays)  # type: ignore[arg-type]


def _write_h5(path: Path, surfaces: Surfaces, first: Surface) -> None:
    """As plot_surface.py of Li et al.: accuracies in per cent, −1 where nothing is computed."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise DataFileError(
            "an .h5 file is written with h5py, which is not installed; wanted it. Install it with "
            "pip install 'lossatlas[peers]', or write .npz or .nc"
        ) from None
    x, y = _axes(first)
    # `path` is locked already, so HDF5 cannot lock it.
    with h5py.File(path, "w", locking=False) as file:
        file["xcoordinates"] = x
        if len(y) > 1:
            file["ycoordinates"] = y
        for (split, quantity), surface in surfaces.items():
            values = surface.values.astype("f8")
            if quantity == "error":
                quantity, values = "acc", 100 * (1 - values)
            values = np.where(surface.finished, values, -1.0)
            file[f"{split}_{quantity}"] = values if len(y) > 1 else values[0]


def _axes(surface: Surface) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return surface.data["x"].values, surface.data["y"].values


def _known(surface: Surface) -> npt.NDArray[np.float32]:
    """The values, NaN where nothing is computed."""
    return np.where(surface.finished, surface.values, np.float32("nan"))
