"""Where examples come from: parquet, arrays, folders of images, or the user's own code."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipeline import memory
from pipeline.errors import LossatlasError, described, one_line
from pipeline.problem import usercode
from pipeline.problem.usercode import UserCode
from pipeline.url import UnreachableError, is_url, reached

if TYPE_CHECKING:
    from pipeline.spec import DataSpec

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_FEWER = "Check where the file is from, or give one with fewer examples"
_SPLITS = ("train", "test", "val", "valid", "validation", "dev", "eval")
_SPLIT_FOLDERS = (*_SPLITS, "training", "testing")


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

    def inputs(self, rows: np.ndarray) -> np.ndarray: ...


def opener(spec: DataSpec, code: UserCode | None) -> Callable[[str], Split]:
    """What opens a split of `spec.source` by its name."""
    file, _, name = spec.source.rpartition(":")
    if file.endswith(".py"):
        make = usercode.attribute(code or usercode.read(file), name)
        return lambda split: _called(make, split, spec.source)
    folder = _Folder(spec.source, tuple(spec.splits))
    return lambda split: folder.split(split, alone=len(spec.splits) == 1)


def _called(make: Callable[..., Any], split: str, source: str) -> Split:
    where = f"{posixpath.basename(source)}({split!r})"
    try:
        result = make(split)
    except Exception as error:
        place = usercode.place(error)
        raise DataError(
            f"{where} raised {described(error)}{f' ({place})' if place else ''}; wanted arrays x, y"
        ) from error
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise DataError(f"{where} returned {type(result).__name__}; wanted two arrays x, y")
    x, y = (_array(each, f"{where}: {name}") for each, name in zip(result, "xy", strict=True))
    return _Arrays(where, lambda: x, lambda: y)


def _array(values: Any, what: str) -> np.ndarray:
    """An array of what a user's code returned: an array, a tensor, or lists of numbers."""
    import torch

    if isinstance(values, list | tuple) and any(isinstance(v, torch.Tensor) for v in values):
        values = [_array(v, what) for v in values]
    if isinstance(values, torch.Tensor):
        layout = "nested" if values.is_nested else values.layout
        if values.is_meta:
            raise DataError(f"{what} is a meta tensor, without values; wanted one that has them")
        if layout is not torch.strided or values.is_quantized:
            raise DataError(
                f"{what} is a tensor of {values.dtype}, {layout}; wanted a dense one of plain "
                "numbers. Convert it, as to_dense() does"
            )
        values = values.detach().cpu()
        known = (torch.float16, torch.float32, torch.float64)
        if values.is_floating_point() and values.dtype not in known:  # numpy has no bfloat16
            values = values.float()
    try:
        array = np.asarray(values)
    except Exception as error:  # numpy has no one type for what it cannot convert
        raise DataError(
            f"{what} is no array ({described(error)[:150]}); wanted numbers in rows of one "
            "length. Pad or cut them, and stack tensors with torch.stack"
        ) from None
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DataError(f"{what} has masked values; wanted numbers. Fill them, as by x.filled(0)")
    return array


@dataclass(frozen=True)
class _Arrays:
    """Inputs and targets that are arrays already."""

    where: str
    x: Callable[[], np.ndarray]
    y: Callable[[], np.ndarray]
    classes: tuple[str, ...] = ()
    decoded: bool = False

    def targets(self) -> np.ndarray:
        return self.y()

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        x, examples = self.x(), len(self.y())
        if x.dtype == object or not x.ndim or len(x) != examples:
            raise DataError(
                f"{self.where} has inputs of {x.dtype} {x.shape} and {examples:,} targets; wanted "
                "a numeric array with as many rows"
            )
        return np.ascontiguousarray(x[rows])


class _Folder:
    """A local or remote folder, or a single file, and the splits in it."""

    def __init__(self, source: str, asked: tuple[str, ...]) -> None:
        import fsspec

        self.source = source
        self.asked = asked
        try:
            with reached(source):
                self.files, path = fsspec.core.url_to_fs(source)
                self.root = path.rstrip("/") or "/"
                self.is_file = self.files.isfile(self.root)
                if not self.is_file and not self.files.isdir(self.root):
                    raise DataError(
                        f"data.source {source} does not exist; wanted a folder, a .parquet or .npz "
                        "file, or file.py:callable. Check the path"
                    )
                entries = [] if self.is_file else self.files.ls(self.root, detail=True)
        except (OSError, ImportError, ValueError) as error:
            raise DataError(f"data.source {source} cannot be read ({one_line(error)})") from None
        kept = [e for e in entries if posixpath.basename(e["name"].rstrip("/"))[:1] not in "._"]
        self.entries = {
            posixpath.basename(e["name"].rstrip("/")): e["type"] == "directory"
            for e in sorted(kept, key=lambda e: str(e["name"]))
        }

    def split(self, name: str, alone: bool) -> Split:
        """The split `name`; if it is `alone`, a source that holds one set will do."""
        if self.is_file:
            return self._file(self.root, name, alone)
        found = [e for e, is_folder in self.entries.items() if not is_folder and _holds(e, name)]
        found += [name] if self.entries.get(name) else []
        found = found or (self._only_set() if alone else [])
        if not found:
            held = ", ".join(sorted({_set(e) for e in self.entries})[:10])
            raise DataError(
                f"data.source {self.source} has no split {name}; wanted {name}.parquet, "
                f"{name}.npz or a folder {name}/ of class folders. Found {held or 'nothing'}"
            )
        kinds = {posixpath.splitext(entry)[1] for entry in found}
        if len(kinds) > 1 or (f"{name}.parquet" in found and len(found) > 1):
            raise DataError(
                f"data.source {self.source} holds {', '.join(found)}; wanted one kind of data for "
                f"split {name}. Move the others away"
            )
        paths = tuple(f"{self.root}/{entry}".rstrip("/") for entry in found)
        match kinds.pop():
            case ".parquet":
                return Parquet(self._where(found), self.files, paths)
            case ".npz":
                return self._file(paths[0], name, alone=True)
            case _:
                return _images(self._where(found), self.files, paths[0], self._classes(name))

    def _classes(self, name: str) -> list[str]:
        """The class folders in order, whose places are the classes of the split `name`.

        One order for all splits: that of `train`, by which networks are trained. Where there is
        no such folder, it is that of the split with most classes, among those asked for and those
        that are there under a usual name.
        """
        if not self.entries.get(name):
            return _class_folders(self.files, self.root)
        train = self._held("train")
        usual = filter(_is_split, self.entries)
        held = train | self._held(name) if train else self._held(name, *self.asked, *usual)
        if not held:
            return []
        first = "train" if train else max(held, key=lambda split: (len(held[split]), split))
        for split in held:
            lacking = sorted(held[split] - held[first])
            if lacking:
                raise DataError(
                    f"{self.source}/{split} has the class {lacking[0]}, which {first}/ lacks; "
                    f"wanted every class in {first}/, whose folders number them. Add it there, or "
                    f"take it out of {split}/"
                )
        return sorted(held[first])

    def _held(self, *splits: str) -> dict[str, set[str]]:
        """The class folders of each of `splits` that has any."""
        there = (split for split in dict.fromkeys(splits) if self.entries.get(split))
        held = {split: set(_class_folders(self.files, f"{self.root}/{split}")) for split in there}
        return {split: classes for split, classes in held.items() if classes}

    def _only_set(self) -> list[str]:
        """The entries of the one set of examples in the folder, unless it is another split's."""
        files = [e for e, is_folder in self.entries.items() if not is_folder]
        files = [e for e in files if e.endswith((".parquet", ".npz"))]
        folders = [e for e, is_folder in self.entries.items() if is_folder]
        sets = {_set(entry) for entry in files + folders}
        if sets & set(_SPLITS) or any(map(_is_split, folders)):
            return []
        if files and (folders or len(sets) > 1):
            return []
        return files or ([""] if folders else [])  # "": class folders in the source itself

    def _where(self, entries: list[str]) -> str:
        name = entries[0] if len(entries) == 1 else f"{entries[0]} and {len(entries) - 1} more"
        return f"{self.source.rstrip('/')}/{name}".rstrip("/")

    def _file(self, path: str, name: str, alone: bool) -> Split:
        where = self.source if self.is_file else f"{self.source}/{posixpath.basename(path)}"
        if path.endswith(".npz"):
            return _npz(where, _bytes(self.files, path, where), name, alone)
        if not path.endswith(".parquet"):
            raise DataError(f"data.source {where} is of no known kind; wanted .parquet or .npz")
        if not alone:
            raise DataError(
                f"data.source {where} is one file and data.splits names several; wanted a folder "
                f"with a file for each. Give the folder, with {name}.parquet in it"
            )
        return Parquet(where, self.files, (path,))


def _holds(entry: str, split: str) -> bool:
    sharded = entry.startswith(f"{split}-") and entry.endswith(".parquet")
    return entry in (f"{split}.parquet", f"{split}.npz") or sharded


def _set(entry: str) -> str:
    """What a file or folder holds examples of: its name without suffix and shard number."""
    return re.sub(r"(-\d+(-of-\d+)?)?\.(parquet|npz)$", "", entry)


def _npz(where: str, content: bytes, split: str, alone: bool) -> Split:
    """The arrays of a split, each read when it is asked for."""
    try:
        archive = np.load(io.BytesIO(content), allow_pickle=False)
        names, infos = list(archive.files), archive.zip.infolist()
    except Exception as error:  # a zip file can be broken in many ways
        raise DataError(
            f"{where} is not a whole .npz file ({described(error)}); wanted one with "
            "arrays x and y. Save it again with numpy.savez"
        ) from None
    choices = [(f"{split}_x", f"{split}_y"), (f"x_{split}", f"y_{split}")]
    choices += [("x", "y")] if alone else []
    pair = next((pair for pair in choices if set(pair) <= set(names)), None)
    if pair is None:
        wanted = " or ".join(", ".join(pair) for pair in choices)
        raise DataError(
            f"{where} holds {', '.join(names) or 'no arrays'}; wanted {wanted} for split {split}. "
            "Rename the arrays"
        )

    def member(name: str) -> np.ndarray:
        declared = {info.filename.removesuffix(".npy"): info.file_size for info in infos}
        memory.require(declared.get(name, 0), f"{where}: {name}", _FEWER)
        try:
            array: np.ndarray = archive[name]
        except Exception as error:
            raise DataError(
                f"{where}: {name} cannot be read ({described(error)}); wanted a plain "
                "numeric array. Save it again without objects"
            ) from None
        return array

    x, y = pair
    return _Arrays(where, lambda: member(x), lambda: member(y))


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
        return _decoded(encoded, len(rows))

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
                    # Of content pyarrow raises an OSError as well, but a plain one.
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
    """Hold what some row groups of a column declare to the memory there is."""
    declared = 0
    for group in map(file.metadata.row_group, groups):
        columns = [group.column(index) for index in range(group.num_columns)]
        of_name = [c for c in columns if c.path_in_schema.partition(".")[0] == name]
        # Repeated values take little room in the file, and a number each in memory.
        declared += max(8 * group.num_rows, sum(c.total_uncompressed_size for c in of_name))
    memory.require(declared, f"{where}: {name}", _FEWER)


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


@dataclass(frozen=True)
class _Images:
    """Image files; their classes are their folders, numbered by name."""

    where: str
    files: Any
    paths: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    decoded: bool = True

    def targets(self) -> np.ndarray:
        return self.labels

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        paths = (self.paths[row] for row in rows.tolist())
        return _decoded(((path, _bytes(self.files, path, path)) for path in paths), len(rows))


def _images(where: str, files: Any, root: str, classes: list[str]) -> _Images:
    """The images of a split; a class is the place of its folder in `classes`."""
    found = sorted(p for p in files.find(root) if posixpath.splitext(p)[1].lower() in _IMAGES)
    inner = {path: path.removeprefix(root).lstrip("/").split("/") for path in found}
    inner = {path: parts for path, parts in inner.items() if not any(map(_is_hidden, parts))}
    stray = [parts[0] for parts in inner.values() if len(parts) == 1]
    empty = sorted(set(_class_folders(files, root)) - {parts[0] for parts in inner.values()})
    if stray or empty or not inner:
        what = (
            f"{stray[0]} outside any class" if stray else f"no image in {', '.join(empty) or root}"
        )
        raise DataError(f"{where} holds {what}; wanted a folder of images for each class")
    _check_classes(where, classes, sorted({parts[1] for parts in inner.values() if parts[2:]}))
    labels = np.array([classes.index(parts[0]) for parts in inner.values()], dtype=np.int64)
    return _Images(where, files, tuple(inner), labels, tuple(classes))


def _check_classes(where: str, classes: list[str], deeper: list[str]) -> None:
    """Refuse a single class, and splits in place of classes; `deeper` are the folders in them.

    A class may be called like a split if others are not: CIFAR-100 has the class `train`.
    """
    place = f"{posixpath.basename(where.rstrip('/'))}/"
    if len(classes) > 1 and not all(map(_is_split, classes)):
        return
    found = f"{where} holds {'one folder, ' if len(classes) == 1 else ''}{first_few(classes, '/')}"
    if deeper:
        raise DataError(
            f"{found}, with {first_few(deeper, '/')} in it; wanted the class folders directly in "
            f"{place}. Move them there, or check data.source and data.splits"
        )
    if len(classes) == 1:
        raise DataError(
            f"{found}, which makes all images one class; wanted two or more class folders "
            f"directly in {place}. Check data.source, or load one class by file.py:callable"
        )
    raise DataError(
        f"{found}, which are names of splits; wanted class folders directly in {place}. Check "
        "data.source and data.splits, or rename the folders"
    )


def first_few(names: Sequence[str], end: str = "") -> str:
    """The first five names, for example `a, b, c`; each is followed by `end`."""
    return ", ".join([*(f"{name}{end}" for name in names[:5]), *(["…"] if names[5:] else [])])


def _is_split(folder: str) -> bool:
    return folder.lower() in _SPLIT_FOLDERS


def _class_folders(files: Any, root: str) -> list[str]:
    """The names of the class folders in a split, sorted."""
    try:
        with reached(root):
            found = files.ls(root, detail=True)
    except UnreachableError:
        raise
    except OSError as error:
        raise DataError(f"{root} cannot be read ({error}); wanted a readable folder") from None
    entries = {posixpath.basename(e["name"].rstrip("/")): e["type"] == "directory" for e in found}
    folders = sorted(n for n, is_folder in entries.items() if is_folder and not _is_hidden(n))
    lists = [n for n in entries if re.search(r"(annotations|labels).*\.(txt|csv)$", n, re.I)]
    if len(folders) == 1 and lists:  # as in Tiny ImageNet's val/
        raise DataError(
            f"{root} holds one folder, {folders[0]}/, and {lists[0]}; wanted a folder of images "
            f"for each class. Move each image into the folder of its class by {lists[0]}"
        )
    return folders


def _is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to an editor or a file system, not to the data."""
    return name.startswith(".") or name == "__MACOSX"


def _bytes(files: Any, path: str, where: str) -> bytes:
    try:
        with reached(where):
            if path.endswith(".npz") or not is_url(where):  # of remote images it costs a request
                memory.require(files.size(path) or 0, where, _FEWER)
            content: bytes = files.cat_file(path)
    except OSError as error:
        raise DataError(f"{where} cannot be read ({error}); wanted a readable file") from None
    return content


def _decoded(encoded: Iterator[tuple[str, Any]], count: int) -> np.ndarray:
    """`count` encoded images → uint8 (n, height, width, channels); all have to be of one shape."""
    images: list[np.ndarray] = []
    for where, content in encoded:
        image = _decode(content, where)
        if images and image.shape != images[0].shape:
            raise DataError(
                f"{where} is {_size(image)} and the first image {_size(images[0])}; wanted "
                "images of one size. Resize them first"
            )
        if not images:  # all of them, and once more as one array
            memory.require(2 * count * image.nbytes, f"{count:,} images such as {where}", _FEWER)
        images.append(image)
    return np.stack(images)


def _decode(content: Any, where: str) -> np.ndarray:
    from PIL import Image

    if not isinstance(content, bytes):
        raise DataError(f"{where} holds {type(content).__name__}; wanted an encoded image as bytes")
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(
                    f"{where} is an image of mode {image.mode}; wanted 8 bits a channel"
                )
            memory.require(4 * image.width * image.height, where, "Replace it")
            grey = image.mode in ("1", "L", "LA")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{where} cannot be decoded ({described(error)[:120]}); wanted an image. Replace it"
        ) from None
    return pixels.reshape(*pixels.shape[:2], -1)


def _size(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{width}×{height} with {channels} channel{'s' if channels > 1 else ''}"
