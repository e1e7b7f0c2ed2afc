"""`status`: how far a render is."""

from __future__ import annotations

import sys
import time

import click

from cluster.cli import arguments
from cluster.terminal import print_json, print_line


@click.command()
@arguments.RUN
@click.option("--watch", "-w", is_flag=True, help="Look again and again while it is running.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How often, with --watch.",
)
@arguments.JSON
def status(run: str, watch: bool, every: float, as_json: bool) -> None:
    """Say how far a render is, who is at it, and when it will be finished.

    Reads the store alone, so it works from any machine that can read RUN, and without a cluster.
    A render that is refined counts steps, which are passes over tiles; how many points it will
    evaluate is not known before, so it says when the present pass will be through.

    \b
    Examples:
      lossatlas status runs/bowl.zarr
      lossatlas status s3://bucket/bowl.zarr --watch
    """
    from cluster.monitor.status import lines, read_status
    from cluster.scheduling.refinement_progress import RefinementReader
    from pipeline.store.store import Store
    from pipeline.url import store_url

    store = Store.open(store_url(run))
    reader = RefinementReader(store) if store.refined else None
    while True:
        found = read_status(store, reader=reader)
        if watch and sys.stdout.isatty():
            click.clear()
        if as_json:
            print_json(found.as_dict())
        for line in () if as_json else lines(found):
            print_line(line)
        if not watch or found.state not in ("running", "submitted"):
            return
        time.sleep(every)
