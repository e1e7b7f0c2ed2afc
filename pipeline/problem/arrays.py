"""Splits that are arrays already: of an .npz file, or what a user's function returns."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import memory
from pipeline.errors import described
from pipeline.problem import usercode
from pipeline.problem.split import FEWER, DataError, Split


@dataclass(frozen=True)
class Arrays:
    """A split whose inputs and targets are arrays."""

    where: str
    x: Callable[[], np.ndarray]
    y: Callable[[], np.ndarray]
    classes: tuple[str, ...] = ()
    decoded: bool = False

    def targets(self) -> np.ndarray:
        return self.y()

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        x, examples = self.x(), len(self.y())
        if x.dtype == object or not x.ndim or len(x) != examples:
            raise DataError(
                f"{self.where} has inputs of {x.dtype} {x.shape} and {examples:,} targets; wanted "
                "a numeric array with as many rows"
            )
        return np.ascontiguousarray(x[rows])


def of_function(make: Callable[..., Any], split: str, source: str) -> Split:
    where = f"{posixpath.basename(source)}({split!r})"
    try:
        result = make(split)
    except Exception as error:
        place = usercode.place(error)
        raise DataError(
            f"{where} raised {described(error)}{f' ({place})' if place else ''}; wanted arrays x, y"
        ) from error
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise DataError(f"{where} returned {type(result).__name__}; wanted two arrays x, y")
    x, y = (_array(each, f"{where}: {name}") for each, name in zip(result, "xy", strict=True))
    return Arrays(where, lambda: x, lambda: y)


def _array(values: Any, what: str) -> np.ndarray:
    """An array from what a user's code returned: an array, a tensor, or lists of numbers."""
    import torch

    if isinstance(values, list | tuple) and any(isinstance(v, torch.Tensor) for v in values):
        values = [_array(v, what) for v in values]
    if isinstance(values, torch.Tensor):
        layout = "nested" if values.is_nested else values.layout
        if values.is_meta:
            raise DataError(f"{what} is a meta tensor, without values; wanted one that has them")
        if layout is not torch.strided or values.is_quantized:
            raise DataError(
                f"{what} is a tensor of {values.dtype}, {layout}; wanted a dense one of plain "
                "numbers. Convert it, as to_dense() does"
            )
        values = values.detach().cpu()
        known = (torch.float16, torch.float32, torch.float64)
        if values.is_floating_point() and values.dtype not in known:  # numpy has no bfloat16
            values = values.float()
    try:
        array = np.asarray(values)
    except Exception as error:  # numpy has no one type for what it cannot convert
        raise DataError(
            f"{what} is no array ({described(error)[:150]}); wanted numbers in rows of one "
            "length. Pad or cut them, and stack tensors with torch.stack"
        ) from None
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DataError(f"{what} has masked values; wanted numbers. Fill them, as by x.filled(0)")
    return array


def of_npz(where: str, content: bytes, split: str, alone: bool) -> Split:
    """The arrays of a split, each read when it is asked for."""
    try:
        archive = np.load(io.BytesIO(content), allow_pickle=False)
        names, infos = list(archive.files), archive.zip.infolist()
    except Exception as error:  # a zip file can be broken in many ways
        raise DataError(
            f"{where} is not a whole .npz file ({described(error)}); wanted one with "
            "arrays x and y. Save it again with numpy.savez"
        ) from None
    choices = [(f"{split}_x", f"{split}_y"), (f"x_{split}", f"y_{split}")]
    choices += [("x", "y")] if alone else []
    pair = next((pair for pair in choices if set(pair) <= set(names)), None)
    if pair is None:
        wanted = " or ".join(", ".join(pair) for pair in choices)
        raise DataError(
            f"{where} holds {', '.join(names) or 'no arrays'}; wanted {wanted} for split {split}. "
            "Rename the arrays"
        )

    def member(name: str) -> np.ndarray:
        declared = {info.filename.removesuffix(".npy"): info.file_size for info in infos}
        memory.require(declared.get(name, 0), f"{where}: {name}", FEWER)
        try:
            array: np.ndarray = archive[name]
        except Exception as error:
            raise DataError(
                f"{where}: {name} cannot be read ({described(error)}); wanted a plain "
                "numeric array. Save it again without objects"
            ) from None
        return array

    x, y = pair
    return Arrays(where, lambda: member(x), lambda: member(y))
