"""A scratch table of many weights: written row by row, read some columns at a time.

A small table stays in memory. A large one is a temporary file, which takes as much disk as the
weights in float32, and is deleted in the end.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from pipeline import memory
from pipeline.errors import LossatlasError

COLUMNS = 4096
"""How many columns a block has; the last one has fewer. Results may depend on it."""

# A table up to this size stays in memory; of a larger one so many bytes are read at once.
_MEMORY_BYTES = 256 << 20
# Matrices of n × n, and blocks of n × COLUMNS, in float64, that working with a table takes.
_MATRICES, _BLOCKS = 10, 8


class WeightTableError(LossatlasError):
    """A table of weights does not fit on this machine."""


class WeightTable:
    """Many weights on scratch, float32 (rows, size). To be used in a `with` statement.

    Args:
        rows, size: how many weights at most, and how many values each.

    Raises:
        WeightTableError: the folder for temporary files has no room for it.
        RoomError: working with it would take more memory than is free.
    """

    def __init__(self, rows: int, size: int) -> None:
        self.rows, self.size = rows, size
        memory.require(
            8 * rows * (_MATRICES * rows + _BLOCKS * COLUMNS),
            f"the plane of {rows:,} checkpoints",
            "Name fewer in plane.weights, or use plane.last",
        )
        self._values: NDArray[np.float32] | None = None
        self._file: IO[bytes] | None = None
        bytes_ = 4 * rows * size
        if bytes_ <= _MEMORY_BYTES:
            self._values = np.empty((rows, size), "f4")
            return
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if bytes_ > free:
            raise self._no_room(f"{free / 1e9:,.1f} GB are free")
        self._file = tempfile.TemporaryFile(prefix="lossatlas-", buffering=0)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, row: int, weights: NDArray[np.float32]) -> None:
        """Put `weights` (size,) into a row.

        Raises:
            WeightTableError: the disk is full.
        """
        if self._values is not None:
            self._values[row] = weights
            return
        assert self._file is not None
        left = memoryview(weights.astype("f4", order="C").tobytes())
        self._file.seek(4 * row * self.size)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise self._no_room(str(error.strerror)) from None

    def blocks(self, order: Sequence[int]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Blocks of COLUMNS columns from left to right: which, and their values, float64.

        Args:
            order: the rows that are written, in the order that is wanted.
        """
        rows = list(order)
        at_once = COLUMNS * max(1, _MEMORY_BYTES // (4 * self.rows * COLUMNS))
        for begin in range(0, self.size, at_once):
            part = self._read(begin, min(begin + at_once, self.size))
            for start in range(0, part.shape[1], COLUMNS):
                block = part[rows, start : start + COLUMNS].astype("f8")
                yield slice(begin + start, begin + start + block.shape[1]), block

    def _read(self, begin: int, end: int) -> NDArray[np.float32]:
        if self._values is not None:
            return self._values[:, begin:end]
        assert self._file is not None
        found = np.empty((self.rows, end - begin), "f4")
        for row in range(self.rows):
            self._file.seek(4 * (row * self.size + begin))
            left = memoryview(found[row]).cast("B")
            while left:
                read = self._file.readinto(left)  # type: ignore[attr-defined]
                if not read:
                    raise WeightTableError(
                        f"the temporary file of {self.rows:,} checkpoints is too short; wanted all "
                        "of them. Run the same command again"
                    )
                left = left[read:]
        return found

    def _no_room(self, found: str) -> WeightTableError:
        return WeightTableError(
            f"{self.rows:,} checkpoints do not fit into {tempfile.gettempdir()} ({found}); wanted "
            f"{4 * self.rows * self.size / 1e9:,.1f} GB. Set TMPDIR to a folder with room"
        )
