"""The planes of a render: one for a picture; for a film of a curve's training, one a frame.

The frames of a film share the two ends, so u is the same in all of them. v turns with the bend. It
must not jump, so each frame keeps the sign of the frame before. A frame whose bend lies on the line
between the ends spans no plane. It takes the v of the frame before, or at the beginning that of the
first frame which has one; its bend then has y = 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline import naming
from pipeline.checkpoints import files
from pipeline.checkpoints.place import stem
from pipeline.errors import InputsChangedError, LossatlasError
from pipeline.fingerprint import digest_of_array
from pipeline.geometry import plane
from pipeline.geometry.grid import Extent
from pipeline.geometry.plane import FrameFacts, Plane, Vector
from pipeline.problem import checkpoint, state_dict
from pipeline.problem.layout import Layout

# A bend this close to the line, as a share of its distance from the start, is on it but for the
# rounding of its weights (5e-4 in float16).
_ON_THE_LINE = 1e-3


class FilmPlanesError(LossatlasError):
    """The frames of a film are missing, out of order, or of different curves."""


@dataclass(frozen=True)
class Still:
    """One plane, by value."""

    plane: Plane

    def of_frame(self, frame: int, layout: Layout) -> Plane:
        return self.plane


@dataclass(frozen=True)
class Basis:
    """Which frame's bend gives a frame its v, and with which sign."""

    frame: int
    sign: Literal[1, -1]


@dataclass(frozen=True)
class Film:
    """One plane a frame, through two ends and a bend that is read when the plane is needed.

    Attributes:
        start, end: float64 (P,).
        paths: the checkpoint of each frame's bend.
        digests: of each frame's bend, as the survey found it.
        bases: one a frame.
    """

    start: Vector
    end: Vector
    paths: tuple[str, ...]
    digests: tuple[str, ...]
    bases: tuple[Basis, ...]

    def of_frame(self, frame: int, layout: Layout) -> Plane:
        """The plane of `frame`; `layout` is of the network that the checkpoints are of.

        Raises:
            InputsChangedError: the frame's checkpoint was replaced after the survey.
            LossatlasError: it cannot be read.
        """
        basis = self.bases[frame]
        path = self.paths[basis.frame]

        def bend_in(state: checkpoint.State) -> NDArray[Any]:
            return _points(state, path, layout, self.start, self.end)[1]

        bend = _unchanged(basis.frame, path, self.digests[basis.frame], layout, bend_in)
        return _flipped(plane.through_points(self.start, self.end, bend), basis.sign)


@dataclass(frozen=True)
class Trajectory:
    """One plane a frame, around weights that are read when the plane is needed.

    Attributes:
        u, v: float64 (P,), the same for all frames.
        paths: the checkpoint of each frame.
        digests: of each one's weights, as the survey found them.
    """

    u: Vector
    v: Vector
    paths: tuple[str, ...]
    digests: tuple[str, ...]

    def of_frame(self, frame: int, layout: Layout) -> Plane:
        """The plane of `frame`; `layout` is of the network that the checkpoints are of.

        Raises:
            InputsChangedError: the frame's checkpoint was replaced after the survey.
            LossatlasError: it cannot be read.
        """
        path = self.paths[frame]

        def weights_in(state: checkpoint.State) -> NDArray[Any]:
            return state_dict.weights_or_bend(state, layout, Path(path).name)

        weights = _unchanged(frame, path, self.digests[frame], layout, weights_in)
        return Plane(weights.astype("f8"), self.u, self.v, "euclidean")


Planes = Still | Film | Trajectory


@dataclass(frozen=True)
class Survey:
    """What one pass over a film's frames finds: geometry, digests and names, no weights.

    `epochs` are those of the training that wrote the frames, None where not all files have them.
    """

    film: Film
    frames: tuple[FrameFacts, ...]
    digests: tuple[str, ...]
    names: tuple[str, ...]
    epochs: tuple[float, ...] | None
    dx: float
    dy: float


def listing(frames: str | Sequence[str]) -> tuple[str, ...]:
    """The checkpoints of a film, in order: as given, or a folder's by the numbers in their names.

    Args:
        frames: paths, or one folder, or one pattern such as `run/bezier-*.pt`; `#nest` behind it
            names the same part of each.

    Raises:
        CheckpointFilesError: no such folder, or no checkpoint in it.
        FilmPlanesError: the list is empty, or its numbers do not rise.
    """
    paths = files.matching(frames, "plane.frames") if isinstance(frames, str) else tuple(frames)
    if not paths:
        raise FilmPlanesError("plane.frames is empty; wanted at least one checkpoint")
    naming.require(map(stem, paths), "plane.frames", naming.OF_A_FILE)
    for first, second in itertools.pairwise(paths):
        before, after = files.number(first), files.number(second)
        if before is None or after is None or after > before:
            continue
        if isinstance(frames, str):
            raise FilmPlanesError(
                f"plane.frames: {Path(first).name} and {Path(second).name} have the same number; "
                "wanted one checkpoint a frame. Name them by a pattern, such as "
                f"{frames.rstrip('/')}/{files.stem_before_number(first)}*"
            )
        raise FilmPlanesError(
            f"plane.frames is out of order: {Path(second).name} comes after "
            f"{Path(first).name}; wanted rising numbers. Sort the list"
        )
    return paths


def survey(
    paths: Sequence[str],
    ends: tuple[Vector, Vector] | None,
    layout: Layout,
    kind: Literal["bezier", "chain"],
    extent: Literal["common", "frame"] | tuple[float, float, float, float],
    margin: float | None,
) -> Survey:
    """Read every frame once, with the weights of one at a time in memory.

    Args:
        paths: from `listing`.
        ends: start and end, float64 (P,), or None where every frame is a curve checkpoint.
        layout: of the network that the weights are of.
        kind: of the curve.
        extent: one for all, one a frame, or given.
        margin: of the anchors' bounding box.

    Raises:
        FilmPlanesError: the frames have different ends, or no bend leaves the line.
    """
    given = ends
    basis: Basis | None = None
    bases: list[Basis | None] = []
    seen: list[tuple[tuple[plane.Anchor, ...], np.ndarray]] = []
    digests, of_bends = [], []
    previous: Plane | None = None
    for index, path in enumerate(paths):
        start, bend, end = _points(
            state_dict.load(path, layout), path, layout, *(ends or (None, None))
        )
        if given is None:
            _require_same_ends(ends, (start, end), paths[0], path)
        ends = ends or (start, end)
        digests.append(digest_of_array(start, bend, end))
        of_bends.append(digest_of_array(bend))
        spanned = _spanned(start, end, bend)
        if spanned is not None:
            turned = previous is not None and plane.dot(previous.v, spanned.v) < 0
            basis = Basis(index, -1 if turned else 1)
            previous = _flipped(spanned, basis.sign)
        bases.append(basis)
        on = previous or plane.along_line(start, end)
        points = (start, bend, end)
        anchors = plane.anchored(on, dict(zip(("start", "bend", "end"), points, strict=True)))
        seen.append((anchors, plane.project_curve(on, kind, points)))
    first = next((each for each in bases if each is not None), None)
    if first is None or ends is None:
        raise FilmPlanesError(
            "the bend of every frame lies on the line between the ends; wanted at least one that "
            "spans a plane. Use kind: interpolation for a line"
        )
    settled = tuple(each or first for each in bases)
    dx = plane.norm(ends[1] - ends[0])
    dy = max(abs(anchors[1].y) for anchors, _ in seen)
    extents = _extents([anchors for anchors, _ in seen], settled, extent, margin, (dx, dy))
    frames = tuple(FrameFacts(e, *s) for e, s in zip(extents, seen, strict=True))
    names = tuple(map(stem, paths))
    film = Film(*ends, tuple(paths), tuple(of_bends), settled)
    return Survey(film, frames, tuple(digests), names, files.epochs(paths), dx, dy)


def _extents(
    anchors: Sequence[tuple[plane.Anchor, ...]],
    bases: Sequence[Basis],
    extent: Literal["common", "frame"] | tuple[float, float, float, float],
    margin: float | None,
    unit: tuple[float, float],
) -> list[Extent]:
    match extent:
        case "common":
            together = [anchor for of_frame in anchors for anchor in of_frame]
            return [plane.extent_around(together, margin, unit)] * len(anchors)
        case "frame":
            # A frame without a plane of its own takes the extent of the one it borrows.
            own = [anchors[basis.frame] for basis in bases]
            return [
                plane.extent_around(of_frame, margin, (unit[0], abs(of_frame[1].y)))
                for of_frame in own
            ]
        case _:
            return [Extent(*extent)] * len(anchors)


def _points(
    state: checkpoint.State, path: str, layout: Layout, start: Vector | None, end: Vector | None
) -> tuple[Vector, Vector, Vector]:
    """Start, bend and end of one frame, float64 (P,); the ends as given, or from its checkpoint."""
    where = Path(path).name
    if state_dict.is_curve(state, layout):
        points = [w.astype("f8") for w in state_dict.curve_points(state, layout, where)]
        if len(points) != 3:
            raise FilmPlanesError(_several(where, len(points) - 2))
        own = (points[0], points[2])
        ends = own if start is None or end is None else (start, end)
        return ends[0], points[1], ends[1]
    if bends := state_dict.bends_alone(state, layout):
        raise FilmPlanesError(_several(where, bends))
    if start is None or end is None:
        raise FilmPlanesError(
            f"{where} is one set of weights; wanted a curve checkpoint, or start and end in "
            "plane.weights"
        )
    state_dict.match(state, layout, where)
    return start, state_dict.weights(state, layout).astype("f8"), end


def _unchanged(
    frame: int,
    path: str,
    digest: str,
    layout: Layout,
    weights_in: Callable[[checkpoint.State], NDArray[Any]],
) -> NDArray[Any]:
    """The weights in a frame's checkpoint, which have to be those that the survey found.

    Raises:
        InputsChangedError: they are not.
        LossatlasError: the checkpoint cannot be read.
    """
    state = state_dict.load(path, layout)
    try:
        weights = weights_in(state)
    except LossatlasError as error:
        raise _replaced(frame, path, str(error)) from None
    if digest_of_array(weights) != digest:
        raise _replaced(frame, path, "its weights differ")
    return weights


def _replaced(frame: int, path: str, what: str) -> InputsChangedError:
    return InputsChangedError(
        f"frame {frame} ({path}) was replaced after the render began ({what}); wanted the "
        "checkpoint as it was. Put the old file back, or render to a new store"
    )


def _several(where: str, bends: int) -> str:
    return (
        f"{where} is of a curve with {bends} bends, which lies in no plane; wanted one bend. Use "
        "frames that lossatlas connect has left with curve.bends: 1"
    )


def _spanned(start: Vector, end: Vector, bend: Vector) -> Plane | None:
    plane.along_line(start, end)  # identical ends are an error, a bend on the line is not
    try:
        spanned = plane.through_points(start, end, bend)
    except plane.PlaneError:
        return None
    height = spanned.project(bend)[1]
    return spanned if height > _ON_THE_LINE * plane.norm(bend - start) else None


def _flipped(spanned: Plane, sign: int) -> Plane:
    return spanned if sign > 0 else Plane(spanned.origin, spanned.u, -spanned.v, spanned.units)


def _require_same_ends(
    ends: tuple[Vector, Vector] | None, found: tuple[Vector, Vector], first: str, path: str
) -> None:
    """Raises FilmPlanesError where a frame's curve has other `ends` than the first one's."""
    if ends is None or all(np.array_equal(a, b) for a, b in zip(ends, found, strict=True)):
        return
    raise FilmPlanesError(
        f"{Path(path).name} has other ends than {Path(first).name}; wanted the states of one "
        "curve, whose ends stay where they are"
    )
