"""The render spec: what a user writes, checked and frozen."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pipeline.curvature_spec import CurvatureSpec, check_curvature
from pipeline.loss_names import WITH_ERROR, Mean
from pipeline.loss_spec import LossOptions, check_loss, check_quantities
from pipeline.marks_spec import Groups, check_labels
from pipeline.plane_spec import (
    CurvePlane,
    DirectionsPlane,
    FitPlane,
    PlaneSpec,
    check_plane,
    is_line,
)
from pipeline.quantities import (
    KNOWN,
    OF_CURVATURE,
    OwnQuantity,
    Quantity,
    with_companions,
)
from pipeline.refine_spec import STORED, RefineSpec
from pipeline.spec_fields import Label, Name, RunName, SpecModel, a_name
from pipeline.spec_file import absolute, absolute_callable, read_yaml, validate


class NetworkSpec(SpecModel):
    """Which network: a built-in name, `package.module:callable` or `path/file.py:callable`.

    `output` names the part of what it returns that is its output; `label` is what pictures and
    reports call it.
    """

    factory: str = Field(min_length=1)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    output: int | str | None = None
    label: Name | None = None

    @field_validator("kwargs")
    @classmethod
    def _plain(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Refuse what a store cannot keep: a resumed render builds its network from it."""
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
        """Points along a tile's edge, at most the grid's; None for auto."""
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
    """Where the examples come from, and the fixed subsample that is used.

    `columns` are of parquet files: argument of forward → column, and `target` → column. `sequence`
    and `dtype` are of files of token ids.
    """

    source: str = Field(min_length=1)
    splits: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)
    select: Literal["stratified", "head"] = "stratified"
    seed: int = Field(default=0, ge=0)
    normalise: NormaliseSpec | None = None
    columns: dict[str, str] | None = None
    sequence: int | None = Field(default=None, ge=1)
    dtype: Literal["uint16", "uint32"] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.dtype is not None and self.sequence is None:
            raise ValueError(
                f"dtype is {self.dtype} without sequence; wanted it for files of token ids, with "
                "the length of a window"
            )
        if self.columns is not None and not self.columns.keys() - {"target"}:
            raise ValueError(
                "columns names no input; wanted input: COLUMN, or a column for each argument of "
                "forward, such as input_ids: COLUMN"
            )
        return self

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


class EvaluateSpec(SpecModel):
    """What is computed at every grid point.

    `calibrate` names the split whose statistics batch norms use; `RenderSpec.calibrating` has the
    default.
    """

    loss: str = "cross_entropy"
    loss_options: LossOptions | None = None
    mean: Mean | None = None
    unit: Label | None = None
    quantities: tuple[Quantity, ...] = KNOWN
    metrics: dict[OwnQuantity, str] = Field(default_factory=dict)
    curvature: CurvatureSpec | None = None
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
        check_loss(self, self.unit)
        check_quantities(self.loss, self.quantities, self.metrics)
        others = [name for name in self.stored if name not in KNOWN]
        if others and self.refine is not None and self.refine.nats is not None:
            raise ValueError(
                f"refine.nats is of the loss alone, and {others[0]} is stored too; wanted "
                "refine.tolerance, a share of each quantity's own colour range"
            )
        return self

    @property
    def stored(self) -> tuple[str, ...]:
        """The quantities that are stored: those asked for, and every metric.

        `error` is left out where the loss has none. What says how good eigenvalues and traces are
        is stored with them.
        """
        asked = [q for q in self.quantities if q != "error" or self.loss in WITH_ERROR]
        plain = (q for q in asked if q not in OF_CURVATURE)
        return tuple(dict.fromkeys((*plain, *self.metrics, *with_companions(asked))))

    @property
    def has_curvature(self) -> bool:
        """Whether quantities of curvature are among those that are stored."""
        return any(name in OF_CURVATURE for name in self.quantities)

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
    marks: Groups = ()
    store: str = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        check_plane(self.plane)
        if not (info.context or {}).get(STORED):
            check_labels(self.marks)
        if is_line(self.plane) and self.grid.height != 1:
            raise ValueError(
                f"grid.height is {self.grid.height}; kind: {self.plane.kind} is a line and wants 1"
            )
        if self.calibrating not in self.data.splits:
            raise ValueError(
                f"evaluate.calibrate is {self.calibrating}; wanted one of data.splits: "
                f"{', '.join(self.data.splits)}"
            )
        self._check_curvature()
        return self

    def _check_curvature(self) -> None:
        asked = self.evaluate
        given = {
            f"precision: {asked.precision}": asked.precision != "float32",
            "compile": asked.compile,
        }
        check_curvature(
            asked.curvature,
            asked.quantities,
            asked.loss,
            given,
            self.data.splits,
            self.has_eigenvectors,
        )

    @property
    def has_eigenvectors(self) -> bool:
        """Whether the plane is spanned by eigenvectors of the Hessian."""
        return isinstance(self.plane, DirectionsPlane) and self.plane.eigen is not None

    @property
    def calibrating(self) -> str:
        """The split that calibrates batch norm, where its statistics are recomputed."""
        return self.evaluate.calibrate or self.data.leading

    @property
    def curvature(self) -> CurvatureSpec | None:
        """How curvature is measured, with its split and examples; None where none is asked for."""
        if not self.evaluate.has_curvature and not self.has_eigenvectors:
            return None
        asked = self.evaluate.curvature or CurvatureSpec()
        split = asked.split or self.calibrating
        examples = asked.examples or self.data.splits[split]
        return asked.model_copy(update={"split": split, "examples": examples})


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
    """The spec in a store. An earlier version may have accepted more than this one does.

    Raises:
        SpecError: as for `parse`.
    """
    return validate(RenderSpec, content, where, {STORED: True})


def _resolve_paths(spec: RenderSpec, folder: Path) -> RenderSpec:
    paths: dict[str, Any] = {"weights": _absolute_files(spec.plane.weights, folder)}
    if isinstance(spec.plane, CurvePlane | FitPlane) and spec.plane.frames is not None:
        paths["frames"] = _absolute_files(spec.plane.frames, folder)
    if isinstance(spec.plane, DirectionsPlane):
        paths["directions"] = _absolute_files(spec.plane.directions, folder)
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
                update={
                    "loss": absolute_callable(spec.evaluate.loss, folder),
                    "metrics": {
                        name: absolute_callable(called, folder)
                        for name, called in spec.evaluate.metrics.items()
                    },
                }
            ),
            "marks": tuple(
                group.with_files(_absolute_files(group.files, folder)) for group in spec.marks
            ),
            "store": absolute(spec.store, folder),
        }
    )


def _absolute_files(files: str | tuple[str, ...], folder: Path) -> str | tuple[str, ...]:
    if isinstance(files, str):
        return absolute(files, folder)
    return tuple(absolute(file, folder) for file in files)
