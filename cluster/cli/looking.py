"""`status`, `info`, `verify`: a look at a store, without torch or Ray."""

from __future__ import annotations

import sys

import click

from cluster.cli import shared
from cluster.cli.counter import Counter
from cluster.cli.places import place_of
from cluster.terminal import print_json, print_line


@click.command()
@shared.RUN
@click.option("--watch", "-w", is_flag=True, help="Look again and again while it is running.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How often, with --watch.",
)
@shared.JSON
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
    import time

    from cluster.monitor.status import lines, read_status
    from cluster.scheduling.refinement_progress import RefinementReader
    from pipeline.store.store import Store

    store = Store.open(place_of(run))
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


@click.command()
@shared.RUN
@shared.JSON
def info(run: str, as_json: bool) -> None:
    """Say what a store holds: network, plane, data, batch norm, precision, versions.

    Of a render that is refined also what was asked, how much is evaluated, and how far the
    predictions that its audit looked at were off.

    \b
    Examples:
      lossatlas info runs/bowl.zarr
      lossatlas info runs/bowl.zarr --json
    """
    from cluster.cli.reports import info_facts, info_lines
    from pipeline.store.store import Store

    store = Store.open(place_of(run))
    if as_json:
        print_json(info_facts(store))
        return
    for line in info_lines(store):
        print_line(line)


@click.command()
@shared.RUN
@click.option("--dry-run", is_flag=True, help="Only say what is damaged; change nothing.")
@shared.JSON
def verify(run: str, dry_run: bool, as_json: bool) -> int:
    """Read every finished tile and check it; put damaged ones back to pending.

    Of a render that is refined also what each step evaluated, before there are finished tiles.
    Exits with 1 when something is damaged, naming the tiles and what is wrong with them;
    `lossatlas resume RUN` then renders them again.

    \b
    Examples:
      lossatlas verify runs/bowl.zarr
      lossatlas verify runs/bowl.zarr --dry-run --json
    """
    from cluster import format
    from pipeline import verify as checks
    from pipeline.refinement.records import Records
    from pipeline.store.store import Store

    store = Store.open(place_of(run), writable=not dry_run)
    checked = len(store.committed())
    steps = len(Records(store).committed()) if store.refined else 0
    damages = checks.verify(store, Counter("verify", "tiles"))
    if damages and not dry_run:
        checks.withdraw(store, damages)
    if as_json:
        print_json(
            {
                "store": store.url,
                "checked": checked,
                **({"steps": steps} if store.refined else {}),
                "damaged": {str(damage.tile): damage.reason for damage in damages},
                "put_back": not dry_run and bool(damages),
            }
        )
        return 1 if damages else 0
    place, what = format.place(store.url), format.plural(checked, "finished tile")
    if store.refined:
        what += f" and {format.plural(steps, 'step')}"
    if not damages:
        print_line(f"{place}: {what} sound")
        return 0
    found = f"damage in {format.plural(len(damages), 'tile')}"
    print_line(
        f"{place}: {found}, of {what}"
        if store.refined
        else f"{place}: {len(damages):,} of {what} damaged"
    )
    for damage in damages:
        print_line(f"  tile {damage.tile}: {damage.reason}")
    print_line(
        "nothing was changed (--dry-run)"
        if dry_run
        else f"put back to pending; mend with: lossatlas resume {place}"
    )
    return 1


COMMANDS = (status, info, verify)
