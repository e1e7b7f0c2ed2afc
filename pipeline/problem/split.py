"""One split of a source, as it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from pipeline import memory
from pipeline.errors import LossatlasError
from pipeline.problem.forward import Arrays
from pipeline.url import is_url, reached

FEWER = "Check where the file is from, or give one with fewer examples"


class DataError(LossatlasError):
    """The data cannot be found, read, or give the subsample asked for."""


class Split(Protocol):
    """One split of a source. Labels come first, inputs only once the rows are chosen.

    `classes` are the names of the classes, where the source has names; `decoded` says whether
    the inputs are decoded image files, whose layout is known.
    """

    @property
    def where(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def decoded(self) -> bool: ...

    def targets(self) -> np.ndarray: ...

    def inputs(self, rows: np.ndarray) -> Arrays: ...


def first_few(names: Sequence[str], end: str = "") -> str:
    """The first five names, for example `a, b, c`; each is followed by `end`."""
    return ", ".join([*(f"{name}{end}" for name in names[:5]), *(["…"] if names[5:] else [])])


def read_bytes(files: Any, path: str, where: str) -> bytes:
    try:
        with reached(where):
            if path.endswith(".npz") or not is_url(where):  # of remote images it costs a request
                memory.require(files.size(path) or 0, where, FEWER)
            content: bytes = files.cat_file(path)
    except OSError as error:
        raise DataError(f"{where} cannot be read ({error}); wanted a readable file") from None
    return content
