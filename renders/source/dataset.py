"""A run as one labelled dataset whose values are read when they are looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from pipeline.store.reader import StoreReader
from renders.source.surface import is_preview, opened


class Frames(BackendArray):
    """Frames of a store as an array that xarray reads when it must, a frame at a time.

    The store reads them, so that a damaged chunk is named, and a render whose refinement is under
    way is shown as far as it has come.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: str,
        read: Callable[..., np.typing.NDArray[Any]],
    ) -> None:
        """`read` takes an index a leading axis, and gives the array (height, width) there."""
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._read = read

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.typing.NDArray[Any]:
        basic = indexing.IndexingSupport.BASIC
        return np.asarray(indexing.explicit_indexing_adapter(key, self.shape, basic, self._at))

    def _at(self, key: tuple[int | slice, ...]) -> np.typing.NDArray[Any]:
        return self._stacked(key[:-2], key[-2:], ())

    def _stacked(
        self,
        leading: tuple[int | slice, ...],
        window: tuple[int | slice, ...],
        at: tuple[int, ...],
    ) -> np.typing.NDArray[Any]:
        if not leading:
            return np.asarray(self._read(*at)[window])
        first, rest = leading[0], leading[1:]
        if not isinstance(first, slice):
            return self._stacked(rest, window, (*at, int(first)))
        chosen = range(*first.indices(self.shape[len(at)]))
        return np.stack([self._stacked(rest, window, (*at, k)) for k in chosen])


def open_run(run: str) -> xr.Dataset:
    """A run, finished or not, as one dataset; nothing is read but its labels.

    Args:
        run: the store, a folder or a URL.

    Returns:
        One variable a quantity, float32 (split, frame, y, x), with units; NaN and inf are results.
        Quantities of curvature are of one split, and NaN in the others.
        The coordinate `finished`, bool (frame, y, x), says where a value is computed, or predicted
        for good while a refinement is under way. `x` and `y` are the plane's where all frames have
        one extent, else fractions of each frame's `extent` (frame, bound). `anchor` and `curve` lie
        in the plane. Where the run has marks, `mark` (frame, mark_index, component) says where they
        lie, `mark_loss` and the like (split, mark_index) are of their own weights, and `mark_done`
        says which are computed. The attributes are the store's; what is nested is JSON, which
        netCDF can hold.

    Raises:
        LossatlasError: there is no store, or it cannot be read.
    """
    store = opened(run)
    found = xr.open_zarr(store.group.store, group=store.group.path or None, chunks=None)
    variables = {
        name: (("split", "frame", "y", "x"), _lazy(_values(store, name)), found[name].attrs)
        for name in store.quantities
    }
    shape = store.frames, store.height, store.width
    finished = xr.Variable(
        ("frame", "y", "x"),
        _lazy(Frames(shape, "bool", store.finished)),
        {"long_name": "whether the value is computed"},
    )
    other = set(found.data_vars) - {"anchor", "curve", "extent"}
    other -= {str(name) for name in found.data_vars if "mark_index" in found[name].dims}
    labelled: xr.Dataset = found.drop_vars(other).assign(variables).assign_coords(finished=finished)
    attrs = {str(name): _plain(value) for name, value in found.attrs.items() if value is not None}
    labelled = labelled.assign_coords(split=[str(name) for name in store.splits])
    labelled["split"].attrs = found["split"].attrs
    labelled.attrs = attrs | {"preview": int(is_preview(store))}
    return labelled


def _plain(value: Any) -> str | int | float:
    """An attribute as netCDF can hold it: text or a number."""
    if isinstance(value, (str, int, float)):
        return int(value) if isinstance(value, bool) else value
    return json.dumps(value, ensure_ascii=False)


def _values(store: StoreReader, quantity: str) -> Frames:
    shape = len(store.splits), store.frames, store.height, store.width
    own = store.fields.splits_of(quantity)

    def read(split: int, frame: int) -> np.typing.NDArray[Any]:
        if store.splits[split] not in own:
            return np.full(shape[2:], np.nan, dtype=np.float32)
        return store.read(quantity, store.splits[split], frame)

    return Frames(shape, "float32", read)


def _lazy(frames: Frames) -> Any:
    untyped: Any = indexing
    lazy = untyped.CopyOnWriteArray(untyped.LazilyIndexedArray(frames))
    return untyped.MemoryCachedArray(lazy)
