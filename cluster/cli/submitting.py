"""`submit`, and `resume` as a job: starting a job on a cluster; `drive`, what that job runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from cluster.cli import shared
from cluster.cli.jobs import connected, follow_to_the_end
from cluster.cli.places import place_of, spec_at
from cluster.terminal import print_line, warn

if TYPE_CHECKING:
    from cluster.jobs.client import Jobs
    from pipeline.geometry.grid import Grid
    from pipeline.prepare import Prepared
    from pipeline.problem.trust import Named
    from pipeline.spec import RenderSpec
    from pipeline.store.store import Store


@click.command()
@shared.SPEC
@shared.STORE
@shared.JOBS
@shared.WORKERS
@shared.DEVICE
@shared.FRAMES
@shared.EVERY
@shared.OTHER_VERSIONS
@shared.LOG
@shared.PYTHON
@click.option("--follow", "-f", is_flag=True, help="Show the log until it ends; exit as it does.")
@shared.QUIET
def submit(
    spec: str, store: str | None, address: str | None, follow: bool, quiet: bool, **how: Any
) -> int:
    """Render the SPEC as a job of a Ray cluster, and print the job's id.

    Everything the SPEC names is loaded and checked here, and the store is made; the job then only
    needs the store. Checkpoints and data must be where the cluster's machines can read them: at a
    URL such as s3://…, or on a file system that all of them mount. User code travels by value.

    \b
    Examples:
      lossatlas submit bowl.yaml --address http://127.0.0.1:8265 --workers 8 --device cuda
      lossatlas submit bowl.yaml --store s3://bucket/bowl.zarr --follow
    """
    from cluster import options
    from cluster.lease import held
    from cluster.scheduling import step_queue, work_queue
    from pipeline import opening, prepare
    from pipeline.store.store import Store

    asked = spec_at(spec, store)
    selection = options.selection_of(how)
    if asked.evaluate.refine is not None:
        step_queue.check(selection)
    jobs = connected(address)
    if Store.exists(asked.store):
        _refuse_if_driven(jobs, Store.open(asked.store))
    prepared = prepare.prepare(asked)
    if Store.exists(asked.store):
        made = opening.match(prepared, held)
    else:
        made, _ = opening.create(prepared, _grid(prepared, how["workers"] or 1), held)
    selection.check(made.frames)
    if made.refined:
        step_queue.check(selection)
        remark = step_queue.decide(made, asked.evaluate.refine)  # the job goes on as it was decided
        if remark:
            warn(remark)
    elif asked.evaluate.refine is not None and made.pending():
        warn(work_queue.NOT_REFINED)
    if not quiet:
        _warn_of_local(asked)
    id_ = _start(jobs, made, prepared.code, how, quiet)
    return 0 if id_ is None or not follow else follow_to_the_end(jobs, id_)


def resume_as_job(run: str, address: str, trust: str | None, how: dict[str, Any]) -> int:
    """Start a new job on the store `run`.

    Raises:
        LossatlasError: no such store, code in it that is not trusted, or somebody is at it.
    """
    from cluster import options
    from cluster.scheduling import step_queue
    from pipeline import prepare
    from pipeline.problem import trust as trusting
    from pipeline.store.store import Store

    store = Store.open(run, writable=True)
    store.require("spec", "parts", "code")
    selection = options.selection_of(how)
    selection.check(store.frames)
    if store.refined:
        step_queue.check(selection)
    code = prepare.code_in(store)
    if not step_queue.finished(store):
        trusting.require(store.url, code, trust, warn)
    jobs = connected(address)
    _refuse_if_driven(jobs, store)
    _start(jobs, store, code, how, how["quiet"])
    return 0


@click.command(hidden=True)
@shared.RUN
@shared.WORKERS
@shared.DEVICE
@shared.FRAMES
@shared.EVERY
@shared.OTHER_VERSIONS
@shared.LOG
@shared.TRUST
def drive(run: str, trust: str | None, **how: Any) -> int:
    """Drive the store RUN from inside a job; `submit` and `resume` start this on the head.

    \b
    Examples:
      lossatlas drive s3://bucket/bowl.zarr
    """
    import os
    import platform

    from cluster import options
    from cluster.driver import drive
    from cluster.errors import ClusterError
    from pipeline.store.store import Store
    from pipeline.url import is_url

    address = os.environ.get("RAY_ADDRESS")
    if not address:
        raise ClusterError(
            "lossatlas drive is what a job runs, and this is none (RAY_ADDRESS is not set); "
            "wanted lossatlas submit, or lossatlas resume"
        )
    url = place_of(run)
    if not is_url(url) and not Store.exists(url):
        raise ClusterError(
            f"{url} is not on {platform.node()}, where this job runs; wanted a place that all "
            "machines share. Use s3://…, or a file system mounted at the same path everywhere"
        )
    how |= {"executor": "ray", "address": address, "quiet": False}
    return drive.resume(url, options.from_command_line(how), print_line, trust)


def _grid(prepared: Prepared, workers: int) -> Grid:
    """The tiles that suit this machine's speed: the cluster's is not known here."""
    from pipeline import plan as plans

    seconds = plans.measure(prepared, "cpu")
    grid = plans.resolve_grid(prepared, seconds, workers)
    plans.plan(prepared, grid, seconds, workers, "cpu")  # refuses what cannot be
    return grid


def _refuse_if_driven(jobs: Jobs, store: Store) -> None:
    from cluster import format
    from cluster.errors import ClusterError
    from cluster.lease import Holder

    place = format.place(store.url)
    alive = jobs.alive_on(store.url)
    if alive is not None:
        raise ClusterError(
            f"{place} is being rendered by the job {alive.id} ({alive.state}); wanted a store "
            f"nobody works on. Wait for it, or lossatlas stop {place}"
        )
    holder = Holder.living(store, time.time())
    if holder is not None:
        raise ClusterError(
            f"{place} is being rendered by {holder}; wanted a store nobody works on. Wait for it "
            "or stop it"
        )


def _start(jobs: Jobs, store: Store, code: Named, how: dict[str, Any], quiet: bool) -> str | None:
    """Start the job that drives `store` and print its id; None where nothing is left to do."""
    from cluster import format
    from cluster.jobs.client import Note, entrypoint
    from cluster.scheduling import step_queue
    from pipeline import machine_notes

    place = format.place(store.url)
    if step_queue.finished(store):
        if not quiet:
            tiles = format.plural(store.grid.tile_count, "tile")
            warn(f"{place}: all {tiles} are done; nothing to do")
        return None
    told = ("workers", "device", "frames", "every", "other_versions", "log")
    kept = {name: how[name] for name in told}
    if code.digest:
        kept["trust"] = code.digest  # what was looked at here, and nothing else, runs there
    run = str(store.attrs["spec"].get("name"))
    before = Note.read(store)
    command = entrypoint(store.url, kept, how["python"])
    id_ = jobs.submit(run, store.url, command, after=before.id if before else "")
    print_line(id_)
    Note(id_, jobs.address, time.time()).write(store)
    machine_notes.write(f"job of {store.url}", address=jobs.address)
    if not quiet:
        warn(f"started; see lossatlas logs -f {place}, lossatlas status --watch {place}")
    return id_


def _warn_of_local(spec: RenderSpec) -> None:
    """Say which of the inputs are on this machine's own file system."""
    from pipeline.url import is_url

    frames = getattr(spec.plane, "frames", None) or ()
    names = [*spec.plane.weights, *((frames,) if isinstance(frames, str) else frames)]
    if ".py:" not in spec.data.source:
        names.append(spec.data.source)
    local = [name for name in (*names, spec.store) if not is_url(name)]
    if local:
        more = f" and {len(local) - 1:,} more are paths" if local[1:] else " is a path"
        warn(
            f"{local[0]}{more} on this machine: every machine of the cluster must see the same "
            "files there. If not, use s3://…"
        )


COMMANDS = (submit, drive)
