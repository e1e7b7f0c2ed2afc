"""Where examples come from: parquet, arrays, folders of images, or the user's own code."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.errors import one_line
from pipeline.problem import arrays, images, raw_files, usercode
from pipeline.problem.images import SPLITS, class_folders, is_split
from pipeline.problem.parquet import Parquet
from pipeline.problem.split import DataError, Split, read_bytes
from pipeline.problem.usercode import UserCode
from pipeline.url import reached

if TYPE_CHECKING:
    from pipeline.spec import DataSpec


def opener(spec: DataSpec, code: UserCode | None) -> Callable[[str], Split]:
    """A function that opens a split of `spec.source` by its name."""
    file, _, name = spec.source.rpartition(":")
    if file.endswith(".py"):
        _require_fitting(spec, "what a function returns")
        make = usercode.attribute(code or usercode.read(file), name)
        return lambda split: arrays.of_function(make, split, spec.source)
    folder = _Folder(spec)
    return lambda split: folder.split(split, alone=len(spec.splits) == 1)


class _Folder:
    """A local or remote folder, or a single file, and the splits in it."""

    def __init__(self, spec: DataSpec) -> None:
        import fsspec

        source = spec.source
        self.source, self.spec = source, spec
        try:
            with reached(source):
                self.files, path = fsspec.core.url_to_fs(source)
                self.root = path.rstrip("/") or "/"
                self.is_file = self.files.isfile(self.root)
                if not self.is_file and not self.files.isdir(self.root):
                    raise DataError(
                        f"data.source {source} does not exist; wanted a folder, a .parquet, .npz "
                        "or .bin file, or file.py:callable. Check the path"
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
        """The split `name`; if it is the only one asked for, a source of one set will do."""
        if self.is_file:
            return self._file(self.root, name, alone)
        found = [e for e, is_folder in self.entries.items() if not is_folder and _holds(e, name)]
        found += [name] if self.entries.get(name) else []
        found = found or (self._only_set() if alone else [])
        if not found:
            held = ", ".join(sorted({_set(e) for e in self.entries})[:10])
            raise DataError(
                f"data.source {self.source} has no split {name}; wanted {name}.parquet, "
                f"{name}.npz, {name}_x.npy and {name}_y.npy, {name}.bin, or a folder {name}/ of "
                f"class folders. Found {held or 'nothing'}"
            )
        kinds = {posixpath.splitext(entry)[1] for entry in found}
        if len(kinds) > 1 or (f"{name}.parquet" in found and len(found) > 1):
            raise DataError(
                f"data.source {self.source} holds {', '.join(found)}; wanted one kind of data for "
                f"split {name}. Move the others away"
            )
        paths = tuple(f"{self.root}/{entry}".rstrip("/") for entry in found)
        kind = kinds.pop()
        _require_fitting(self.spec, kind)
        match kind:
            case ".parquet":
                return Parquet(self._where(found), self.files, paths, self.spec.columns)
            case ".npz" | ".bin":
                return self._file(paths[0], name, alone=True)
            case ".npy":
                return raw_files.of_pair(self.source, self.files, paths, name)
            case _:
                return images.of_folder(
                    self._where(found), self.files, paths[0], self._classes(name)
                )

    def _classes(self, name: str) -> list[str]:
        """The class folders in order; their places number the classes of the split `name`.

        All splits have the order of `train`, which networks are trained with. Where there is no
        such folder, they have that of the split with most classes, among those asked for and
        those with a usual name.
        """
        if not self.entries.get(name):
            return class_folders(self.files, self.root)
        train = self._held("train")
        usual = filter(is_split, self.entries)
        held = train | self._held(name) if train else self._held(name, *self.spec.splits, *usual)
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
        held = {split: set(class_folders(self.files, f"{self.root}/{split}")) for split in there}
        return {split: classes for split, classes in held.items() if classes}

    def _only_set(self) -> list[str]:
        """The entries of the only set of examples in the folder; none if it has a split's name."""
        files = [e for e, is_folder in self.entries.items() if not is_folder]
        files = [e for e in files if e.endswith((".parquet", ".npz", ".bin"))]
        folders = [e for e, is_folder in self.entries.items() if is_folder]
        sets = {_set(entry) for entry in files + folders}
        if sets & set(SPLITS) or any(map(is_split, folders)):
            return []
        if files and (folders or len(sets) > 1):
            return []
        return files or ([""] if folders else [])  # "": class folders in the source itself

    def _where(self, entries: list[str]) -> str:
        name = entries[0] if len(entries) == 1 else f"{entries[0]} and {len(entries) - 1} more"
        return f"{self.source.rstrip('/')}/{name}".rstrip("/")

    def _file(self, path: str, name: str, alone: bool) -> Split:
        where = self.source if self.is_file else f"{self.source}/{posixpath.basename(path)}"
        kind = posixpath.splitext(path)[1]
        _require_fitting(self.spec, kind)
        if path.endswith(".npz"):
            return arrays.of_npz(where, read_bytes(self.files, path, where), name, alone)
        if not path.endswith((".parquet", ".bin")):
            raise DataError(
                f"data.source {where} is of no known kind; wanted .parquet, .npz or .bin"
            )
        if not alone:
            raise DataError(
                f"data.source {where} is one file and data.splits names several; wanted a folder "
                f"with a file for each. Give the folder, with {name}{kind} in it"
            )
        if path.endswith(".bin"):
            spec = self.spec
            return raw_files.of_tokens(where, self.files, path, spec.sequence, spec.dtype)
        return Parquet(where, self.files, (path,), self.spec.columns)


def _require_fitting(spec: DataSpec, kind: str) -> None:
    """Raises DataError where a key is given that data of this kind do not have."""
    for key, own in (("columns", ".parquet"), ("sequence", ".bin")):
        if getattr(spec, key) is not None and kind != own:
            raise DataError(
                f"data.{key} is given and data.source {spec.source} holds "
                f"{kind or 'class folders'}; wanted it with {own} files. Leave it out"
            )


def _holds(entry: str, split: str) -> bool:
    sharded = entry.startswith(f"{split}-") and entry.endswith(".parquet")
    is_array = re.fullmatch(rf"{re.escape(split)}_(x(_.+)?|y)\.npy", entry) is not None
    return entry in (f"{split}.parquet", f"{split}.npz", f"{split}.bin") or sharded or is_array


def _set(entry: str) -> str:
    """The set that a file or folder belongs to: its name without suffix and shard number."""
    return re.sub(r"((-\d+(-of-\d+)?)?\.(parquet|npz|bin)|_(x(_.+)?|y)\.npy)$", "", entry)
