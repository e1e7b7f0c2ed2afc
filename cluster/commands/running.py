"""`plan`, `render`, `resume`: what it will cost, doing it, and going on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cluster.commands.places import place_of

if TYPE_CHECKING:
    from cluster.team import DeviceChoice
    from pipeline.spec import RenderSpec

F = TypeVar("F", bound=Callable[..., Any])

_SPEC = click.argument("spec", type=click.Path(dir_okay=False))
_STORE = click.option(
    "--store", metavar="PATH|URL", help="Where the numbers go, instead of the spec's store."
)
_WORKERS = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many workers; default: one a GPU, or one a CPU core.",
)
_DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="What workers compute on; auto takes the GPUs where there are any.",
)


def _how_to_run(command: F) -> F:
    options = (
        click.option(
            "--executor",
            type=click.Choice(["ray", "serial"]),
            default="ray",
            show_default=True,
            help="ray: workers in processes of their own; serial: here, for tiny grids.",
        ),
        _WORKERS,
        _DEVICE,
        click.option(
            "--address",
            metavar="HOST:PORT",
            help="Use the Ray cluster there instead of a private one on this machine.",
        ),
        click.option(
            "--frames", metavar="A:B", help="Only these frames of a film, as Python counts them."
        ),
        click.option(
            "--every",
            type=click.IntRange(min=1),
            default=1,
            metavar="K",
            help="Every K-th frame first, the others after: a preview of a film exists early.",
        ),
        click.option("--quiet", "-q", is_flag=True, help="Say nothing but warnings and errors."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_SPEC
@_STORE
@_WORKERS
@_DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    spec: str, store: str | None, workers: int | None, device: DeviceChoice, as_json: bool
) -> None:
    """Say what a render will cost, before it costs it.

    Loads and checks everything the SPEC names, evaluates a few points to measure the speed, and
    prints points, tiles, disk, memory and time. Writes nothing.

    \b
    Examples:
      lossatlas plan bowl.yaml
      lossatlas plan bowl.yaml --workers 16 --json
    """
    from cluster import team
    from cluster.commands.reports import plan_lines
    from pipeline import plan as plans
    from pipeline import prepare

    prepared = prepare.prepare(_read(spec, store))
    crew = team.choose(workers, device)
    seconds = plans.measure(prepared, crew.device.name)
    grid = plans.resolve_grid(prepared, seconds, crew.workers)
    found = plans.plan(prepared, grid, seconds, crew.workers, crew.device.name)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
        return
    for line in plan_lines(found):
        click.echo(line)


@click.command()
@_SPEC
@_STORE
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
    from cluster import drive

    read = _read(spec, store)
    return drive.render(read, _choices(how), click.echo)


@click.command()
@click.argument("run", type=click.Path())
@_how_to_run
def resume(run: str, **how: Any) -> int:
    """Go on with a render that was stopped, killed or left with quarantined tiles.

    Everything needed is in the store RUN; the checkpoints and the data must still be where they
    were, and unchanged. Quarantined tiles get new tries.

    \b
    Examples:
      lossatlas resume runs/bowl.zarr
      lossatlas resume runs/bowl.zarr --workers 2
    """
    from cluster import drive

    return drive.resume(place_of(run), _choices(how), click.echo)


def _read(spec: str, store: str | None) -> RenderSpec:
    from pipeline.spec import read

    found = read(spec)
    return found if store is None else found.model_copy(update={"store": place_of(store)})


def _choices(how: dict[str, Any]) -> Any:
    from cluster.drive import Choices
    from cluster.selection import parse

    if how["executor"] == "serial":
        for option in ("address", "workers"):
            if how[option] not in (None, 1):
                raise click.UsageError(
                    f"--{option} {how[option]} with --executor serial, which renders in this "
                    f"process alone; wanted one of them. Leave out --{option}"
                )
    frames, every = how.pop("frames"), how.pop("every")
    selection = replace(parse(frames or "0:"), every=every)
    return Choices(**how, selection=selection)


COMMANDS = (plan, render, resume)
