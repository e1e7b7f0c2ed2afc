"""`info`: what a store holds."""

from __future__ import annotations

import click

from cluster.cli import arguments
from cluster.terminal import print_json, print_line


@click.command()
@arguments.RUN
@arguments.JSON
def info(run: str, as_json: bool) -> None:
    """Say what a store holds: network, plane, data, batch norm, precision, versions.

    Of a render that is refined also what was asked, how much is evaluated, and how far the
    predictions that its audit looked at were off.

    \b
    Examples:
      lossatlas info runs/bowl.zarr
      lossatlas info runs/bowl.zarr --json
    """
    from cluster.cli import info_table
    from pipeline.store.store import Store
    from pipeline.url import store_url

    store = Store.open(store_url(run))
    if as_json:
        print_json(info_table.info_facts(store))
        return
    for line in info_table.info_lines(store):
        print_line(line)
