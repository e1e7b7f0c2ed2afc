"""Splits that are arrays already: of .npz and .npy files, or what a user's function returns."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline import memory
from pipeline.errors import described
from pipeline.problem import usercode
from pipeline.problem.forward import Arrays
from pipeline.problem.split import FEWER, DataError, Split

Read = Callable[[], np.ndarray]


@dataclass(frozen=True)
class ArraySplit:
    """A split whose inputs and targets are arrays.

    `x` reads the inputs: one array, several in the order of forward's parameters, or several by
    their names.
    """

    where: str
    x: Read | tuple[Read, ...] | Mapping[str, Read]
    y: Read
    classes: tuple[str, ...] = ()
    decoded: bool = False

    def targets(self) -> np.ndarray:
        return self.y()

    def inputs(self, rows: np.ndarray) -> Arrays:
        examples = len(self.y())

        def chosen(read: Read, what: str) -> np.ndarray:
            x = read()
            if x.dtype == object or not x.ndim or len(x) != examples:
                raise DataError(
                    f"{self.where} has {what} of {x.dtype} {x.shape} and {examples:,} targets; "
                    "wanted a numeric array with as many rows"
                )
            return np.ascontiguousarray(x[rows])

        match self.x:
            case Mapping():
                return {name: chosen(read, f"inputs {name}") for name, read in self.x.items()}
            case tuple():
                return tuple(chosen(x, f"inputs {place}") for place, x in enumerate(self.x))
        return chosen(self.x, "inputs")


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
    given, y = result[0], _array(result[1], f"{where}: y")
    x: Read | tuple[Read, ...] | Mapping[str, Read]
    if isinstance(given, Mapping):
        x = {str(name): _read(each, f"{where}: x[{name!r}]") for name, each in given.items()}
        if not x:
            raise DataError(f"{where} returned no inputs; wanted at least one array in x")
    elif _is_several(given, y):
        x = tuple(_read(each, f"{where}: x[{place}]") for place, each in enumerate(given))
    else:
        x = _read(given, f"{where}: x")
    return ArraySplit(where, x, lambda: y)


def _read(values: Any, what: str) -> Read:
    array = _array(values, what)
    return lambda: array


def _is_several(x: Any, y: np.ndarray) -> bool:
    """Whether a tuple holds several inputs with a row an example, rather than the rows of one."""
    if not isinstance(x, tuple) or not y.ndim or len(x) == len(y):
        return False
    return all(hasattr(each, "shape") and len(each.shape) and len(each) == len(y) for each in x)


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
    x, y = _names(names, split, alone, where)

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

    return ArraySplit(where, reading(x, member), lambda: member(y))


def reading(
    x: str | Mapping[str, str], read: Callable[[str], np.ndarray]
) -> Read | Mapping[str, Read]:
    """What reads the inputs: the array called `x`, or several, argument of forward → its name."""
    if isinstance(x, str):
        return partial(read, x)
    return {argument: partial(read, name) for argument, name in x.items()}


def _names(
    names: Sequence[str], split: str, alone: bool, where: str
) -> tuple[str | Mapping[str, str], str]:
    """The names of a split's inputs and targets in an archive.

    Raises:
        DataError: there are none.
    """
    choices = [(f"{split}_x", f"{split}_y"), (f"x_{split}", f"y_{split}")]
    choices += [("x", "y")] if alone else []
    for x, y in choices:
        if {x, y} <= set(names):
            return x, y
    for x, y in choices:
        several = {n.removeprefix(f"{x}_"): n for n in names if n.startswith(f"{x}_")}
        if several and y in names:
            return several, y
    wanted = " or ".join(", ".join(pair) for pair in choices)
    x, y = choices[-1]
    raise DataError(
        f"{where} holds {', '.join(names) or 'no arrays'}; wanted {wanted} for split {split}; of "
        f"several inputs {x}_<name>, {y}. Rename the arrays"
    )
