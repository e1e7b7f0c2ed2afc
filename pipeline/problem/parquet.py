"""Splits that are parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import memory
from pipeline.errors import one_line
from pipeline.problem.images import decode_all
from pipeline.problem.split import FEWER, DataError
from pipeline.url import UnreachableError, reached


@dataclass(frozen=True)
class Parquet:
    """The rows of one or several parquet files, in order."""

    where: str
    files: Any
    paths: tuple[str, ...]
    classes: tuple[str, ...] = ()
    decoded: bool = True

    def targets(self) -> np.ndarray:
        parts = []
        for path in self.paths:
            with self._open(path) as (where, file):
                name = _column(file, ("label", "y", "fine_label"), where)
                _require_room(file, name, range(file.num_row_groups), where)
                column = file.read(columns=[name]).column(0)
                if column.null_count:
                    raise DataError(f"{where}: {name} has empty rows; wanted a label in each")
                values = column.to_numpy()
                if not np.issubdtype(values.dtype, np.number):
                    raise DataError(
                        f"{where}: {name} is {column.type}; wanted whole numbers (classes) or "
                        "floats. Number the classes"
                    )
                parts.append(values)
        return np.concatenate(parts)

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        cells: dict[int, Any] = {}
        start = 0
        for path in self.paths:
            with self._open(path) as (where, file):
                name = _column(file, ("img", "image"), where)
                for group in range(file.num_row_groups):
                    stop = start + file.metadata.row_group(group).num_rows
                    wanted = rows[(rows >= start) & (rows < stop)]
                    if len(wanted):
                        _require_room(file, name, [group], where)
                        column = file.read_row_group(group, columns=[name]).column(0)
                        values = column.take(wanted - start).to_pylist()
                        cells.update(zip(wanted.tolist(), values, strict=True))
                    start = stop
        encoded = ((f"{self.where} row {row}", _cell(cells[row])) for row in rows.tolist())
        return decode_all(encoded, len(rows))

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
            "Rename a column"
        )
    return found


def _cell(cell: Any) -> Any:
    return cell.get("bytes") if isinstance(cell, dict) else cell
