"""Checks of a store's metadata, and of what is at a URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import zarr
from pydantic import Field, TypeAdapter

from pipeline.errors import one_line
from pipeline.geometry.grid import Grid
from pipeline.store import keys
from pipeline.store.errors import StoreError
from pipeline.url import is_url

FORMAT = 1


@dataclass(frozen=True)
class MarkGroup:
    """A group of marks, as a store keeps it.

    Attributes:
        label: what pictures and reports call it.
        line: whether a line joins its marks in their order.
        glyph, colour: as the spec asks for; None where a picture may choose.
        count: how many marks it has.
        names: of each mark: its file without folders and ending, `mean`, or `sample 3`.
        numbers: the epoch or step of each mark; None where it has none.
        files: the names of the checkpoints that a mean or samples are made of; else none.
    """

    label: str
    line: bool
    glyph: str | None
    colour: str | None
    count: Annotated[int, Field(strict=True, gt=0)]
    names: list[str]
    numbers: list[float | None]
    files: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Shape:
    """The types of a store's attributes; those with a default may be missing."""

    splits: list[str]
    quantities: list[str]
    anchors: list[str]
    grid: dict[str, Annotated[int, Field(strict=True, gt=0)]]
    spec: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    plane: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    code: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    marks: list[MarkGroup] = field(default_factory=list)
    curvature: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    created: str = ""


SHAPE = TypeAdapter(_Shape)


def refuse_links(url: str) -> None:
    """Refuse a local store that has links in it: what is written to a store must stay in it.

    The store itself may be a link. The folders of arrays and notes are checked, the folders of
    single tiles are not.

    Raises:
        StoreError: one of them is a link.
    """
    if is_url(url):
        return
    folders = [Path(url)]
    for folder in folders:
        with os.scandir(folder) as found:
            entries = list(found)
        for entry in entries:
            if entry.is_symlink():
                raise StoreError(
                    f"{entry.path} is a link to {os.readlink(entry.path)}; wanted a store whose "
                    "parts lie in its own folder. Copy what it points to there"
                )
            if folder == folders[0] and entry.is_dir():
                folders.append(Path(entry.path))


def require_arrays(group: zarr.Group, grid: Grid, attributes: Mapping[str, Any]) -> None:
    """Raises KeyError or ValueError if the arrays do not fit the grid and the attributes."""
    quantities, refined = attributes["quantities"], bool(attributes.get("refined"))
    names = [*quantities, "done", "seconds", "worker", "extent", "anchor"]
    marks = sum(group["count"] for group in attributes.get("marks", ()))
    if marks:
        names += ["mark", "mark_done", *(f"mark_{quantity}" for quantity in quantities)]
    if refined:
        names += ["level", "predicted_error"]
        names += [f"evaluated/{name}" for name in ("points", "values", "steps")]
    arrays: dict[str, Any] = {name: group[name] for name in names}
    points, tiles = (grid.height, grid.width), (grid.tile_rows, grid.tile_columns)
    for name in (*quantities, *(name for name in ("level", "predicted_error") if refined)):
        if arrays[name].shape[-2:] != points or arrays[name].chunks[-1] != grid.tile:
            raise ValueError(f"{name} has other points or tiles than the grid")
    for name in ("done", "seconds", "worker"):
        # While frames are added to a film, its arrays have more frames than its metadata.
        if arrays[name].shape[0] < grid.frames or arrays[name].shape[1:] != tiles:
            raise ValueError(f"{name} has other tiles than the grid")
    for name, rest in (("extent", (4,)), ("anchor", (len(attributes["anchors"]), 3))):
        if arrays[name].shape[0] < grid.frames or arrays[name].shape[1:] != rest:
            raise ValueError(f"{name} has another shape than (frames, {rest})")
    if marks:
        _require_marks(arrays, marks, grid.frames, attributes)


def _require_marks(
    arrays: Mapping[str, Any], marks: int, frames: int, attributes: Mapping[str, Any]
) -> None:
    """Raises ValueError if the arrays of marks do not fit the groups of marks."""
    for group in attributes["marks"]:
        if not len(group["names"]) == len(group["numbers"]) == group["count"]:
            raise ValueError(f"marks: {group['label']} has another count than names or numbers")
    if arrays["mark"].shape[0] < frames or arrays["mark"].shape[1:] != (marks, 3):
        raise ValueError(f"mark has another shape than (frames, {marks}, 3)")
    if arrays["mark_done"].shape != (marks,):
        raise ValueError(f"mark_done has another shape than ({marks},)")
    shape, block = (len(attributes["splits"]), marks), arrays["mark_done"].chunks[0]
    for name in (f"mark_{quantity}" for quantity in attributes["quantities"]):
        if arrays[name].shape != shape or arrays[name].chunks != (shape[0], block):
            raise ValueError(f"{name} has other splits, marks or blocks than the store")


def damaged(url: str, what: str) -> StoreError:
    return StoreError(
        f"{url} has damaged metadata ({what}); wanted that of a render. Put its zarr.json back, or "
        "render its spec to another store"
    )


def kind_at(url: str) -> Literal["nothing", "store", "unfinished", "other"]:
    """What is at `url`: nothing, a store, the remains of an interrupted creation, or other."""
    if not is_url(url):
        path = Path(url)
        try:
            exists = path.exists()
        except OSError as error:  # a name that is too long, or a folder without permission
            raise StoreError(
                f"{url} cannot be looked for ({error.strerror}); wanted the path of a .zarr. Check "
                "its length and the permissions of its folders"
            ) from None
        if exists and not path.is_dir():
            return "other"
        if exists and not os.access(path, os.R_OK | os.X_OK):
            raise StoreError(f"{url} cannot be read; wanted read permission")
    try:
        attributes = dict(keys.open_group(url, "r", use_consolidated=False).attrs)
    except (FileNotFoundError, KeyError):
        return "nothing" if keys.is_empty(url) else "other"
    except ValueError as error:
        raise StoreError(f"{url} has damaged metadata: {one_line(error)}") from None
    match attributes.get("lossatlas"):
        case "creating":
            return "unfinished"
        case int():
            return "store"
    return "other"
