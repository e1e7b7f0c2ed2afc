"""The task of a worker: evaluate a tile, a step or some marks, write them, commit them."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.curvature.evaluator import CurvatureEvaluator
from pipeline.curvature_spec import CurvatureSpec
from pipeline.errors import one_line
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.examples import EvaluateError
from pipeline.evaluation.precision import DEFAULT_TOLERANCE, Fidelity, Precision, compare, spread
from pipeline.evaluation.room import room_on
from pipeline.geometry.film_planes import Planes
from pipeline.geometry.grid import MarkBlock, Step, Tile
from pipeline.geometry.marks import Marks
from pipeline.geometry.plane import Plane
from pipeline.problem.problem import Problem, Splits
from pipeline.quantities import OF_CURVATURE
from pipeline.refinement.certification import note_errors
from pipeline.refinement.records import Points
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.step import Refinement
from pipeline.store.errors import StoreError
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store
from pipeline.url import UnreachableError

_CHECKED_POINTS = 16


@dataclass(frozen=True)
class RenderInputs:
    """Everything that a worker of a render needs, by value: shared once with all workers.

    Attributes:
        problem: network, loss and data; the calibrating split comes first.
        buffers: the network's buffers, by name.
        quantities, batch_norm: as for the evaluator.
        calibrate: the split whose statistics batch norms use, where they are recomputed.
        planes: of every frame.
        precision, compiled: how the network computes.
        tolerance: how far that may move a loss, relative to float32's.
        marks: weights beside the planes, evaluated by themselves.
        curvature: how it is measured, where quantities of it are wanted.
    """

    problem: Problem
    buffers: Mapping[str, NDArray[np.generic]]
    quantities: tuple[str, ...]
    batch_norm: Literal["recompute", "frozen"]
    calibrate: str
    planes: Planes
    precision: Precision = "float32"
    compiled: bool = False
    tolerance: float = DEFAULT_TOLERANCE
    marks: Marks = field(default_factory=Marks)
    curvature: CurvatureSpec | None = None

    @property
    def plain_quantities(self) -> tuple[str, ...]:
        """Those without derivatives; at least the loss, which places weights."""
        return tuple(q for q in self.quantities if q not in OF_CURVATURE) or ("loss",)

    @property
    def is_reference(self) -> bool:
        """Whether it computes in float32, operator by operator: the reference for others."""
        return self.precision == "float32" and not self.compiled

    def as_reference(self) -> RenderInputs:
        return replace(self, precision="float32", compiled=False)

    def uncompiled(self) -> RenderInputs:
        """The same without compiling, for measuring: it takes longer than a few points."""
        return replace(self, compiled=False)

    def with_splits(self, splits: Splits) -> RenderInputs:
        """The same render on other data."""
        return replace(self, problem=self.problem.with_splits(splits))


@dataclass(frozen=True)
class TileFacts:
    """What a committed tile, or a block of marks, cost. `seconds` includes `write_seconds`."""

    tile: Tile | MarkBlock
    points: int
    seconds: float
    write_seconds: float
    worker: int


def evaluator(
    inputs: RenderInputs, device: str = "cpu", network: nn.Module | None = None
) -> Evaluator:
    """The evaluator of a render's problem.

    Args:
        inputs: of the render.
        device: `cpu`, `cuda` or `cuda:1`.
        network: the problem's, where it is built already; taken over, and changed.

    Raises:
        LossatlasError: network, data and loss do not fit together, or not into the memory.
    """
    network = network or inputs.problem.network()
    for name, buffer in network.named_buffers():
        if name in inputs.buffers:
            buffer.copy_(torch.tensor(inputs.buffers[name]))
    with room_on(device):
        return Evaluator(
            network,
            inputs.problem.splits,
            inputs.plain_quantities,
            inputs.problem.criterion(),
            inputs.batch_norm,
            device,
            calibrate=inputs.calibrate,
            precision=inputs.precision,
            compiled=inputs.compiled,
        )


def with_curvature(inputs: RenderInputs, made: Evaluator) -> Evaluator | CurvatureEvaluator:
    """An evaluator of all of a render's quantities.

    Args:
        inputs: of the render.
        made: their evaluator.

    Raises:
        CurvatureError: what is asked of curvature does not fit the network.
    """
    if inputs.curvature is None:
        return made
    return CurvatureEvaluator(made, inputs.quantities, inputs.curvature, inputs.calibrate)


class FrameEvaluator:
    """Evaluates points of any frame of a render on one device.

    Args:
        inputs: shared by all workers.
        store: of the render.
        device: `cpu`, `cuda` or `cuda:1`.
        worker: an id, for the note of what the precision check found.
        threads: torch's threads; None leaves them as they are.

    Raises:
        CompileError: the network is to be compiled, and cannot be here.
        PrecisionError: the render's precision, or compiling, moves losses beyond its tolerance on
            this device. What was found is in the store's notes, under `precision/`, either way.
        LossatlasError: network, data and loss do not fit together.
    """

    def __init__(
        self, inputs: RenderInputs, store: Store, device: str, worker: int, threads: int | None
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._store = store
        # The order of splits is that of the store, whatever the spec's mapping has now.
        inputs = inputs.with_splits({name: inputs.problem.splits[name] for name in store.splits})
        self._planes = inputs.planes
        self._marks = inputs.marks
        self._buffers = {name: torch.tensor(each) for name, each in inputs.buffers.items()}
        # One frame at a time: all planes of a film may not fit into memory.
        self._plane = functools.lru_cache(maxsize=1)(self._load_plane)
        self._evaluator = evaluator(inputs, device)
        self._all = with_curvature(inputs, self._evaluator)
        if not inputs.is_reference:
            found = self._fidelity(inputs, device)
            store.write_note(f"precision/{worker}.json", {"device": device} | found.as_dict())
            found.require()

    def __call__(
        self, frame: int, coordinates: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float32]]:
        """Every quantity at points (n, 2) of a frame: float32 (splits, n) each.

        Those of curvature are of one split.
        """
        plane = self._plane(frame)
        with _of_the_users():
            return self._all.evaluate(plane, coordinates)

    def at_mark(self, number: int) -> dict[str, NDArray[np.float32]]:
        """Every quantity at a mark's own weights, with its own buffers: float32 (splits,) each.

        Raises:
            LossatlasError: its file cannot be read, or was replaced.
        """
        mark = self._marks.load(number, self._evaluator.layout)
        try:
            self._evaluator.use_buffers(mark.buffers)
            with _of_the_users():
                return self._all.at(mark.weights)
        finally:
            self._evaluator.use_buffers(self._buffers)

    def _fidelity(self, inputs: RenderInputs, device: str) -> Fidelity:
        """How far the render is from its reference on this device, over a spread of points.

        Each worker checks it: rounding depends on the device. None falls back to float32 by
        itself, which would leave a seam.
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
        return self._planes.of_frame(frame, self._evaluator.layout)


@contextlib.contextmanager
def _of_the_users() -> Iterator[None]:
    """Turn an error of the operating system in the user's code into one that is not the store's."""
    try:
        yield
    except OSError as error:
        raise EvaluateError(
            f"the network or the loss failed with {type(error).__name__}: "
            f"{one_line(error, 300)}. Check the code they are from, and what it reads"
        ) from error


class StoreRenderer:
    """Evaluates points of a store's render in a worker; its children say what they commit.

    Args:
        inputs: shared by all workers.
        store_url: where results are committed.
        device: `cpu`, `cuda` or `cuda:1`.
        worker: an id, noted with every result.
        threads: torch's threads; one, so that the numbers do not depend on the machine's cores.

    Raises:
        LossatlasError: as `FrameEvaluator`.
    """

    def __init__(
        self,
        inputs: RenderInputs,
        store_url: str,
        device: str = "cpu",
        worker: int = 0,
        threads: int | None = 1,
    ) -> None:
        self._worker = worker
        self._store = Store.open(store_url, writable=True)
        self._evaluate = FrameEvaluator(inputs, self._store, device, worker, threads)

    def _render_marks(self, block: MarkBlock) -> TileFacts:
        """Evaluate the marks of a block by themselves, write them and commit them.

        Raises:
            OSError: the store cannot be written.
            LossatlasError: the file of a mark cannot be read, or was replaced.
        """
        began = time.perf_counter()
        found = [self._evaluate.at_mark(number) for number in range(block.start, block.stop)]
        values = {q: np.stack([each[q] for each in found], axis=1) for q in self._store.quantities}
        evaluated = time.perf_counter()
        StoredMarks(self._store).commit(block, values)
        ended = time.perf_counter()
        return TileFacts(block, len(found), ended - began, ended - evaluated, self._worker)


class TileRenderer(StoreRenderer):
    """Renders tiles: evaluates their points, writes them and commits them."""

    def __call__(self, tile: Tile | MarkBlock) -> TileFacts:
        """Evaluate `tile`, or the marks of a block, write its chunks and commit it.

        Raises:
            OSError: the store cannot be written.
            LossatlasError: the file of a mark cannot be read, or was replaced.
        """
        if isinstance(tile, MarkBlock):
            return self._render_marks(tile)
        began = time.perf_counter()
        grid = self._store.grid
        values = self._evaluate(tile.frame, grid.coordinates(tile, self._store.extent(tile.frame)))
        evaluated = time.perf_counter()
        shape = grid.shape(tile)
        self._store.commit(
            tile,
            {quantity: array.reshape(-1, *shape) for quantity, array in values.items()},
            seconds=evaluated - began,
            worker=self._worker,
        )
        ended = time.perf_counter()
        return TileFacts(tile, grid.size(tile), ended - began, ended - evaluated, self._worker)


class StepRenderer(StoreRenderer):
    """Renders the steps of a refined render; a step is one pass over one tile."""

    _schedule: Schedule | None = None

    @functools.cached_property
    def _refinement(self) -> Refinement:
        return Refinement(self._store)

    def __call__(self, step: Step | MarkBlock) -> TileFacts:
        """Evaluate what a step wants, and commit it; or compose its tile; or evaluate marks.

        Raises:
            OSError: the store cannot be written.
            StoreError: what the step needs is damaged.
            LossatlasError: the file of a mark cannot be read, or was replaced.
        """
        if isinstance(step, MarkBlock):
            return self._render_marks(step)
        try:
            return self._render(step)
        except UnreachableError:
            raise
        except StoreError as error:
            # The fault is not in this step: it reads the records of the steps around it.
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
            note_errors(self._refinement, schedule, step, Points(y, x, evaluated))
        if kind == "compose":
            values, predictions = self._refinement.compose(schedule, step)
            seconds = self._refinement.seconds(step)
            self._store.commit(step.tile, values, seconds, self._worker, predictions)
        self._refinement.records.commit(step, Points(y, x, evaluated), worked - began, self._worker)
        ended = time.perf_counter()
        return TileFacts(step.tile, len(y), ended - began, ended - worked, self._worker)

    def _at(self, frame: int, y: NDArray[np.intp], x: NDArray[np.intp]) -> NDArray[np.float32]:
        """Every field at points of the grid, float32 (fields, n)."""
        if not len(y):
            return np.empty((len(self._store.fields.pairs), 0), "f4")
        found = self._evaluate(frame, self._store.grid.at(self._store.extent(frame), y, x))
        return np.concatenate([found[quantity] for quantity in self._store.quantities])

    def _schedule_of(self, step: Step) -> Schedule:
        """The schedule, as it was when the step's pass began or later: it only grows."""
        known = self._schedule
        if known is None or known.last < step.number or (step.number and not known.ranges):
            self._schedule = Schedule.read(self._store)
        if self._schedule is None or self._schedule.last < step.number:
            raise StoreError(f"what was decided for pass {step.number} is missing or damaged")
        return self._schedule
