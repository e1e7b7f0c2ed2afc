"""`stop`: end the job of a render."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from cluster.cli import arguments, find_job
from cluster.terminal import print_json, print_line

if TYPE_CHECKING:
    from cluster.jobs.client import Job


@click.command()
@click.argument("run")
@arguments.JOBS
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=90.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for its end.",
)
@arguments.JSON
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

    jobs, job = find_job.job_of(run, address)
    was_alive = job.alive
    if was_alive:
        job = jobs.stop(job.id, timeout)
    if as_json:
        print_json(find_job.job_facts(job))
    elif job.alive:
        print_line(
            f"{job.id} was told to stop and is still {job.state} after "
            f"{format.duration(timeout)}; look again with: lossatlas logs {job.id} "
            f"--address {shlex.quote(jobs.address)}"
        )
    else:
        print_line(
            f"{job.id} is {'' if was_alive else 'not running: '}{job.state}{_done_text(job)}"
        )
    return 1 if job.alive else 0


def _done_text(job: Job) -> str:
    """How much of the job's run is finished, where its store can be read from here."""
    from cluster import format
    from cluster.scheduling.refinement_progress import done_text
    from pipeline.errors import LossatlasError
    from pipeline.store.marks import StoredMarks
    from pipeline.store.store import Store

    try:
        store = Store.open(job.store)
        done = store.committed()
        told = f"; {done_text(store, done)} are done and kept"
    except LossatlasError:
        return ""
    if len(done) == store.grid.tile_count and not StoredMarks(store).pending():
        return told
    return f"{told}. Go on with: lossatlas resume {format.place(job.store)}"
