"""The planes that a spec asks for, and the checkpoints that they go through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.checkpoints import files
from pipeline.checkpoints.place import stem
from pipeline.fingerprint import digest_of_array
from pipeline.geometry import film_planes, fit_planes, plane
from pipeline.geometry.directions import given_directions, random_directions
from pipeline.geometry.eigenvectors import Eigenvectors
from pipeline.geometry.film_planes import Planes, Still, Trajectory
from pipeline.geometry.grid import Extent
from pipeline.geometry.plane import FrameFacts, Plane, Vector
from pipeline.geometry.plane_checkpoints import Checkpoints
from pipeline.plane_spec import (
    CurvePlane,
    DirectionsPlane,
    FitPlane,
    InterpolationPlane,
    PatchPlane,
    PlaneSpec,
    PointsPlane,
    RandomPlane,
)
from pipeline.problem import peers
from pipeline.problem.checkpoint import Known, State
from pipeline.problem.layout import Layout
from pipeline.spec import RenderSpec


@dataclass(frozen=True)
class Geometry:
    """The planes of a render, and what its store says of them.

    Attributes:
        planes: of every frame.
        frames: what each of them looks like.
        digests: of the weights that they go through.
        facts: what the store says of them.
        buffers: of the first known checkpoint, by the network's names.
        known: the checkpoints to check the evaluator at: a film's ends and its first and last
            bend, the last and the first of a best-fit plane, all of any other plane.
        parts: what decides their numbers besides the weights, for the fingerprint.
    """

    planes: Planes
    frames: tuple[FrameFacts, ...]
    digests: tuple[str, ...]
    facts: dict[str, Any]
    buffers: dict[str, NDArray[np.generic]]
    known: tuple[Known, ...]
    parts: Mapping[str, Any] = field(default_factory=dict)


def with_files(spec: RenderSpec) -> RenderSpec:
    """`spec` with the files that the patterns of a best-fit plane match now.

    A store keeps them: its render goes on with these, whatever is added to the folder later.

    Raises:
        LossatlasError: a pattern matches nothing, or too few or too many files.
    """
    asked = spec.plane
    if not isinstance(asked, FitPlane):
        return spec
    files: dict[str, Any] = {}
    if asked.frames is not None:
        files["frames"] = film_planes.listing(asked.frames)
    weights, key = asked.weights or asked.frames, "weights" if asked.weights else "frames"
    files["weights"] = fit_planes.listing(weights or (), f"plane.{key}", asked.last)
    files["last"] = None
    return spec.model_copy(update={"plane": asked.model_copy(update=files)})


def geometry_of(
    spec: RenderSpec, network: nn.Module, eigenvectors: Callable[[State], Eigenvectors]
) -> Geometry:
    """The planes that `spec` asks for.

    Args:
        spec: of a render, from `with_files`.
        network: with initial weights; it is only looked at.
        eigenvectors: finds those that the plane asks for, at a checkpoint.

    Raises:
        LossatlasError: a checkpoint cannot be read, is of another network, or spans no plane.
    """
    checkpoints = Checkpoints(spec, network)
    asked = spec.plane
    if isinstance(asked, CurvePlane) and asked.frames is not None:
        return _film(asked, checkpoints)
    if isinstance(asked, FitPlane):
        return _fit(asked, checkpoints)
    loaded = checkpoints.of_plane()
    weights = [checkpoints.vector(state) for _, state in loaded]
    directions = [checkpoints.direction(*each) for each in _directions_in(asked)]
    found = eigenvectors(loaded[0][1]) if spec.has_eigenvectors else None
    directions += [] if found is None else list(found.vectors)
    the_plane, frame, facts = _span(asked, checkpoints.layout, weights, directions)
    if found is not None:
        the_plane = replace(the_plane, units="euclidean")  # unit vectors at right angles
        frame = replace(frame, directions=found.vectors)
        facts |= {"units": "euclidean", "names": found.names, "eigen": found.facts}
    digests = tuple(digest_of_array(w) for w in weights)
    known = tuple(
        Known(anchor.name, file, state)
        for anchor, (file, state) in zip(frame.anchors, loaded, strict=True)
    )
    buffers = checkpoints.buffers(known[0])
    parts = _normalising(asked) | {
        f"plane.directions[{i}]": digest_of_array(d) for i, d in enumerate(directions)
    }
    return Geometry(Still(the_plane), (frame,), digests, facts, buffers, known, parts)


def _film(asked: CurvePlane, checkpoints: Checkpoints) -> Geometry:
    paths = film_planes.listing(asked.frames or ())
    ends = None
    known: list[Known] = []
    if asked.weights:
        loaded = checkpoints.of_plane()
        start, end = (checkpoints.vector(state) for _, state in loaded)
        ends = start, end
        known = [Known(name, *each) for name, each in zip(("start", "end"), loaded, strict=True)]
    extent = asked.extent or "common"
    found = film_planes.survey(paths, ends, checkpoints.layout, asked.curve, extent, asked.margin)
    for path in dict.fromkeys((paths[0], paths[-1])):
        known += checkpoints.of_frame(path)
    facts = {
        "kind": asked.kind,
        "curve": asked.curve,
        "units": "euclidean",
        "dx": found.dx,
        "dy": found.dy,
        "frames": list(found.names),
        **({"epochs": list(found.epochs)} if found.epochs else {}),
    }
    buffers = checkpoints.buffers(known[0])
    return Geometry(found.film, found.frames, found.digests, facts, buffers, tuple(known))


def _fit(asked: FitPlane, checkpoints: Checkpoints) -> Geometry:
    """The best-fit plane of many weights, or one around each of them."""
    paths = tuple(asked.weights)
    key = "plane.frames" if asked.frames == asked.weights else "plane.weights"
    found = fit_planes.survey(
        paths, checkpoints.one, checkpoints.layout.size, asked.centre, asked.components, key
    )
    fit, names = found.fit, ("first", "last")
    ends_in = Path(paths[0]).name, Path(paths[-1]).name
    checkpoints.require_statistics(found.states[1], ends_in[1])
    # The last weights' buffers are those of a trained network.
    known = [Known(*each) for each in zip(names, ends_in, found.states, strict=True)][::-1]
    (x0, y0), (x1, y1) = fit.places.min(axis=0).tolist(), fit.places.max(axis=0).tolist()
    dx, dy = x1 - x0, y1 - y0
    facts: dict[str, Any] = {
        "kind": asked.kind,
        "units": "euclidean",
        "dx": dx,
        "dy": dy,
        "components": list(asked.components),
        "explained": list(fit.explained),
        "centre": asked.centre,
        "checkpoints": len(paths),
    }
    parts = {
        "plane.centre": asked.centre,
        "plane.components": list(asked.components),
        "plane.fit": digest_of_array(fit.plane.origin, fit.plane.u, fit.plane.v),
    }
    buffers = checkpoints.buffers(known[0])
    if asked.frames is not None:
        return _trajectory(asked, checkpoints, fit.plane, facts, buffers, tuple(known), parts)
    ends = (w.astype("f8") for w in found.ends)
    anchors = plane.anchored(fit.plane, dict(zip(names, ends, strict=True)))
    corners = [plane.Anchor("", x0, y0, 0.0), plane.Anchor("", x1, y1, 0.0)]
    frame = FrameFacts(_extent(asked, corners, (dx, dy)), anchors, None)
    return Geometry(Still(fit.plane), (frame,), found.digests, facts, buffers, tuple(known), parts)


def _trajectory(
    asked: FitPlane,
    checkpoints: Checkpoints,
    fitted: Plane,
    facts: dict[str, Any],
    buffers: dict[str, NDArray[np.generic]],
    known: tuple[Known, ...],
    parts: Mapping[str, Any],
) -> Geometry:
    """A film: the plane of each frame has one of the weights in its middle."""
    paths = tuple(asked.frames or ())
    weights = (checkpoints.one(path, Path(path).name)[1] for path in paths)
    digests = tuple(digest_of_array(each) for each in weights)
    half = facts["dx"] / 2, facts["dy"] / 2
    corners = [plane.Anchor("", sign * half[0], sign * half[1], 0.0) for sign in (-1, 1)]
    here = plane.Anchor("θ", 0.0, 0.0, 0.0)
    frame = FrameFacts(_extent(asked, corners, (facts["dx"], facts["dy"])), (here,), None)
    epochs = files.epochs(paths)
    facts = facts | {"frames": list(map(stem, paths))}
    facts |= {"epochs": list(epochs)} if epochs else {}
    planes = Trajectory(fitted.u, fitted.v, paths, digests)
    return Geometry(planes, (frame,) * len(paths), digests, facts, buffers, known, parts)


def _directions_in(asked: PlaneSpec) -> list[tuple[str, str]]:
    """The direction files that a plane names, and what messages call them."""
    if not isinstance(asked, DirectionsPlane):
        return []
    return [
        (path, f"plane.directions[{i}] ({Path(path).name})")
        for i, path in enumerate(asked.directions)
    ]


def _normalising(asked: PlaneSpec) -> dict[str, Any]:
    """How directions are normalised, where that is not as in stores that do not say it."""
    if not isinstance(asked, DirectionsPlane | RandomPlane):
        return {}
    found = {"plane.normalise": asked.normalise, "plane.ignore": asked.ignore}
    of_heads = {"plane.heads": dict(asked.heads)} if asked.heads else {}
    if isinstance(asked, RandomPlane) and list(found.values()) == ["filter", "bias_norm"]:
        return of_heads
    return found | of_heads


def _span(
    asked: PlaneSpec, layout: Layout, weights: Sequence[Vector], directions: Sequence[Vector]
) -> tuple[Plane, FrameFacts, dict[str, Any]]:
    """The plane through `weights`, its geometry, and what the store says of it."""
    curve = None
    match asked:
        case PointsPlane():
            the_plane = plane.through_points(*weights)
            names = ["w₀", "w₁", "w₂"]
        case CurvePlane():
            the_plane = plane.of_curve(weights)
            names = ["start", "bend", "end"]
            curve = plane.project_curve(the_plane, asked.curve, weights)
        case RandomPlane():
            the_plane = random_directions(
                weights[0], layout.reals, asked.seed, asked.normalise, asked.ignore, asked.heads
            )
            names = ["θ"]
        case DirectionsPlane():
            the_plane = given_directions(
                weights[0], directions, layout.reals, asked.normalise, asked.ignore, asked.heads
            )
            names = ["θ"]
        case InterpolationPlane():
            the_plane = plane.along_line(*weights)
            names = ["start", "end"]
        case PatchPlane():
            the_plane = plane.patch(*weights)
            names = ["θ₁", "θ₂", "θ₃", "θ₄"]
        case FitPlane():
            raise AssertionError("_fit spans this one")
    anchors = plane.anchored(the_plane, dict(zip(names, weights, strict=True)))
    if isinstance(asked, PatchPlane):  # exactly, where projecting rounds
        corners = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
        anchors = tuple(
            plane.Anchor(name, *corner, 0.0) for name, corner in zip(names, corners, strict=True)
        )
    dx = max(a.x for a in anchors) - min(a.x for a in anchors)
    dy = max(a.y for a in anchors) - min(a.y for a in anchors)
    facts: dict[str, Any] = {"kind": asked.kind, "units": the_plane.units, "dx": dx, "dy": dy}
    if isinstance(asked, CurvePlane):
        facts["curve"] = asked.curve
    if isinstance(asked, DirectionsPlane):
        facts["names"] = [peers.name_of(path) for path in asked.directions]
    return the_plane, FrameFacts(_extent(asked, anchors, (dx, dy)), anchors, curve), facts


def _extent(asked: PlaneSpec, anchors: Sequence[plane.Anchor], unit: tuple[float, float]) -> Extent:
    match asked.extent:
        case (x0, x1):
            return Extent(x0, x1, 0.0, 0.0)
        case (x0, x1, y0, y1):
            return Extent(x0, x1, y0, y1)
    if isinstance(asked, DirectionsPlane):
        return Extent(-1.0, 1.0, *((-1.0, 1.0) if asked.count == 2 else (0.0, 0.0)))
    return plane.extent_around(anchors, getattr(asked, "margin", None), unit)
