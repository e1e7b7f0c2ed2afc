"""What a user writes about the plane: one model a kind."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.spec_fields import Labels, SpecModel


class PointsPlane(SpecModel):
    """The plane through three sets of weights; coordinates are Euclidean distances."""

    kind: Literal["points"]
    weights: tuple[str, ...]
    margin: float | None = Field(default=None, ge=0)
    extent: tuple[float, float, float, float] | None = None
    labels: Labels | None = None


class CurvePlane(SpecModel):
    """The plane of a curve with one bend: start, bend, end, or one curve checkpoint.

    With `frames` it is a film: one plane a state of the curve, and `weights` is the start and the
    end where the frames hold bends only, or nothing where each is a curve checkpoint of its own.
    """

    kind: Literal["curve"]
    weights: tuple[str, ...] = ()
    frames: str | tuple[str, ...] | None = None
    curve: Literal["bezier", "chain"] = "bezier"
    margin: float | None = Field(default=None, ge=0)
    extent: Literal["common", "frame"] | tuple[float, float, float, float] | None = None
    labels: Labels | None = None


class RandomPlane(SpecModel):
    """Two seeded, filter-normalised random directions around one set of weights."""

    kind: Literal["random"]
    weights: tuple[str, ...]
    seed: int = Field(default=0, ge=0)
    extent: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0)
    labels: Labels | None = None


class InterpolationPlane(SpecModel):
    """The line through two sets of weights: a grid of height 1."""

    kind: Literal["interpolation"]
    weights: tuple[str, ...]
    margin: float | None = Field(default=None, ge=0)
    extent: tuple[float, float] | None = None
    labels: Labels | None = None


PlaneSpec = Annotated[
    PointsPlane | CurvePlane | RandomPlane | InterpolationPlane, Field(discriminator="kind")
]
WEIGHTS_WANTED = {
    "points": ((3,), "three checkpoints"),
    "curve": ((1, 3), "one curve checkpoint, or start, bend and end"),
    "random": ((1,), "one checkpoint"),
    "interpolation": ((2,), "two checkpoints"),
}
_LABELS_WANTED = {
    "points": (3, "three, one for each of the weights"),
    "curve": (3, "three, for start, bend and end"),
    "random": (1, "one"),
    "interpolation": (2, "two, for start and end"),
}
_FILM_WANTED = ((0, 2), "start and end, or none where each frame is a curve checkpoint")


def check_plane(plane: PlaneSpec) -> None:
    """See that the parts of a plane fit each other.

    Raises:
        ValueError: they do not; for pydantic.
    """
    is_film = isinstance(plane, CurvePlane) and plane.frames is not None
    counts, wanted = _FILM_WANTED if is_film else WEIGHTS_WANTED[plane.kind]
    if len(plane.weights) not in counts:
        with_frames = " with frames" if is_film else ""
        raise ValueError(
            f"plane.weights has {len(plane.weights)} entries; "
            f"kind: {plane.kind}{with_frames} wants {wanted}"
        )
    _check_labels(plane)
    if isinstance(plane.extent, str) and not is_film:
        raise ValueError(f"plane.extent is {plane.extent} without frames; wanted four numbers")
    if isinstance(plane.extent, tuple):
        if getattr(plane, "margin", None) is not None:
            raise ValueError("plane has both margin and extent; wanted one of them")
        lows, highs = plane.extent[::2], plane.extent[1::2]
        if any(low >= high for low, high in zip(lows, highs, strict=True)):
            raise ValueError(
                f"plane.extent {list(plane.extent)} is empty or reversed; "
                "wanted x0 < x1 (and y0 < y1)"
            )


def _check_labels(plane: PlaneSpec) -> None:
    labels = plane.labels
    if labels is None:
        return
    count, wanted = _LABELS_WANTED[plane.kind]
    if len(labels) != count:
        raise ValueError(
            f"plane.labels has {len(labels)} entries; kind: {plane.kind} wants {wanted}"
        )
    if len(set(labels)) != count:
        raise ValueError(
            f"plane.labels has a name twice ({', '.join(labels)}); wanted different ones"
        )
