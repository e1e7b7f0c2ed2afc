"""Reading a store: its metadata, its finished tiles, its values and its notes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from pipeline import caption, memory, naming
from pipeline.errors import one_line
from pipeline.geometry.grid import Extent, Grid, Tile
from pipeline.geometry.plane import Anchor
from pipeline.store import keys, notes
from pipeline.store.errors import StoreError
from pipeline.store.fields import Fields
from pipeline.store.metadata import FORMAT, damaged
from pipeline.url import UnreachableError

NOTES = ".lossatlas"
WORDS = "words.json"
_MORE_MEMORY = "Use a machine with more memory"

T = TypeVar("T")


@dataclass(frozen=True)
class Predictions:
    """Which points of a tile are predicted.

    Attributes:
        level: the pass that evaluated each point, −1 for none: int16 (height, width).
        error: the expected error, in each quantity's unit: float32 (quantity, split, height,
            width).
    """

    level: NDArray[np.int16]
    error: NDArray[np.float32]


class StoreReader:
    """One render's arrays and notes, for reading; `pipeline.store.store.Store` also writes them."""

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
        self.fields = Fields(attributes)
        self._check_names()
        self.refined = bool(attributes.get("refined"))
        self.grid = Grid(**attributes["grid"])

    def require(self, *names: str) -> None:
        """Refuse a store without the attributes of these names.

        Raises:
            StoreError: one is missing, or the store was imported.
        """
        if "imported" in self.attrs and not set(names) <= self.attrs.keys():
            raise StoreError(
                f"{self.url} was {caption.imported(self.attrs)}, so there is no network in it and "
                "nothing to compute; wanted a render's own store. Render a spec to another store"
            )
        for name in names:
            if name not in self.attrs:
                raise damaged(self.url, f"no {name}")

    @property
    def frames(self) -> int:
        return self.grid.frames

    @property
    def height(self) -> int:
        return self.grid.height

    @property
    def width(self) -> int:
        return self.grid.width

    # Finished tiles

    def committed(self) -> set[Tile]:
        """The finished tiles, by one listing of the commits."""
        return self._tiles_in("done/c/", keys.tile_folders("done/c/", self.grid))

    def pending(self) -> list[Tile]:
        """The tiles without a commit, in the grid's order."""
        committed = self.committed()
        return [tile for tile in self.grid.tiles() if tile not in committed]

    def finished(self, frame: int) -> NDArray[np.bool_]:
        """Which points of `frame` are in a committed tile, bool (height, width)."""
        return self._mask(tile for tile in self.committed() if tile.frame == frame)

    def finished_frames(self) -> dict[int, NDArray[np.bool_]]:
        """The same for every frame that has such a point, by one listing."""
        frames: defaultdict[int, list[Tile]] = defaultdict(list)
        for tile in self.committed():
            frames[tile.frame].append(tile)
        return {frame: self._mask(tiles) for frame, tiles in frames.items()}

    def absent(
        self, quantity: str, tiles: Collection[Tile], splits: Sequence[str] | None = None
    ) -> list[Tile]:
        """Committed tiles that miss a chunk of a quantity, sorted; by one listing.

        Zarr reads a missing chunk as NaN. If all tiles are of one frame, only that is listed.

        Args:
            quantity: which.
            tiles: committed before the listing, so that they had their chunks.
            splits: which; None for all.
        """
        frames = {tile.frame for tile in tiles}
        inside = f"{frames.pop()}/" if len(frames) == 1 else ""
        absent: set[Tile] = set()
        for split in splits or self.fields.splits_of(quantity):
            path = f"{quantity}/c/{self.splits.index(split)}/"
            folders = [path + inside] if inside else keys.tile_folders(path, self.grid)
            found = self._tiles_in(path, folders)
            absent.update(tile for tile in tiles if tile not in found)
        return sorted(absent)

    # Reading

    def read(self, quantity: str, split: str, frame: int = 0) -> NDArray[np.float32]:
        """One frame of one quantity, float32 (height, width), first row at the lowest y.

        Raises:
            StoreError: no such quantity, split or frame, or a damaged chunk.
        """
        index = self._split_index(quantity, split, frame)
        return cast("NDArray[np.float32]", self._of_frame(quantity, frame, (index, frame)))

    def level(self, frame: int = 0) -> NDArray[np.int16] | None:
        """Which pass evaluated each point of a refined frame, int16 (height, width).

        It is −1 where a point is predicted, and −2 where it is unfinished. The result is None if
        the render is not refined, so that every point is evaluated.

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

        It is 0 where a point is evaluated, and inf where the error is unknown. None as for `level`.

        Raises:
            StoreError: no such quantity, split or frame, or a damaged chunk.
        """
        split_ = self._split_index(quantity, split, frame)
        if not self.refined:
            return None
        index = (self.quantities.index(quantity), split_, frame)
        return cast("NDArray[np.float32]", self._of_frame("predicted_error", frame, index))

    def read_tile(self, quantity: str, tile: Tile) -> NDArray[np.float32]:
        """One tile of one quantity, float32 (its splits, height, width).

        Raises:
            StoreError: a chunk is missing or damaged; the message says which.
        """
        rows, columns = self.grid.window(tile)
        own = self.fields.places(quantity)
        keys = [f"{quantity}/c/{split}/{tile}" for split in range(own.start, own.stop)]
        at = own, tile.frame, rows, columns
        return cast("NDArray[np.float32]", self.read_chunks(quantity, keys, at))

    def read_predictions(self, tile: Tile) -> Predictions:
        """Which points of a tile of a refined render are predicted.

        Raises:
            StoreError: a chunk is missing or damaged; the message says which.
        """
        window = self.grid.window(tile)
        level = self.read_chunks("level", [f"level/c/{tile}"], (tile.frame, *window))
        keys = [f"predicted_error/c/0/0/{tile}"]
        whole = slice(None), slice(None), tile.frame, *window
        return Predictions(level, self.read_chunks("predicted_error", keys, whole))

    def tile_facts(self, tile: Tile) -> tuple[float, int]:
        """How many seconds a committed tile took, and the id of its worker.

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
        return Extent(*(float(value) for value in self.geometry("extent", frame)))

    def anchors(self, frame: int = 0) -> tuple[Anchor, ...]:
        places = self.geometry("anchor", frame)
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
        return self.geometry("curve", frame)

    # What things are called

    @cached_property
    def words(self) -> dict[str, Any]:
        """What the network, the anchors and the loss's unit are called; see `caption.words`.

        Words do not change a number. A later spec of the same render may have other words; they
        are in a note.
        """
        return caption.words(self.attrs) | (self.read_note(WORDS) or {})

    # Notes: small JSON objects beside the arrays

    def read_note(self, name: str) -> dict[str, Any] | None:
        """The note `name`, a JSON object; None if it is missing, half-written or something else."""
        found = sync(self.group.store.get(self._key(f"{NOTES}/{name}"), default_buffer_prototype()))
        return None if found is None else notes.parse(found.to_bytes())

    def read_note_as(self, name: str, shape: TypeAdapter[T]) -> T | None:
        """The note `name` as a value of the type of `shape`; None also if it has another shape."""
        try:
            return shape.validate_python(self.read_note(name))
        except ValidationError:
            return None

    def note_key(self, name: str) -> str:
        """The key of the note `name`."""
        return self._key(f"{NOTES}/{name}")

    def notes(self, folder: str) -> list[str]:
        """The names of the notes under `folder`, sorted."""
        prefix = f"{NOTES}/{folder}/"
        names = (key[key.index(prefix) + len(NOTES) + 1 :] for key in self._keys(prefix))
        return sorted(name for name in names if not name.endswith(".partial"))

    # Keys

    def listing(self, prefix: str) -> Iterator[tuple[str, list[str]]]:
        """The folders under `prefix`, each with the names of the keys in it."""
        return keys.folders(self.group.store, [self._key(prefix)])

    # Inside

    def _check_names(self) -> None:
        """Check names that become parts of files, keys and printed lines; see `pipeline.naming`."""
        spec, plane = self.attrs.get("spec") or {}, self.attrs.get("plane") or {}
        for what, found in (
            ("split", self.splits),
            ("quantity", self.quantities),
            ("anchor", self.attrs.get("anchors", ())),
            ("frame", plane.get("frames") or ()),
            ("name", [spec["name"]] if "name" in spec else ()),
            ("mark", [name for group in self.attrs.get("marks") or () for name in group["names"]]),
        ):
            naming.require(found, f"a {what} of {self.url}")

    def _mask(self, tiles: Iterable[Tile]) -> NDArray[np.bool_]:
        """The points of tiles of one frame, bool (height, width)."""
        memory.require(self.height * self.width, f"a frame of {self.url}", _MORE_MEMORY)
        mask = np.zeros((self.height, self.width), dtype=bool)
        for tile in tiles:
            mask[self.grid.window(tile)] = True
        return mask

    def read_chunks(self, name: str, keys: Sequence[str], at: tuple[Any, ...]) -> Any:
        """A part of an array. All of its chunks, `keys`, must exist.

        Raises:
            StoreError: a chunk is missing or damaged; the message says which.
        """
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
        """The tiles that have a chunk in these folders under `path`."""
        tiles: set[Tile] = set()
        above = self._key(path)
        for folder, names in keys.folders(self.group.store, list(map(self._key, folders))):
            tiles.update(self.grid.tiles_of_keys(folder.removeprefix(above), names))
        return tiles

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

    def geometry(self, name: str, frame: int) -> NDArray[np.float64]:
        """An array of the geometry of a frame, written when the store was created: `anchor`, say.

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
        if not found.any():  # zarr reads a missing chunk as zeros
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
            ("split", split, self.fields.splits_of(quantity)),
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
        return keys.keys(self.group.store, self._key(prefix))
