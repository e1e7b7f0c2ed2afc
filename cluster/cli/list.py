"""`list`: the renders that are jobs of a cluster."""

from __future__ import annotations

import time

import click

from cluster.cli import arguments, find_job
from cluster.terminal import print_json, print_line


@click.command(name="list")
@arguments.JOBS
@arguments.JSON
def list_(address: str | None, as_json: bool) -> None:
    """List the renders that are, or were, jobs of a cluster.

    \b
    Examples:
      lossatlas list
      lossatlas list --address http://127.0.0.1:8265 --json
    """
    found = find_job.jobs_at(address).list()
    if as_json:
        print_json([find_job.job_facts(job) for job in found])
        return
    ids = max((len(job.id) for job in found), default=0)
    states = max((len(job.state) for job in found), default=0)
    for job in found:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
        print_line(f"{job.id:<{ids}}  {started}  {job.state:<{states}}  {job.store}")
    if not found:
        print_line("no renders here")
