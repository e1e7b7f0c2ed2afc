"""The one task of a render: evaluate a tile, write it, commit it."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.errors import one_line
from pipeline.evaluation.crosscheck import Problem
from pipeline.evaluation.evaluator import EvaluateError, Evaluator, room_on
from pipeline.evaluation.precision import DEFAULT_TOLERANCE, Fidelity, Precision, compare, spread
from pipeline.geometry.film_planes import Planes
from pipeline.geometry.grid import Step, Tile
from pipeline.geometry.plane import Plane
from pipeline.problem import network, usercode
from pipeline.problem.losses import LossFunction, loss_function
from pipeline.problem.usercode import UserCode
from pipeline.refinement.records import Points
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.step import Refinement
from pipeline.store.errors import StoreError
from pipeline.store.store import Store
from pipeline.url import UnreachableError

_CHECKED_POINTS = 16


@dataclass(frozen=True)
class RenderInputs:
    """Everything that evaluating needs, by value: shared once with all workers.

    Attributes:
        factory, kwargs, network_code: what `network.build` takes.
        buffers: the network's buffers, by name.
        splits: name → inputs (n, …) and targets (n, …).
        loss, loss_code: the name in the spec, and the user's code behind it.
        calibrate: the split whose statistics batch norms use, where they are recomputed.
        planes: of every frame.
        precision, compiled: how the network computes.
        tolerance: how far that may move a loss, relative to float32's.
    """

    factory: str
    kwargs: Mapping[str, Any]
    network_code: UserCode | None
    buffers: Mapping[str, NDArray[np.generic]]
    splits: Mapping[str, tuple[NDArray[np.generic], NDArray[np.generic]]]
    loss: str
    loss_code: UserCode | None
    quantities: tuple[str, ...]
    batch_norm: Literal["recompute", "frozen"]
    calibrate: str
    planes: Planes
    precision: Precision = "float32"
    compiled: bool = False
    tolerance: float = DEFAULT_TOLERANCE

    @property
    def is_reference(self) -> bool:
        """Whether it computes in float32, operator by operator, which others are held to."""
        return self.precision == "float32" and not self.compiled

    def as_reference(self) -> RenderInputs:
        return replace(self, precision="float32", compiled=False)

    def uncompiled(self) -> RenderInputs:
        """For measuring a point or two, which compiling would take longer than."""
        return replace(self, compiled=False)


@dataclass(frozen=True)
class TileFacts:
    """What a committed tile cost. `seconds` includes `write_seconds`."""

    tile: Tile
    points: int
    seconds: float
    write_seconds: float
    worker: int


def build_network(inputs: RenderInputs) -> nn.Module:
    """The render's network, with initial weights."""
    return network.build(inputs.factory, inputs.kwargs, inputs.network_code)


def evaluator(inputs: RenderInputs, device: str = "cpu") -> Evaluator:
    """The evaluator of a render's network and data on `device`: `cpu`, `cuda` or `cuda:1`.

    Raises:
        LossatlasError: network, data and loss do not fit together, or not into the memory.
    """
    net = build_network(inputs)
    for name, buffer in net.named_buffers():
        if name in inputs.buffers:
            buffer.copy_(torch.tensor(inputs.buffers[name]))
    loss = loss_function(inputs.loss, _custom_loss(inputs))
    with room_on(device):
        return Evaluator(
            net,
            inputs.splits,
            inputs.quantities,
            loss,
            inputs.batch_norm,
            device,
            calibrate=inputs.calibrate,
            precision=inputs.precision,
            compiled=inputs.compiled,
        )


def problem_of(inputs: RenderInputs) -> Problem:
    """What is evaluated, for plain torch to evaluate as well."""
    return Problem(
        build=functools.partial(
            network.build, inputs.factory, inputs.kwargs, inputs.network_code, in_eval=False
        ),
        buffers={name: torch.tensor(buffer) for name, buffer in inputs.buffers.items()},
        splits=inputs.splits,
        calibrate=inputs.calibrate,
        loss=loss_function(inputs.loss, _custom_loss(inputs)),
        batch_norm=inputs.batch_norm,
    )


class TileRenderer:
    """A worker's inside: holds network, data and planes on one device, and renders tiles.

    Args:
        inputs: shared by all workers.
        store_url: where tiles are committed.
        device: `cpu`, `cuda` or `cuda:1`.
        worker: an id, noted with every tile.
        threads: torch's threads; one, so that the numbers do not depend on the machine's cores.

    Raises:
        CompileError: the network is to be compiled, and cannot be here.
        PrecisionError: the render's precision, or compiling, moves losses beyond its tolerance on
            this device. What was found is in the store's notes, under `precision/`, either way.
        LossatlasError: network, data and loss do not fit together.
    """

    def __init__(
        self,
        inputs: RenderInputs,
        store_url: str,
        device: str = "cpu",
        worker: int = 0,
        threads: int | None = 1,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._worker = worker
        self._store = Store.open(store_url, writable=True)
        # A store keeps the order of splits that it was made with, whatever a spec's mapping has.
        splits = {name: inputs.splits[name] for name in self._store.splits}
        inputs = replace(inputs, splits=splits)
        self._planes = inputs.planes
        self._network = build_network(inputs)
        # One frame at a time: a film's planes together may not fit.
        self._plane = functools.lru_cache(maxsize=1)(self._load_plane)
        self._evaluator = evaluator(inputs, device)
        if not inputs.is_reference:
            found = self._fidelity(inputs, device)
            self._store.write_note(f"precision/{worker}.json", {"device": device} | found.as_dict())
            found.require()

    def __call__(self, tile: Tile) -> TileFacts:
        """Evaluate `tile`, write its chunks and commit it.

        Raises:
            OSError: the store cannot be written.
        """
        began = time.perf_counter()
        grid = self._store.grid
        values = self._evaluate(tile.frame, grid.coordinates(tile, self._store.extent(tile.frame)))
        evaluated = time.perf_counter()
        shape = (len(self._store.splits), *grid.shape(tile))
        self._store.commit(
            tile,
            {quantity: array.reshape(shape) for quantity, array in values.items()},
            seconds=evaluated - began,
            worker=self._worker,
        )
        ended = time.perf_counter()
        return TileFacts(tile, grid.size(tile), ended - began, ended - evaluated, self._worker)

    def _evaluate(
        self, frame: int, coordinates: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float32]]:
        """Every quantity at points (n, 2) of a frame: float32 (splits, n) each."""
        plane = self._plane(frame)
        try:
            return self._evaluator.evaluate(plane, coordinates)
        except OSError as error:  # the user's own, which says nothing of the store
            raise EvaluateError(
                f"the network or the loss failed with {type(error).__name__}: "
                f"{one_line(error, 300)}. Check the code they are from, and what it reads"
            ) from error

    def _fidelity(self, inputs: RenderInputs, device: str) -> Fidelity:
        """How far the render is from its reference on this device, over a spread of points.

        On each worker: what rounding does depends on the device, and a worker that fell back to
        float32 by itself would leave a seam.
        """
        evaluators = evaluator(inputs.as_reference(), device), self._evaluator
        frames = sorted({0, self._store.frames - 1})
        found: list[list[Mapping[str, NDArray[np.float32]]]] = [[], []]
        for frame in frames:
            points = self._store.extent(frame).at(spread(_CHECKED_POINTS // len(frames)))
            for own, each in zip(found, evaluators, strict=True):
                own.append(each.evaluate(self._plane(frame), points))
        exact, low = (
            {q: np.concatenate([of_frame[q] for of_frame in own], axis=1) for q in own[0]}
            for own in found
        )
        return compare(exact, low, inputs.precision, inputs.tolerance, inputs.compiled)

    def _load_plane(self, frame: int) -> Plane:
        return self._planes.of_frame(frame, self._network)


class StepRenderer(TileRenderer):
    """The same for a render that is refined: it renders steps, which are passes over tiles."""

    _schedule: Schedule | None = None

    @functools.cached_property
    def _refinement(self) -> Refinement:
        return Refinement(self._store)

    def __call__(self, step: Step) -> TileFacts:  # type: ignore[override]
        """Evaluate what a step wants, and commit it; or compose its tile.

        Raises:
            OSError: the store cannot be written.
            StoreError: what the step needs is damaged.
        """
        try:
            return self._render(step)
        except UnreachableError:
            raise
        except StoreError as error:
            # Not the fault of this step: what it reads belongs to others, around it.
            raise StoreError(f"{error}. Run lossatlas verify, then resume") from None

    def _render(self, step: Step) -> TileFacts:
        began = time.perf_counter()
        schedule = self._schedule_of(step)
        y, x = self._refinement.points_to_evaluate(schedule, step)
        evaluated = self._at(step.frame, y, x)
        worked = time.perf_counter()
        kind = schedule.passes[step.number].kind
        self._refinement.note_log(schedule, step, evaluated)
        if kind == "audit" and len(y):
            self._refinement.note_audit(schedule, step, y, x, evaluated)
        if kind == "compose":
            values, predictions = self._refinement.compose(schedule, step)
            seconds = self._refinement.seconds(step)
            self._store.commit(step.tile, values, seconds, self._worker, predictions)
        self._refinement.records.commit(step, Points(y, x, evaluated), worked - began, self._worker)
        ended = time.perf_counter()
        return TileFacts(step.tile, len(y), ended - began, ended - worked, self._worker)

    def _at(self, frame: int, y: NDArray[np.intp], x: NDArray[np.intp]) -> NDArray[np.float32]:
        """Every field at points of the grid, float32 (fields, n)."""
        shape = len(self._store.quantities), len(self._store.splits), len(y)
        if not len(y):
            return np.empty((shape[0] * shape[1], 0), "f4")
        found = self._evaluate(frame, self._store.grid.at(self._store.extent(frame), y, x))
        values = np.stack([found[quantity] for quantity in self._store.quantities])
        return values.reshape(shape[0] * shape[1], len(y))

    def _schedule_of(self, step: Step) -> Schedule:
        """The schedule, as it was when the step's pass began or later: it only grows."""
        known = self._schedule
        if known is None or known.last < step.number or (step.number and not known.ranges):
            self._schedule = Schedule.read(self._store)
        if self._schedule is None or self._schedule.last < step.number:
            raise StoreError(f"what was decided for pass {step.number} is missing or damaged")
        return self._schedule


def _custom_loss(inputs: RenderInputs) -> LossFunction | None:
    if inputs.loss_code is None:
        return None
    return usercode.attribute(inputs.loss_code, inputs.loss.rpartition(":")[2])
