"""The survey of a render's marks: where they lie, what they are called, and their digests.

Each file is read once, with the weights of a few marks at a time in memory. Means and Gaussians are
computed as the files pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import memory
from pipeline.fingerprint import digest_of_parts
from pipeline.geometry.film_planes import Planes
from pipeline.geometry.mark_files import MarkFiles, MarksError, labels_of, names_of, paths_of
from pipeline.geometry.marks import (
    FileMarks,
    Marks,
    MarkSource,
    MeanMark,
    SampleMarks,
    mark_of,
)
from pipeline.geometry.plane import FrameFacts, Plane
from pipeline.geometry.weight_averages import RunningGaussian, RunningMean
from pipeline.marks_spec import MarksSpec
from pipeline.problem import state_dict
from pipeline.problem.layout import Layout

_MOST_MARKS = 10_000
# The marks of a film are projected in blocks: the planes of all frames are read once a block.
_BLOCK_BYTES = 256 << 20


@dataclass(frozen=True)
class MarksSurvey:
    """What one pass over the files of all marks finds.

    Attributes:
        marks: for the workers.
        places: x, y and distance off the plane, float64 (frames, marks, 3).
        parts: what decides the marks' numbers, for the fingerprint.
        facts: what a store says of each group (`pipeline.store.metadata.MarkGroup`).
        remarks: lines that a user should read.
    """

    marks: Marks
    places: NDArray[np.float64]
    parts: Mapping[str, Any]
    facts: tuple[dict[str, Any], ...]
    remarks: tuple[str, ...]

    def beside(self, frames: Sequence[FrameFacts]) -> tuple[FrameFacts, ...]:
        """The facts of all frames, with the places of their marks, if there are any."""
        if not self.facts:
            return tuple(frames)
        pairs = zip(frames, self.places, strict=True)
        return tuple(replace(frame, marks=places) for frame, places in pairs)


def survey(
    asked: Sequence[MarksSpec], planes: Planes, frames: int, layout: Layout, is_frozen: bool
) -> MarksSurvey:
    """Read the files of all marks once.

    Args:
        asked: the groups of marks of a spec.
        planes: of the render.
        frames: how many planes there are.
        layout: of the network that the marks are of.
        is_frozen: whether batch norms use running statistics, so that each mark has to have some.

    Raises:
        LossatlasError: a pattern matches nothing or too much, a file cannot be read, or it is of
            another network.
    """
    files = [paths_of(group, f"marks[{number}]") for number, group in enumerate(asked)]
    _require_few(asked, files)
    if not asked:
        return MarksSurvey(Marks(), np.empty((frames, 0, 3)), {}, (), ())
    labels = labels_of(asked, files)
    projector = _Projector(planes, frames, layout)
    groups, parts, facts, remarks = [], dict[str, Any](), [], []
    for number, (group, found) in enumerate(zip(asked, files, strict=True)):
        key = f"marks[{number}]"
        if group.source != "weights" and is_frozen and layout.statistics:
            raise MarksError(
                f"{key} asks for {group.source}, and evaluate.batch_norm is frozen; wanted "
                "recompute, because an average of weights has no running statistics. Use "
                "batch_norm: recompute"
            )
        source, digests = _survey_group(group, found, layout, is_frozen, projector)
        groups.append(source)
        parts |= _parts(key, group, digests)
        facts.append(_facts(group, labels[number], found, source))
        remarks += _remark_of_duplicates(key, found, digests)
    places = projector.places()
    return MarksSurvey(Marks(tuple(groups), is_frozen), places, parts, tuple(facts), tuple(remarks))


class _Projector:
    """Projects marks into the planes of all frames, in the order in which they are added."""

    def __init__(self, planes: Planes, frames: int, layout: Layout) -> None:
        self._planes, self._layout, self._frames = planes, layout, frames
        self._only: Plane | None = planes.of_frame(0, layout) if frames == 1 else None
        self._most = 1 if frames == 1 else max(1, _BLOCK_BYTES // (4 * max(1, layout.size)))
        self._block: list[NDArray[np.float32]] = []
        self._found: list[NDArray[np.float64]] = []

    def add(self, weights: NDArray[np.float32]) -> None:
        """Add a mark's weights, float32 (P,)."""
        self._block.append(weights)
        if len(self._block) >= self._most:
            self._project()

    def places(self) -> NDArray[np.float64]:
        """Of all marks that were added, float64 (frames, marks, 3)."""
        self._project()
        return np.concatenate([np.empty((self._frames, 0, 3)), *self._found], axis=1)

    def _project(self) -> None:
        if not self._block:
            return
        places = np.empty((self._frames, len(self._block), 3))
        for frame in range(self._frames):
            plane = self._only or self._planes.of_frame(frame, self._layout)
            for place, weights in zip(places[frame], self._block, strict=True):
                place[:] = plane.project(weights.astype("f8"))
        self._found.append(places)
        self._block = []


def _survey_group(
    group: MarksSpec, files: MarkFiles, layout: Layout, is_frozen: bool, projector: _Projector
) -> tuple[MarkSource, list[str]]:
    """The marks of one group, and the digest of each of its files."""
    digests, average = [], _average(group, files, layout)
    for path in files.paths:
        where = f"{files.key} ({path.rpartition('/')[2]})"
        mark = mark_of(state_dict.load(path, layout), where, layout, is_frozen)
        digests.append(mark.digest)
        if average is None:
            projector.add(mark.weights)
        else:
            average.add(mark.weights)
    if isinstance(average, RunningGaussian) and group.swag is not None:
        asked = group.swag
        samples = SampleMarks(average.gaussian(), asked.samples, asked.scale, asked.seed)
        for number in range(samples.count):
            projector.add(samples.weights(number))
        return samples, digests
    if average is not None:
        mean = MeanMark(average.mean.astype(mark.weights.dtype))
        projector.add(mean.weights)
        return mean, digests
    return FileMarks(files.paths, tuple(digests)), digests


def _average(group: MarksSpec, files: MarkFiles, layout: Layout) -> RunningMean | None:
    if group.source == "weights":
        return None
    if group.swag is None:
        return RunningMean(layout.size)
    rank = group.swag.rank
    wanted, free = 4 * rank * layout.size, memory.available()
    if wanted > free:
        raise MarksError(
            f"{files.key}.swag keeps {rank} deviations of {layout.size:,} weights, "
            f"{wanted / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free; wanted what "
            "fits. Use a smaller rank"
        )
    return RunningGaussian(layout.size, rank)


def _require_few(asked: Sequence[MarksSpec], files: Sequence[MarkFiles]) -> None:
    """Raises MarksError where all groups together have too many marks."""
    counts = [
        len(found.paths) if group.source == "weights" else group.swag.samples if group.swag else 1
        for group, found in zip(asked, files, strict=True)
    ]
    if sum(counts) > _MOST_MARKS:
        raise MarksError(
            f"marks has {sum(counts):,} in "
            f"{len(counts):,} {'group' if len(counts) == 1 else 'groups'}; wanted at most "
            f"{_MOST_MARKS:,}. Use narrower patterns, or fewer samples"
        )


def _parts(key: str, group: MarksSpec, digests: Sequence[str]) -> dict[str, Any]:
    """The fingerprint's parts of a group; how it is drawn is none of them."""
    parts: dict[str, Any] = {
        f"{key}.files": len(digests),
        f"{key}.{group.source}": digest_of_parts({"digests": list(digests)}),
    }
    if group.swag is not None:
        settings = group.swag.model_dump(mode="json", exclude={"weights"})
        parts |= {f"{key}.swag.{name}": value for name, value in settings.items()}
    return parts


def _facts(group: MarksSpec, label: str, files: MarkFiles, source: MarkSource) -> dict[str, Any]:
    """What a store says of a group of marks."""
    names, numbers = list(names_of(files.paths)), list(files.numbers())
    of: dict[str, Any] = {}
    match source:
        case MeanMark():
            names, numbers, of = ["mean"], [None], {"files": names}
        case SampleMarks():
            of = {"files": names}
            names = [f"sample {number + 1}" for number in range(source.count)]
            numbers = [None] * source.count
    return {
        "label": label,
        "line": group.line,
        "glyph": group.glyph,
        "colour": group.colour,
        "count": source.count,
        "names": names,
        "numbers": numbers,
        **of,
    }


def _remark_of_duplicates(key: str, files: MarkFiles, digests: Sequence[str]) -> list[str]:
    """A line where files of a group hold the same weights."""
    first: dict[str, int] = {}
    pairs = [
        (first[digest], place)
        for place, digest in enumerate(digests)
        if first.setdefault(digest, place) != place
    ]
    if not pairs:
        return []
    names = names_of(files.paths)
    one, other = (names[place] for place in pairs[0])
    more = f", and so have {len(pairs) - 1:,} more" if len(pairs) > 1 else ""
    return [f"{key}: {one} and {other} have the same weights{more}"]
