"""Splits that are files of token ids: a model predicts the next token at each place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.problem.split import DataError


@dataclass(frozen=True)
class Tokens:
    """Windows of a text, one after the other.

    Attributes:
        where: the file, for messages.
        ids: of all tokens, whole numbers (tokens,); it may be a file that is read when looked at.
        length: of a window.
    """

    where: str
    ids: np.ndarray
    length: int
    classes: tuple[str, ...] = ()
    decoded: bool = True

    def targets(self) -> np.ndarray:
        """The token after each of a window's: (windows, length)."""
        return self._windows(1)

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        chosen: np.ndarray = self._windows(0)[rows]
        return chosen.astype(np.int64)

    def _windows(self, shift: int) -> np.ndarray:
        count = (len(self.ids) - 1) // self.length
        found: np.ndarray = self.ids[shift : shift + count * self.length]
        windows: np.ndarray = found.reshape(count, self.length)
        return windows


def of_file(where: str, ids: np.ndarray, length: int) -> Tokens:
    """The windows of `ids` (tokens,), each `length` tokens long.

    Raises:
        DataError: there are fewer tokens than one window needs.
    """
    if len(ids) <= length:
        raise DataError(
            f"{where} holds {len(ids):,} tokens and data.sequence is {length:,}; wanted more than "
            "one window. Lower data.sequence"
        )
    return Tokens(where, ids, length)
