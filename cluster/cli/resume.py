"""`resume`: go on with a render, here or as a job."""

from __future__ import annotations

from typing import Any

import click

from cluster.cli import arguments, find_job, start_job
from cluster.terminal import print_line, warn


@click.command()
@arguments.RUN
@arguments.run_options
@arguments.PYTHON
@arguments.TRUST
def resume(run: str, python: str, trust: str | None, **how: Any) -> int:
    """Go on with a render that was stopped, killed or left with quarantined tiles.

    Everything needed is in the store RUN; the checkpoints and the data must still be where they
    were, and unchanged. Quarantined tiles get new tries. With the address of a Jobs API
    (http://HOST:8265) a new job goes on, and its id is printed.

    A store may hold code, of a network, a loss or data. It runs if a spec on this machine named it
    before; otherwise it is told, and --trust DIGEST is wanted from who has looked at it.

    \b
    Examples:
      lossatlas resume runs/bowl.zarr
      lossatlas resume runs/bowl.zarr --workers 2
      lossatlas resume s3://bucket/bowl.zarr --address http://127.0.0.1:8265
    """
    from cluster import options
    from cluster.driver import drive
    from pipeline.url import store_url

    chosen = options.from_command_line(how)
    if arguments.is_jobs_api(chosen.address):
        return resume_as_job(store_url(run), str(chosen.address), trust, {**how, "python": python})
    return drive.resume(store_url(run), chosen, print_line, trust)


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
    jobs = find_job.jobs_at(address)
    start_job.refuse_if_driven(jobs, store)
    start_job.start(jobs, store, code, how, how["quiet"])
    return 0
