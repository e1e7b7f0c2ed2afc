"""The eigenvectors that span a plane: found once, and kept in the store of their render.

Another machine rounds in another way, and would find slightly different ones. So whoever goes on
with a render takes those of its store.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.curvature.evaluator import CurvatureEvaluator
from pipeline.errors import LossatlasError, one_line
from pipeline.geometry.eigenvectors import Eigenvectors
from pipeline.geometry.film_planes import Still
from pipeline.geometry.plane import Plane
from pipeline.plane_spec import DirectionsPlane
from pipeline.problem import state_dict
from pipeline.problem.checkpoint import State
from pipeline.problem.layout import Layout
from pipeline.problem.problem import Problem
from pipeline.spec import RenderSpec
from pipeline.store.errors import StoreError
from pipeline.store.reader import StoreReader
from pipeline.store.store import Store
from pipeline.task import RenderInputs, evaluator
from pipeline.url import UnreachableError


def find(spec: RenderSpec, problem: Problem, state: State) -> Eigenvectors:
    """The eigenvectors that the plane of a spec asks for.

    Args:
        spec: of a render.
        problem: of it.
        state: the checkpoint that they are at.

    Raises:
        LossatlasError: they do not converge, or the loss has no second derivative.
    """
    asked = spec.plane
    assert isinstance(asked, DirectionsPlane)
    assert asked.eigen is not None
    assert spec.curvature is not None
    network = problem.network()
    weights = state_dict.weights(state, Layout.of(network))
    zero = np.zeros(1)
    inputs = RenderInputs(
        problem=problem,
        buffers={n: b.numpy() for n, b in state_dict.buffers(state, network).items()},
        quantities=("loss",),
        batch_norm=spec.evaluate.batch_norm,
        calibrate=spec.calibrating,
        planes=Still(Plane(weights.astype("f8"), zero, zero, "euclidean")),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers have it: the bits then are the same
    try:
        made = evaluator(inputs, network=network)
        found = CurvatureEvaluator(made, ("loss",), spec.curvature, spec.calibrating)
        return found.eigenvectors(weights, asked.eigen)
    finally:
        torch.set_num_threads(threads)


def stored(store: StoreReader) -> Eigenvectors | None:
    """Those of a store; None where its plane has none.

    Raises:
        StoreError: they cannot be read.
    """
    facts = (store.attrs.get("plane") or {}).get("eigen")
    if facts is None:
        return None
    try:
        group: Any = store.group
        return Eigenvectors.of_facts(facts, group["direction"][:])
    except UnreachableError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise StoreError(
            f"{store.url}: the directions of its plane cannot be read ({one_line(error)}); wanted "
            "what was written when the store was made. Render its spec to another store"
        ) from None


def stored_for(spec: RenderSpec) -> Eigenvectors | None:
    """Those of the store that a spec names, where it is of the same plane; else None.

    Whether all else of the render is the same is found out later.
    """
    if not spec.has_eigenvectors:
        return None
    try:
        store = Store.open(spec.store)
        own = store.attrs["spec"]
    except UnreachableError:
        raise
    except (LossatlasError, KeyError):  # none yet, or none of a render
        return None
    if own.get("plane") != spec.plane.model_dump(mode="json"):
        return None
    return stored(store)
