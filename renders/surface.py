"""From a store to a picture: one frame's numbers as a frozen value, and what is known of it.

This is the one module of `renders` that touches a store.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import LossatlasError
from pipeline.plane import Anchor
from renders.map.tone import SAMPLE

if TYPE_CHECKING:
    from pipeline.preview import Preview
    from pipeline.store import Store

_SPLITS = ("train", "test", "val", "valid", "validation", "data")
UNITS = {"loss": "nats per example", "error": "fraction misclassified", "loss_stderr": "nats"}
TITLES = {"loss": "loss", "error": "error", "loss_stderr": "standard error of the loss"}


class SurfaceError(LossatlasError):
    """The store does not hold what the picture asks for."""


@dataclass(frozen=True, eq=False)
class Surface:
    """One quantity over one split and one frame.

    Attributes:
        values: float32 (height, width), row 0 at the lowest y; NaN and inf are results.
        finished: bool, same shape: whether a cell's tile is committed, or in a preview whether the
            cell is evaluated or predicted.
        extent: x0, x1, y0, y1 of the outermost cell centres.
        anchors: named points of the plane.
        curve: float64 (points, 3): x, y, distance off the plane; None where there is none.
    """

    values: npt.NDArray[np.float32]
    finished: npt.NDArray[np.bool_]
    extent: tuple[float, float, float, float]
    anchors: tuple[Anchor, ...] = ()
    curve: npt.NDArray[np.float64] | None = None
    quantity: str = "loss"
    split: str = "train"
    frame: int = 0


@dataclass(frozen=True)
class Provenance:
    """What a picture's small print says; empty strings where the store does not know.

    `share` is what is shown of the frame; `preview` says that predictions will still change.
    """

    name: str = ""
    network: str = ""
    data: str = ""
    normalisation: str = ""
    grid: str = ""
    plane: str = ""
    units: str = ""
    date: str = ""
    version: str = ""
    share: float = 1.0
    refinement: str = ""
    preview: bool = False
    splits: Mapping[str, int] = field(default_factory=dict)


def opened(url: str) -> Store:
    """The store at `url`; a preview of it where it is being refined.

    Raises:
        LossatlasError: there is no store, or it cannot be read.
    """
    # Zarr takes most of a second to import; a misspelt option need not wait for it.
    from pipeline.store import Store

    store = Store.open(url)
    if not store.refined:
        return store
    from pipeline.preview import Preview

    return Preview.of(store)


def read_surface(
    store: Store,
    quantity: str,
    split: str | None,
    frame: int,
    finished: npt.NDArray[np.bool_] | None = None,
) -> Surface:
    """One frame of a store; `split` None takes the first, the one that calibrates batch norm.

    Args:
        store, quantity, split, frame: what is read.
        finished: the frame's own of `store.finished_frames`, where it is known, bool (height,
            width); it may be False everywhere. None lists the store's commits, which films of many
            frames cannot afford once a frame.

    Raises:
        SurfaceError: no such quantity, split or frame, or no tile of the frame is finished.
    """
    split = store.splits[0] if split is None else split
    _known("quantity", quantity, store.quantities, store.url)
    _known("split", split, store.splits, store.url)
    if not 0 <= frame < store.frames:
        raise SurfaceError(
            f"{store.url} has no frame {frame}: wanted one of 0 to {store.frames - 1}"
        )
    known = finished is not None
    finished = store.finished(frame) if finished is None else finished
    if not known and not finished.any():
        raise SurfaceError(
            f"{store.url} has no finished tile in frame {frame}: wanted at least one to draw; "
            f"run `lossatlas resume {store.url}` first"
        )
    extent = store.extent(frame)
    return Surface(
        store.read(quantity, split, frame),
        finished,
        (extent.x0, extent.x1, extent.y0, extent.y1),
        tuple(store.anchors(frame)),
        store.curve(frame),
        quantity,
        split,
        frame,
    )


def finished_values(
    store: Store, quantity: str, splits: Sequence[str]
) -> Iterator[npt.NDArray[np.float32]]:
    """The finished values of every frame, one flat float32 array a frame and split."""
    for frame, finished in sorted(store.finished_frames().items()):
        for split in splits:
            yield store.read(quantity, split, frame)[finished]


def sample_stride(store: Store) -> int:
    """Keep every n-th value so that a tone fit stays within `SAMPLE` values."""
    return -(-store.frames * store.height * store.width // SAMPLE)


def provenance(store: Store, frame: int) -> Provenance:
    """The facts for the small print, as far as the store's attributes hold them."""
    spec: Mapping[str, Any] = store.attrs.get("spec") or {}
    network = spec.get("network") or {}
    data = spec.get("data") or {}
    evaluate = spec.get("evaluate") or {}
    plane: Mapping[str, Any] = store.attrs.get("plane") or {}
    kind = str(plane.get("kind") or (spec.get("plane") or {}).get("kind") or "")
    return Provenance(
        name=str(spec.get("name") or PurePath(store.url).stem),
        network=proper(bare(str(network.get("factory") or ""))),
        data=_data_line(data),
        normalisation=_normalisation(str(evaluate.get("batch_norm") or "")),
        grid=f"{store.width:,} × {store.height:,}" + _of_frames(store.frames, frame),
        plane=kind,
        units=str(plane.get("units") or ("filter-normalised" if kind == "random" else "euclidean")),
        date=str(store.attrs.get("created") or "")[:10],
        version=_version(),
        share=float(store.finished(frame).mean()),
        refinement=_refinement(store, frame),
        preview=is_preview(store),
        splits={str(k): int(v) for k, v in (data.get("splits") or {}).items()},
    )


def is_preview(store: Store) -> bool:
    """Whether the store is shown as far as its refinement has come."""
    return _previewed(store) is not None


def lasting_share(store: Store, frame: int, finished: npt.NDArray[np.bool_]) -> float:
    """Which part of a frame is as it will stay, in [0, 1]: finished, in a preview evaluated."""
    preview = _previewed(store)
    return float(finished.mean()) if preview is None else preview.evaluated_share(frame)


def _previewed(store: Store) -> Preview | None:
    if not store.refined:
        return None
    from pipeline.preview import Preview

    return store if isinstance(store, Preview) else None


def _refinement(store: Store, frame: int) -> str:
    """What is evaluated of a frame, and how sure the rest is; empty where all of it is."""
    level = store.level(frame)
    if level is None:
        return ""
    from pipeline.account import Account
    from pipeline.course import Course

    evaluated, final = int((level >= 0).sum()), not is_preview(store)
    return Account.of(Course.read(store), level.size, evaluated, final).small_print()


def _known(what: str, name: str, known: Sequence[str], url: str) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"the nearest is {near[0]!r}" if near else f"it has {', '.join(known)}"
    raise SurfaceError(f"{url} has no {what} {name!r}: wanted one it was rendered with; {hint}")


def bare(name: str) -> str:
    """The attribute of a `file.py:callable`, any other name as it is."""
    # A factory may be a path on someone's machine; the picture names the network only.
    file, colon, attribute = name.rpartition(":")
    return attribute if colon and file else name


def proper(name: str) -> str:
    """A well-known name as people write it: `preresnet20` becomes PreResNet-20."""
    found = re.fullmatch(r"(preresnet|resnet|vgg|cifar|mnist|mlp|cnn)[_-]?(\d*)(.*)", name, re.I)
    if not found:
        return name
    stem, number, rest = found.groups()
    proper = {"preresnet": "PreResNet", "resnet": "ResNet"}.get(stem.lower(), stem.upper())
    return proper + (f"-{number}" if number else "") + rest


def _data_line(data: Mapping[str, Any]) -> str:
    if not data:
        return ""
    place = PurePath(bare(str(data.get("source") or "")))
    # A file that is called after its split says less than its folder.
    stem = place.parent.name if place.stem in _SPLITS and place.parent.name else place.stem
    source = proper(stem)
    select = {"stratified": "class-stratified", "head": "first rows"}
    counts = " + ".join(f"{n:,} {split}" for split, n in (data.get("splits") or {}).items())
    how = select.get(str(data.get("select") or ""), "")
    return f"{source}, {counts} examples" + (f" ({how})" if how else "")


def _normalisation(mode: str) -> str:
    return {
        "recompute": "batch norm recomputed at every point",
        "frozen": "batch norm frozen",
    }.get(mode, "")


def _of_frames(frames: int, frame: int) -> str:
    return f", frame {frame + 1} of {frames}" if frames > 1 else ""


def _version() -> str:
    try:
        return importlib.metadata.version("lossatlas")
    except importlib.metadata.PackageNotFoundError:
        return "unreleased"
