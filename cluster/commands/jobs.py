"""`submit`, `logs`, `stop`, `list`: renders as jobs of a Ray cluster, watched from elsewhere."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from cluster.commands import options
from cluster.commands.places import place_of

if TYPE_CHECKING:
    from cluster.jobs import Job, Jobs
    from pipeline.spec import RenderSpec
    from pipeline.store import Store

_DEFAULT = "http://127.0.0.1:8265"


@click.command()
@options.SPEC
@options.STORE
@options.JOBS
@options.WORKERS
@options.DEVICE
@options.FRAMES
@options.EVERY
@options.LOG
@options.PYTHON
@click.option("--follow", "-f", is_flag=True, help="Show the log until it ends; exit as it does.")
@options.QUIET
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
    from pipeline import plan as plans
    from pipeline import prepare
    from pipeline.spec import read

    asked = read(spec)
    if store is not None:
        asked = asked.model_copy(update={"store": place_of(store)})
    jobs = _connect(address)
    _check_selection(how)
    prepared = prepare.prepare(asked)
    workers = how["workers"] or 1

    def make_grid() -> Any:
        seconds = plans.measure(prepared, "cpu")
        grid = plans.resolve_grid(prepared, seconds, workers)
        plans.plan(prepared, grid, seconds, workers, "cpu")  # refuses what cannot be
        return grid

    made, _ = prepare.create_or_match(prepared, make_grid)
    if not quiet:
        _warn_of_local(asked)
    return _start(jobs, made, how, follow)


@click.command()
@click.argument("run")
@options.JOBS
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends; exit as it does.")
def logs(run: str, address: str | None, follow: bool) -> int:
    """Show what the job that drives RUN printed.

    RUN is a store, or the id of a job. With --follow a connection that breaks is taken up again,
    and the exit code is the job's.

    \b
    Examples:
      lossatlas logs runs/bowl.zarr
      lossatlas logs bowl-2 --address http://127.0.0.1:8265 --follow
    """
    jobs, job = _job_of(run, address)

    def say(text: str) -> None:
        click.echo(text, nl=False)

    if not follow:
        say(jobs.logs(job.id))
        return 0
    return _ended(jobs.follow(job.id, say))


@click.command()
@click.argument("run")
@options.JOBS
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=90.0, show_default=True, metavar="SECONDS"
)
def stop(run: str, address: str | None, timeout: float) -> int:
    """Stop the job that drives RUN; everything finished is kept.

    RUN is a store, or the id of a job. The driver gets a minute to end its workers and to give
    the store free. Exits with 1 if the job is still there after the timeout.

    \b
    Examples:
      lossatlas stop runs/bowl.zarr
      lossatlas stop bowl-2 --address http://127.0.0.1:8265
    """
    from cluster import phrases

    jobs, job = _job_of(run, address)
    if not job.alive:
        click.echo(f"{job.id} is not running: {_state(job)}")
        return 0
    job = jobs.stop(job.id, timeout)
    if job.alive:
        click.echo(
            f"{job.id} was told to stop and is still {job.status} after "
            f"{phrases.duration(timeout)}; look again with: lossatlas logs {job.id} "
            f"--address {jobs.address}"
        )
        return 1
    click.echo(f"{job.id} is {_state(job)}{_kept(job)}")
    return 0


@click.command(name="list")
@options.JOBS
@options.JSON
def list_(address: str | None, as_json: bool) -> None:
    """List the renders that are, or were, jobs of a cluster.

    \b
    Examples:
      lossatlas list
      lossatlas list --address http://127.0.0.1:8265 --json
    """
    found = _connect(address).list()
    if as_json:
        rows = [
            {
                "id": job.id,
                "run": job.run,
                "store": job.store,
                "status": job.status,
                "exit_code": None if job.alive else job.exit_code,
                "started": job.started,
            }
            for job in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    width = max((len(job.id) for job in found), default=0)
    for job in found:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
        click.echo(f"{job.id:<{width}}  {started}  {_state(job):<20}  {job.store}")
    if not found:
        click.echo("no renders here")


@click.command(hidden=True)
@options.RUN
@options.WORKERS
@options.DEVICE
@options.FRAMES
@options.EVERY
@options.LOG
def drive(run: str, **how: Any) -> int:
    """Drive the store RUN from inside a job; `submit` and `resume` start this on the head.

    \b
    Examples:
      lossatlas drive s3://bucket/bowl.zarr
    """
    import os
    import platform

    from cluster import choices, drive
    from cluster.errors import ClusterError
    from pipeline.place import is_url
    from pipeline.store import Store

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
    return drive.resume(url, choices.choose(how), click.echo)


def resume_as_job(run: str, address: str, how: dict[str, Any], python: str) -> int:
    """Start a new job on the store RUN.

    Raises:
        LossatlasError: no such store, or somebody is at it.
    """
    from cluster import phrases
    from pipeline.store import Store

    jobs = _connect(address)
    store = Store.open(run, writable=True)
    _check_selection(how)
    if not store.pending():
        click.echo(f"{phrases.place(run)}: all tiles are done; nothing to do")
        return 0
    return _start(jobs, store, {**how, "python": python}, follow=False)


def _start(jobs: Jobs, store: Store, how: dict[str, Any], follow: bool) -> int:
    """Start the job that drives `store`, unless somebody does already."""
    from cluster import phrases
    from cluster.errors import ClusterError
    from cluster.jobs import Note, entrypoint
    from cluster.lease import Holder

    place = phrases.place(store.url)
    alive = jobs.alive_on(store.url)
    if alive is not None:
        raise ClusterError(
            f"{place} is being rendered by the job {alive.id} ({alive.status}); wanted a store "
            f"nobody works on. Wait for it, or lossatlas stop {place}"
        )
    holder = Holder.read(store)
    if holder is not None and holder.alive(time.time()):
        raise ClusterError(
            f"{place} is being rendered by {holder}; wanted a store nobody works on. Wait for it "
            "or stop it"
        )
    kept = {name: how[name] for name in ("workers", "device", "frames", "every", "log")}
    run = str(store.attrs["spec"]["name"])
    id_ = jobs.submit(run, store.url, entrypoint(store.url, kept, how["python"]))
    Note(id_, jobs.address).write(store)
    click.echo(id_)
    if not follow:
        return 0
    return _ended(jobs.follow(id_, lambda text: click.echo(text, nl=False)))


def _ended(job: Job) -> int:
    if job.status != "SUCCEEDED":
        click.echo(f"lossatlas: {job.id} is {_state(job)}", err=True)
    return job.exit_code


def _connect(address: str | None) -> Jobs:
    from cluster.jobs import Jobs

    return Jobs(address or _DEFAULT)


def _job_of(run: str, address: str | None) -> tuple[Jobs, Job]:
    """The job that a store's note names, or whose id `run` is.

    Raises:
        LossatlasError: there is neither such a store nor such a job.
    """
    from cluster.errors import ClusterError
    from cluster.jobs import Jobs, Note
    from pipeline.place import is_url
    from pipeline.store import Store

    url = place_of(run)
    if "/" in run or is_url(run) or Store.exists(url):
        note = Note.read(Store.open(url))
        if note is None:
            raise ClusterError(f"{run} was never a job; wanted a run that lossatlas submit started")
        jobs = Jobs(address or note.address)
        return jobs, jobs.find(note.id)
    jobs = _connect(address)
    return jobs, jobs.find(run)


def _state(job: Job) -> str:
    """Ray's word, with the driver's exit code where that says more."""
    if job.status == "FAILED" and job.code is not None:
        return f"{job.status} (exit code {job.code})"
    return job.status


def _kept(job: Job) -> str:
    """How much of the job's run is finished, where its store can be read from here."""
    from cluster import phrases
    from pipeline.errors import LossatlasError
    from pipeline.store import Store

    try:
        store = Store.open(job.store)
        done = len(store.committed())
    except LossatlasError:
        return ""
    return (
        f"; {done:,} of {phrases.plural(store.grid.tile_count, 'tile')} are done and kept. Go on "
        f"with: lossatlas resume {phrases.place(job.store)}"
    )


def _check_selection(how: dict[str, Any]) -> None:
    """Refuse a --frames that the job would refuse only later."""
    from cluster.selection import parse

    parse(how["frames"] or "0:")


def _warn_of_local(spec: RenderSpec) -> None:
    """Say which of the inputs are on this machine's own file system."""
    from pipeline.place import is_url

    frames = getattr(spec.plane, "frames", None) or ()
    names = [*spec.plane.weights, *((frames,) if isinstance(frames, str) else frames)]
    if ".py:" not in spec.data.source:
        names.append(spec.data.source)
    local = [name for name in (*names, spec.store) if not is_url(name)]
    if local:
        more = f" and {len(local) - 1:,} more" if len(local) > 1 else ""
        click.echo(
            f"lossatlas: {local[0]}{more} is a path on this machine: every machine of the "
            "cluster must see the same files there. If not, use s3://…",
            err=True,
        )


COMMANDS = (submit, logs, stop, list_, drive)
