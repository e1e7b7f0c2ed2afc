"""Writing a store: making it, and the protocol that makes tiles final.

A tile is written whole by one task and then committed, so tasks share no file, need no lock and
may run twice. A crash before the commit leaves the tile pending; a crash after it loses nothing.
A chunk's presence is not the commit: the commit is the tile's own chunk of `done`, written last.

The group holds Zarr v3 arrays only. Consolidated metadata describes them and changes only when
frames are added to a film (`pipeline.store.growth`). Everything else that changes (lease,
quarantine, facts about workers) is in small JSON notes under `.lossatlas/`, which
`xarray.open_zarr` does not see.
"""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import ValidationError
from zarr.core.buffer import cpu
from zarr.core.sync import sync
from zarr.errors import ContainsArrayError

from pipeline import caption
from pipeline.errors import described, one_line
from pipeline.geometry.grid import Grid, Tile
from pipeline.geometry.plane import FrameFacts
from pipeline.store import atomic, keys, metadata, notes
from pipeline.store.errors import StoreError, TakenError
from pipeline.store.fields import Fields
from pipeline.store.layout import (
    create_arrays,
    create_coordinates,
    create_mark_arrays,
    create_refined_arrays,
)
from pipeline.store.metadata import FORMAT, damaged
from pipeline.store.reader import NOTES, WORDS, Predictions, StoreReader
from pipeline.url import UnreachableError, is_url


class Store(StoreReader):
    """One render's arrays, opened for committing tiles, or only for reading."""

    @classmethod
    def create(
        cls,
        url: str,
        grid: Grid,
        splits: Sequence[str],
        quantities: Sequence[str],
        frames: Sequence[FrameFacts],
        facts: Mapping[str, Any],
        refined: bool = False,
    ) -> Self:
        """Create an empty store. The write that completes its metadata is the last one.

        Args:
            url: a local path or a URL at which there is nothing yet; the remains of an
                interrupted creation are replaced.
            grid: points and tiles of all frames.
            splits: names of the data splits, the calibrating one first.
            quantities: names of the arrays, among loss, error and loss_stderr.
            frames: one for each frame of the grid; all have the same number of marks, if any.
            facts: JSON attributes: spec, fingerprint, plane, versions and so on; `marks` says
                what the marks of the frames are (`pipeline.store.marks`).
            refined: whether some points will be predicted (`pipeline.refinement.records`).

        Raises:
            TakenError: something is at `url`, or another process made something there meanwhile.
            StoreError: `url` cannot be written.
            UnreachableError: a remote store does not answer.
        """
        if metadata.kind_at(url) in ("store", "other"):
            raise TakenError(f"{url} exists and is not empty; wanted a new path for this render")
        taken = TakenError(
            f"{url} is being created by another render at this moment; wanted a new path for this "
            "render. Wait a moment, or change store in the spec"
        )
        attributes = {
            **facts,
            "creation": secrets.token_hex(8),
            "splits": list(splits),
            "quantities": list(quantities),
            "refined": refined,
            "grid": asdict(grid),
            "anchors": [anchor.name for anchor in frames[0].anchors],
        }
        try:
            with atomic.atomic_create(url) as place:
                _fill(place, attributes, grid, frames)
        except (atomic.TakenByOther, ContainsArrayError):
            raise taken from None
        except UnreachableError:
            raise
        except OSError as error:
            raise StoreError(
                f"{url} cannot be written ({error.strerror or error}); wanted a place with room "
                "and write permission. Change store in the spec"
            ) from None
        try:
            made = cls.open(url, writable=True)
        except StoreError:  # arrays of another creator are among ours
            raise taken from None
        if made.attrs["creation"] != attributes["creation"]:
            raise taken
        return made

    @classmethod
    def open(cls, url: str, writable: bool = False) -> Self:
        """Open an existing store.

        Raises:
            StoreError: there is no lossatlas store at `url`, its metadata is damaged, or it is
                opened for writing and parts of it are links.
            NamingError: the name of a split, a frame or the like is not allowed.
            UnreachableError: a remote store does not answer.
        """
        match metadata.kind_at(url):
            case "nothing":
                raise StoreError(f"{url}: no such store; wanted the path of a render's .zarr")
            case "other":
                raise StoreError(f"{url} is not a render's store; wanted the path of a .zarr")
            case "unfinished":
                raise StoreError(
                    f"{url} was never completely created; render its spec again to replace it"
                )
        try:
            if writable:
                metadata.refuse_links(url)
            with zarr.config.set({"array.write_empty_chunks": True}):
                group = keys.open_group(url, "r+" if writable else "r", use_consolidated=True)
        except UnreachableError:
            raise
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"{url} cannot be opened: {one_line(error)}") from None
        try:
            store = cls(group, url)
            metadata.SHAPE.validate_python(store.attrs)
            metadata.require_arrays(group, store.grid, store.attrs)
        except ValidationError as error:
            wrong = error.errors()[0]
            what = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
            raise damaged(url, what) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise damaged(url, described(error)) from None
        return store

    @staticmethod
    def exists(url: str) -> bool:
        """Whether a completely created store is at `url`."""
        return metadata.kind_at(url) == "store"

    # Tiles

    def commit(
        self,
        tile: Tile,
        values: Mapping[str, NDArray[np.float32]],
        seconds: float,
        worker: int,
        predictions: Predictions | None = None,
    ) -> None:
        """Write the values of one tile and commit it.

        Args:
            tile: which one.
            values: quantity → float32 (its splits, height, width).
            seconds: how long its evaluation took.
            worker: the id of the worker that evaluated it.
            predictions: which of its points are predicted, in a refined render.
        """
        rows, columns = self.grid.window(tile)
        if predictions is not None:
            self._array("level")[tile.frame, rows, columns] = predictions.level
            self._array("predicted_error")[:, :, tile.frame, rows, columns] = predictions.error
        for quantity in self.quantities:
            splits = self.fields.places(quantity)
            self._array(quantity)[splits, tile.frame, rows, columns] = values[quantity]
        place = (tile.frame, tile.row, tile.column)
        self._array("seconds")[place] = seconds
        self._array("worker")[place] = worker
        self._array("done")[place] = 1

    def withdraw(self, tile: Tile) -> None:
        """Put a tile back to pending: delete its commit first, then its chunks."""
        place = f"{tile.frame}/{tile.row}/{tile.column}"
        self.delete(f"done/c/{place}")
        for name in ("seconds", "worker"):
            self.delete(f"{name}/c/{place}")
        for quantity in self.quantities:
            for split in range(len(self.splits)):
                self.delete(f"{quantity}/c/{split}/{place}")
        if self.refined:
            self.delete(f"level/c/{place}")
            self.delete(f"predicted_error/c/0/0/{place}")

    # Notes and keys

    def rename(self, words: Mapping[str, Any]) -> None:
        """Change what things are called; see `words`."""
        if words != self.words:
            self.write_note(WORDS, words)
            self.__dict__.pop("words", None)

    def write_note(self, name: str, content: Mapping[str, Any]) -> None:
        data = cpu.Buffer.from_bytes(notes.to_bytes(content))
        sync(self.group.store.set(self.note_key(name), data))

    def delete_note(self, name: str) -> None:
        self.delete(f"{NOTES}/{name}")

    def delete(self, key: str) -> None:
        sync(self.group.store.delete(self._key(key)))

    # The whole store

    def sweep(self) -> int:
        """Delete the half-written files of killed writers; returns their number.

        Only for the holder of the lease: the temporary file of a living writer looks the same.
        """
        root = Path(self.url)
        if not root.is_dir():
            return 0
        stale = [path for path in root.rglob("*.partial") if not path.is_dir()]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def remove(self) -> None:
        """Delete the store with everything in it."""
        if is_url(self.url):
            sync(self.group.store.clear())
        else:
            shutil.rmtree(os.path.realpath(self.url))


def _fill(
    place: str, attributes: Mapping[str, Any], grid: Grid, frames: Sequence[FrameFacts]
) -> None:
    """Write an empty store to `place`.

    Raises:
        atomic.TakenByOther: another creator began to write there.
    """
    splits, quantities = attributes["splits"], attributes["quantities"]
    unfinished = {"lossatlas": "creating", "creation": attributes["creation"]}
    with zarr.config.set({"array.write_empty_chunks": True}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*onsolidated metadata.*")
        group = keys.open_group(place, "w", attributes=unfinished)
        unit = caption.words(attributes)["unit"]
        create_arrays(group, grid, splits, quantities, unit)
        if frames[0].marks is not None:
            marks = len(frames[0].marks)
            create_mark_arrays(group, grid, len(splits), quantities, marks, unit)
        if attributes["refined"]:
            fields = len(Fields(attributes).pairs)
            create_refined_arrays(group, grid, splits, quantities, fields)
        calibrate = attributes.get("parts", {}).get("evaluate.calibrate")
        create_coordinates(group, grid, splits, frames, calibrate)
        arrays = set(group.array_keys())
        if dict(keys.open_group(place, "r", use_consolidated=False).attrs) != unfinished:
            raise atomic.TakenByOther
        group.attrs.put({**attributes, **unfinished})
        group = zarr.consolidate_metadata(group.store)
        if set(group.array_keys()) != arrays:
            raise atomic.TakenByOther
        try:
            metadata.require_arrays(group, grid, attributes)
        except ValueError:  # the arrays of another creator, with other tiles
            raise atomic.TakenByOther from None
        # The last write, which includes the consolidated metadata, marks the store as complete.
        group.attrs["lossatlas"] = FORMAT
