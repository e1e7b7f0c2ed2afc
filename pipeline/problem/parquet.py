"""Splits that are parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import memory
from pipeline.errors import one_line
from pipeline.problem.forward import Arrays
from pipeline.problem.images import decode_all
from pipeline.problem.split import FEWER, DataError
from pipeline.url import UnreachableError, reached

_TARGET, _INPUT = "target", "input"
_LABELS, _IMAGES = ("label", "y", "fine_label"), ("img", "image")


@dataclass(frozen=True)
class Parquet:
    """The rows of one or several parquet files, in order.

    `columns` are those that a spec names: `target`, and `input` or the arguments of forward; None
    for an image and a label under their usual names.
    """

    where: str
    files: Any
    paths: tuple[str, ...]
    columns: Mapping[str, str] | None = None
    classes: tuple[str, ...] = ()

    @property
    def decoded(self) -> bool:
        return self.columns is None

    def targets(self) -> np.ndarray:
        named = (self.columns or {}).get(_TARGET)
        parts = []
        for path in self.paths:
            with self._open(path) as (where, file):
                name = _column(file, (named,) if named else _LABELS, where)
                _require_room(file, name, range(file.num_row_groups), where)
                column = file.read(columns=[name]).column(0)
                if column.null_count:
                    raise DataError(f"{where}: {name} has empty rows; wanted a label in each")
                values = _numbers(column, f"{where}: {name}")
                if not np.issubdtype(values.dtype, np.number) and values.dtype != np.bool_:
                    raise DataError(
                        f"{where}: {name} is {column.type}; wanted whole numbers (classes) or "
                        "floats. Number the classes"
                    )
                parts.append(values)
        return np.concatenate(parts)

    def inputs(self, rows: np.ndarray) -> Arrays:
        named = {name: column for name, column in (self.columns or {}).items() if name != _TARGET}
        if not named:
            return self._values(_IMAGES, rows)
        if list(named) == [_INPUT]:
            return self._values((named[_INPUT],), rows)
        return {name: self._values((column,), rows) for name, column in named.items()}

    def _values(self, choices: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
        """The values of a column in `rows`: images where its cells are encoded, else numbers."""
        cells: dict[int, Any] = {}
        start = 0
        for path in self.paths:
            with self._open(path) as (where, file):
                name = _column(file, choices, where)
                for group in range(file.num_row_groups):
                    stop = start + file.metadata.row_group(group).num_rows
                    wanted = rows[(rows >= start) & (rows < stop)]
                    if len(wanted):
                        _require_room(file, name, [group], where)
                        column = file.read_row_group(group, columns=[name]).column(0)
                        values = column.take(wanted - start).to_pylist()
                        cells.update(zip(wanted.tolist(), values, strict=True))
                    start = stop
        in_order = [(f"{self.where} row {row}", _cell(cells[row])) for row in rows.tolist()]
        if self.columns is None or isinstance(in_order[0][1], bytes):
            return decode_all(iter(in_order), len(rows))
        return _stacked(in_order, f"{self.where}: {name}")

    @contextmanager
    def _open(self, path: str) -> Iterator[tuple[str, Any]]:
        import pyarrow
        import pyarrow.parquet

        where = path if len(self.paths) > 1 else self.where
        try:
            with reached(self.where), self.files.open(path, "rb") as file:
                try:
                    yield where, pyarrow.parquet.ParquetFile(file)
                except (pyarrow.ArrowException, OSError) as error:
                    # pyarrow raises a plain OSError, without errno, for broken content.
                    if isinstance(error, OSError) and (error.errno or type(error) is not OSError):
                        raise
                    raise DataError(
                        f"{where} is not a whole parquet file ({one_line(error, 200)}); wanted "
                        "one. Copy it again"
                    ) from None
        except UnreachableError:
            raise
        except OSError as error:
            raise DataError(
                f"{where} cannot be read ({error.strerror or one_line(error)}); wanted a readable "
                "file"
            ) from None


def _require_room(file: Any, name: str, groups: Iterable[int], where: str) -> None:
    """See that the memory holds what some row groups of a column declare."""
    declared = 0
    for group in map(file.metadata.row_group, groups):
        columns = [group.column(index) for index in range(group.num_columns)]
        of_name = [c for c in columns if c.path_in_schema.partition(".")[0] == name]
        # Repeated values take little room in the file, and 8 bytes each in memory.
        declared += max(8 * group.num_rows, sum(c.total_uncompressed_size for c in of_name))
    memory.require(declared, f"{where}: {name}", FEWER)


def _column(file: Any, choices: tuple[str, ...], where: str) -> str:
    names = file.schema_arrow.names
    found = next((name for name in choices if name in names), None)
    if found is None:
        raise DataError(
            f"{where} has columns {', '.join(names) or 'none'}; wanted {' or '.join(choices)}. "
            "Rename a column, or name it in data.columns"
        )
    return found


def _numbers(column: Any, what: str) -> np.ndarray:
    """A column as an array: numbers (n,), or lists of one length (n, length)."""
    lists = column.to_pylist() if "list" in str(column.type) else None
    if lists is None:
        values: np.ndarray = column.to_numpy()
        return values
    return _stacked([(f"{what} row {row}", cell) for row, cell in enumerate(lists)], what)


def _stacked(cells: Sequence[tuple[str, Any]], what: str) -> np.ndarray:
    """Numbers, or lists of numbers, as one array.

    Raises:
        DataError: lists of several lengths, or cells that are no numbers.
    """
    first = cells[0][1]
    for where, cell in cells:
        if isinstance(cell, list) and isinstance(first, list) and len(cell) != len(first):
            raise DataError(
                f"{where} has {len(cell)} values and the first has {len(first)}; wanted lists of "
                "one length. Pad them"
            )
    try:
        found = np.array([cell for _, cell in cells])
    except ValueError:  # lists within lists, of several lengths
        found = np.array(None)
    if found.ndim and found.dtype != object and found.dtype.kind not in "US":
        return found
    raise DataError(
        f"{what} holds {type(first).__name__}; wanted encoded images, numbers, or lists of numbers "
        "of one length. Convert the column"
    )


def _cell(cell: Any) -> Any:
    return cell.get("bytes") if isinstance(cell, dict) else cell
