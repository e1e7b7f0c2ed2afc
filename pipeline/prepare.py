"""From a spec to everything that a render needs, checked and loaded. Nothing is written here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline import caption, eigenvectors
from pipeline.checkpoints.place import stem
from pipeline.curvature.evaluator import CurvatureEvaluator
from pipeline.errors import LossatlasError
from pipeline.evaluation.crosscheck import crosscheck
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.own_buffers import compare_buffers
from pipeline.evaluation.plain_torch import PlainTorch
from pipeline.evaluation.precision import DEFAULT_TOLERANCE
from pipeline.facts import facts_of, network_facts, parts_of
from pipeline.fingerprint import differences, digest_of_parts
from pipeline.footprint import Footprint, resident
from pipeline.geometry import film_planes, mark_files, marks_survey
from pipeline.geometry.eigenvectors import Eigenvectors
from pipeline.geometry.marks_survey import MarksSurvey
from pipeline.geometry.plane import FrameFacts, Plane
from pipeline.geometry.planes import Geometry, geometry_of, with_files
from pipeline.plane_spec import CurvePlane
from pipeline.problem import data, network, state_dict, trust
from pipeline.problem.data import Subsample
from pipeline.problem.layout import Layout, is_double
from pipeline.problem.problem import Problem, problem_of
from pipeline.problem.trust import Codes
from pipeline.spec import RenderSpec, stored
from pipeline.store.store import Store
from pipeline.task import RenderInputs, evaluator, with_curvature

# How many checkpoints a remark names, the furthest off first.
_OWN_LOSSES = 6


class PrepareError(LossatlasError):
    """The store belongs to another render, or its inputs have changed."""


@dataclass(frozen=True)
class Prepared:
    """A render that is ready to start.

    Attributes:
        spec: what was asked for.
        inputs: for the workers.
        frames: the geometry of each frame.
        parts: what decides the numbers, for the fingerprint; without the tile size.
        facts: the attributes of the store.
        evaluator: on the CPU, for measuring; of the quantities without derivatives.
        all_quantities: the same of all of them.
        code: the user's own code in it.
        footprint: the memory of its processes.
        mark_remarks: lines on the marks that a user should read.
    """

    spec: RenderSpec
    inputs: RenderInputs
    frames: tuple[FrameFacts, ...]
    parts: Mapping[str, Any]
    facts: Mapping[str, Any]
    evaluator: Evaluator
    all_quantities: Evaluator | CurvatureEvaluator
    code: trust.Named
    footprint: Footprint
    mark_remarks: tuple[str, ...] = ()

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
        """Lines that a user should read before the render goes on."""
        told = [caption.checkpoints(self.facts), caption.buffers(self.facts)]
        if self.own_losses:
            losses = caption.shortened(self.own_losses, _OWN_LOSSES)
            told.append(f"losses at the checkpoints: {losses}")
        told += self.mark_remarks
        return tuple(each for each in told if each)

    def first_plane(self) -> Plane:
        """The plane of frame 0."""
        return self.inputs.planes.of_frame(0, self.evaluator.layout)


def prepare(
    spec: RenderSpec, codes: Codes | None = None, known: Eigenvectors | None = None
) -> Prepared:
    """Load and check everything `spec` names.

    Args:
        spec: with absolute paths, as `spec.read` returns it.
        codes: the user's code, where it is known by value already; else read from its files.
        known: the eigenvectors that span the plane, where they are known already.

    Raises:
        LossatlasError: one line on whatever is missing or does not fit.
    """
    begun = resident()
    spec = with_files(spec)
    codes = codes or trust.read_codes(spec.network, spec.data, spec.evaluate)
    net = network.build(spec.network.factory, spec.network.kwargs, codes.network)
    reals = np.float64 if is_double(net) else np.float32
    loaded = functools.cache(lambda: _loaded(spec, codes, reals))
    vectors = known or eigenvectors.stored_for(spec)
    geometry = geometry_of(
        spec, net, lambda state: vectors or eigenvectors.find(spec, loaded()[0], state)
    )
    marks = _marks(spec, geometry, Layout.of(net))
    problem, subsamples = loaded()
    inputs = _inputs(spec, problem, geometry, marks)
    of_network = network_facts(spec, net, geometry.known)
    measuring = evaluator(inputs.uncompiled(), network=net)
    _require_reference(spec, measuring)
    everything = with_curvature(inputs, measuring)
    precision = measuring.layout.precision
    parts = parts_of(spec, inputs, codes, geometry, subsamples, measuring.recomputes, precision)
    parts |= marks.parts
    footprint = Footprint(inputs, measuring, begun)
    plain = PlainTorch(
        inputs.problem,
        {name: torch.tensor(buffer) for name, buffer in inputs.buffers.items()},
        inputs.batch_norm,
        inputs.calibrate,
    )
    crosscheck(plain, geometry.known, measuring.example_bytes)
    found = compare_buffers(plain, measuring, geometry.known, footprint.require_driver)
    if isinstance(everything, CurvatureEvaluator):
        own = state_dict.weights(geometry.known[0].state, measuring.layout)
        footprint.differentiates(everything.steps, everything.graph_bytes(own))
    measuring.rest()
    footprint.prepared()
    facts = facts_of(spec, parts, geometry, of_network, found, subsamples, codes, problem)
    facts |= {"curvature": spec.curvature.model_dump(mode="json")} if spec.curvature else {}
    facts |= {"marks": list(marks.facts)} if marks.facts else {}
    return Prepared(
        spec,
        inputs,
        marks.beside(geometry.frames),
        parts,
        facts,
        measuring,
        everything,
        _named(spec, codes),
        footprint,
        marks.remarks,
    )


def _loaded(
    spec: RenderSpec, codes: Codes, reals: type[np.floating[Any]]
) -> tuple[Problem, Sequence[Subsample]]:
    """The problem of a spec, and its data, the calibrating split first."""
    found = data.load(spec.data, codes.data, spec.evaluate.loss, reals)
    subsamples = data.ordered(found, spec.calibrating)
    return problem_of(spec.network, spec.evaluate, codes, subsamples), subsamples


def _require_reference(spec: RenderSpec, measuring: Evaluator) -> None:
    """Raises PrepareError where what cannot be lowered or compiled is to be."""
    asked, precision = spec.evaluate, measuring.layout.precision
    lowers = asked.precision != "float32"
    if precision != "float32" and (lowers or (asked.compile and precision != "float64")):
        raise PrepareError(
            f"evaluate.{f'precision: {asked.precision}' if lowers else 'compile'} is given and the "
            f"network computes in {precision}, as its parameters are; wanted it with float32 "
            "parameters. Leave it out"
        )
    keys = ["compile"] if asked.compile else []
    keys += ["precision: bf16"] if asked.precision == "bf16" else []
    if keys and measuring.criterion.takes_network:
        raise PrepareError(
            f"evaluate.{keys[0]} is given with a loss that calls the network itself; wanted it "
            "with a loss of outputs. Leave it out"
        )


def _marks(spec: RenderSpec, geometry: Geometry, layout: Layout) -> MarksSurvey:
    frozen = spec.evaluate.batch_norm == "frozen"
    frames = len(geometry.frames)
    return marks_survey.survey(spec.marks, geometry.planes, frames, layout, frozen)


def _inputs(
    spec: RenderSpec, problem: Problem, geometry: Geometry, marks: MarksSurvey
) -> RenderInputs:
    asked = spec.evaluate
    return RenderInputs(
        problem=problem,
        buffers=geometry.buffers,
        quantities=asked.stored,
        batch_norm=asked.batch_norm,
        calibrate=spec.calibrating,
        planes=geometry.planes,
        precision=asked.precision,
        compiled=asked.compile,
        tolerance=asked.tolerance or DEFAULT_TOLERANCE,
        marks=marks.marks,
        curvature=spec.curvature if asked.has_curvature else None,
    )


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
    spec = _with_marks(spec, store.attrs.get("marks", ()))
    if spec.evaluate.batch_norm == "recompute":
        # In a store the calibrating split is the first, whatever the spec would mean now.
        calibrated = spec.evaluate.model_copy(update={"calibrate": store.splits[0]})
        spec = spec.model_copy(update={"evaluate": calibrated})
    prepared = prepare(spec, codes, eigenvectors.stored(store))
    changed = differences(stored_parts(store, prepared), prepared.parts)
    if changed:
        raise PrepareError(
            f"{store.url} cannot be resumed, its inputs have changed: {'; '.join(changed)}. "
            "Put the old files back, or render to a new store"
        )
    return prepared


def recorded(store: Store) -> tuple[RenderSpec, Codes]:
    """The spec that a store was rendered from, and the code in it. No code is run.

    Raises:
        PrepareError: its splits are not those that its values are labelled with.
        UserCodeError: the code is not what its digest and the store's fingerprint say.
    """
    spec = stored(store.attrs["spec"], where=store.url).model_copy(update={"store": store.url})
    labels = [str(name) for name in np.asarray(store.group["split"])]
    if labels != list(store.splits):
        raise PrepareError(
            f"{store.url}: its splits are {', '.join(store.splits)} and its values are labelled "
            f"{', '.join(labels)}, so it was changed; wanted the same. Put its zarr.json back"
        )
    return spec, trust.recorded(store.attrs, spec.network, spec.data, spec.evaluate, store.url)


def code_in(store: Store) -> trust.Named:
    """The code that resuming a store would run.

    Raises:
        UserCodeError: as `recorded`.
    """
    return _named(*recorded(store))


def stored_parts(store: Store, prepared: Prepared) -> dict[str, Any]:
    """The parts of a store's fingerprint; those that older versions left out are filled in."""
    parts = {**store.attrs["parts"], "data.splits": sorted(store.splits)}
    if "evaluate.calibrate" in prepared.parts:
        parts.setdefault("evaluate.calibrate", store.splits[0])
    return parts


def _named(spec: RenderSpec, codes: Codes) -> trust.Named:
    return trust.named(spec.network, spec.data, spec.evaluate, codes)


def _with_frames(spec: RenderSpec, names: Sequence[str] | None) -> RenderSpec:
    """A film's spec without the frames that were added to its folder later."""
    asked = spec.plane
    if names is None or not isinstance(asked, CurvePlane) or not isinstance(asked.frames, str):
        return spec
    own = tuple(path for path in film_planes.listing(asked.frames) if stem(path) in names)
    if len(own) != len(names):
        return spec
    return spec.model_copy(update={"plane": asked.model_copy(update={"frames": own})})


def _with_marks(spec: RenderSpec, groups: Sequence[Mapping[str, Any]]) -> RenderSpec:
    """A spec without the checkpoints that matched a pattern of its marks later."""
    if len(groups) != len(spec.marks):
        return spec
    own = []
    for number, (asked, group) in enumerate(zip(spec.marks, groups, strict=True)):
        names = group.get("files") or group["names"]
        own.append(asked.with_files(mark_files.kept(asked, f"marks[{number}]", names)))
    return spec.model_copy(update={"marks": tuple(own)})
