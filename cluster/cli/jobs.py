"""`logs`, `stop`, `list`: renders that are jobs of a Ray cluster, watched from elsewhere."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

import click

from cluster.cli import shared
from cluster.cli.places import place_of
from cluster.terminal import print_json, print_line, print_text, warn

if TYPE_CHECKING:
    from cluster.jobs.client import Job, Jobs, Note

_DEFAULT = "http://127.0.0.1:8265"


@click.command()
@click.argument("run")
@shared.JOBS
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
    if follow:
        return follow_to_the_end(jobs, job.id)
    print_text(jobs.logs(job.id))
    return 0


@click.command()
@click.argument("run")
@shared.JOBS
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=90.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for its end.",
)
@shared.JSON
def stop(run: str, address: str | None, timeout: float, as_json: bool) -> int:
    """Stop the job that drives RUN; everything finished is kept.

    RUN is a store, or the id of a job. The driver gets a minute to end its workers and to give
    the store free. Exits with 1 if the job is still there after the timeout.

    \b
    Examples:
      lossatlas stop runs/bowl.zarr
      lossatlas stop bowl-2 --address http://127.0.0.1:8265
    """
    from cluster import format

    jobs, job = _job_of(run, address)
    was_alive = job.alive
    if was_alive:
        job = jobs.stop(job.id, timeout)
    if as_json:
        print_json(_as_dict(job))
    elif job.alive:
        print_line(
            f"{job.id} was told to stop and is still {job.state} after "
            f"{format.duration(timeout)}; look again with: lossatlas logs {job.id} "
            f"--address {shlex.quote(jobs.address)}"
        )
    else:
        print_line(f"{job.id} is {'' if was_alive else 'not running: '}{job.state}{_kept(job)}")
    return 1 if job.alive else 0


@click.command(name="list")
@shared.JOBS
@shared.JSON
def list_(address: str | None, as_json: bool) -> None:
    """List the renders that are, or were, jobs of a cluster.

    \b
    Examples:
      lossatlas list
      lossatlas list --address http://127.0.0.1:8265 --json
    """
    found = connected(address).list()
    if as_json:
        print_json([_as_dict(job) for job in found])
        return
    ids = max((len(job.id) for job in found), default=0)
    states = max((len(job.state) for job in found), default=0)
    for job in found:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
        print_line(f"{job.id:<{ids}}  {started}  {job.state:<{states}}  {job.store}")
    if not found:
        print_line("no renders here")


def connected(address: str | None) -> Jobs:
    """The jobs of the cluster at `address`, or of the one that a tunnel usually leads to.

    Raises:
        DashboardError: there is none, or it does not let us in.
    """
    from cluster.jobs.client import Jobs

    return Jobs(address or _DEFAULT)


def follow_to_the_end(jobs: Jobs, id_: str) -> int:
    """Show a job's log until it ends; returns its exit code."""
    try:
        job = jobs.follow(id_, print_text, warn)
    except KeyboardInterrupt:
        address = shlex.quote(jobs.address)
        warn(f"{id_} goes on; stop it with lossatlas stop {id_} --address {address}")
        raise
    if job.status != "SUCCEEDED":
        unknown = job.status == "FAILED" and job.code is None
        why = f": {job.message[:300]}" if unknown and job.message else ""
        warn(f"{job.id} is {job.state}{why}")
    return job.exit_code


def _job_of(run: str, address: str | None) -> tuple[Jobs, Job]:
    """The job that a store's note names, or whose id `run` is.

    Raises:
        LossatlasError: there is neither such a store nor such a job.
    """
    from cluster.errors import ClusterError
    from cluster.jobs.client import Jobs, Note
    from pipeline.store.store import Store
    from pipeline.url import is_url

    url = place_of(run)
    if "/" in run or run.endswith(".zarr") or is_url(run) or Store.exists(url):
        store = Store.open(url)
        note = Note.read(store)
        if note is None:
            raise ClusterError(f"{run} was never a job; wanted a run that lossatlas submit started")
        jobs = Jobs(address or _known_address(store.url, note))
        return jobs, jobs.find(note.id)
    jobs = connected(address)
    return jobs, jobs.find(run)


def _known_address(url: str, note: Note) -> str:
    """The address that a store's note names, if it was known here before the store named it.

    The cluster's token is sent there, and whoever can write the store can write the note.

    Raises:
        ClusterError: it was not.
    """
    from cluster import format
    from cluster.errors import ClusterError
    from pipeline import machine_notes

    if note.address in (_DEFAULT, machine_notes.read(f"job of {url}").get("address")):
        return note.address
    raise ClusterError(
        f"{format.place(url)} says that its job ran at {note.address}, which nobody gave here, "
        "and was not asked: the cluster's token would go there; wanted the address from you. If "
        f"that one is right, add --address {shlex.quote(note.address)}"
    )


def _as_dict(job: Job) -> dict[str, object]:
    """For --json; `started` in seconds since the epoch."""
    return {
        "id": job.id,
        "run": job.run,
        "store": job.store,
        "status": job.status,
        "exit_code": None if job.alive else job.exit_code,
        "started": job.started,
    }


def _kept(job: Job) -> str:
    """How much of the job's run is finished, where its store can be read from here."""
    from cluster import format
    from cluster.scheduling.refinement_progress import done_text
    from pipeline.errors import LossatlasError
    from pipeline.store.store import Store

    try:
        store = Store.open(job.store)
        done = store.committed()
        told = f"; {done_text(store, done)} are done and kept"
    except LossatlasError:
        return ""
    if len(done) == store.grid.tile_count:
        return told
    return f"{told}. Go on with: lossatlas resume {format.place(job.store)}"


COMMANDS = (logs, stop, list_)
