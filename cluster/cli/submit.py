"""`submit`: render a spec as a job of a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cluster.cli import arguments, find_job, start_job
from cluster.terminal import warn

if TYPE_CHECKING:
    from pipeline.geometry.grid import Grid
    from pipeline.prepare import Prepared
    from pipeline.spec import RenderSpec


@click.command()
@arguments.SPEC
@arguments.STORE
@arguments.JOBS
@arguments.WORKERS
@arguments.DEVICE
@arguments.FRAMES
@arguments.EVERY
@arguments.OTHER_VERSIONS
@arguments.LOG
@arguments.PYTHON
@click.option("--follow", "-f", is_flag=True, help="Show the log until it ends; exit as it does.")
@arguments.QUIET
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

    asked = arguments.read_spec(spec, store)
    selection = options.selection_of(how)
    if asked.evaluate.refine is not None:
        step_queue.check(selection)
    jobs = find_job.jobs_at(address)
    if Store.exists(asked.store):
        start_job.refuse_if_driven(jobs, Store.open(asked.store))
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
    id_ = start_job.start(jobs, made, prepared.code, how, quiet)
    return 0 if id_ is None or not follow else find_job.follow(jobs, id_)


def _grid(prepared: Prepared, workers: int) -> Grid:
    """The tiles that suit this machine's speed: the cluster's is not known here."""
    from pipeline import plan as plans

    grid, _ = plans.estimate(prepared, workers, "cpu")  # refuses what cannot be
    return grid


def _warn_of_local(spec: RenderSpec) -> None:
    """Say which of the inputs are on this machine's own file system."""
    from pipeline.url import is_url

    keys = ("weights", "frames", "directions")
    asked = (
        *(getattr(spec.plane, key, None) or () for key in keys),
        *(group.files for group in spec.marks),
    )
    names = [name for each in asked for name in ((each,) if isinstance(each, str) else each)]
    if ".py:" not in spec.data.source:
        names.append(spec.data.source)
    local = [name for name in (*names, spec.store) if not is_url(name)]
    if local:
        more = f" and {len(local) - 1:,} more are paths" if local[1:] else " is a path"
        warn(
            f"{local[0]}{more} on this machine: every machine of the cluster must see the same "
            "files there. If not, use s3://…"
        )
