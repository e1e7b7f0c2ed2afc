"""The render spec: what a user writes, checked and frozen."""

from __future__ import annotations

import difflib
import typing
import unicodedata
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline import naming
from pipeline.audit import least_sample
from pipeline.errors import LossatlasError, one_line
from pipeline.url import check
from pipeline.url import is_url as is_url

Quantity = Literal["loss", "error", "loss_stderr"]
Model = TypeVar("Model", bound=BaseModel)
# In the context of what is validated: it comes from a store, and was accepted when that was made.
_STORED = "stored"


class SpecError(LossatlasError):
    """The spec cannot be read, or says something that cannot be rendered."""


_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # some scripts and emoji are written with them


def _lettered(text: str) -> str:
    """A text that pictures and tables show: of one line, and visible."""
    shown = text.strip()
    hidden = [c for c in shown if unicodedata.category(c) in _INVISIBLE and c not in _JOINERS]
    if not shown or hidden:
        found = f"the character U+{ord(hidden[0]):04X} in it" if hidden else "nothing"
        raise ValueError(f"found {found}; wanted text of one line. Leave it out")
    return shown


Name = Annotated[str, Field(max_length=60), AfterValidator(_lettered)]
Label = Annotated[str, Field(max_length=24), AfterValidator(_lettered)]
Labels = tuple[Label, ...]


class SpecModel(BaseModel):
    """What every part of a spec is: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def a_name(name: str) -> str:
    """`name`, if it may be one of a file; for pydantic."""
    found = naming.fault(name)
    if found is not None:
        raise ValueError(f"{found}; wanted letters, digits and marks, such as train or test-2")
    return name


RunName = Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$"), AfterValidator(a_name)]


class NetworkSpec(SpecModel):
    """Which network: a built-in name, `package.module:callable` or `path/file.py:callable`.

    `label` is what pictures and reports call it.
    """

    factory: str = Field(min_length=1)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    label: Name | None = None

    @field_validator("kwargs")
    @classmethod
    def _plain(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Only what a store can keep: a resumed render builds its network from that."""
        parts: list[tuple[str, Any]] = list(kwargs.items())
        met = set()
        for name, value in parts:  # which grows
            if id(value) in met:
                continue
            met.add(id(value))
            match value:
                case dict():
                    parts += [(f"{name}.{key}", each) for key, each in value.items()]
                case list():
                    parts += [(f"{name}[{place}]", each) for place, each in enumerate(value)]
                case bytes() | set() | date():
                    raise ValueError(
                        f"{name} is a {type(value).__name__}; wanted text, numbers, true, false, "
                        "null, lists and mappings. Put it in quotes"
                    )
        return kwargs


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
_WEIGHTS_WANTED = {
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


class GridSpec(SpecModel):
    """How many points, and how many of them one task evaluates (`tile` squared)."""

    width: int = Field(ge=1)
    height: int = Field(ge=1)
    tile: int | Literal["auto"] = "auto"

    @field_validator("tile")
    @classmethod
    def _positive(cls, tile: int | str) -> int | str:
        if isinstance(tile, int) and tile < 1:
            raise ValueError(f"{tile} points; wanted at least 1, or auto")
        return tile

    @property
    def edge(self) -> int | None:
        """Points along a tile's edge, at most the grid's; None where that is left to us."""
        return None if self.tile == "auto" else min(self.tile, max(self.width, self.height))


class NormaliseSpec(SpecModel):
    """Per-channel mean and standard deviation of inputs scaled to [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} stds; wanted as many")
        if any(s <= 0 for s in self.std):
            raise ValueError("a std that is not positive; wanted the spread of each channel")
        return self


class DataSpec(SpecModel):
    """Where the examples come from, and the fixed subsample that is used."""

    source: str = Field(min_length=1)
    splits: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)
    select: Literal["stratified", "head"] = "stratified"
    seed: int = Field(default=0, ge=0)
    normalise: NormaliseSpec | None = None

    @field_validator("splits")
    @classmethod
    def _named(cls, splits: dict[str, int]) -> dict[str, int]:
        for split in splits:
            a_name(split)
        return splits

    @property
    def leading(self) -> str:
        """The split that trains, or calibrates, where none is named: `train`, else the first."""
        return "train" if "train" in self.splits else next(iter(self.splits))


class RefineSpec(SpecModel):
    """Which points need not be evaluated, and how sure that has to be.

    Attributes:
        tolerance: the error a predicted loss may have, as a share of the colour range; 0.002 where
            nothing is said. Half a step of an 8-bit picture.
        nats: the same as an absolute error, instead.
        error: tolerated in the fraction misclassified.
        scale: the space that predictions are made and compared in, as the picture is coloured.
        audit: how many predicted points are evaluated in the end, to see how far they were off.
        beyond: the share of predicted points that may be off by more, for the audit to pass.
        confidence: of what the audit says.
        seed: of the audit's sample.
    """

    tolerance: float | None = Field(default=None, gt=0, lt=1)
    nats: float | None = Field(default=None, gt=0)
    error: float = Field(default=0.02, gt=0, le=1)
    scale: Literal["log", "linear"] | None = None
    audit: int = Field(default=3000, ge=1)
    beyond: float = Field(default=0.002, gt=0, lt=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _complete(self, info: ValidationInfo) -> Self:
        if self.nats is not None and self.tolerance is not None:
            raise ValueError("refine has both tolerance and nats; wanted one of them")
        if self.nats is not None and self.scale == "log":
            raise ValueError("refine has nats with scale: log; wanted scale: linear, or tolerance")
        least = least_sample(self.beyond, self.confidence)
        if self.audit < least and not (info.context or {}).get(_STORED):
            raise ValueError(
                f"refine.audit is {self.audit:,}: so few points can never show beyond: "
                f"{self.beyond:g} at {100 * self.confidence:g} % confidence, even if none of them "
                f"is off; wanted audit: {least:,} or more, or a larger beyond"
            )
        return self

    @property
    def space(self) -> Literal["log", "linear"]:
        return self.scale or ("linear" if self.nats is not None else "log")

    @property
    def share(self) -> float | None:
        """The tolerance as a share of the colour range, or None where it is in nats."""
        return None if self.nats is not None else self.tolerance or 0.002


def refuse_unit(loss: str, unit: str | None) -> None:
    """A unit is for losses of the user's own.

    Raises:
        ValueError: the loss is built in.
    """
    known = {"cross_entropy": "its unit is nats", "mse": "it is shown as mean squared error"}
    if unit is not None and loss in known:
        raise ValueError(
            f"unit is {unit!r} with loss: {loss}, of which {known[loss]}; wanted a unit with a "
            "loss of your own alone. Leave it out"
        )


class EvaluateSpec(SpecModel):
    """What is computed at every grid point.

    `calibrate` names the split whose statistics batch norms use; `RenderSpec.calibrating` is what
    that comes to where nothing is said.
    """

    loss: str = "cross_entropy"
    unit: Label | None = None
    quantities: tuple[Quantity, ...] = ("loss", "error", "loss_stderr")
    batch_norm: Literal["recompute", "frozen"] = "recompute"
    calibrate: str | None = None
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    compile: bool = False
    tolerance: float | None = Field(default=None, gt=0)
    refine: RefineSpec | None = None

    @field_validator("quantities")
    @classmethod
    def _distinct(cls, quantities: tuple[str, ...]) -> tuple[str, ...]:
        if not quantities or len(set(quantities)) != len(quantities):
            raise ValueError("an empty list or a repeated name; wanted each quantity once")
        return quantities

    @model_validator(mode="after")
    def _measured(self) -> Self:
        refuse_unit(self.loss, self.unit)
        return self

    @model_validator(mode="after")
    def _calibrated(self) -> Self:
        if self.calibrate is not None and self.batch_norm == "frozen":
            raise ValueError(
                f"calibrate is {self.calibrate} with batch_norm: frozen, which computes no "
                "statistics; wanted it with recompute. Leave it out"
            )
        return self

    @model_validator(mode="after")
    def _tolerating(self) -> Self:
        if self.tolerance is not None and self.precision == "float32" and not self.compile:
            raise ValueError(
                "tolerance is given with precision: float32, which is what others are held to; "
                "wanted it with tf32, bf16 or compile. Leave it out"
            )
        return self


class RenderSpec(SpecModel):
    """One render: network, plane, grid, data, quantities and the store they go to."""

    name: RunName
    network: NetworkSpec
    plane: PlaneSpec
    grid: GridSpec
    data: DataSpec
    evaluate: EvaluateSpec = EvaluateSpec()
    store: str = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        plane = self.plane
        is_film = isinstance(plane, CurvePlane) and plane.frames is not None
        counts, wanted = _FILM_WANTED if is_film else _WEIGHTS_WANTED[plane.kind]
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
        if plane.kind == "interpolation" and self.grid.height != 1:
            raise ValueError(
                f"grid.height is {self.grid.height}; kind: interpolation is a line and wants 1"
            )
        if self.calibrating not in self.data.splits:
            raise ValueError(
                f"evaluate.calibrate is {self.calibrating}; wanted one of data.splits: "
                f"{', '.join(self.data.splits)}"
            )
        return self

    @property
    def calibrating(self) -> str:
        """The split that calibrates batch norm, where its statistics are recomputed."""
        return self.evaluate.calibrate or self.data.leading


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


def read(path: str | Path) -> RenderSpec:
    """Read a YAML spec; relative paths in it are taken from the spec's own folder.

    Raises:
        SpecError: the file is missing, is not YAML, or a key or value is wrong. The message
            names the key, and the nearest right one where the key is unknown.
    """
    path = Path(path)
    content = read_yaml(path, "network, plane, grid, data")
    content.setdefault("name", path.stem)
    content.setdefault("store", f"runs/{content['name']}.zarr")
    return _resolve_paths(parse(content, where=str(path)), path.absolute().parent)


def parse(content: dict[str, Any], where: str = "spec") -> RenderSpec:
    """Check `content` (as YAML or JSON gives it) and return the spec.

    Raises:
        SpecError: a key or value is wrong; `where` says in which file.
    """
    return validate(RenderSpec, content, where)


def stored(content: dict[str, Any], where: str) -> RenderSpec:
    """The spec in a store, which an earlier version may have accepted that knew fewer mistakes.

    Raises:
        SpecError: as for `parse`.
    """
    return validate(RenderSpec, content, where, {_STORED: True})


def stored_refine(content: dict[str, Any]) -> RefineSpec:
    """The same of `evaluate.refine` alone."""
    return RefineSpec.model_validate(content, context={_STORED: True})


def read_yaml(path: Path, keys: str) -> dict[str, Any]:
    """The top-level mapping of a YAML file.

    Args:
        path: of the file.
        keys: the keys that belong in it, for the message of a file that is no mapping.

    Raises:
        SpecError: the file is missing, is not YAML, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; wanted a YAML spec. Check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read ({error}); wanted a YAML spec") from None
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not YAML: {one_line(error)}") from None
    except RecursionError:
        raise SpecError(f"{path} is nested too deeply; wanted a YAML spec. Flatten it") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path} holds {type(content).__name__}; wanted keys such as {keys}")
    return content


def validate(
    model: type[Model],
    content: dict[str, Any],
    where: str,
    context: dict[str, Any] | None = None,
) -> Model:
    """Check `content` against `model`, a kind of spec.

    Raises:
        SpecError: a key or value is wrong; `where` says in which file.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        raise SpecError(f"{where}: {'; '.join(_explain(error, model))}") from None


def _resolve_paths(spec: RenderSpec, folder: Path) -> RenderSpec:
    paths: dict[str, Any] = {"weights": tuple(absolute(w, folder) for w in spec.plane.weights)}
    if isinstance(spec.plane, CurvePlane):
        match spec.plane.frames:
            case str() as frames:
                paths["frames"] = absolute(frames, folder)
            case tuple() as frames:
                paths["frames"] = tuple(absolute(frame, folder) for frame in frames)
    plane = spec.plane.model_copy(update=paths)
    return spec.model_copy(
        update={
            "network": spec.network.model_copy(
                update={"factory": absolute_callable(spec.network.factory, folder)}
            ),
            "plane": plane,
            "data": spec.data.model_copy(
                update={"source": absolute_callable(spec.data.source, folder, path_by_itself=True)}
            ),
            "evaluate": spec.evaluate.model_copy(
                update={"loss": absolute_callable(spec.evaluate.loss, folder)}
            ),
            "store": absolute(spec.store, folder),
        }
    )


def absolute(path: str, folder: Path) -> str:
    """`path` taken from `folder`; a URL as it is."""
    return check(path) if is_url(path) else str((folder / Path(path).expanduser()).resolve())


def absolute_callable(name: str, folder: Path, path_by_itself: bool = False) -> str:
    """`file.py:name` with an absolute file; any other name unchanged unless it is a path."""
    file, colon, attribute = name.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{absolute(file, folder)}:{attribute}"
    return absolute(name, folder) if path_by_itself else name


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses what plain YAML takes in silence: a key written twice, and an alias of a
    part inside that part.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._open: list[str] = []  # the anchors of the parts that are being read

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if not isinstance(event, yaml.AliasEvent):
            self._open.append(getattr(event, "anchor", None) or "")
            node = super().compose_node(parent, index)
            self._open.pop()
            return node
        anchor, mark = str(event.anchor), typing.cast("Any", event.start_mark)
        if anchor in self._open:
            raise yaml.composer.ComposerError(
                None, None, f"*{anchor} stands inside of &{anchor}", mark
            )
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = super().compose_mapping_node(anchor)
        # Here, before merge keys (<<) bring in what may be written once more.
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = sorted({key[1] for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.composer.ComposerError(
                None, None, f"{', '.join(repeated)} is written twice", node.start_mark
            )
        return node


def _explain(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    explained = set()
    for item in error.errors():
        key = ".".join(str(part) for part in _untagged(item["loc"]))
        alternatives = key.partition(".tile.")[1] or key.partition(".extent.")[1]
        if alternatives:
            # One value with several possible types: pydantic reports each; the first says enough.
            key = key.partition(alternatives)[0] + alternatives.rstrip(".")
            if key in explained:
                continue
            explained.add(key)
        match item["type"]:
            case "extra_forbidden":
                yield f"{key}: unknown key; {_nearest(item['loc'], model)}"
            case "missing":
                yield f"{key}: missing; wanted a value"
            case "union_tag_invalid" | "union_tag_not_found":
                kinds = ", ".join(_WEIGHTS_WANTED)
                found = item["input"].get("kind") if isinstance(item["input"], dict) else None
                yield f"plane.kind: found {found!r}; wanted one of {kinds}"
            case "value_error":
                message = item["msg"].removeprefix("Value error, ")
                yield f"{key}: {message}" if key else message
            case _:
                message = item["msg"][0].lower() + item["msg"][1:]
                yield f"{key}: found {item['input']!r}; {message}"


def _untagged(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """`location` without the kind of plane that pydantic puts after `plane`."""
    return tuple(
        part
        for before, part in zip((None, *location), location, strict=False)
        if before != "plane" or part not in _WEIGHTS_WANTED
    )


def _nearest(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    keys = _keys_at(location[:-1], model)
    near = difflib.get_close_matches(str(location[-1]), keys, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"wanted one of {', '.join(keys)}"


def _keys_at(location: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """The keys allowed at a place in the spec, found by walking the models' annotations."""
    model: Any = root
    for part in _untagged(location):
        model = model.model_fields[part].annotation
        choices = typing.get_args(model)
        if choices:
            kind = location[-1]
            model = next(
                (
                    choice
                    for choice in choices
                    if isinstance(choice, type)
                    and issubclass(choice, BaseModel)
                    and (
                        "kind" not in choice.model_fields
                        or kind in typing.get_args(choice.model_fields["kind"].annotation)
                    )
                ),
                choices[0],
            )
    return list(model.model_fields)
