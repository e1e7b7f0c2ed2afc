"""What a render will cost, measured before it starts."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import caption, format
from pipeline.curvature.evaluator import CurvatureEvaluator
from pipeline.errors import LossatlasError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.room import give_back_memory
from pipeline.geometry.grid import Grid
from pipeline.prepare import Prepared
from pipeline.problem.data import by_split
from pipeline.refinement.lattice import first_points
from pipeline.refinement.schedule import Schedule
from pipeline.store.layout import marks_a_block
from pipeline.task import evaluator, with_curvature
from pipeline.url import is_url

# About how long a tile should take: a dead worker then loses little, and overhead is small.
_TILE_SECONDS = 10.0
_TILES_A_WORKER = 8
_LARGEST_TILE = 512
# More would make a listing of the commits a matter of minutes (docs/explanation/scale.md).
_MOST_TILES = 1_000_000
_FACTS_A_TILE = 3  # done, seconds and worker have a chunk each
_BLOCK_BYTES = 4096  # of a file system: what the smallest file takes
_MEASURING_SECONDS = 0.5
_ABSURD_POINTS = 10**10
_COPIES_OF_A_TILE = 3  # as it is evaluated, written and packed
_BYTES_A_TILE = 400  # of driver memory: its place in the queue and in the listing


class PlanError(LossatlasError):
    """The render needs more than there is."""


@dataclass(frozen=True)
class Plan:
    """Points, tiles and costs. Sizes in bytes, times in seconds.

    Where the render is `refined`, points and seconds are the most it can take. The `marks` of all
    `mark_groups` are no points, and are in the seconds and bytes. `targets` and
    `inputs` say how they are taken (`pipeline.problem.data.Subsample`), and are empty where they
    stay as they are. `curvature` says of what it is measured, and what that takes. `checkpoints`
    says how weights were found in their files, where that is not plain. What `batch_norm`,
    `buffers` and `own_losses` say is what the store says of its network; `precision` is what the
    network computes in. `worker_bytes` and `driver_bytes` are the peaks of resident memory of a
    worker and of the driver, `memory_bytes` what all of them take together: what workers have in
    common counts once.
    """

    name: str
    width: int
    height: int
    frames: int
    tile: int
    tiles: int
    points: int
    examples: int
    parameters: int
    batch_norm: str | None
    checkpoints: str
    buffers: str | None
    own_losses: tuple[str, ...]
    quantities: tuple[str, ...]
    workers: int
    device: str
    seconds_a_point: float
    seconds: float
    disk_bytes: int
    memory_bytes: int
    worker_bytes: int
    driver_bytes: int
    store: str
    refined: bool = False
    targets: str = ""
    inputs: str = ""
    marks: int = 0
    mark_groups: tuple[str, ...] = ()
    precision: str = "float32"
    curvature: str = ""
    mark_remarks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(
    prepared: Prepared, workers: int, device: str, measured_on: str | None = None
) -> tuple[Grid, Plan]:
    """The grid with its tile size, and what the render will take.

    Args:
        prepared: the render.
        workers: how many.
        device: of the workers.
        measured_on: the device here to measure the speed on; None is `device`.

    Raises:
        FootprintError, PlanError: as `measure` and `plan`.
    """
    seconds = measure(prepared, measured_on or device)
    grid = resolve_grid(prepared, seconds, workers)
    return grid, plan(prepared, grid, seconds, workers, device)


def measure(prepared: Prepared, device: str = "cpu") -> float:
    """Seconds a grid point on one worker of `device`, by evaluating some.

    Raises:
        FootprintError: evaluating takes more memory than there is.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if device == "cpu":
            prepared.footprint.require_driver()
            return _seconds_a_point(prepared, prepared.evaluator, prepared.all_quantities)
        made = evaluator(prepared.inputs.uncompiled(), device)
        return _seconds_a_point(prepared, made, with_curvature(prepared.inputs, made))
    finally:
        torch.set_num_threads(threads)
        prepared.evaluator.rest()
        give_back_memory(torch.device(device))  # to the workers


def _seconds_a_point(
    prepared: Prepared, made: Evaluator, found: Evaluator | CurvatureEvaluator
) -> float:
    plane, extent = prepared.first_plane(), prepared.frames[0].extent
    middle = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
    # As many as go together in a tile: a small network's single point takes twice its time.
    some = np.tile(middle, (made.group if found is made else 1, 1))
    if found is made:
        found.evaluate(plane, some)
    began, points = time.perf_counter(), 0
    while points == 0 or time.perf_counter() - began < _MEASURING_SECONDS:
        found.evaluate(plane, some)
        points += len(some)
    return (time.perf_counter() - began) / points


def resolve_grid(prepared: Prepared, seconds_a_point: float, workers: int) -> Grid:
    """The grid with its tile size: as the spec says, or about ten seconds of work each."""
    asked = prepared.spec.grid
    frames = len(prepared.frames)
    if asked.edge is not None:
        return Grid(asked.width, asked.height, asked.edge, frames)
    every = frames * asked.width * asked.height
    share = every / (workers * _TILES_A_WORKER)
    fitting = _TILE_SECONDS / seconds_a_point
    if prepared.spec.evaluate.refine:
        # How many points a refined render takes hardly depends on how many there are. Its first
        # passes tell the scale.
        fitting *= every / (frames * first_points(asked.height, asked.width))
    points = max(1.0, min(fitting, share))
    edge = int(points if asked.height == 1 else math.sqrt(points))
    largest = min(_LARGEST_TILE, max(asked.width, asked.height))
    grid = Grid(asked.width, asked.height, max(1, min(largest, edge)), frames)
    while grid.tile_count > _MOST_TILES and grid.tile < largest:
        grid = replace(grid, tile=grid.tile + 1)
    return grid


def plan(prepared: Prepared, grid: Grid, seconds_a_point: float, workers: int, device: str) -> Plan:
    """What `prepared` on `grid` will take on this machine.

    Raises:
        PlanError: more than any machine has, or than the store's disk has free.
    """
    arrays = len(prepared.inputs.quantities) * len(prepared.inputs.problem.splits)
    groups = prepared.facts.get("marks", ())
    marks = sum(group["count"] for group in groups)
    block = 1 if is_url(prepared.spec.store) else _BLOCK_BYTES
    worker = prepared.footprint.worker(device) + _COPIES_OF_A_TILE * 4 * arrays * grid.tile**2
    driver = prepared.footprint.driver(device) + _BYTES_A_TILE * grid.tile_count
    made = Plan(
        name=prepared.spec.name,
        width=grid.width,
        height=grid.height,
        frames=grid.frames,
        tile=grid.tile,
        tiles=grid.tile_count,
        points=grid.points,
        examples=sum(len(targets) for _, targets in prepared.inputs.problem.splits.values()),
        parameters=prepared.facts["network"]["parameters"],
        batch_norm=prepared.facts["network"]["batch_norm"],
        checkpoints=caption.checkpoints(prepared.facts),
        buffers=prepared.facts["network"]["buffers"],
        own_losses=prepared.own_losses,
        quantities=prepared.inputs.quantities,
        workers=workers,
        device=device,
        seconds_a_point=seconds_a_point,
        seconds=(grid.points + marks) * seconds_a_point / workers,
        disk_bytes=grid.tile_count
        * (
            arrays * _stored(4 * grid.tile**2, block)
            + _FACTS_A_TILE * _stored(1, block)
            + _refined_bytes(prepared, grid, arrays, block)
        )
        + _mark_bytes(prepared, grid, marks, block),
        memory_bytes=driver + workers * (worker - prepared.footprint.shared),
        worker_bytes=worker,
        driver_bytes=driver,
        store=prepared.spec.store,
        refined=prepared.spec.evaluate.refine is not None,
        targets=by_split(prepared.facts["data"], "targets"),
        inputs=by_split(prepared.facts["data"], "inputs"),
        marks=marks,
        curvature=_curvature(prepared),
        mark_remarks=prepared.mark_remarks,
        mark_groups=tuple(f"{each['label']} ({each['count']:,})" for each in groups),
        precision=prepared.facts["network"].get("precision", prepared.spec.evaluate.precision),
    )
    _refuse_absurd(made)
    return made


def _curvature(prepared: Prepared) -> str:
    """Of what curvature is measured, and what its vectors take; empty without it."""
    asked, found = prepared.inputs.curvature, prepared.all_quantities
    if asked is None or not isinstance(found, CurvatureEvaluator):
        return ""
    told = f"{asked.examples:,} {asked.split} examples"
    if asked.statistics:
        told += f", statistics of batch norms {caption.STATISTICS[asked.statistics]}"
    if found.is_exact:
        return f"{told}; all eigenvalues are computed"
    if not found.steps:
        return told
    bytes_ = 8 * found.steps * prepared.facts["network"]["parameters"]
    return f"{told}; up to {found.steps:,} Lanczos vectors, {format.size(bytes_)} a worker"


def _mark_bytes(prepared: Prepared, grid: Grid, marks: int, block: int) -> int:
    """What the own values of marks take: a chunk a quantity and block of marks, and its commit."""
    if not marks:
        return 0
    a_block = marks_a_block(grid, marks)
    splits, quantities = len(prepared.inputs.problem.splits), len(prepared.inputs.quantities)
    return -(-marks // a_block) * (
        quantities * _stored(4 * splits * a_block, block) + _stored(a_block, block)
    )


def _refined_bytes(prepared: Prepared, grid: Grid, arrays: int, block: int) -> int:
    """What a tile of a refined render takes besides: its records, and what is predicted."""
    refine = prepared.spec.evaluate.refine
    if refine is None:
        return 0
    # A record is three files, and in one round most of them are small.
    passes = len(Schedule.begin(grid, refine).passes) + 1
    predicted = _stored(2 * grid.tile**2, block) + _stored(4 * arrays * grid.tile**2, block)
    return passes * 3 * _stored(1, block) + _stored(4 * arrays * grid.tile**2, block) + predicted


def _stored(bytes_: int, block: int) -> int:
    """Bytes on disk of a file with so many bytes."""
    return -(-bytes_ // block) * block


def _refuse_absurd(made: Plan) -> None:
    free = _free_bytes(made.store)
    if made.points <= _ABSURD_POINTS and (free is None or made.disk_bytes <= free):
        return
    workers = format.plural(made.workers, "worker")
    room = "" if free is None else f" ({format.size(free)} are free)"
    raise PlanError(
        f"the grid of {made.frames} × {made.height:,} × {made.width:,} points would take "
        f"{format.size(made.disk_bytes)} of disk{room}, {format.size(made.memory_bytes)} of "
        f"memory and {format.duration(made.seconds)} on {workers}; wanted one that fits. "
        "Make grid.width and grid.height smaller"
    )


def _free_bytes(store: str) -> int | None:
    if is_url(store):
        return None
    place = Path(store)
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    # A file system without a size, such as /proc, says nothing about room.
    return usage.free if usage.total else None
