"""`plan`, `render`, `resume`: what it will cost, doing it, and going on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cluster.cli import shared
from cluster.cli.places import place_of, spec_at
from cluster.terminal import print_json, print_line

if TYPE_CHECKING:
    from cluster.workers.devices import DeviceChoice

F = TypeVar("F", bound=Callable[..., Any])


def _how_to_run(command: F) -> F:
    chosen = (
        click.option(
            "--executor",
            type=click.Choice(["ray", "serial"]),
            default="ray",
            show_default=True,
            help="ray: workers in processes of their own; serial: here, for tiny grids.",
        ),
        shared.WORKERS,
        shared.DEVICE,
        click.option(
            "--address",
            metavar="HOST:PORT",
            help="Use the Ray cluster there instead of a private one on this machine.",
        ),
        shared.FRAMES,
        shared.EVERY,
        shared.OTHER_VERSIONS,
        shared.LOG,
        shared.QUIET,
    )
    for option in reversed(chosen):
        command = option(command)
    return command


@click.command()
@shared.SPEC
@shared.STORE
@shared.WORKERS
@shared.DEVICE
@shared.JSON
def plan(
    spec: str, store: str | None, workers: int | None, device: DeviceChoice, as_json: bool
) -> None:
    """Say what a render will cost, before it costs it.

    Loads and checks everything the SPEC names, evaluates a few points to measure the speed, and
    prints points, tiles, disk, memory and time. Memory is the peak of a worker and of the driver;
    where examples wait for each other's batch norms it is measured on some of them, which takes a
    few seconds. Writes nothing. With evaluate.refine, points and
    time are the most that the render can take.

    \b
    Examples:
      lossatlas plan bowl.yaml
      lossatlas plan bowl.yaml --workers 16 --json
    """
    from cluster.cli.reports import plan_lines
    from cluster.workers import devices
    from pipeline import plan as plans
    from pipeline import prepare

    prepared = prepare.prepare(spec_at(spec, store))
    worker_plan = devices.plan_workers(workers, device)
    seconds = plans.measure(prepared, worker_plan.device.name)
    grid = plans.resolve_grid(prepared, seconds, worker_plan.count)
    found = plans.plan(prepared, grid, seconds, worker_plan.count, worker_plan.device.name)
    if as_json:
        print_json(found.as_dict())
        return
    for line in plan_lines(found):
        print_line(line)


@click.command()
@shared.SPEC
@shared.STORE
@_how_to_run
def render(spec: str, store: str | None, **how: Any) -> int:
    """Evaluate the SPEC's landscape here, with a progress bar and the time left.

    Starts a private Ray on this machine, with one worker a GPU or a CPU core, and fills the
    store tile by tile. ^C is safe: what is finished stays. If the store exists already and is of
    the same spec, the render goes on where it stopped.

    \b
    Examples:
      lossatlas render bowl.yaml
      lossatlas render bowl.yaml --store /scratch/bowl.zarr --workers 8
      lossatlas render tiny.yaml --executor serial
      lossatlas render film.yaml --every 10
    """
    from cluster import options
    from cluster.driver import drive
    from cluster.errors import ClusterError

    chosen = options.from_command_line(how)
    if _is_jobs_api(chosen.address):
        raise ClusterError(
            f"--address {chosen.address} is a Jobs API; wanted the HOST:PORT of a Ray head that "
            "this process joins. For a job there, use lossatlas submit"
        )
    return drive.render(spec_at(spec, store), chosen, print_line)


@click.command()
@shared.RUN
@_how_to_run
@shared.PYTHON
@shared.TRUST
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
    from cluster.cli.submitting import resume_as_job
    from cluster.driver import drive

    chosen = options.from_command_line(how)
    if _is_jobs_api(chosen.address):
        return resume_as_job(place_of(run), str(chosen.address), trust, {**how, "python": python})
    return drive.resume(place_of(run), chosen, print_line, trust)


def _is_jobs_api(address: str | None) -> bool:
    """`http://HOST:8265`, against the `HOST:6379` of the cluster itself."""
    return (address or "").startswith(("http://", "https://"))


COMMANDS = (plan, render, resume)
