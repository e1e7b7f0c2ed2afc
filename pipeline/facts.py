"""The attributes of a store: the parts of its fingerprint, and facts about its render."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline import caption
from pipeline.evaluation.own_buffers import Findings
from pipeline.fingerprint import digest_of_array, digest_of_parts
from pipeline.geometry.planes import Geometry
from pipeline.loss_names import OF_CLASSES
from pipeline.loss_parts import parts_of_loss, parts_of_network
from pipeline.problem import data, state_dict, targets
from pipeline.problem.checkpoint import Known
from pipeline.problem.data import Subsample
from pipeline.problem.layout import Layout
from pipeline.problem.norms import has_batch_norm
from pipeline.problem.problem import Problem
from pipeline.problem.trust import Codes
from pipeline.problem.usercode import UserCode
from pipeline.spec import RenderSpec
from pipeline.task import RenderInputs

# Raised when the same spec would give other numbers than before.
NUMERICS = 5  # since cross-entropy is taken of several rows at once


def parts_of(
    spec: RenderSpec,
    inputs: RenderInputs,
    codes: Codes,
    geometry: Geometry,
    subsamples: Sequence[Subsample],
    calibrates: bool,
    precision: str,
) -> dict[str, Any]:
    """What decides the numbers of a render, part by part; without the tile size.

    Args:
        spec: of the render.
        inputs, codes, geometry, subsamples: that it leads to.
        calibrates: whether a split calibrates batch norms.
        precision: what the network computes in.
    """
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
        **geometry.parts,
        "grid.width": spec.grid.width,
        "grid.height": spec.grid.height,
        **{f"data.{s.name}": s.digest for s in subsamples},
        "data.splits": sorted(s.name for s in subsamples),
        "data.normalise": normalise.model_dump(mode="json") if normalise else None,
        "evaluate.loss": inputs.problem.loss.rpartition("/")[2],
        "evaluate.loss.code": codes.loss.digest if codes.loss else None,
        "evaluate.quantities": list(inputs.quantities),
        "evaluate.batch_norm": inputs.batch_norm,
        "evaluate.precision": spec.evaluate.precision,
        # Only where the spec asks for it: older stores do not have the key.
        **({"evaluate.compile": True} if spec.evaluate.compile else {}),
        **({"evaluate.calibrate": spec.calibrating} if calibrates else {}),
        **({"evaluate.curvature": spec.curvature.model_dump()} if spec.curvature else {}),
        **parts_of_network(precision),
        **parts_of_loss(spec.network, spec.evaluate, codes, "evaluate."),
    }


def network_facts(
    spec: RenderSpec, network: nn.Module, checkpoints: Sequence[Known]
) -> dict[str, Any]:
    """What the store says of the network, before its buffers are compared.

    The buffers are those of the first of `checkpoints`.
    """
    asked, layout = spec.network, Layout.of(network)
    told, precision = _checkpoints_told(checkpoints, layout), layout.precision
    return {
        "factory": asked.factory,
        "label": caption.network_label(asked.factory, asked.label, type(network).__name__),
        "parameters": sum(p.numel() for p in network.parameters()),
        # Older stores are float32 and do not say so.
        **({} if precision == "float32" else {"precision": precision}),
        "batch_norm": _batch_norm(spec, network, checkpoints[0].file),
        **({"checkpoints": told} if told else {}),
    }


def facts_of(
    spec: RenderSpec,
    parts: Mapping[str, Any],
    geometry: Geometry,
    network: Mapping[str, Any],
    found: Findings,
    subsamples: Sequence[Subsample],
    codes: Codes,
    problem: Problem,
) -> dict[str, Any]:
    """The attributes of a new store."""
    positions = data.positions(subsamples[0].targets)
    return {
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "fingerprint": digest_of_parts(parts),
        "parts": dict(parts),
        "plane": geometry.facts,
        "network": {
            **network,
            "buffers": found.buffers,
            "own_losses": [own.as_dict() for own in found.own_losses],
        },
        "data": {s.name: _data_facts(s, problem) for s in subsamples},
        "unit": caption.loss_unit(spec.evaluate.loss, spec.evaluate.unit, positions),
        **({"labels": list(spec.plane.labels)} if spec.plane.labels else {}),
        "code": {role: _code_facts(code) for role, code in codes.by_role().items()},
        "versions": _versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _checkpoints_told(checkpoints: Sequence[Known], layout: Layout) -> list[str]:
    """How weights were found in their files, where that is not plain: one line for all alike."""
    files: dict[str, list[str]] = {}
    for known in checkpoints:
        told = state_dict.told(known.state, layout)
        if told and known.file not in files.setdefault(told, []):
            files[told].append(known.file)
    return [f"{', '.join(names)}: {told}" for told, names in files.items()]


def _batch_norm(spec: RenderSpec, net: nn.Module, buffers_of: str) -> str | None:
    """How batch norm is treated, in words; None where the network has none."""
    if not has_batch_norm(net):
        return None
    if spec.evaluate.batch_norm == "frozen":
        return f"frozen: running statistics of {buffers_of}"
    return f"recompute: population statistics of the {spec.calibrating} split"


def _data_facts(subsample: Subsample, problem: Problem) -> dict[str, Any]:
    """What the store says of a split."""
    facts = {
        "examples": len(subsample.indices),
        "digest": subsample.digest,
        "select": subsample.select,
    }
    told = [subsample.bytes_of_targets or subsample.classes]
    if problem.loss in OF_CLASSES:
        told.append(targets.ignored_in_words(subsample.targets, problem.options))
    texts = {"targets": "; ".join(filter(None, told)), "inputs": subsample.inputs_told}
    return facts | {key: text for key, text in texts.items() if text}


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
