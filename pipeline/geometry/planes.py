"""The planes that a spec asks for, and the checkpoints that they go through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.errors import LossatlasError
from pipeline.fingerprint import digest_of_array
from pipeline.geometry import film_planes, plane
from pipeline.geometry.film_planes import Planes, Still
from pipeline.geometry.grid import Extent
from pipeline.geometry.plane import FrameFacts, Plane, Vector
from pipeline.plane_spec import CurvePlane, PlaneSpec
from pipeline.problem import checkpoint, state_dict
from pipeline.problem.checkpoint import Known, State
from pipeline.problem.layout import Layout
from pipeline.spec import RenderSpec


class PlanesError(LossatlasError):
    """A checkpoint cannot be used for the plane that names it."""


@dataclass(frozen=True)
class Geometry:
    """The planes of a render, and what its store says of them.

    Attributes:
        planes: of every frame.
        frames: what each of them looks like.
        digests: of the weights that they go through.
        facts: what the store says of them.
        buffers: of the first checkpoint, by the network's names.
        known: the checkpoints to check the evaluator at: a film's ends and its first and last
            bend, all of any other plane.
    """

    planes: Planes
    frames: tuple[FrameFacts, ...]
    digests: tuple[str, ...]
    facts: dict[str, Any]
    buffers: dict[str, NDArray[np.generic]]
    known: tuple[Known, ...]


def geometry_of(spec: RenderSpec, network: nn.Module) -> Geometry:
    """The planes that `spec` asks for.

    Args:
        spec: of a render.
        network: with initial weights; it is only looked at.

    Raises:
        LossatlasError: a checkpoint cannot be read, is of another network, or spans no plane.
    """
    checkpoints = Checkpoints(spec, network)
    asked = spec.plane
    if isinstance(asked, CurvePlane) and asked.frames is not None:
        return _film(asked, checkpoints)
    loaded = checkpoints.of_plane()
    weights = [checkpoints.vector(state) for _, state in loaded]
    the_plane, frame, facts = _span(asked, checkpoints.layout, weights)
    digests = tuple(digest_of_array(w) for w in weights)
    known = tuple(
        Known(anchor.name, file, state)
        for anchor, (file, state) in zip(frame.anchors, loaded, strict=True)
    )
    buffers = checkpoints.buffers(known[0])
    return Geometry(Still(the_plane), (frame,), digests, facts, buffers, known)


class Checkpoints:
    """Reads the checkpoints that the plane of a spec names.

    Args:
        spec: of a render.
        network: that they are of, with initial weights.
    """

    def __init__(self, spec: RenderSpec, network: nn.Module) -> None:
        self._plane = spec.plane
        self._is_frozen = spec.evaluate.batch_norm == "frozen"
        self._network = network
        self.layout = Layout.of(network)

    def of_plane(self) -> list[tuple[str, State]]:
        """The file's name and the state of each of the plane's weights, one for each anchor.

        Raises:
            CheckpointError: one cannot be read, or belongs to another network.
            PlanesError: a single file that is no curve checkpoint.
        """
        paths = self._plane.weights
        if self._plane.kind == "curve" and len(paths) == 1:
            where = f"plane.weights[0] ({Path(paths[0]).name})"
            state = checkpoint.load(paths[0])
            if not state_dict.is_curve(state, self.layout):
                raise PlanesError(
                    f"{where} is no curve checkpoint; wanted one, or start, bend and end as three"
                )
            return [(Path(paths[0]).name, each.state) for each in self._of_curve(state, where)]
        states = [checkpoint.load(path) for path in paths]
        for index, (path, state) in enumerate(zip(paths, states, strict=True)):
            where = f"plane.weights[{index}] ({Path(path).name})"
            state_dict.match(state, self.layout, where)
            self._require_statistics(state, where)
        return [(Path(path).name, state) for path, state in zip(paths, states, strict=True)]

    def of_frame(self, path: str) -> list[Known]:
        """The checkpoints that one frame's file holds: a bend, or a curve's three points."""
        state, file = checkpoint.load(path), Path(path).name
        if not state_dict.is_curve(state, self.layout):
            return [Known("bend", file, state)]
        return self._of_curve(state, file)

    def vector(self, state: State) -> Vector:
        """The weights of a checkpoint, float64 (P,)."""
        return state_dict.weights(state, self.layout).astype("f8")

    def buffers(self, known: Known) -> dict[str, NDArray[np.generic]]:
        """The buffers of a checkpoint, by the network's names."""
        found = state_dict.buffers(known.state, self._network)
        return {name: buffer.numpy() for name, buffer in found.items()}

    def _of_curve(self, state: State, where: str) -> list[Known]:
        """Each point of a curve checkpoint, with the file's buffers, which need not hold any."""
        self._require_statistics(state, where)
        points = state_dict.curve_points(state, self.layout, where)
        names = ("start", *("bend" for _ in points[2:]), "end")
        buffers = state_dict.buffers(state, self._network)
        return [
            Known(name, Path(where).name, {**state_dict.named(point, self.layout), **buffers})
            for name, point in zip(names, points, strict=True)
        ]

    def _require_statistics(self, state: State, where: str) -> None:
        """Raises PlanesError where a checkpoint lacks the statistics that `frozen` uses."""
        missing = state_dict.missing_statistic(state, self.layout)
        if missing is not None and self._is_frozen:
            raise PlanesError(
                f"{where} holds no statistics of batch norms ({missing}), which "
                "evaluate.batch_norm: frozen wants. Use batch_norm: recompute"
            )


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


def _span(
    asked: PlaneSpec, layout: Layout, weights: Sequence[Vector]
) -> tuple[Plane, FrameFacts, dict[str, Any]]:
    """The plane through `weights`, its geometry, and what the store says of it."""
    curve = None
    match asked.kind:
        case "points":
            the_plane = plane.through_points(*weights)
            names = ["w₀", "w₁", "w₂"]
        case "curve":
            the_plane = plane.of_curve(weights)
            names = ["start", "bend", "end"]
            curve = plane.project_curve(the_plane, asked.curve, weights)
        case "random":
            the_plane = plane.random_directions(weights[0], layout.reals, asked.seed)
            names = ["θ"]
        case "interpolation":
            the_plane = plane.along_line(*weights)
            names = ["start", "end"]
    anchors = plane.anchored(the_plane, dict(zip(names, weights, strict=True)))
    dx = max(a.x for a in anchors) - min(a.x for a in anchors)
    dy = max(a.y for a in anchors) - min(a.y for a in anchors)
    facts: dict[str, Any] = {"kind": asked.kind, "units": the_plane.units, "dx": dx, "dy": dy}
    if asked.kind == "curve":
        facts["curve"] = asked.curve
    return the_plane, FrameFacts(_extent(asked, anchors, (dx, dy)), anchors, curve), facts


def _extent(asked: PlaneSpec, anchors: Sequence[plane.Anchor], unit: tuple[float, float]) -> Extent:
    match asked.extent:
        case (x0, x1):
            return Extent(x0, x1, 0.0, 0.0)
        case (x0, x1, y0, y1):
            return Extent(x0, x1, y0, y1)
    return plane.extent_around(anchors, getattr(asked, "margin", None), unit)
