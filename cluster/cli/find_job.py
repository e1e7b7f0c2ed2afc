"""Finding the job of a render: what the commands about jobs have in common."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from cluster.terminal import print_text, warn

if TYPE_CHECKING:
    from cluster.jobs.client import Job, Jobs, Note

_DEFAULT = "http://127.0.0.1:8265"


def jobs_at(address: str | None) -> Jobs:
    """The jobs of the cluster at `address`, or of the one that a tunnel usually leads to.

    Raises:
        DashboardError: there is none, or it does not let us in.
    """
    from cluster.jobs.client import Jobs

    return Jobs(address or _DEFAULT)


def follow(jobs: Jobs, id_: str) -> int:
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


def job_of(run: str, address: str | None) -> tuple[Jobs, Job]:
    """The job that a store's note names, or whose id `run` is.

    Raises:
        LossatlasError: there is neither such a store nor such a job.
    """
    from cluster.errors import ClusterError
    from cluster.jobs.client import Jobs, Note
    from pipeline.store.store import Store
    from pipeline.url import is_url, store_url

    url = store_url(run)
    if "/" in run or run.endswith(".zarr") or is_url(run) or Store.exists(url):
        store = Store.open(url)
        note = Note.read(store)
        if note is None:
            raise ClusterError(f"{run} was never a job; wanted a run that lossatlas submit started")
        jobs = Jobs(address or _known_address(store.url, note))
        return jobs, jobs.find(note.id)
    jobs = jobs_at(address)
    return jobs, jobs.find(run)


def _known_address(url: str, note: Note) -> str:
    """The address that a store's note names, if it was known here before the store named it.

    The cluster's token is sent there, and whoever can write the store can write the note.

    Raises:
        ClusterError: it was not.
    """
    from cluster import shell
    from cluster.errors import ClusterError
    from pipeline import machine_notes

    if note.address in (_DEFAULT, machine_notes.read(f"job of {url}").get("address")):
        return note.address
    raise ClusterError(
        f"{shell.place(url)} says that its job ran at {note.address}, which nobody gave here, "
        "and was not asked: the cluster's token would go there; wanted the address from you. If "
        f"that one is right, add --address {shlex.quote(note.address)}"
    )


def job_facts(job: Job) -> dict[str, object]:
    """For --json; `started` in seconds since the epoch."""
    return {
        "id": job.id,
        "run": job.run,
        "store": job.store,
        "status": job.status,
        "exit_code": None if job.alive else job.exit_code,
        "started": job.started,
    }
