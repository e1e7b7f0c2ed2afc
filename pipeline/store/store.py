"""The store: where finished tiles live, and the protocol that makes them final.

A tile is written whole by one task and then committed, so tasks share no file, need no lock and
may run twice. A crash before the commit leaves the tile pending; a crash after it loses nothing.
A chunk's presence is not the commit: the commit is the tile's own chunk of `done`, written last.

The group holds Zarr v3 arrays only, described once by consolidated metadata that changes only when
frames are added to a film (`pipeline.store.growth`); what else changes (lease, quarantine, worker
facts) lives as small JSON objects under `.lossatlas/`, out of the way of `xarray.open_zarr`.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.sync import sync
from zarr.errors import ContainsArrayError

from pipeline import caption, memory, naming
from pipeline.errors import LossatlasError, described, one_line
from pipeline.geometry.grid import Extent, Grid, Tile
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store import atomic
from pipeline.store import keys as remote
from pipeline.store.layout import create_arrays, create_coordinates, create_refined_arrays
from pipeline.url import UnreachableError, is_url

FORMAT = 1
_NOTES = ".lossatlas"
_WORDS = "words.json"
_FOLDER_TILES = 250  # below, a listing of its own costs more than it saves
_MORE_MEMORY = "Use a machine with more memory"

T = TypeVar("T")


class StoreError(LossatlasError):
    """The store is missing, is something else, or holds damaged chunks."""


class TakenError(StoreError):
    """Something is where a new store was to be."""


@dataclass(frozen=True)
class _Shape:
    """Of what a store says of itself, as far as it says it."""

    splits: list[str]
    quantities: list[str]
    anchors: list[str]
    grid: dict[str, Annotated[int, Field(strict=True, gt=0)]]
    spec: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    plane: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    code: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    created: str = ""


_SHAPE = TypeAdapter(_Shape)


@dataclass(frozen=True)
class Predictions:
    """Which points of a tile are predicted.

    Attributes:
        level: the pass that evaluated each point, −1 for none: int16 (height, width).
        error: to expect, in each quantity's unit: float32 (quantity, split, height, width).
    """

    level: NDArray[np.int16]
    error: NDArray[np.float32]


class Store:
    """One render's arrays, opened for reading or for committing tiles."""

    def __init__(self, group: zarr.Group, url: str) -> None:
        self.url = url
        self.group = group
        attributes: dict[str, Any] = dict(group.attrs)
        if attributes.get("lossatlas") != FORMAT:
            raise StoreError(
                f"{url} is a Zarr group without lossatlas format {FORMAT}; wanted the store of a "
                "render. Check the path"
            )
        self.attrs = attributes
        self.splits: tuple[str, ...] = tuple(attributes["splits"])
        self.quantities: tuple[str, ...] = tuple(attributes["quantities"])
        self._check_names()
        self.refined = bool(attributes.get("refined"))
        self.grid = Grid(**attributes["grid"])

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
        """Make an empty store; its metadata is complete only when everything else is in place.

        Args:
            url: a local path or a URL that does not exist yet (a creation that was cut short
                is replaced).
            grid: all frames' points and tiles.
            splits: names of the data splits, the calibrating one first.
            quantities: names of the arrays, among loss, error and loss_stderr.
            frames: one a frame of the grid.
            facts: JSON attributes: spec, fingerprint, plane, versions and so on.
            refined: whether some points will be predicted (`pipeline.refinement.records`).

        Raises:
            TakenError: something is already there, or has come to be there meanwhile.
            StoreError: the place cannot be written.
            UnreachableError: a remote place does not answer.
        """
        if _kind(url) in ("store", "other"):
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
            with atomic.beside(url) as place:
                _fill(place, attributes, grid, frames)
        except (atomic.Taken, ContainsArrayError):
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
        except StoreError:  # somebody else's arrays are in between
            raise taken from None
        if made.attrs["creation"] != attributes["creation"]:
            raise taken
        return made

    @classmethod
    def open(cls, url: str, writable: bool = False) -> Self:
        """Open an existing store.

        Raises:
            StoreError: there is no store at `url`, it is no lossatlas store, or it is to be
                written and parts of it are links to somewhere else.
            NamingError: a split, a frame or the like has no proper name.
            UnreachableError: a remote place does not answer.
        """
        match _kind(url):
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
                _refuse_links(url)
            with zarr.config.set({"array.write_empty_chunks": True}):
                group = remote.open_group(url, "r+" if writable else "r", use_consolidated=True)
        except UnreachableError:
            raise
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"{url} cannot be opened: {one_line(error)}") from None
        try:
            store = cls(group, url)
            _SHAPE.validate_python(store.attrs)
            _require_arrays(group, store.grid, store.attrs)
        except ValidationError as error:
            wrong = error.errors()[0]
            what = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
            raise _damaged(url, what) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(url, described(error)) from None
        return store

    def require(self, *names: str) -> None:
        """See that the store says of itself what is called by these names.

        Raises:
            StoreError: it lacks one.
        """
        for name in names:
            if name not in self.attrs:
                raise _damaged(self.url, f"no {name}")

    @staticmethod
    def exists(url: str) -> bool:
        """Whether a completely created store is at `url`."""
        return _kind(url) == "store"

    @property
    def frames(self) -> int:
        return self.grid.frames

    @property
    def height(self) -> int:
        return self.grid.height

    @property
    def width(self) -> int:
        return self.grid.width

    # What is finished

    def commit(
        self,
        tile: Tile,
        values: Mapping[str, NDArray[np.float32]],
        seconds: float,
        worker: int,
        predictions: Predictions | None = None,
    ) -> None:
        """Write one tile's values, float32 (split, height, width) a quantity, and commit it."""
        rows, columns = self.grid.window(tile)
        if predictions is not None:
            self._array("level")[tile.frame, rows, columns] = predictions.level
            self._array("predicted_error")[:, :, tile.frame, rows, columns] = predictions.error
        for quantity in self.quantities:
            self._array(quantity)[:, tile.frame, rows, columns] = values[quantity]
        place = (tile.frame, tile.row, tile.column)
        self._array("seconds")[place] = seconds
        self._array("worker")[place] = worker
        self._array("done")[place] = 1

    def committed(self) -> set[Tile]:
        """The finished tiles, by one listing of the commits."""
        return self._tiles_in("done/c/", self._folders("done/c/"))

    def pending(self) -> list[Tile]:
        """The tiles without a commit, in the grid's order."""
        committed = self.committed()
        return [tile for tile in self.grid.tiles() if tile not in committed]

    def finished(self, frame: int) -> NDArray[np.bool_]:
        """Which points of `frame` are in a committed tile, bool (height, width)."""
        return self._mask(tile for tile in self.committed() if tile.frame == frame)

    def finished_frames(self) -> dict[int, NDArray[np.bool_]]:
        """The same of every frame that has any such point, by one listing."""
        frames: defaultdict[int, list[Tile]] = defaultdict(list)
        for tile in self.committed():
            frames[tile.frame].append(tile)
        return {frame: self._mask(tiles) for frame, tiles in frames.items()}

    def absent(
        self, quantity: str, tiles: Collection[Tile], splits: Sequence[str] | None = None
    ) -> list[Tile]:
        """Which of these committed tiles lack a chunk of a quantity, sorted; by one listing.

        Zarr reads a chunk that is gone as NaN. Of one frame's tiles that frame alone is listed.

        Args:
            quantity: which.
            tiles: committed before the listing, so that they had their chunks.
            splits: the ones to look at; None for all.
        """
        frames = {tile.frame for tile in tiles}
        inside = f"{frames.pop()}/" if len(frames) == 1 else ""
        absent: set[Tile] = set()
        for split in splits or self.splits:
            path = f"{quantity}/c/{self.splits.index(split)}/"
            folders = [self._key(path + inside)] if inside else self._folders(path)
            found = self._tiles_in(path, folders)
            absent.update(tile for tile in tiles if tile not in found)
        return sorted(absent)

    def withdraw(self, tile: Tile) -> None:
        """Put a tile back to pending: its commit goes first, then its chunks."""
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

    # Reading

    def read(self, quantity: str, split: str, frame: int = 0) -> NDArray[np.float32]:
        """One frame of one quantity, float32 (height, width), first row at the lowest y.

        Raises:
            StoreError: no such quantity, split or frame, or a damaged chunk.
        """
        index = self._split_index(quantity, split, frame)
        return cast("NDArray[np.float32]", self._of_frame(quantity, frame, (index, frame)))

    def level(self, frame: int = 0) -> NDArray[np.int16] | None:
        """Which pass evaluated each point of a frame that is refined, int16 (height, width).

        It is −1 where a point is predicted, and −2 where it is unfinished. None where every point
        is evaluated, because the render is not refined.

        Raises:
            StoreError: a damaged chunk.
        """
        if not self.refined:
            return None
        return cast("NDArray[np.int16]", self._of_frame("level", frame, (frame,)))

    def predicted_error(
        self, quantity: str, split: str, frame: int = 0
    ) -> NDArray[np.float32] | None:
        """The error to expect of one frame of one quantity, in its unit, float32 (height, width).

        It is 0 where a point is evaluated, inf where nobody knows. None as for `level`.

        Raises:
            StoreError: no such quantity, split or frame, or a damaged chunk.
        """
        split_ = self._split_index(quantity, split, frame)
        if not self.refined:
            return None
        index = (self.quantities.index(quantity), split_, frame)
        return cast("NDArray[np.float32]", self._of_frame("predicted_error", frame, index))

    def read_tile(self, quantity: str, tile: Tile) -> NDArray[np.float32]:
        """One tile of one quantity, float32 (split, height, width).

        Raises:
            StoreError: a chunk is missing or damaged; the message says which.
        """
        rows, columns = self.grid.window(tile)
        keys = [f"{quantity}/c/{split}/{tile}" for split in range(len(self.splits))]
        found = self._read_chunks(quantity, keys, (slice(None), tile.frame, rows, columns))
        return cast("NDArray[np.float32]", found)

    def read_predictions(self, tile: Tile) -> Predictions:
        """Which points of a tile of a render that is refined are predicted.

        Raises:
            StoreError: a chunk is missing or damaged; the message says which.
        """
        window = self.grid.window(tile)
        level = self._read_chunks("level", [f"level/c/{tile}"], (tile.frame, *window))
        keys = [f"predicted_error/c/0/0/{tile}"]
        whole = slice(None), slice(None), tile.frame, *window
        return Predictions(level, self._read_chunks("predicted_error", keys, whole))

    def tile_facts(self, tile: Tile) -> tuple[float, int]:
        """Seconds a committed tile took, and the id of the worker that made it.

        Raises:
            StoreError: a chunk is damaged.
        """
        place = (tile.frame, tile.row, tile.column)
        try:
            if int(np.asarray(self._array("done")[place])) != 1:
                raise StoreError(f"done/c/{tile} does not say 1")
            seconds = float(np.asarray(self._array("seconds")[place]))
            worker = int(np.asarray(self._array("worker")[place]))
        except UnreachableError:
            raise
        except (ValueError, RuntimeError, OSError) as error:
            raise StoreError(f"the facts of tile {tile}: {one_line(error)}") from None
        return seconds, worker

    def extent(self, frame: int = 0) -> Extent:
        return Extent(*(float(value) for value in self._geometry("extent", frame)))

    def anchors(self, frame: int = 0) -> tuple[Anchor, ...]:
        places = self._geometry("anchor", frame)
        names: Sequence[str] = self.attrs["anchors"]
        labels = self.words["labels"] or [""] * len(names)
        return tuple(
            Anchor(name, float(x), float(y), float(off_plane), label)
            for name, (x, y, off_plane), label in zip(names, places, labels, strict=True)
        )

    def curve(self, frame: int = 0) -> NDArray[np.float64] | None:
        """The projected curve, float64 (points, 3): x, y, distance off the plane; or None."""
        if "curve" not in self.group:
            return None
        return self._geometry("curve", frame)

    # What things are called

    @cached_property
    def words(self) -> dict[str, Any]:
        """What the network, the anchors and the loss's unit are called; see `caption.words`.

        Words decide no number: a later spec of the same render may say others, which are kept in
        a note.
        """
        return caption.words(self.attrs) | (self.read_note(_WORDS) or {})

    def rename(self, words: Mapping[str, Any]) -> None:
        """Call things by other words from now on."""
        if words != self.words:
            self.write_note(_WORDS, words)
            self.__dict__.pop("words", None)

    # Small mutable notes beside the arrays

    def read_note(self, name: str) -> dict[str, Any] | None:
        """The JSON object `name`; None where there is none, only half of one, or something else."""
        found = sync(
            self.group.store.get(self._key(f"{_NOTES}/{name}"), default_buffer_prototype())
        )
        if found is None:
            return None
        try:
            content = json.loads(found.to_bytes())
        except (ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None

    def read_note_as(self, name: str, shape: TypeAdapter[T]) -> T | None:
        """The note `name` as a value of some type; None also where it has another shape."""
        try:
            return shape.validate_python(self.read_note(name))
        except ValidationError:
            return None

    def write_note(self, name: str, content: Mapping[str, Any]) -> None:
        data = cpu.Buffer.from_bytes(self.note_bytes(content))
        sync(self.group.store.set(self.note_key(name), data))

    def note_key(self, name: str) -> str:
        """The key that the note `name` is at."""
        return self._key(f"{_NOTES}/{name}")

    @staticmethod
    def note_bytes(content: Mapping[str, Any]) -> bytes:
        """What is there, of a note that says `content`."""
        return json.dumps(content, indent=1).encode()

    def delete_note(self, name: str) -> None:
        self.delete(f"{_NOTES}/{name}")

    def notes(self, folder: str) -> list[str]:
        """The names of the notes under `folder`, sorted."""
        prefix = f"{_NOTES}/{folder}/"
        keys = (key[key.index(prefix) + len(_NOTES) + 1 :] for key in self._keys(prefix))
        return sorted(key for key in keys if not key.endswith(".partial"))

    def sweep(self) -> int:
        """Delete what killed writers left half-written; returns how many files that were.

        Only for the holder of the lease: a living writer's temporary file looks the same.
        """
        root = Path(self.url)
        if not root.is_dir():
            return 0
        stale = [path for path in root.rglob("*.partial") if not path.is_dir()]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def remove(self) -> None:
        """Delete the store and all that is in it."""
        if is_url(self.url):
            sync(self.group.store.clear())
        else:
            shutil.rmtree(os.path.realpath(self.url))

    # For what else is kept beside the arrays

    def listing(self, prefix: str) -> Iterator[tuple[str, list[str]]]:
        """The keys under `prefix`, folder by folder: each with the names in it."""
        return remote.folders(self.group.store, [self._key(prefix)])

    def delete(self, key: str) -> None:
        sync(self.group.store.delete(self._key(key)))

    # Inside

    def _check_names(self) -> None:
        """What the store calls things becomes files, keys and lines; see `pipeline.naming`."""
        spec, plane = self.attrs.get("spec") or {}, self.attrs.get("plane") or {}
        for what, found in (
            ("split", self.splits),
            ("quantity", self.quantities),
            ("anchor", self.attrs.get("anchors", ())),
            ("frame", plane.get("frames") or ()),
            ("name", [spec["name"]] if "name" in spec else ()),
        ):
            naming.require(found, f"a {what} of {self.url}")

    def _mask(self, tiles: Iterable[Tile]) -> NDArray[np.bool_]:
        """The points of tiles of one frame, bool (height, width)."""
        memory.require(self.height * self.width, f"a frame of {self.url}", _MORE_MEMORY)
        mask = np.zeros((self.height, self.width), dtype=bool)
        for tile in tiles:
            mask[self.grid.window(tile)] = True
        return mask

    def _read_chunks(self, name: str, keys: Sequence[str], at: tuple[Any, ...]) -> Any:
        """A part of an array, all of whose chunks, `keys`, have to be there."""
        for key in keys:
            if not sync(self.group.store.exists(self._key(key))):
                raise StoreError(f"{key} is missing")
        try:
            return self._array(name)[at]
        except UnreachableError:
            raise
        except (ValueError, RuntimeError, OSError) as error:
            raise StoreError(f"{' or '.join(keys)}: {one_line(error)}") from None

    def _tiles_in(self, path: str, folders: Sequence[str]) -> set[Tile]:
        """The tiles that have a chunk in these folders, all of them under `path`."""
        tiles: set[Tile] = set()
        above = self._key(path)
        for folder, names in remote.folders(self.group.store, folders):
            tiles.update(self.grid.tiles_of_keys(folder.removeprefix(above), names))
        return tiles

    def _folders(self, path: str) -> list[str]:
        """What to list for all tiles under `path`: it, or many where each fills an answer."""
        grid, paths = self.grid, [path]
        if grid.tile_rows * grid.tile_columns >= _FOLDER_TILES:
            paths = [f"{path}{frame}/" for frame in range(grid.frames)]
        if grid.tile_columns >= _FOLDER_TILES:
            paths = [f"{each}{row}/" for each in paths for row in range(grid.tile_rows)]
        return [self._key(path) for path in paths]

    def _of_frame(self, name: str, frame: int, index: tuple[int, ...]) -> Any:
        memory.require(
            self.height * self.width * self._array(name).dtype.itemsize,
            f"{name} of frame {frame} of {self.url}",
            _MORE_MEMORY,
        )
        try:
            return self._array(name)[index]
        except UnreachableError:
            raise
        except (ValueError, RuntimeError, OSError) as error:
            raise self._unreadable(name, frame, one_line(error)) from None

    def _geometry(self, name: str, frame: int) -> NDArray[np.float64]:
        """What was written of a frame when the store was made.

        Raises:
            StoreError: it is missing or damaged.
        """
        array = self._array(name)
        try:
            found = np.asarray(array[frame], "f8")
        except UnreachableError:
            raise
        except (ValueError, RuntimeError, OSError) as error:
            raise self._lost(name, one_line(error)) from None
        if not found.any():  # as zarr fills in what is gone
            counts = [-(-n // size) for n, size in zip(array.shape, array.chunks, strict=True)]
            for rest in itertools.product(*map(range, counts[1:])):
                key = f"{name}/c/{'/'.join(map(str, (frame // array.chunks[0], *rest)))}"
                if not sync(self.group.store.exists(self._key(key))):
                    raise self._lost(name, f"{key} is missing")
        return found

    def _lost(self, name: str, why: str) -> StoreError:
        return StoreError(
            f"{self.url}: {name} cannot be read ({why}); wanted what was written when the store "
            "was made. Put it back, or render its spec to another store"
        )

    def _unreadable(self, name: str, frame: int, why: str) -> StoreError:
        return StoreError(
            f"{self.url}: {name} of frame {frame} cannot be read ({why}). "
            "Run lossatlas verify, then resume"
        )

    @cached_property
    def _arrays(self) -> dict[str, zarr.Array[Any]]:
        with zarr.config.set({"array.write_empty_chunks": True}):
            return dict(self.group.arrays())

    def _array(self, name: str) -> Any:
        return self._arrays[name]

    def _split_index(self, quantity: str, split: str, frame: int) -> int:
        for what, found, known in (
            ("quantity", quantity, self.quantities),
            ("split", split, self.splits),
        ):
            if found not in known:
                raise StoreError(
                    f"{self.url} has no {what} {found!r}; wanted one of {', '.join(known)}"
                )
        if not 0 <= frame < self.frames:
            raise StoreError(f"{self.url} has no frame {frame}; wanted 0 to {self.frames - 1}")
        return self.splits.index(split)

    def _key(self, key: str) -> str:
        path = self.group.path
        return f"{path}/{key}" if path else key

    def _keys(self, prefix: str) -> Iterator[str]:
        return remote.keys(self.group.store, self._key(prefix))


def _fill(
    place: str, attributes: Mapping[str, Any], grid: Grid, frames: Sequence[FrameFacts]
) -> None:
    """Write an empty store to `place`.

    Raises:
        atomic.Taken: somebody else has begun to write there.
    """
    splits, quantities = attributes["splits"], attributes["quantities"]
    unfinished = {"lossatlas": "creating", "creation": attributes["creation"]}
    with zarr.config.set({"array.write_empty_chunks": True}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*onsolidated metadata.*")
        group = remote.open_group(place, "w", attributes=unfinished)
        create_arrays(group, grid, splits, quantities, caption.words(attributes)["unit"])
        if attributes["refined"]:
            create_refined_arrays(group, grid, splits, quantities)
        calibrate = attributes.get("parts", {}).get("evaluate.calibrate")
        create_coordinates(group, grid, splits, frames, calibrate)
        arrays = set(group.array_keys())
        if dict(remote.open_group(place, "r", use_consolidated=False).attrs) != unfinished:
            raise atomic.Taken
        group.attrs.put({**attributes, **unfinished})
        group = zarr.consolidate_metadata(group.store)
        if set(group.array_keys()) != arrays:
            raise atomic.Taken
        try:
            _require_arrays(group, grid, attributes)
        except ValueError:  # another creator's, who wants other tiles
            raise atomic.Taken from None
        # One last write, with the consolidated metadata in it, says that it is complete.
        group.attrs["lossatlas"] = FORMAT


def _refuse_links(url: str) -> None:
    """What is written to a local store stays in it; the store itself may be behind a link.

    The folders of arrays and notes are looked at, not those of single tiles.

    Raises:
        StoreError: one of them is a link.
    """
    if is_url(url):
        return
    folders = [Path(url)]
    for folder in folders:
        with os.scandir(folder) as found:
            entries = list(found)
        for entry in entries:
            if entry.is_symlink():
                raise StoreError(
                    f"{entry.path} is a link to {os.readlink(entry.path)}; wanted a store whose "
                    "parts lie in its own folder. Copy what it points to there"
                )
            if folder == folders[0] and entry.is_dir():
                folders.append(Path(entry.path))


def _require_arrays(group: zarr.Group, grid: Grid, attributes: Mapping[str, Any]) -> None:
    """Raises KeyError or ValueError where the arrays are not those of such a render."""
    quantities, refined = attributes["quantities"], bool(attributes.get("refined"))
    names = [*quantities, "done", "seconds", "worker", "extent", "anchor"]
    if refined:
        names += ["level", "predicted_error"]
        names += [f"evaluated/{name}" for name in ("points", "values", "steps")]
    arrays: dict[str, Any] = {name: group[name] for name in names}
    points, tiles = (grid.height, grid.width), (grid.tile_rows, grid.tile_columns)
    for name in (*quantities, *(name for name in ("level", "predicted_error") if refined)):
        if arrays[name].shape[-2:] != points or arrays[name].chunks[-1] != grid.tile:
            raise ValueError(f"{name} has other points or tiles than the grid")
    for name in ("done", "seconds", "worker"):
        # A film to which frames are being added has more than its metadata says yet.
        if arrays[name].shape[0] < grid.frames or arrays[name].shape[1:] != tiles:
            raise ValueError(f"{name} has other tiles than the grid")
    for name, rest in (("extent", (4,)), ("anchor", (len(attributes["anchors"]), 3))):
        if arrays[name].shape[0] < grid.frames or arrays[name].shape[1:] != rest:
            raise ValueError(f"{name} has another shape than (frames, {rest})")


def _damaged(url: str, what: str) -> StoreError:
    return StoreError(
        f"{url} has damaged metadata ({what}); wanted that of a render. Put its zarr.json back, or "
        "render its spec to another store"
    )


def _kind(url: str) -> str:
    """What is at `url`: nothing, a store, the remains of an unfinished creation, or other."""
    if not is_url(url):
        path = Path(url)
        try:
            exists = path.exists()
        except OSError as error:  # too long a name, or a folder on the way that nobody may enter
            raise StoreError(
                f"{url} cannot be looked for ({error.strerror}); wanted the path of a .zarr. Check "
                "its length and the permissions of its folders"
            ) from None
        if exists and not path.is_dir():
            return "other"
        if exists and not os.access(path, os.R_OK | os.X_OK):
            raise StoreError(f"{url} cannot be read; wanted read permission")
    try:
        attributes = dict(remote.open_group(url, "r", use_consolidated=False).attrs)
    except (FileNotFoundError, KeyError):
        return "nothing" if remote.is_empty(url) else "other"
    except ValueError as error:
        raise StoreError(f"{url} has damaged metadata: {one_line(error)}") from None
    match attributes.get("lossatlas"):
        case "creating":
            return "unfinished"
        case int():
            return "store"
    return "other"
