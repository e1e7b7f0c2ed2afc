"""What a user writes about the plane: one model a kind."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.spec_fields import Files, Labels, SpecModel

Normalise = Literal["filter", "layer", "none"]
Ignore = Literal["bias_norm", "none"]
Component = Annotated[int, Field(ge=1)]


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
    """Two seeded random directions around one set of weights; by default filter-normalised."""

    kind: Literal["random"]
    weights: tuple[str, ...]
    seed: int = Field(default=0, ge=0)
    normalise: Normalise = "filter"
    ignore: Ignore = "bias_norm"
    heads: dict[str, Annotated[int, Field(ge=1)]] | None = None
    extent: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0)
    labels: Labels | None = None


class DirectionsPlane(SpecModel):
    """One or two given directions around one set of weights; one of them is a line.

    They are those of files, or eigenvectors of the loss's Hessian at the weights.
    """

    kind: Literal["directions"]
    weights: tuple[str, ...]
    directions: tuple[str, ...] = ()
    eigen: tuple[int, ...] | None = None
    normalise: Normalise = "filter"
    ignore: Ignore = "bias_norm"
    heads: dict[str, Annotated[int, Field(ge=1)]] | None = None
    extent: tuple[float, float] | tuple[float, float, float, float] | None = None
    labels: Labels | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_they_are(cls, given: Any) -> Any:
        """Eigenvectors keep their lengths, and all of their entries."""
        if isinstance(given, dict) and given.get("eigen") is not None:
            return {"normalise": "none", "ignore": "none"} | given
        return given

    @property
    def count(self) -> int:
        """How many directions there are."""
        return len(self.directions if self.eigen is None else self.eigen)


class InterpolationPlane(SpecModel):
    """The line through two sets of weights: a grid of height 1."""

    kind: Literal["interpolation"]
    weights: tuple[str, ...]
    margin: float | None = Field(default=None, ge=0)
    extent: tuple[float, float] | None = None
    labels: Labels | None = None


class FitPlane(SpecModel):
    """The plane that fits many weights best: two of their principal components.

    With `frames` it is a film: each frame has one of the weights in its middle, and all have the
    same directions.
    """

    kind: Literal["fit"]
    weights: Files = ()
    frames: Files | None = None
    last: int | None = Field(default=None, ge=3)
    centre: Literal["mean", "last"] = "mean"
    components: tuple[Component, Component] = (1, 2)
    margin: float | None = Field(default=None, ge=0)
    extent: tuple[float, float, float, float] | None = None
    labels: Labels | None = None


class PatchPlane(SpecModel):
    """The bilinear patch between four sets of weights, which lies in no plane."""

    kind: Literal["patch"]
    weights: tuple[str, ...]
    margin: float | None = Field(default=None, ge=0)
    extent: tuple[float, float, float, float] | None = None
    labels: Labels | None = None


PlaneSpec = Annotated[
    PointsPlane
    | CurvePlane
    | RandomPlane
    | InterpolationPlane
    | DirectionsPlane
    | FitPlane
    | PatchPlane,
    Field(discriminator="kind"),
]
WEIGHTS_WANTED = {
    "points": ((3,), "three checkpoints"),
    "curve": ((1, 3), "one curve checkpoint, or start, bend and end"),
    "random": ((1,), "one checkpoint"),
    "interpolation": ((2,), "two checkpoints"),
    "directions": ((1,), "one checkpoint"),
    "fit": ((), "three checkpoints or more"),
    "patch": ((4,), "four checkpoints"),
}
_LABELS_WANTED = {
    "points": (3, "three, one for each of the weights"),
    "curve": (3, "three, for start, bend and end"),
    "random": (1, "one"),
    "interpolation": (2, "two, for start and end"),
    "directions": (1, "one"),
    "fit": (2, "two, for the first and the last weights"),
    "patch": (4, "four, one for each of the weights"),
}
_FILM_WANTED = ((0, 2), "start and end, or none where each frame is a curve checkpoint")


def check_plane(plane: PlaneSpec) -> None:
    """See that the parts of a plane fit each other.

    Raises:
        ValueError: they do not; for pydantic.
    """
    if getattr(plane, "heads", None) and getattr(plane, "normalise", "") != "filter":
        raise ValueError(
            "plane.heads is given without normalise: filter, which alone has filters; wanted both. "
            "Leave one out"
        )
    is_film = isinstance(plane, CurvePlane) and plane.frames is not None
    counts, wanted = _FILM_WANTED if is_film else WEIGHTS_WANTED[plane.kind]
    if isinstance(plane, FitPlane):
        _check_fit(plane)
    elif len(plane.weights) not in counts:
        with_frames = " with frames" if is_film else ""
        raise ValueError(
            f"plane.weights has {len(plane.weights)} entries; "
            f"kind: {plane.kind}{with_frames} wants {wanted}"
        )
    if isinstance(plane, DirectionsPlane):
        _check_directions(plane)
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


def is_line(plane: PlaneSpec) -> bool:
    """Whether the plane is a line: its grid has the height 1."""
    return plane.kind == "interpolation" or (
        isinstance(plane, DirectionsPlane) and plane.count == 1
    )


def _check_fit(plane: FitPlane) -> None:
    if not plane.weights and not plane.frames:
        wanted = WEIGHTS_WANTED[plane.kind][1]
        raise ValueError(f"plane.weights is empty; kind: fit wants {wanted}, or a pattern of them")
    if plane.components[0] == plane.components[1]:
        raise ValueError(f"plane.components is {list(plane.components)}; wanted two different ones")
    if plane.frames is not None and plane.labels is not None:
        raise ValueError("plane.labels is given with frames, whose weights have no names of theirs")


def _check_directions(plane: DirectionsPlane) -> None:
    count = plane.count
    if plane.eigen is not None:
        _check_eigen(plane, plane.eigen)
    elif count not in (1, 2):
        raise ValueError(f"plane.directions has {count} entries; wanted one or two files")
    wanted = "four numbers" if count == 2 else "two numbers, for a line along one direction"
    if plane.extent is not None and len(plane.extent) != 2 * count:
        raise ValueError(f"plane.extent has {len(plane.extent)} numbers; wanted {wanted}")


def _check_eigen(plane: DirectionsPlane, eigen: tuple[int, ...]) -> None:
    wanted = "one or two different ones: 1 for the largest eigenvalue, −1 for the smallest"
    if plane.directions:
        raise ValueError("plane has both directions and eigen; wanted one of them")
    if len(eigen) not in (1, 2) or 0 in eigen or len(set(eigen)) != len(eigen):
        raise ValueError(f"plane.eigen is {list(eigen)}; wanted {wanted}, and so on")
    if (plane.normalise, plane.ignore) != ("none", "none"):
        raise ValueError(
            "plane.normalise or plane.ignore is given with eigen, whose directions keep their "
            "lengths and all their entries; wanted neither. Leave them out"
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
