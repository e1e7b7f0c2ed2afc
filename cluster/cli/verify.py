"""`verify`: check the finished tiles of a store."""

from __future__ import annotations

import click

from cluster.cli import arguments
from cluster.terminal import print_json, print_line


@click.command()
@arguments.RUN
@click.option("--dry-run", is_flag=True, help="Only say what is damaged; change nothing.")
@arguments.JSON
def verify(run: str, dry_run: bool, as_json: bool) -> int:
    """Read every finished tile and check it; put damaged ones back to pending.

    Of a render that is refined also what each step evaluated, before there are finished tiles. Of
    marks, their own values. Exits with 1 when something is damaged, naming the tiles and what is
    wrong with them; `lossatlas resume RUN` then renders them again.

    \b
    Examples:
      lossatlas verify runs/bowl.zarr
      lossatlas verify runs/bowl.zarr --dry-run --json
    """
    from cluster import format
    from cluster.monitor.progress import CountProgress
    from pipeline import verify as checks
    from pipeline.refinement.records import Records
    from pipeline.store.marks import StoredMarks
    from pipeline.store.store import Store
    from pipeline.url import store_url

    store = Store.open(store_url(run), writable=not dry_run)
    checked = len(store.committed())
    marks = int(StoredMarks(store).finished().sum())
    steps = len(Records(store).committed()) if store.refined else 0
    damages = checks.verify(store, CountProgress("verify", "tiles"))
    if damages and not dry_run:
        checks.withdraw(store, damages)
    if as_json:
        print_json(
            {
                "store": store.url,
                "checked": checked,
                **({"steps": steps} if store.refined else {}),
                **({"marks": marks} if marks else {}),
                "damaged": {str(damage.work): damage.reason for damage in damages},
                "put_back": not dry_run and bool(damages),
            }
        )
        return 1 if damages else 0
    place, what = format.place(store.url), format.plural(checked, "finished tile")
    if store.refined:
        what += f" and {format.plural(steps, 'step')}"
    if marks:
        what += f" and {format.plural(marks, 'mark')}"
    if not damages:
        print_line(f"{place}: {what} sound")
        return 0
    found = f"damage in {format.plural(len(damages), 'place' if marks else 'tile')}"
    print_line(
        f"{place}: {found}, of {what}"
        if store.refined or marks
        else f"{place}: {len(damages):,} of {what} damaged"
    )
    for damage in damages:
        print_line(f"  {format.work_named(damage.work, 'tile')}: {damage.reason}")
    print_line(
        "nothing was changed (--dry-run)"
        if dry_run
        else f"put back to pending; mend with: lossatlas resume {place}"
    )
    return 1
