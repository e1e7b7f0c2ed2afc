"""The driver: from a spec or a store to a finished store.

Everything that it needs to go on is in the store. So it may be stopped or killed at any moment, and
another one takes over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from cluster import format
from cluster.driver.session import Run
from cluster.lease import Holder, held
from cluster.monitor.progress import teller
from cluster.options import Choices
from cluster.scheduling import steps
from cluster.scheduling.refinement import Lookout, account_lines, kept
from cluster.scheduling.work_queue import NOT_REFINED, Tiles, Todo
from cluster.workers import devices, local
from cluster.workers.devices import Team
from cluster.workers.interrupts import EXIT_CODE, Interrupts
from pipeline import versions
from pipeline.errors import InputsChangedError
from pipeline.refinement.step import Refined
from pipeline.spec import RefineSpec, RenderSpec
from pipeline.store.store import Store

if TYPE_CHECKING:
    from pipeline.prepare import Prepared


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
            from pipeline import prepare

            local.settle(choices.address)
            prepared = prepare.prepare(spec)
            if spec.evaluate.refine and not Store.exists(spec.store):
                steps.check(choices.selection)  # before the store is made
            return _drive(prepared, None, choices, interrupts, say)
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
            return _drive(prepared, store, choices, interrupts, say)
        except KeyboardInterrupt:
            say(f"stopped; go on with: lossatlas resume {format.place(url)}")
            return EXIT_CODE


def _drive(
    prepared: Prepared,
    resumed: Store | None,
    choices: Choices,
    interrupts: Interrupts,
    say: Callable[[str], None],
) -> int:
    """Render what is left; returns the exit code.

    Args:
        prepared: the render.
        resumed: its store, which goes on as it was decided; None to make or open the spec's.
        choices, interrupts, say: as for `render`.
    """
    from pipeline.evaluation.compiled import CompileError
    from pipeline.evaluation.precision import PrecisionError
    from pipeline.footprint import FootprintError

    with _machines(choices) as (workers, ray):
        store, was_there = (resumed, True) if resumed else _store_of(prepared, workers)
        todo = _todo(store, prepared.spec.evaluate.refine, resumed is not None, choices)
        if todo.complete:
            return _nothing_to_do(store, choices, say)
        versions.require(store, choices.other_versions)
        run = Run(store, todo, was_there, choices, interrupts)
        for remark in prepared.remarks:
            run.warned(remark)
        try:
            if ray is None:  # the memory of a cluster's machines is not known here
                is_serial = choices.executor == "serial"
                prepared.footprint.require(workers.workers, workers.device.name, is_serial)
            run.drive(prepared.inputs, workers, ray)
        except KeyboardInterrupt:
            interrupts.requested = True
        except (CompileError, FootprintError, InputsChangedError, PrecisionError):
            if not was_there:
                # Otherwise a corrected spec would find its place taken.
                _remove_empty(store)
            raise
    place = format.place(store.url)
    if interrupts.requested and not run.complete:
        say(f"stopped; {kept(store)} are done and kept. Go on with: lossatlas resume {place}")
        return EXIT_CODE
    return run.conclude(place, say)


@contextlib.contextmanager
def _machines(choices: Choices) -> Iterator[tuple[Team, Any]]:
    """The workers to have, and the Ray that was joined for them, or None for a private one."""
    with contextlib.ExitStack() as stack:
        ray = stack.enter_context(local.joined(choices.address)) if choices.address else None
        workers = devices.choose(choices.workers, choices.device, ray)
        if choices.executor == "serial":
            workers = Team(1, workers.device, workers.gpus)
        yield workers, ray


def _store_of(prepared: Prepared, workers: Team) -> tuple[Store, bool]:
    """The store that the spec names, and whether it was there before."""
    from pipeline import opening, plan

    if Store.exists(prepared.spec.store):
        return opening.match(prepared, held), True
    device, count = workers.device.name, workers.workers
    seconds = plan.measure(prepared, _here(device))
    grid = plan.resolve_grid(prepared, seconds, count)
    plan.plan(prepared, grid, seconds, count, device)  # refuses what does not fit
    return opening.create(prepared, grid, held)


def _remove_empty(store: Store) -> None:
    """Remove a store that this driver has made, if nothing was committed."""
    with contextlib.suppress(OSError):  # the error that led here is the one to report
        work = Refined(store).evaluations.committed() if store.refined else set()
        if not work and not store.committed() and Holder.read(store) is None:
            store.remove()


def _here(device: str) -> str:
    """The device to measure on: a cluster may have GPUs where this machine has none."""
    import torch

    return device if device == "cpu" or torch.cuda.is_available() else "cpu"


def _todo(store: Store, refine: RefineSpec | None, going_on: bool, choices: Choices) -> Todo:
    """What there is to do.

    Args:
        store: of the render.
        refine: what its spec says now.
        going_on: leave a refinement at what was decided.
        choices: how to run it.
    """
    choices.selection.check(store.frames)
    if not store.refined:
        return Tiles(store, choices.selection, NOT_REFINED if refine else "")
    steps.check(choices.selection)
    return steps.Steps(store, refine, going_on)


def _nothing_to_do(store: Store, choices: Choices, say: Callable[[str], None]) -> int:
    if choices.quiet:
        return 0
    place = format.place(store.url)
    if store.pending():
        say(f"{place}: the frames asked for are finished; the rest: lossatlas resume {place}")
        return 0
    say(f"{place}: all {format.plural(store.grid.tile_count, 'tile')} are done; nothing to do")
    if store.refined:
        for line in account_lines(Lookout(store).look(store.committed()).account):
            say(line)
    say(format.next_step(store.url, store.grid))
    return 0
