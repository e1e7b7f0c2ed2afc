"""The driver: from a spec or a store to a finished store, whatever happens in between.

It is disposable: everything it needs to go on is in the store, so it may be stopped or killed at
any moment and another one takes over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster import format
from cluster.driver.session import Session
from cluster.lease import Holder, held
from cluster.monitor.log import line_printer
from cluster.options import Options
from cluster.scheduling import step_queue
from cluster.scheduling.refinement_progress import RefinementReader, done_text, summary_lines
from cluster.scheduling.work_queue import NOT_REFINED, TileQueue, WorkQueue
from cluster.workers import devices, local
from cluster.workers.devices import WorkerPlan
from cluster.workers.interrupts import EXIT_CODE, Interrupts
from pipeline import versions
from pipeline.errors import InputsChangedError
from pipeline.geometry.grid import Grid
from pipeline.refinement.step import Refinement
from pipeline.spec import RefineSpec, RenderSpec
from pipeline.store.store import Store


@dataclass(frozen=True)
class _Job:
    """One render to drive: its inputs, and how to get at its store once the team is known.

    `refine` is what its spec says now; `going_on` leaves it at what was decided; `remarks` are
    told before it begins.
    """

    inputs: Any
    store_of: Callable[[WorkerPlan], tuple[Store, bool]]
    refine: RefineSpec | None
    going_on: bool
    remarks: tuple[str, ...]
    footprint: Any


def render(spec: RenderSpec, options: Options, print_line: Callable[[str], None]) -> int:
    """Render `spec`, or go on with it where its store exists; returns the exit code.

    Args:
        spec: what to render.
        options: how to run it.
        print_line: takes the lines a user should read at the end.

    Raises:
        LossatlasError: the user's mistakes, a store in use, or one that cannot be written.
    """
    print_line = line_printer(print_line, spec.name, options.log == "json")
    with Interrupts() as interrupts:
        try:
            from pipeline import plan, prepare

            local.set_environment(options.address)
            prepared = prepare.prepare(spec)
            if spec.evaluate.refine and not Store.exists(spec.store):
                step_queue.check(options.selection)  # before there is anything

            def store_of(worker_plan: WorkerPlan) -> tuple[Store, bool]:
                def make_grid() -> Grid:
                    device, count = worker_plan.device.name, worker_plan.count
                    seconds = plan.measure(prepared, _here(device))
                    grid = plan.resolve_grid(prepared, seconds, count)
                    plan.plan(prepared, grid, seconds, count, device)  # refuses what cannot be
                    return grid

                return prepare.create_or_match(prepared, make_grid, held)

            refine, remarks = spec.evaluate.refine, prepared.remarks
            job = _Job(prepared.inputs, store_of, refine, False, remarks, prepared.footprint)
            return _drive(job, options, interrupts, print_line)
        except KeyboardInterrupt:
            written = Store.exists(spec.store)
            print_line(
                f"stopped; go on with: lossatlas resume {format.place(spec.store)}"
                if written
                else "stopped before anything was written"
            )
            return EXIT_CODE


def resume(
    url: str, options: Options, print_line: Callable[[str], None], trust: str | None = None
) -> int:
    """Go on with the render whose store is at `url`; returns the exit code.

    Args:
        url: of the store.
        options: how to run it.
        print_line: takes the lines a user should read.
        trust: the digest of the code in the store, which the user has seen.

    Raises:
        LossatlasError: no such store, its inputs are gone or changed, it names code that is not
            trusted, it is of other versions, or it is in use.
    """
    with Interrupts() as interrupts:
        try:
            store = Store.open(url, writable=True)
            store.require("spec", "parts", "code")
            print_line = line_printer(
                print_line, store.attrs["spec"].get("name", url), options.log == "json"
            )
            if step_queue.finished(store):
                return _nothing_to_do(store, options, print_line)
            from pipeline import prepare

            local.set_environment(options.address)
            prepared = prepare.prepare_resume(store, trust, print_line)
            refine = prepared.spec.evaluate.refine
            job = _Job(
                prepared.inputs,
                lambda _: (store, True),
                refine,
                True,
                prepared.remarks,
                prepared.footprint,
            )
            return _drive(job, options, interrupts, print_line)
        except KeyboardInterrupt:
            print_line(f"stopped; go on with: lossatlas resume {format.place(url)}")
            return EXIT_CODE


def _drive(
    job: _Job, options: Options, interrupts: Interrupts, print_line: Callable[[str], None]
) -> int:
    from pipeline.evaluation.compiled import CompileError
    from pipeline.evaluation.precision import PrecisionError
    from pipeline.footprint import FootprintError

    with contextlib.ExitStack() as stack:
        ray = stack.enter_context(local.joined(options.address)) if options.address else None
        worker_plan = devices.plan_workers(options.workers, options.device, ray)
        if options.executor == "serial":
            worker_plan = WorkerPlan(1, worker_plan.device, worker_plan.gpus)
        store, was_there = job.store_of(worker_plan)
        place = format.place(store.url)
        queue = _work_queue(store, job, options)
        if queue.complete:
            return _nothing_to_do(store, options, print_line)
        versions.require(store, options.other_versions)
        session = Session(store, queue, was_there, options, interrupts)
        for remark in job.remarks:
            session.warn(remark)
        try:
            if ray is None:  # what machines of a cluster have is not known here
                device, is_serial = worker_plan.device.name, options.executor == "serial"
                job.footprint.require(worker_plan.count, device, is_serial)
            session.run(job.inputs, worker_plan, ray)
        except KeyboardInterrupt:
            interrupts.requested = True
        except (CompileError, FootprintError, InputsChangedError, PrecisionError):
            if not was_there:
                # Or the same spec, without what was refused, would find its place taken.
                _remove_empty(store)
            raise
    if interrupts.requested and not session.complete:
        print_line(
            f"stopped; {done_text(store)} are done and kept. Go on with: lossatlas resume {place}"
        )
        return EXIT_CODE
    return session.conclude(place, print_line)


def _remove_empty(store: Store) -> None:
    """Take away a store that this driver has made, if nothing has come of it."""
    with contextlib.suppress(OSError):  # why it is to go is what the user should hear of
        work = Refinement(store).records.committed() if store.refined else set()
        if not work and not store.committed() and Holder.read(store) is None:
            store.remove()


def _here(device: str) -> str:
    """What to measure on: a cluster may have GPUs where the driver's machine has none."""
    import torch

    return device if device == "cpu" or torch.cuda.is_available() else "cpu"


def _work_queue(store: Store, job: _Job, options: Options) -> WorkQueue:
    options.selection.check(store.frames)
    if not store.refined:
        return TileQueue(store, options.selection, NOT_REFINED if job.refine else "")
    step_queue.check(options.selection)
    return step_queue.StepQueue(store, job.refine, job.going_on)


def _nothing_to_do(store: Store, options: Options, print_line: Callable[[str], None]) -> int:
    if options.quiet:
        return 0
    place = format.place(store.url)
    if store.pending():
        print_line(
            f"{place}: the frames asked for are finished; the rest: lossatlas resume {place}"
        )
        return 0
    print_line(
        f"{place}: all {format.plural(store.grid.tile_count, 'tile')} are done; nothing to do"
    )
    if store.refined:
        for line in summary_lines(RefinementReader(store).read(store.committed()).summary):
            print_line(line)
    print_line(format.next_step(store.url, store.grid))
    return 0
