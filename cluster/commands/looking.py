"""`status`, `info`, `verify`: a look at a store, without torch or Ray."""

from __future__ import annotations

import json

import click

from cluster.commands.places import place_of

_RUN = click.argument("run", type=click.Path())
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command()
@_RUN
@_JSON
def status(run: str, as_json: bool) -> None:
    """Say how far a render is, who is at it, and when it will be finished.

    Reads the store alone, so it works from any machine that can read RUN.

    \b
    Examples:
      lossatlas status runs/bowl.zarr
      watch lossatlas status runs/bowl.zarr
    """
    from cluster.status import lines, look
    from pipeline.store import Store

    found = look(Store.open(place_of(run)))
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
        return
    for line in lines(found):
        click.echo(line)


@click.command()
@_RUN
@_JSON
def info(run: str, as_json: bool) -> None:
    """Say what a store holds: network, plane, data, batch norm, precision, versions.

    \b
    Examples:
      lossatlas info runs/bowl.zarr
      lossatlas info runs/bowl.zarr --json
    """
    from cluster.commands.reports import info_lines
    from pipeline.store import Store

    store = Store.open(place_of(run))
    if as_json:
        click.echo(json.dumps(store.attrs, indent=2))
        return
    for line in info_lines(store):
        click.echo(line)


@click.command()
@_RUN
@click.option("--dry-run", is_flag=True, help="Only say what is damaged; change nothing.")
@_JSON
def verify(run: str, dry_run: bool, as_json: bool) -> int:
    """Read every finished tile and check it; put damaged ones back to pending.

    Exits with 1 when something is damaged, naming the tiles and what is wrong with them;
    `lossatlas resume RUN` then renders them again.

    \b
    Examples:
      lossatlas verify runs/bowl.zarr
      lossatlas verify runs/bowl.zarr --dry-run --json
    """
    from cluster import phrases
    from pipeline import verify as checks
    from pipeline.store import Store

    store = Store.open(place_of(run), writable=not dry_run)
    checked = len(store.committed())
    damages = checks.verify(store)
    if damages and not dry_run:
        checks.withdraw(store, damages)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "store": store.url,
                    "checked": checked,
                    "damaged": {str(damage.tile): damage.reason for damage in damages},
                    "put_back": not dry_run and bool(damages),
                },
                indent=2,
            )
        )
        return 1 if damages else 0
    place = phrases.place(store.url)
    if not damages:
        click.echo(f"{place}: {phrases.plural(checked, 'finished tile')} sound")
        return 0
    click.echo(f"{place}: {len(damages):,} of {phrases.plural(checked, 'finished tile')} damaged")
    for damage in damages:
        click.echo(f"  tile {damage.tile}: {damage.reason}")
    click.echo(
        "nothing was changed (--dry-run)"
        if dry_run
        else f"put back to pending; mend with: lossatlas resume {place}"
    )
    return 1


COMMANDS = (status, info, verify)
