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
from cluster.driver.session import Run
from cluster.lease import Holder, held
from cluster.monitor.progress import teller
from cluster.options import Choices
from cluster.scheduling import steps
from cluster.scheduling.refinement import Lookout, kept, summary_lines
from cluster.scheduling.work_queue import NOT_REFINED, Tiles, Todo
from cluster.workers import devices, local
from cluster.workers.devices import Team
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
    store_of: Callable[[Team], tuple[Store, bool]]
    refine: RefineSpec | None
    going_on: bool
    remarks: tuple[str, ...]
    footprint: Any


def render(spec: RenderSpec, choices: Choices, say: Callable[[str], None]) -> int:
    """Render `spec`, or go on with it where its store exists; returns the exit code.

    Args:
        spec: what to render.
        choices: how to run it.
        say: takes the lines a user should read at the end.

    Raises:
        LossatlasError: the user's mistakes, a store in use, or one that cannot be written.
    """
    say = teller(say, spec.name, choices.log == "json")
    with Interrupts() as interrupts:
        try:
            from pipeline import plan, prepare

            local.settle(choices.address)
            prepared = prepare.prepare(spec)
            if spec.evaluate.refine and not Store.exists(spec.store):
                steps.check(choices.selection)  # before there is anything

            def store_of(workers: Team) -> tuple[Store, bool]:
                def make_grid() -> Grid:
                    device, count = workers.device.name, workers.workers
                    seconds = plan.measure(prepared, _here(device))
                    grid = plan.resolve_grid(prepared, seconds, count)
                    plan.plan(prepared, grid, seconds, count, device)  # refuses what cannot be
                    return grid

                return prepare.create_or_match(prepared, make_grid, held)

            refine, remarks = spec.evaluate.refine, prepared.remarks
            job = _Job(prepared.inputs, store_of, refine, False, remarks, prepared.footprint)
            return _drive(job, choices, interrupts, say)
        except KeyboardInterrupt:
            written = Store.exists(spec.store)
            say(
                f"stopped; go on with: lossatlas resume {format.place(spec.store)}"
                if written
                else "stopped before anything was written"
            )
            return EXIT_CODE


def resume(url: str, choices: Choices, say: Callable[[str], None], trust: str | None = None) -> int:
    """Go on with the render whose store is at `url`; returns the exit code.

    Args:
        url: of the store.
        choices: how to run it.
        say: takes the lines a user should read.
        trust: the digest of the code in the store, which the user has seen.

    Raises:
        LossatlasError: no such store, its inputs are gone or changed, it names code that is not
            trusted, it is of other versions, or it is in use.
    """
    with Interrupts() as interrupts:
        try:
            store = Store.open(url, writable=True)
            store.require("spec", "parts", "code")
            say = teller(say, store.attrs["spec"].get("name", url), choices.log == "json")
            if steps.finished(store):
                return _nothing_to_do(store, choices, say)
            from pipeline import prepare

            local.settle(choices.address)
            prepared = prepare.prepare_resume(store, trust, say)
            refine = prepared.spec.evaluate.refine
            job = _Job(
                prepared.inputs,
                lambda _: (store, True),
                refine,
                True,
                prepared.remarks,
                prepared.footprint,
            )
            return _drive(job, choices, interrupts, say)
        except KeyboardInterrupt:
            say(f"stopped; go on with: lossatlas resume {format.place(url)}")
            return EXIT_CODE


def _drive(job: _Job, choices: Choices, interrupts: Interrupts, say: Callable[[str], None]) -> int:
    from pipeline.evaluation.compiled import CompileError
    from pipeline.evaluation.precision import PrecisionError
    from pipeline.footprint import FootprintError

    with contextlib.ExitStack() as stack:
        ray = stack.enter_context(local.joined(choices.address)) if choices.address else None
        workers = devices.choose(choices.workers, choices.device, ray)
        if choices.executor == "serial":
            workers = Team(1, workers.device, workers.gpus)
        store, was_there = job.store_of(workers)
        place = format.place(store.url)
        todo = _todo(store, job, choices)
        if todo.complete:
            return _nothing_to_do(store, choices, say)
        versions.require(store, choices.other_versions)
        run = Run(store, todo, was_there, choices, interrupts)
        for remark in job.remarks:
            run.warned(remark)
        try:
            if ray is None:  # what machines of a cluster have is not known here
                device, is_serial = workers.device.name, choices.executor == "serial"
                job.footprint.require(workers.workers, device, is_serial)
            run.drive(job.inputs, workers, ray)
        except KeyboardInterrupt:
            interrupts.requested = True
        except (CompileError, FootprintError, InputsChangedError, PrecisionError):
            if not was_there:
                # Or the same spec, without what was refused, would find its place taken.
                _remove_empty(store)
            raise
    if interrupts.requested and not run.complete:
        say(f"stopped; {kept(store)} are done and kept. Go on with: lossatlas resume {place}")
        return EXIT_CODE
    return run.conclude(place, say)


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


def _todo(store: Store, job: _Job, choices: Choices) -> Todo:
    choices.selection.check(store.frames)
    if not store.refined:
        return Tiles(store, choices.selection, NOT_REFINED if job.refine else "")
    steps.check(choices.selection)
    return steps.Steps(store, job.refine, job.going_on)


def _nothing_to_do(store: Store, choices: Choices, say: Callable[[str], None]) -> int:
    if choices.quiet:
        return 0
    place = format.place(store.url)
    if store.pending():
        say(f"{place}: the frames asked for are finished; the rest: lossatlas resume {place}")
        return 0
    say(f"{place}: all {format.plural(store.grid.tile_count, 'tile')} are done; nothing to do")
    if store.refined:
        for line in summary_lines(Lookout(store).look(store.committed()).summary):
            say(line)
    say(format.next_step(store.url, store.grid))
    return 0
