"""The checkpoint files of a group of marks: which, in which order, and what they are called."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from pipeline import naming
from pipeline.checkpoints import files
from pipeline.checkpoints.place import Place, stem, with_nest
from pipeline.errors import LossatlasError
from pipeline.marks_spec import MarksSpec, Source
from pipeline.spec_fields import LONGEST_LABEL

_MOST_FILES = 10_000


class MarksError(LossatlasError):
    """The marks of a spec cannot be found, or are none of its network."""


@dataclass(frozen=True)
class MarkFiles:
    """The files of one group.

    Attributes:
        key: of the spec that names them, such as `marks[0]`.
        asked: what the spec has there.
        paths: in order.
    """

    key: str
    asked: str | tuple[str, ...]
    paths: tuple[str, ...]

    def numbers(self) -> tuple[float | None, ...]:
        """The epochs that all files note in their headers, else the last numbers in their names."""
        epochs = files.epochs(self.paths)
        return epochs or tuple(map(files.number, self.paths))

    def folder(self) -> str:
        """The name of the folder that all files are in; empty where they are in several."""
        folders = {PurePath(path).parent.name for path in self.paths}
        return folders.pop() if len(folders) == 1 else ""

    def label(self, source: Source) -> str:
        """What the group is called where its spec does not say it."""
        if source != "weights":
            return source.upper()
        if len(self.paths) == 1:
            return stem(self.paths[0])[:LONGEST_LABEL]
        stems = {files.stem_before_number(path) for path in self.paths}
        folder = PurePath(self.asked).stem if isinstance(self.asked, str) else ""
        same = stems.pop() if len(stems) == 1 else folder
        return same.strip(" -_.*")[:LONGEST_LABEL] or self.key


def paths_of(group: MarksSpec, key: str) -> MarkFiles:
    """The files of a group of marks.

    Args:
        group: of a spec with absolute paths.
        key: of the group, for messages.

    Raises:
        CheckpointFilesError: a folder or a pattern holds no checkpoints.
        MarksError: there are too many, too few for what they are for, or they have no order.
        NamingError: the name of a file has characters that no name may have.
    """
    asked, key_of_files = group.files, f"{key}.{group.source}"
    paths = files.listed(asked, key_of_files)
    found = asked if isinstance(asked, str) else "the list"
    if len(paths) > _MOST_FILES:
        raise MarksError(
            f"{key_of_files}: {found} holds {len(paths):,} checkpoints; wanted at most "
            f"{_MOST_FILES:,}. Use a narrower pattern"
        )
    least, wanted = _least(group)
    if len(paths) < least:
        raise MarksError(
            f"{key_of_files}: {found} holds {len(paths):,} "
            f"{'checkpoint' if len(paths) == 1 else 'checkpoints'}; wanted at least {least:,} "
            f"{wanted}"
        )
    naming.require(names_of(paths), key_of_files, naming.OF_A_FILE)
    if group.line and isinstance(asked, str):
        _require_order(paths, key_of_files)
    return MarkFiles(key, asked, tuple(paths))


def labels_of(groups: Sequence[MarksSpec], files: Sequence[MarkFiles]) -> list[str]:
    """What each group is called: its label, or one that is found, which is made distinct.

    A label that is found gets its files' folder in front where several groups have the same one,
    and a number behind it where they still do.
    """
    pairs = list(zip(groups, files, strict=True))
    found = [group.label or each.label(group.source) for group, each in pairs]
    taken = {group.label for group in groups if group.label}
    labels = []
    for (group, each), label in zip(pairs, found, strict=True):
        if group.label is None:
            if found.count(label) > 1:
                label = f"{each.folder()} {label}".strip()[:LONGEST_LABEL]
            label = _distinct(label, taken)
        taken.add(label)
        labels.append(label)
    return labels


def _distinct(label: str, taken: Collection[str]) -> str:
    """`label`, with the lowest number behind it that makes it another than those that are taken."""
    tried, number = label, 1
    while tried in taken:
        number += 1
        behind = f" {number}"
        tried = label[: LONGEST_LABEL - len(behind)] + behind
    return tried


def kept(group: MarksSpec, key: str, names: Collection[str]) -> str | tuple[str, ...]:
    """The files of a group that are called `names`; all of them where one is missing.

    Files may have come to a folder since a render began.
    """
    if not isinstance(group.files, str) and not any("*" in place for place in group.files):
        return group.files
    paths = paths_of(group, key).paths
    own = tuple(p for p, name in zip(paths, names_of(paths), strict=True) if name in set(names))
    return own if len(own) == len(names) else group.files


def names_of(paths: Sequence[str]) -> tuple[str, ...]:
    """What files are called: without folders and ending.

    Where names repeat they have the part of the file behind them, as in `two#ema`, and the folder
    in front of them where they still do.
    """
    names = [stem(path) for path in paths]
    count = Counter(names)
    names = [
        with_nest(name, Place.of(path).nest) if count[name] > 1 else name
        for path, name in zip(paths, names, strict=True)
    ]
    count = Counter(names)
    return tuple(
        f"{PurePath(path).parent.name} {name}".strip() if count[name] > 1 else name
        for path, name in zip(paths, names, strict=True)
    )


def _least(group: MarksSpec) -> tuple[int, str]:
    """How many files a group wants, and what for."""
    if group.swag is not None:
        rank = group.swag.rank
        return rank + 1, f"for rank: {rank}, one more than the rank. Use a smaller rank"
    if group.swa is not None:
        return 2, "for a mean"
    return (2, "for a line. Leave line out") if group.line else (1, "")


def _require_order(paths: Sequence[str], key: str) -> None:
    """Raises MarksError where two files of a line have the same number."""
    for first, second in itertools.pairwise(paths):
        number = files.number(first)
        if number is not None and number == files.number(second):
            raise MarksError(
                f"{key}: {PurePath(first).name} and {PurePath(second).name} have the same number; "
                "wanted an order for the line. Use a narrower pattern, or a list of files"
            )
