"""The driver: from a spec or a store to a finished store.

Everything that a driver needs is in the store. It may be stopped or killed at any moment, and
another driver can go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from cluster import shell
from cluster.driver.session import Session
from cluster.lease import Holder, held
from cluster.monitor.log import line_printer
from cluster.options import Options
from cluster.scheduling import step_queue
from cluster.scheduling.mark_queue import MarkQueue
from cluster.scheduling.refinement_progress import (
    RefinementReader,
    all_text,
    done_text,
    summary_lines,
)
from cluster.scheduling.work_queue import NOT_REFINED, TileQueue, WorkQueue
from cluster.workers import devices, local
from cluster.workers.devices import WorkerPlan
from cluster.workers.interrupts import EXIT_CODE, Interrupts
from pipeline import versions
from pipeline.errors import InputsChangedError
from pipeline.refine_spec import RefineSpec
from pipeline.refinement.step import Refinement
from pipeline.spec import RenderSpec
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store

if TYPE_CHECKING:
    from pipeline.prepare import Prepared


def render(spec: RenderSpec, options: Options, print_line: Callable[[str], None]) -> int:
    """Render `spec`, or go on with it if its store exists; returns the exit code.

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
            from pipeline import prepare

            local.set_environment(options.address)
            prepared = prepare.prepare(spec)
            if spec.evaluate.refine and not Store.exists(spec.store):
                step_queue.check(options.selection)  # before the store is made
            return _drive(prepared, None, options, interrupts, print_line)
        except KeyboardInterrupt:
            written = Store.exists(spec.store)
            print_line(
                f"stopped; go on with: lossatlas resume {shell.place(spec.store)}"
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
            return _drive(prepared, store, options, interrupts, print_line)
        except KeyboardInterrupt:
            print_line(f"stopped; go on with: lossatlas resume {shell.place(url)}")
            return EXIT_CODE


def _drive(
    prepared: Prepared,
    resumed: Store | None,
    options: Options,
    interrupts: Interrupts,
    print_line: Callable[[str], None],
) -> int:
    """Render what is left; returns the exit code.

    Args:
        prepared: the render.
        resumed: its store, whose schedule is kept; None to create or open the store of the spec.
        options, interrupts, print_line: as for `render`.
    """
    from pipeline.evaluation.compiled import CompileError
    from pipeline.evaluation.precision import PrecisionError
    from pipeline.footprint import FootprintError

    with _machines(options) as (worker_plan, ray):
        said = _words_at(prepared.spec.store) if resumed is None and not options.quiet else None
        store, was_there = (resumed, True) if resumed else _store_of(prepared, worker_plan)
        if said is not None and said != store.words:
            print_line(f"{shell.place(store.url)}: has the labels and the look of the spec now")
        queue = _work_queue(store, prepared.spec.evaluate.refine, resumed is not None, options)
        if queue.complete:
            return _nothing_to_do(store, options, print_line)
        versions.require(store, options.other_versions)
        session = Session(store, queue, was_there, options, interrupts)
        for remark in prepared.remarks:
            session.warn(remark)
        try:
            if ray is None:  # the memory of a cluster's machines is not known here
                is_serial = options.executor == "serial"
                prepared.footprint.require(worker_plan.count, worker_plan.device.name, is_serial)
            session.run(prepared.inputs, worker_plan, ray)
        except KeyboardInterrupt:
            interrupts.requested = True
        except (CompileError, FootprintError, InputsChangedError, PrecisionError):
            if not was_there:
                # Otherwise a corrected spec would find its place taken.
                _remove_empty(store)
            raise
    place = shell.place(store.url)
    if interrupts.requested and not session.complete:
        print_line(
            f"stopped; {done_text(store)} are done and kept. Go on with: lossatlas resume {place}"
        )
        return EXIT_CODE
    return session.conclude(place, print_line)


@contextlib.contextmanager
def _machines(options: Options) -> Iterator[tuple[WorkerPlan, Any]]:
    """The plan of the workers, and the Ray cluster that was joined; None for a private Ray."""
    with contextlib.ExitStack() as stack:
        ray = stack.enter_context(local.joined(options.address)) if options.address else None
        worker_plan = devices.plan_workers(options.workers, options.device, ray)
        if options.executor == "serial":
            worker_plan = WorkerPlan(1, worker_plan.device, worker_plan.gpus)
        yield worker_plan, ray


def _words_at(url: str) -> dict[str, Any] | None:
    """What the store at `url` calls things; None where there is none."""
    return Store.open(url).words if Store.exists(url) else None


def _store_of(prepared: Prepared, worker_plan: WorkerPlan) -> tuple[Store, bool]:
    """The store that the spec names, and whether it existed before."""
    from pipeline import opening, plan

    if Store.exists(prepared.spec.store):
        return opening.match(prepared, held), True
    device, count = worker_plan.device.name, worker_plan.count
    grid, _ = plan.estimate(prepared, count, device, _here(device))  # refuses what does not fit
    return opening.create(prepared, grid, held)


def _remove_empty(store: Store) -> None:
    """Remove a store that this driver has made, if nothing was committed."""
    with contextlib.suppress(OSError):  # the error that led here is the one to report
        work: set[Any] = Refinement(store).records.committed() if store.refined else set()
        work = work or store.committed() or StoredMarks(store).committed()
        if not work and Holder.read(store) is None:
            store.remove()


def _here(device: str) -> str:
    """The device to measure on: a cluster may have GPUs where this machine has none."""
    import torch

    return device if device == "cpu" or torch.cuda.is_available() else "cpu"


def _work_queue(
    store: Store, refine: RefineSpec | None, keep_schedule: bool, options: Options
) -> WorkQueue:
    """The work queue of a store.

    Args:
        store: of the render.
        refine: what its spec says now.
        keep_schedule: follow the schedule in the store, whatever the spec says.
        options: how to run it.
    """
    options.selection.check(store.frames)
    plane: WorkQueue
    if store.refined:
        step_queue.check(options.selection)
        plane = step_queue.StepQueue(store, refine, keep_schedule)
    else:
        plane = TileQueue(store, options.selection, NOT_REFINED if refine else "")
    return MarkQueue(store, plane) if StoredMarks(store).count else plane


def _nothing_to_do(store: Store, options: Options, print_line: Callable[[str], None]) -> int:
    if options.quiet:
        return 0
    place = shell.place(store.url)
    if store.pending():
        print_line(
            f"{place}: the frames asked for are finished; the rest: lossatlas resume {place}"
        )
        return 0
    print_line(f"{place}: all {all_text(store)} are done; nothing to do")
    if store.refined:
        for line in summary_lines(RefinementReader(store).read(store.committed()).summary):
            print_line(line)
    print_line(shell.next_step(store.url, store.grid))
    return 0
