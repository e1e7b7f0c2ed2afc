"""What `info` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from cluster import shell
from cluster.errors import ClusterError
from cluster.monitor import report
from cluster.scheduling.refinement_progress import RefinementReader
from pipeline import caption, format, versions
from pipeline.errors import described
from pipeline.geometry.grid import Extent
from pipeline.problem.data import by_split
from pipeline.refine_spec import RefineSpec
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.summary import sentences, tolerated
from pipeline.store.convergence import counts, phrases
from pipeline.store.marks import StoredMarks
from pipeline.store.notes import Amount, Count
from pipeline.store.store import Store

LISTED_OWN_LOSSES = 6
"""How many anchors a table names, the furthest off first."""


@dataclass(frozen=True)
class _Check:
    """The part of a worker's precision check that is printed."""

    within: Amount
    tolerance: Amount
    points: Count


_CHECK = TypeAdapter(_Check)


def info_facts(store: Store) -> dict[str, Any]:
    """What a store holds, as JSON; `words` are what things are called now."""
    held = store.attrs | {"words": store.words}
    if StoredMarks(store).count:
        held["marks_done"] = int(StoredMarks(store).finished().sum())
    if len(versions.used(store)) > 1:
        held["rendered_with"] = versions.used(store)
    if "curvature" in store.attrs:
        held["unconverged"] = counts(store)
    if not store.refined:
        return held
    summary = RefinementReader(store).read(store.committed()).summary
    schedule = Schedule.read(store)
    audits = [found.as_dict() for found in (schedule.certificates if schedule else ())]
    return held | {"refinement": summary.as_dict() | {"audits": audits}}


def info_lines(store: Store) -> list[str]:
    """What a store holds, as lines of a table.

    Raises:
        ClusterError: it does not say of itself all that is in the table.
    """
    try:
        return _imported_lines(store) if "imported" in store.attrs else _info_lines(store)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ClusterError(
            f"{shell.place(store.url)} does not say all of itself that info shows "
            f"({described(error)}); wanted what a render writes. See what there is with --json"
        ) from None


def _imported_lines(store: Store) -> list[str]:
    attrs, extent = store.attrs, store.extent()
    rows = {
        "store": shell.place(store.url),
        "surface": f"{caption.imported(attrs)} ({attrs['imported']['digest'][:12]}…)",
        "extent": f"x {extent.x0:.6g} to {extent.x1:.6g}, y {extent.y0:.6g} to {extent.y1:.6g}",
        "grid": f"{store.width:,} × {store.height:,} points",
        "quantities": f"{', '.join(store.quantities)} of {', '.join(store.splits)}",
        "created": attrs["created"],
    }
    return format.table(attrs["name"], rows)


def _info_lines(store: Store) -> list[str]:
    attrs, grid = store.attrs, store.grid
    spec: Mapping[str, Any] = attrs["spec"]
    frames = f"{grid.frames:,} frames of " if grid.frames > 1 else ""
    extent = store.extent()
    evaluate = spec["evaluate"]
    network = attrs["network"]
    labels = {anchor.name: anchor.shown for anchor in store.anchors()}
    rows = {
        "store": shell.place(store.url),
        "network": f"{store.words['network']}, {network['parameters']:,} parameters",
        "batch norm": caption.batch_norm(attrs),
        "checkpoints": caption.checkpoints(attrs),
        "buffers": caption.buffers(attrs),
        "own losses": caption.shortened(caption.own_losses(attrs, labels), LISTED_OWN_LOSSES),
        "plane": _plane(attrs["plane"], spec["plane"]),
        "extent": f"x {extent.x0:.6g} to {extent.x1:.6g}, y {extent.y0:.6g} to {extent.y1:.6g}"
        + (" (first frame)" if grid.frames > 1 else ""),
        "anchors": ", ".join(
            f"{a.shown} ({_coordinate(a.x, extent)}, {_coordinate(a.y, extent)})"
            for a in store.anchors()
        ),
        "marks": _marks(store),
        "grid": f"{frames}{grid.width:,} × {grid.height:,} points in "
        f"{format.plural(grid.tile_count, 'tile')} of up to {grid.tile:,} × {grid.tile:,}",
        "data": f"{spec['data']['source']}; "
        + ", ".join(
            f"{name} {facts['examples']:,}, {caption.selection(attrs, name)} "
            f"({facts['digest'][:12]}…)"
            for name, facts in attrs["data"].items()
        ),
        "inputs": by_split(attrs["data"], "inputs"),
        "targets": by_split(attrs["data"], "targets"),
        "quantities": f"{_quantities(store)}; loss {evaluate['loss']}"
        + (f", {store.words['unit']}" if store.words["unit"] else ""),
        "curvature": _curvature(store),
        "precision": _precision(store, evaluate),
        "versions": ", ".join(f"{name} {number}" for name, number in attrs["versions"].items()),
        "rendered with": _rendered_with(store),
        "created": attrs["created"],
        "fingerprint": attrs["fingerprint"],
    }
    if store.refined:
        rows |= _refinement_rows(store)
    spent = report.lines(report.read(store))
    rows |= {("cost" if n == 0 else " " * n): line for n, line in enumerate(spent)}
    code = {name: facts for name, facts in attrs.get("code", {}).items() if facts}
    if code:
        rows["user code"] = ", ".join(
            f"{name}: {facts['entry']} ({facts['digest'][:12]}…)" for name, facts in code.items()
        )
    return format.table(spec["name"], rows)


def _quantities(store: Store) -> str:
    """The quantities, and which splits they are of."""
    by_splits: dict[tuple[str, ...], list[str]] = {}
    for name in store.quantities:
        by_splits.setdefault(store.fields.splits_of(name), []).append(name)
    told = (f"{', '.join(names)} of {', '.join(own)}" for own, names in by_splits.items())
    return "; ".join(told)


def _curvature(store: Store) -> str:
    """Of what curvature is measured, and which eigenvalues are not as exact as asked."""
    return "; ".join(filter(None, (caption.curvature(store.attrs), *phrases(store))))


def _marks(store: Store) -> str:
    """How many marks each group has, and how far off the plane they lie; empty without any."""
    marks = StoredMarks(store)
    if not marks.count:
        return ""
    groups = ", ".join(f"{group.label} ({group.count:,})" for group in marks.groups)
    off = max(float(marks.places(frame)[:, 2].max()) for frame in range(store.frames))
    return f"{groups}; {int(marks.finished().sum()):,} evaluated; up to {off:.4g} off the plane"


def _refinement_rows(store: Store) -> dict[str, str]:
    """What predictions are held to, how much was evaluated, and what the last audit found."""
    summary = RefinementReader(store).read(store.committed()).summary
    asked, found = summary.asked, summary.certificate
    unit, rows = store.words["unit"], {}
    if asked is not None:
        scale = "linear" if summary.without_log else asked.space
        error = f" (error: {asked.error:g})" if "error" in store.quantities else ""
        rows["refine"] = (
            f"predicted within {tolerated(asked, unit)}{error}, compared on a {scale} scale; "
            f"at most {100 * asked.beyond:g} % beyond, at {100 * asked.confidence:g} % confidence"
        )
    rows |= dict(summary.rows())
    schedule = Schedule.read(store)
    for number, told in enumerate(sentences(schedule, unit)[:-1] if schedule else [], start=1):
        rows[f"audit {number}"] = told
    for quantity, splits in (found.quantiles if found else {}).items():
        for split, errors in splits.items():
            if errors:
                rows[f"{split} {quantity}"] = _quantiles(quantity, errors, asked, unit)
    return rows


def _quantiles(
    quantity: str, errors: Mapping[str, float], asked: RefineSpec | None, unit: str
) -> str:
    """How far the audited predictions of one quantity were off; `unit` is of the loss."""
    if quantity == "error":
        unit, times = "", 1.0
    elif asked is not None and asked.nats is not None:
        times = 1.0
    else:
        unit, times = "% of the colour range", 100.0
    told = [
        f"{'all' if share == '1' else f'{100 * float(share):g} %'} within {times * off:.2g}"
        for share, off in errors.items()
    ]
    return f"audited: {', '.join(told)} {caption.short_unit(unit)}".rstrip()


def _precision(store: Store, evaluate: Mapping[str, Any]) -> str:
    """With what the workers' checks against float32 have found, the worst of them."""
    own = (store.attrs.get("network") or {}).get("precision", evaluate["precision"])
    name = f"{own}{', compiled' if evaluate.get('compile') else ''}"
    notes = (store.read_note_as(key, _CHECK) for key in store.notes("precision"))
    found = [note for note in notes if note is not None]
    if not found:
        return name
    worst = min(found, key=lambda note: note.within)
    return (
        f"{name}; checked on {format.plural(len(found), 'worker')}: {worst.within:.0%} of "
        f"losses within {worst.tolerance:.0e} of float32's at {worst.points} points"
    )


def _rendered_with(store: Store) -> str:
    """The versions that the numbers are of, where that is more than one of a kind."""
    found = versions.used(store)
    if len(found) < 2:
        return ""
    return "; ".join(
        ", ".join(f"{name} {each[name]}" for name in versions.NAMES)
        + (f" since {each['since']}" if "since" in each else "")
        for each in found
    )


def _plane(facts: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    coordinates = f"coordinates: {facts['units']}"
    if "explained" in facts:
        shares = " and ".join(
            f"{component} ({100 * share:.1f} %)"
            for component, share in zip(facts["components"], facts["explained"], strict=True)
        )
        count = format.plural(facts["checkpoints"], "checkpoint")
        return f"fit of {count} around {facts['centre']}, components {shares}; {coordinates}"
    sources = (*asked["weights"], *asked.get("directions", ()), asked.get("frames"))
    files = ", ".join(each.rstrip("/").rpartition("/")[2] for each in sources if each)
    if "eigen" in facts:
        return f"{' and '.join(facts['names'])} at {files}; {coordinates}"
    seed = f", seed {asked['seed']}" if "seed" in asked else ""
    return f"{facts['kind']} of {files}{seed}; {coordinates}"


def _coordinate(value: float, extent: Extent) -> str:
    """Four digits; what projection's rounding left of a zero is a zero."""
    size = max(extent.x1 - extent.x0, extent.y1 - extent.y0)
    return "0" if abs(value) < 1e-9 * size else f"{value:.4g}"
