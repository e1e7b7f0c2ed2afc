"""Files of plain numbers: .npy pairs, and token ids. Local ones are read as they are looked at."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import described
from pipeline.problem import tokens
from pipeline.problem.arrays import ArraySplit, reading
from pipeline.problem.split import DataError, read_bytes
from pipeline.problem.tokens import Tokens
from pipeline.url import is_url

# How most code that makes such files writes ids.
DEFAULT_IDS = "uint16"


def of_pair(where: str, files: Any, paths: Sequence[str], split: str) -> ArraySplit:
    """The split of `<split>_x.npy` and `<split>_y.npy`, or of several `<split>_x_<name>.npy`.

    Raises:
        DataError: one of them is missing, or is no whole file.
    """
    stems = {posixpath.basename(path).removesuffix(".npy"): path for path in paths}
    y, x = stems.pop(f"{split}_y", None), stems.pop(f"{split}_x", None)
    several = {stem.removeprefix(f"{split}_x_"): path for stem, path in stems.items()}
    if y is None or (x is None) == (not several):
        held = ", ".join(sorted(posixpath.basename(path) for path in paths))
        raise DataError(
            f"{where} has {held} for split {split}; wanted {split}_y.npy, and either {split}_x.npy "
            f"or {split}_x_<name>.npy for each input. Add or rename files"
        )
    inputs: str | Mapping[str, str] = several if x is None else x

    def read(path: str) -> np.ndarray:
        return _array(files, path, f"{where.rstrip('/')}/{posixpath.basename(path)}")

    return ArraySplit(where, reading(inputs, read), lambda: read(y))


def of_tokens(where: str, files: Any, path: str, length: int | None, ids: str | None) -> Tokens:
    """The split of a file of token ids.

    Args:
        where: the file, for messages.
        files, path: where it is read from.
        length: of a window: `data.sequence`.
        ids: their type, uint16 or uint32: `data.dtype`.

    Raises:
        DataError: no length is given, or the file is not one of such ids.
    """
    if length is None:
        raise DataError(
            f"data.source {where} is a file of token ids; wanted data.sequence, the length of a "
            "window. Add it"
        )
    dtype = np.dtype(ids or DEFAULT_IDS)
    try:
        found = (
            np.frombuffer(read_bytes(files, path, where), dtype)
            if is_url(where)
            else np.memmap(path, dtype, mode="r")
        )
    except (ValueError, OSError) as error:
        raise DataError(
            f"{where} is no file of {dtype} token ids ({described(error)}); wanted "
            f"{dtype.itemsize} bytes a token. Check data.dtype"
        ) from None
    return tokens.of_file(where, found, length)


def _array(files: Any, path: str, where: str) -> np.ndarray:
    try:
        if is_url(where):
            content = io.BytesIO(read_bytes(files, path, where))
            array: np.ndarray = np.load(content, allow_pickle=False)
        else:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{where} is not a whole .npy file ({described(error)}); wanted a plain numeric array. "
            "Save it again with numpy.save"
        ) from None
    return array
