"""What is known of a picture's values: who computed them, on what, and how sure they are."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pipeline import caption, naming
from renders.source.surface import is_preview

if TYPE_CHECKING:
    from pipeline.store.reader import StoreReader

_SPLITS = ("train", "test", "val", "valid", "validation", "data")


@dataclass(frozen=True)
class Provenance:
    """What a picture's small print says; empty strings where the store does not know.

    `share` is what is shown of the frame; `preview` says that predictions will still change;
    `measures` is quantity → its unit, or what its figures are; `own_losses` says where a
    checkpoint's loss with its own buffers is another than in the picture; `curvature` says of what
    it is measured, and `tolerance` how exact eigenvalues were asked for; `axes` are the names of x
    and y; `ignore` says what of given directions is left out.
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
    measures: Mapping[str, str] = field(default_factory=dict)
    own_losses: str = ""
    buffers: str = ""
    curvature: str = ""
    tolerance: float | None = None
    axes: tuple[str, str] = ("x", "y")
    ignore: str = ""

    @property
    def has_lengths(self) -> bool:
        """Whether one length in the picture means the same along all ways."""
        return self.units not in ("patch", "directions")


def provenance(store: StoreReader, frame: int) -> Provenance:
    """The facts for the small print, as far as the store's attributes hold them."""
    spec: Mapping[str, Any] = store.attrs.get("spec") or {}
    words = store.words
    labels = {anchor.name: anchor.shown for anchor in store.anchors(frame)}
    plane: Mapping[str, Any] = store.attrs.get("plane") or {}
    kind = str(plane.get("kind") or (spec.get("plane") or {}).get("kind") or "")
    return Provenance(
        name=str(spec.get("name") or store.attrs.get("name") or PurePath(store.url).stem),
        network=words["network"],
        data=_data_line(store.attrs),
        normalisation=_normalisation(caption.batch_norm(store.attrs)),
        grid=f"{store.width:,} × {store.height:,}" + _of_frames(store.frames, frame),
        plane="eigenvectors" if "eigen" in plane else kind,
        units=_units(store.attrs, plane, kind),
        date=str(store.attrs.get("created") or "")[:10],
        version=_version(),
        share=float(store.finished(frame).mean()),
        refinement=_refinement(store, frame),
        preview=is_preview(store),
        measures=caption.measures(caption.loss_name(store.attrs), words["unit"]),
        own_losses=caption.shortened(caption.own_losses(store.attrs, labels)),
        buffers=caption.buffers(store.attrs),
        curvature=caption.curvature(store.attrs),
        tolerance=(store.attrs.get("curvature") or {}).get("tolerance"),
        axes=_axes(kind, plane),
        ignore=str((spec.get("plane") or {}).get("ignore") or ""),
    )


def _units(attrs: Mapping[str, Any], plane: Mapping[str, Any], kind: str) -> str:
    """What a step of a coordinate is; a surface of another program does not tell."""
    if caption.imported(attrs):
        return ""
    return str(plane.get("units") or ("filter-normalised" if kind == "random" else "euclidean"))


def _axes(kind: str, plane: Mapping[str, Any]) -> tuple[str, str]:
    """What x and y are: shares of variance, given directions, or coordinates alone."""
    if kind == "patch":
        return "α", "β"
    if kind == "directions":
        x, y, *_ = [naming.shown(str(name)) for name in plane.get("names") or ()] + ["", ""]
        return x or "x", y or "y"
    shares, components = plane.get("explained") or (), plane.get("components") or (1, 2)
    if kind != "fit" or len(shares) < 2:
        return "x", "y"
    first, second = (
        f"PC{k} {100 * float(share):.1f} %" for k, share in zip(components, shares, strict=False)
    )
    return first, second


def _refinement(store: StoreReader, frame: int) -> str:
    """What is evaluated of a frame, and how sure the rest is; empty where all of it is."""
    level = store.level(frame)
    if level is None:
        return ""
    from pipeline.refinement.schedule import Schedule
    from pipeline.refinement.summary import Summary

    evaluated, final = int((level >= 0).sum()), not is_preview(store)
    summary = Summary.of(Schedule.read(store), level.size, evaluated, final, store.words["unit"])
    return summary.small_print()


def _data_line(attrs: Mapping[str, Any]) -> str:
    data = (attrs.get("spec") or {}).get("data") or {}
    if not data:
        return caption.imported(attrs)
    file, colon, _ = str(data.get("source") or "").rpartition(":")
    place = PurePath(file if colon and file.endswith(".py") else str(data.get("source") or ""))
    # A file that is called after its split says less than its folder.
    stem = place.parent.name if place.stem in _SPLITS and place.parent.name else place.stem
    source = place.name if colon and file.endswith(".py") else caption.proper(stem)
    return f"{source}, {caption.counts(attrs, data.get('splits') or {})}"


def _normalisation(said: str) -> str:
    """Batch norm in the few words of a picture; empty where the network has none."""
    return {
        "recompute": "batch norm recomputed at every point",
        "frozen": said.replace("frozen: running", "batch norm frozen:", 1),
    }.get(said.partition(":")[0], said and f"batch norm {said}")


def _of_frames(frames: int, frame: int) -> str:
    return f", frame {frame + 1} of {frames}" if frames > 1 else ""


def _version() -> str:
    try:
        return importlib.metadata.version("lossatlas")
    except importlib.metadata.PackageNotFoundError:
        return "unreleased"
