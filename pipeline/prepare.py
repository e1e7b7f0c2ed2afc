"""From a spec to everything a render needs: checked, loaded, and nothing written yet."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline import caption
from pipeline.errors import LossatlasError
from pipeline.evaluation.crosscheck import Known, crosscheck
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.precision import DEFAULT_TOLERANCE
from pipeline.fingerprint import differences, digest_of_array, digest_of_parts
from pipeline.footprint import Footprint, resident
from pipeline.geometry import film_planes, plane
from pipeline.geometry.film_planes import Planes, Still
from pipeline.geometry.grid import Extent, Grid
from pipeline.geometry.plane import FrameFacts, Plane, Vector
from pipeline.problem import checkpoint, data, network, trust, usercode
from pipeline.problem.data import Subsample
from pipeline.problem.losses import available_quantities
from pipeline.problem.norms import has_batch_norm
from pipeline.problem.trust import Codes
from pipeline.problem.usercode import UserCode
from pipeline.spec import CurvePlane, PlaneSpec, RenderSpec, stored
from pipeline.store import growth
from pipeline.store.errors import StoreError
from pipeline.store.store import Store
from pipeline.task import RenderInputs, build_network, evaluator, problem_of

# Raised when the same spec would give other numbers than before.
NUMERICS = 5  # since cross-entropy is taken of several rows at once


# How many checkpoints a remark names, the furthest off first.
_OWN_LOSSES = 6


class PrepareError(LossatlasError):
    """The store belongs to another render, or its inputs have changed."""


@dataclass(frozen=True)
class Prepared:
    """A render that is ready to start.

    Attributes:
        spec: what was asked for.
        inputs: what workers need.
        frames: the geometry of each frame.
        parts: what decides the numbers, for the fingerprint; without the tile size.
        facts: what the store says of itself.
        evaluator: on the CPU, for measuring.
        code: what of it is the user's own.
        footprint: what memory its processes will take.
    """

    spec: RenderSpec
    inputs: RenderInputs
    frames: tuple[FrameFacts, ...]
    parts: Mapping[str, Any]
    facts: Mapping[str, Any]
    evaluator: Evaluator
    code: trust.Named
    footprint: Footprint

    @property
    def fingerprint(self) -> str:
        return digest_of_parts(self.parts)

    @property
    def own_losses(self) -> tuple[str, ...]:
        """Where a checkpoint's loss on the plane is not its own: a phrase for each anchor."""
        anchors = (anchor.name for anchor in self.frames[0].anchors)
        labels = dict(zip(anchors, self.spec.plane.labels or (), strict=False))
        return tuple(caption.own_losses(self.facts, labels))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of a render that goes on all the same."""
        told = [caption.buffers(self.facts)]
        if self.own_losses:
            losses = caption.shortened(self.own_losses, _OWN_LOSSES)
            told.append(f"losses at the checkpoints: {losses}")
        return tuple(each for each in told if each)

    def first_plane(self) -> Plane:
        """The plane of frame 0."""
        return self.inputs.planes.of_frame(0, build_network(self.inputs))


def prepare(spec: RenderSpec, codes: Codes | None = None) -> Prepared:
    """Load and check everything `spec` names.

    Args:
        spec: with absolute paths, as `spec.read` returns it.
        codes: the user's code, where it is known by value already; else read from its files.

    Raises:
        LossatlasError: one line on whatever is missing or does not fit.
    """
    begun = resident()
    codes = codes or _read_codes(spec)
    net = network.build(spec.network.factory, spec.network.kwargs, codes.network)
    geometry = _geometry(spec, net)
    loaded = data.load(spec.data, codes.data, spec.evaluate.loss)
    subsamples = data.ordered(loaded, spec.calibrating)
    inputs = RenderInputs(
        factory=spec.network.factory,
        kwargs=spec.network.kwargs,
        network_code=codes.network,
        buffers=geometry.buffers,
        splits={s.name: (s.inputs, s.targets) for s in subsamples},
        loss=spec.evaluate.loss,
        loss_code=codes.loss,
        quantities=available_quantities(spec.evaluate.loss, spec.evaluate.quantities),
        batch_norm=spec.evaluate.batch_norm,
        calibrate=spec.calibrating,
        planes=geometry.planes,
        precision=spec.evaluate.precision,
        compiled=spec.evaluate.compile,
        tolerance=spec.evaluate.tolerance or DEFAULT_TOLERANCE,
    )
    parts = _parts(spec, inputs, codes, geometry, subsamples)
    measuring = evaluator(inputs.uncompiled())
    footprint = Footprint(inputs, measuring, begun)
    found = crosscheck(problem_of(inputs), measuring, geometry.known, footprint.require_driver)
    measuring.rest()
    footprint.prepared()
    if spec.evaluate.batch_norm == "recompute" and has_batch_norm(net):
        parts["evaluate.calibrate"] = spec.calibrating
    facts = {
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "fingerprint": digest_of_parts(parts),
        "parts": parts,
        "plane": geometry.facts,
        "network": {
            "factory": spec.network.factory,
            "label": caption.network_label(
                spec.network.factory, spec.network.label, type(net).__name__
            ),
            "parameters": sum(p.numel() for p in net.parameters()),
            "batch_norm": _batch_norm(spec, net),
            "buffers": found.buffers,
            "own_losses": [own.as_dict() for own in found.own_losses],
        },
        "data": {s.name: _data_facts(s) for s in subsamples},
        "unit": caption.loss_unit(
            spec.evaluate.loss, spec.evaluate.unit, data.positions(subsamples[0].targets)
        ),
        **({"labels": list(spec.plane.labels)} if spec.plane.labels else {}),
        "code": {name: _code_facts(getattr(codes, name)) for name in ("network", "loss", "data")},
        "versions": _versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    code = _named(spec, codes)
    return Prepared(spec, inputs, geometry.frames, parts, facts, measuring, code, footprint)


def prepare_resume(
    store: Store, given: str | None = None, tell: Callable[[str], None] | None = None
) -> Prepared:
    """The same from a store, for a render that was interrupted.

    Args:
        store: of the render.
        given: the digest of the code in it, which the user has seen (`--trust`).
        tell: takes a line on the code that runs because of it.

    Raises:
        PrepareError: a checkpoint or the data is no longer what the render began with.
        TrustError: the store names code that no spec on this machine named.
        UserCodeError: its code is not what its digest and its fingerprint say.
    """
    spec, codes = recorded(store)
    trust.require(store.url, _named(spec, codes), given, tell)
    spec = _with_frames(spec, store.attrs["plane"].get("frames"))
    if spec.evaluate.batch_norm == "recompute":
        # Not what the spec would mean now: in a store the calibrating split is the first.
        calibrated = spec.evaluate.model_copy(update={"calibrate": store.splits[0]})
        spec = spec.model_copy(update={"evaluate": calibrated})
    prepared = prepare(spec, codes)
    changed = differences(_stored_parts(store, prepared), prepared.parts)
    if changed:
        raise PrepareError(
            f"{store.url} cannot be resumed, its inputs have changed: {'; '.join(changed)}. "
            "Put the old files back, or render to a new store"
        )
    return prepared


def recorded(store: Store) -> tuple[RenderSpec, Codes]:
    """What a store was rendered from: its spec, and the code that it keeps. Nothing of it is run.

    Raises:
        PrepareError: its splits are not those that its values are labelled with.
        UserCodeError: the code is not what its digest and the store's fingerprint say.
    """
    spec = stored(store.attrs["spec"], where=store.url).model_copy(update={"store": store.url})
    facts, loss = store.attrs, spec.evaluate.loss
    labels = [str(name) for name in np.asarray(store.group["split"])]
    if labels != list(store.splits):
        raise PrepareError(
            f"{store.url}: its splits are {', '.join(store.splits)} and its values are labelled "
            f"{', '.join(labels)}, so it was changed; wanted the same. Put its zarr.json back"
        )
    return spec, trust.recorded(facts, spec.network, spec.data, loss, store.url)


def code_in(store: Store) -> trust.Named:
    """The code that resuming a store would run.

    Raises:
        UserCodeError: as `recorded`.
    """
    return _named(*recorded(store))


def _named(spec: RenderSpec, codes: Codes) -> trust.Named:
    return trust.named(spec.network, spec.data, spec.evaluate.loss, codes)


def create_or_match(
    prepared: Prepared,
    make_grid: Callable[[], Grid],
    held: Callable[[Store], AbstractContextManager[None]] | None = None,
) -> tuple[Store, bool]:
    """The store of a render, and whether it was there before.

    A film's store that lacks the last frames gets them.

    Args:
        prepared: the render.
        make_grid: decides the tile size; called only for a new store.
        held: keeps others off a store while frames are added to it; None where there are none.

    Raises:
        GrowthError: frames cannot be added.
        PrepareError: the store that is there belongs to another render.
        StoreError: the place is taken by something else, or cannot be written.
    """
    url = prepared.spec.store
    if not Store.exists(url):
        quantities, splits = prepared.inputs.quantities, tuple(prepared.inputs.splits)
        refined = prepared.spec.evaluate.refine is not None
        grid, frames = make_grid(), prepared.frames
        facts = prepared.facts
        try:
            store = Store.create(url, grid, splits, quantities, frames, facts, refined)
            trust.note(prepared.code)
            return store, False
        except StoreError:  # perhaps since somebody else began at the same moment
            if not Store.exists(url):
                raise
    store, tile = Store.open(url, writable=True), prepared.spec.grid.edge
    parts = _stored_parts(store, prepared)
    same_tiles = tile in (None, store.grid.tile)
    if same_tiles and growth.has_fewer_frames(store, parts, prepared.parts):
        with held(store) if held else nullcontext():
            store = Store.open(url, writable=True)
            if growth.has_fewer_frames(store, _stored_parts(store, prepared), prepared.parts):
                store = growth.grow(store, prepared.parts, prepared.frames, prepared.facts)
        parts = _stored_parts(store, prepared)
    changed = differences(parts, prepared.parts)
    if not same_tiles:
        changed.append(f"grid.tile: {store.grid.tile} in the store, {tile} here")
    if changed:
        calibrated = parts.get("evaluate.calibrate")
        keep = ""
        if calibrated and calibrated != prepared.parts.get("evaluate.calibrate"):
            keep = f"To go on with it say evaluate: {{calibrate: {calibrated}}}; or else "
        cure = "change store or name in the spec, or delete that folder"
        raise PrepareError(
            f"{url} belongs to another render: {'; '.join(changed)}. {keep}"
            f"{cure if keep else cure.capitalize()}"
        )
    trust.note(prepared.code)
    store.rename(caption.words(prepared.facts))
    return store, True


def _stored_parts(store: Store, prepared: Prepared) -> dict[str, Any]:
    """What decided a store's numbers, with what older versions did not say filled in."""
    parts = {**store.attrs["parts"], "data.splits": sorted(store.splits)}
    if "evaluate.calibrate" in prepared.parts:
        parts.setdefault("evaluate.calibrate", store.splits[0])
    return parts


def _with_frames(spec: RenderSpec, names: Sequence[str] | None) -> RenderSpec:
    """A film's spec without the frames that its folder has come to hold since."""
    asked = spec.plane
    if names is None or not isinstance(asked, CurvePlane) or not isinstance(asked.frames, str):
        return spec
    own = tuple(path for path in film_planes.listing(asked.frames) if Path(path).stem in names)
    if len(own) != len(names):
        return spec
    return spec.model_copy(update={"plane": asked.model_copy(update={"frames": own})})


def _read_codes(spec: RenderSpec) -> Codes:
    loss = spec.evaluate.loss
    return Codes(
        network=network.source(spec.network.factory),
        loss=usercode.read(loss.rpartition(":")[0]) if ".py:" in loss else None,
        data=data.source_code(spec.data),
    )


@dataclass(frozen=True)
class _Geometry:
    """The planes of a render and all that is known of them.

    `known` are the checkpoints to check the evaluator at: a film's ends and its first and last
    bend, all of any other plane. `buffers` are those of the first one.
    """

    planes: Planes
    frames: tuple[FrameFacts, ...]
    digests: tuple[str, ...]
    facts: dict[str, Any]
    buffers: dict[str, NDArray[np.generic]]
    known: tuple[Known, ...]


def _geometry(spec: RenderSpec, net: nn.Module) -> _Geometry:
    asked = spec.plane
    if isinstance(asked, CurvePlane) and asked.frames is not None:
        return _film(spec, asked, net)
    loaded = load_weights(spec, net)
    weights = [checkpoint.weights(state, net).astype("f8") for _, state in loaded]
    the_plane, frame, facts = _span(spec, net, weights)
    digests = tuple(digest_of_array(w) for w in weights)
    known = tuple(
        Known(anchor.name, file, state)
        for anchor, (file, state) in zip(frame.anchors, loaded, strict=True)
    )
    return _Geometry(Still(the_plane), (frame,), digests, facts, _buffers(known[0], net), known)


def _film(spec: RenderSpec, asked: CurvePlane, net: nn.Module) -> _Geometry:
    paths = film_planes.listing(asked.frames or ())
    ends = None
    known: list[Known] = []
    if asked.weights:
        loaded = load_weights(spec, net)
        start, end = (checkpoint.weights(state, net).astype("f8") for _, state in loaded)
        ends = start, end
        known = [Known(name, *each) for name, each in zip(("start", "end"), loaded, strict=True)]
    extent = asked.extent or "common"
    found = film_planes.survey(paths, ends, net, asked.curve, extent, asked.margin)
    for path in dict.fromkeys((paths[0], paths[-1])):
        known += _known_of_frame(spec, path, net)
    facts = {
        "kind": asked.kind,
        "curve": asked.curve,
        "units": "euclidean",
        "dx": found.dx,
        "dy": found.dy,
        "frames": list(found.names),
        **({"epochs": list(found.epochs)} if found.epochs else {}),
    }
    buffers = _buffers(known[0], net)
    return _Geometry(found.film, found.frames, found.digests, facts, buffers, tuple(known))


def _known_of_frame(spec: RenderSpec, path: str, net: nn.Module) -> list[Known]:
    """The checkpoints that one frame's file holds: a bend, or a curve's three points."""
    state, file = checkpoint.load(path), Path(path).name
    if not checkpoint.is_curve(state, net):
        return [Known("bend", file, state)]
    return _known_of_curve(spec, state, net, file)


def _known_of_curve(
    spec: RenderSpec, state: checkpoint.State, net: nn.Module, where: str
) -> list[Known]:
    """Each point of a curve checkpoint, with the buffers of the file, which need not hold any."""
    _require_statistics(spec, state, net, where)
    points = checkpoint.curve_points(state, net, where)
    names = ("start", *("bend" for _ in points[2:]), "end")
    buffers = checkpoint.buffers(state, net)
    return [
        Known(name, Path(where).name, {**checkpoint.named(point, net), **buffers})
        for name, point in zip(names, points, strict=True)
    ]


def _require_statistics(
    spec: RenderSpec, state: checkpoint.State, net: nn.Module, where: str
) -> None:
    """Raises PrepareError where a checkpoint lacks the statistics that are to be frozen."""
    missing = checkpoint.missing_statistic(state, net)
    if missing is not None and spec.evaluate.batch_norm == "frozen":
        raise PrepareError(
            f"{where} holds no statistics of batch norms ({missing}), which evaluate.batch_norm: "
            "frozen wants. Use batch_norm: recompute"
        )


def _buffers(known: Known, net: nn.Module) -> dict[str, NDArray[np.generic]]:
    return {k: v.numpy() for k, v in checkpoint.buffers(known.state, net).items()}


def load_weights(spec: RenderSpec, net: nn.Module) -> list[tuple[str, checkpoint.State]]:
    """The file's name and the state of each of the plane's weights, one for each anchor.

    Raises:
        CheckpointError: one cannot be read, or belongs to another network.
        PrepareError: a single file that is no curve checkpoint.
    """
    paths = spec.plane.weights
    if spec.plane.kind == "curve" and len(paths) == 1:
        where = f"plane.weights[0] ({Path(paths[0]).name})"
        state = checkpoint.load(paths[0])
        if not checkpoint.is_curve(state, net):
            raise PrepareError(
                f"{where} is no curve checkpoint; wanted one, or start, bend and end as three"
            )
        points = _known_of_curve(spec, state, net, where)
        return [(Path(paths[0]).name, each.state) for each in points]
    states = [checkpoint.load(path) for path in paths]
    for index, (path, state) in enumerate(zip(paths, states, strict=True)):
        where = f"plane.weights[{index}] ({Path(path).name})"
        checkpoint.match(state, net, where)
        _require_statistics(spec, state, net, where)
    return [(Path(path).name, state) for path, state in zip(paths, states, strict=True)]


def _span(
    spec: RenderSpec, net: nn.Module, weights: Sequence[Vector]
) -> tuple[Plane, FrameFacts, dict[str, Any]]:
    """The plane through `weights`, its geometry, and what the store says of it."""
    asked = spec.plane
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
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
            the_plane = plane.random_directions(weights[0], shapes, asked.seed)
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


def _parts(
    spec: RenderSpec,
    inputs: RenderInputs,
    codes: Codes,
    geometry: _Geometry,
    subsamples: Sequence[Subsample],
) -> dict[str, Any]:
    buffers = [inputs.buffers[name] for name in sorted(inputs.buffers)]
    extents = [[f.extent.x0, f.extent.x1, f.extent.y0, f.extent.y1] for f in geometry.frames]
    per_frame = any(extent != extents[0] for extent in extents)
    normalise = spec.data.normalise
    return {
        "numerics": NUMERICS,
        # A path is a name on one machine; the code it leads to counts by its digest.
        "network.factory": spec.network.factory.rpartition("/")[2],
        "network.kwargs": spec.network.model_dump(mode="json")["kwargs"],
        "network.code": codes.network.digest if codes.network else None,
        "network.buffers": digest_of_array(*buffers),
        "plane.kind": spec.plane.kind,
        "plane.seed": getattr(spec.plane, "seed", None),
        "plane.extent": extents if per_frame else extents[0],
        **{f"plane.weights[{i}]": digest for i, digest in enumerate(geometry.digests)},
        "grid.width": spec.grid.width,
        "grid.height": spec.grid.height,
        **{f"data.{s.name}": s.digest for s in subsamples},
        "data.splits": sorted(s.name for s in subsamples),
        "data.normalise": normalise.model_dump(mode="json") if normalise else None,
        "evaluate.loss": inputs.loss.rpartition("/")[2],
        "evaluate.loss.code": codes.loss.digest if codes.loss else None,
        "evaluate.quantities": list(inputs.quantities),
        "evaluate.batch_norm": inputs.batch_norm,
        "evaluate.precision": spec.evaluate.precision,
        # Only where it is asked for: stores that are older know nothing of it.
        **({"evaluate.compile": True} if spec.evaluate.compile else {}),
    }


def _batch_norm(spec: RenderSpec, net: nn.Module) -> str | None:
    """How batch norm is treated, in words that stand alone; None where there is none."""
    if not has_batch_norm(net):
        return None
    if spec.evaluate.batch_norm == "frozen":
        return f"frozen: running statistics of {Path(_first_weights(spec)).name}"
    return f"recompute: population statistics of the {spec.calibrating} split"


def _data_facts(subsample: Subsample) -> dict[str, Any]:
    """What the store says of a split."""
    facts = {
        "examples": len(subsample.indices),
        "digest": subsample.digest,
        "select": subsample.select,
    }
    targets = subsample.bytes_of_targets or subsample.classes
    told = {"targets": targets, "inputs": subsample.inputs_told}
    return facts | {key: text for key, text in told.items() if text}


def _first_weights(spec: RenderSpec) -> str:
    if spec.plane.weights:
        return spec.plane.weights[0]
    return film_planes.listing(getattr(spec.plane, "frames", ()))[0]


def _versions() -> dict[str, str]:
    try:
        own = version("lossatlas")
    except PackageNotFoundError:
        own = "source"
    return {
        "lossatlas": own,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "zarr": version("zarr"),
    }


def _code_facts(code: UserCode | None) -> dict[str, Any] | None:
    if code is None:
        return None
    return {"entry": code.entry, "files": dict(code.files), "digest": code.digest}
