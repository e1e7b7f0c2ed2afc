"""The marks of a store: named sets of weights beside the plane, with their own loss and error.

Where they lie is written when the store is made. Their own quantities are committed block by block,
as tiles are: a task evaluates the marks of a block, writes their values, and writes the block's own
chunk of `mark_done` last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.caption import MARK_WORDS
from pipeline.errors import one_line
from pipeline.geometry.grid import MarkBlock, number_in
from pipeline.store.errors import StoreError
from pipeline.store.metadata import MarkGroup
from pipeline.store.reader import StoreReader
from pipeline.store.store import Store
from pipeline.url import UnreachableError

_GROUPS = TypeAdapter(list[MarkGroup])


class StoredMarks:
    """The marks of one store; none at all in a store without marks.

    Args:
        store: opened; for writing, where marks are committed or withdrawn.
    """

    def __init__(self, store: StoreReader) -> None:
        self._store = store
        self._kept = _GROUPS.validate_python(store.attrs.get("marks", []))
        self.count = sum(group.count for group in self._kept)

    @cached_property
    def groups(self) -> tuple[MarkGroup, ...]:
        """The groups in the order of the spec, which their marks are numbered through.

        They have the words of the last spec that was rendered to this store.
        """
        later = self._store.words.get("marks")
        try:
            pairs = zip(self._kept, later or (), strict=True)
            said = [vars(g) | {name: words[name] for name in MARK_WORDS} for g, words in pairs]
            return tuple(_GROUPS.validate_python(said))
        except (TypeError, KeyError, ValueError):  # a note that somebody else wrote
            return tuple(self._kept)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every mark."""
        return tuple(name for group in self._kept for name in group.names)

    # Finished marks

    def blocks(self) -> Iterator[MarkBlock]:
        """Every block, the lowest marks first."""
        if self.count:
            for start in range(0, self.count, self._size):
                yield MarkBlock(start, min(start + self._size, self.count))

    def committed(self) -> set[MarkBlock]:
        """The finished blocks, by one listing of the commits."""
        return self._listed("mark_done/c/") if self.count else set()

    def pending(self) -> list[MarkBlock]:
        """The blocks without a commit, in order."""
        committed = self.committed()
        return [block for block in self.blocks() if block not in committed]

    def finished(self) -> NDArray[np.bool_]:
        """Which marks are committed, bool (marks,)."""
        done = np.zeros(self.count, dtype=bool)
        for block in self.committed():
            done[block.start : block.stop] = True
        return done

    # Reading

    def places(self, frame: int = 0) -> NDArray[np.float64]:
        """x, y and distance off the plane of a frame, float64 (marks, 3).

        Raises:
            StoreError: they are missing or damaged.
        """
        if not self.count:
            return np.empty((0, 3))
        return self._store.geometry("mark", frame)

    def values(self, quantity: str) -> NDArray[np.float32]:
        """The marks' own values of a quantity, float32 (splits, marks); NaN where not finished.

        Raises:
            StoreError: a chunk of a committed block is missing or damaged.
        """
        if not self.count:
            return np.empty((len(self._store.splits), 0), "f4")
        name, committed = f"mark_{quantity}", self.committed()
        # Zarr reads a missing chunk as NaN.
        lost = committed - self._listed(f"{name}/c/0/")
        try:
            if lost:
                raise StoreError(f"{name}/c/0/{self._number(min(lost))} is missing")
            return np.asarray(self._arrays[name][:], "f4")
        except UnreachableError:
            raise
        except (StoreError, ValueError, RuntimeError, OSError) as error:
            raise StoreError(
                f"{self._store.url}: {name} cannot be read ({one_line(error)}). Run lossatlas "
                "verify, then resume"
            ) from None

    def check(self, block: MarkBlock) -> None:
        """See that all values of a committed block can be read.

        Raises:
            StoreError: a chunk is missing or damaged; the message says which.
        """
        at, commit = slice(block.start, block.stop), f"mark_done/c/{self._number(block)}"
        if not (np.asarray(self._store.read_chunks("mark_done", [commit], (at,))) == 1).all():
            raise StoreError(f"{commit} does not say 1")
        for quantity in self._store.quantities:
            key = f"mark_{quantity}/c/0/{self._number(block)}"
            self._store.read_chunks(f"mark_{quantity}", [key], (slice(None), at))

    # Writing

    def commit(self, block: MarkBlock, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the values of a block of marks, and commit it.

        Args:
            block: one of `blocks`.
            values: quantity → float32 (its splits, marks of the block).
        """
        at = slice(block.start, block.stop)
        for quantity in self._store.quantities:
            splits = self._store.fields.places(quantity)
            self._arrays[f"mark_{quantity}"][splits, at] = values[quantity]
        self._arrays["mark_done"][at] = np.ones(block.stop - block.start, "u1")

    def withdraw(self, block: MarkBlock) -> None:
        """Put a block back to pending: delete its commit first, then its chunks."""
        assert isinstance(self._store, Store)
        number = self._number(block)
        self._store.delete(f"mark_done/c/{number}")
        for quantity in self._store.quantities:
            self._store.delete(f"mark_{quantity}/c/0/{number}")

    # Inside

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        names = ["mark_done", *(f"mark_{quantity}" for quantity in self._store.quantities)]
        with zarr.config.set({"array.write_empty_chunks": True}):
            return {name: self._store.group[name] for name in names}

    @property
    def _size(self) -> int:
        """How many marks a block has."""
        return int(self._arrays["mark_done"].chunks[0])

    def _number(self, block: MarkBlock) -> int:
        return block.start // self._size

    def _listed(self, folder: str) -> set[MarkBlock]:
        """The blocks that have a key in `folder`."""
        blocks, found = list(self.blocks()), set[MarkBlock]()
        for _, names in self._store.listing(folder):
            numbers = (number_in(name, len(blocks)) for name in names)
            found.update(blocks[number] for number in numbers if number is not None)
        return found
