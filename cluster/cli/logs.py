"""`logs`: what the job of a render printed."""

from __future__ import annotations

import click

from cluster.cli import arguments, find_job
from cluster.terminal import print_text


@click.command()
@click.argument("run")
@arguments.JOBS
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
    jobs, job = find_job.job_of(run, address)
    if follow:
        return find_job.follow(jobs, job.id)
    print_text(jobs.logs(job.id))
    return 0
