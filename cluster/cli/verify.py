"""`verify`: check the finished tiles of a store."""

from __future__ import annotations

from collections.abc import Iterator

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
    marks, their own values. Axes and places were written when the store was made: damage of them is
    named, and cannot be put back. Exits with 1 when something is damaged, naming the tiles and what
    is wrong with them; `lossatlas resume RUN` then renders them again.

    \b
    Examples:
      lossatlas verify runs/bowl.zarr
      lossatlas verify runs/bowl.zarr --dry-run --json
    """
    from cluster import shell
    from cluster.monitor.progress import CountProgress
    from pipeline import caption, format
    from pipeline import verify as checks
    from pipeline.geometry.grid import work_named
    from pipeline.refinement.records import Records
    from pipeline.store.marks import StoredMarks
    from pipeline.store.store import Store
    from pipeline.url import store_url

    store = Store.open(store_url(run), writable=not dry_run)
    imported = caption.imported(store.attrs)  # nothing in it can be computed again
    checked = len(store.committed())
    marks = int(StoredMarks(store).finished().sum())
    steps = len(Records(store).committed()) if store.refined else 0
    damages = checks.verify(store, CountProgress("verify", "tiles"))
    lost = [str(damage.work) for damage in damages if isinstance(damage.work, str)]
    put_back = len(damages) > len(lost) and not dry_run and not imported
    if put_back:
        checks.withdraw(store, damages)
    if as_json:
        print_json(
            {
                "store": store.url,
                "checked": checked,
                **({"steps": steps} if store.refined else {}),
                **({"marks": marks} if marks else {}),
                "damaged": {str(damage.work): damage.reason for damage in damages},
                "put_back": put_back,
            }
        )
        return 1 if damages else 0
    place, what = shell.place(store.url), format.plural(checked, "finished tile")
    if store.refined:
        what += f" and {format.plural(steps, 'step')}"
    if marks:
        what += f" and {format.plural(marks, 'mark')}"
    if not damages:
        print_line(f"{place}: {what} sound")
        return 0
    found = f"damage in {format.plural(len(damages), 'place' if marks or lost else 'tile')}"
    print_line(
        f"{place}: {found}, of {what}"
        if store.refined or marks or lost
        else f"{place}: {len(damages):,} of {what} damaged"
    )
    for damage in damages:
        print_line(f"  {work_named(damage.work, 'tile')}: {damage.reason}")
    for line in _cures(place, lost, put_back, dry_run, imported):
        print_line(line)
    return 1


def _cures(
    place: str, lost: list[str], put_back: bool, dry_run: bool, imported: str
) -> Iterator[str]:
    """What was changed, and what to do next.

    Args:
        place: of the store.
        lost: the damaged arrays that no task can write again.
        put_back, dry_run: whether anything was put back, and whether it was asked for.
        imported: what the store was made of by `import`; empty for a render.
    """
    if imported:
        yield f"nothing was changed: it was {imported}. Import that again, to another store"
        return
    if lost:
        yield (
            f"{' and '.join(lost)} cannot be computed again by a task; wanted what was written "
            "when the store was made. Render its spec to another store"
        )
    if dry_run:
        yield "nothing was changed (--dry-run)"
    elif put_back:
        yield f"put back to pending; mend with: lossatlas resume {place}"
