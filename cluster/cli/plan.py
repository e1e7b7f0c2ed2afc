"""`plan`: what a render will cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cluster.cli import arguments
from cluster.terminal import print_json, print_line

if TYPE_CHECKING:
    from cluster.workers.devices import DeviceChoice


@click.command()
@arguments.SPEC
@arguments.STORE
@arguments.WORKERS
@arguments.DEVICE
@arguments.JSON
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
    from cluster import api
    from cluster.cli import plan_table

    found = api.plan(arguments.read_spec(spec, store), workers=workers, device=device)
    if as_json:
        print_json(found.as_dict())
        return
    for line in plan_table.plan_lines(found):
        print_line(line)
