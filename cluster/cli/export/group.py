"""`export …`: from a store to pictures."""

from __future__ import annotations

import click

from cluster.cli.export.data import data
from cluster.cli.export.film import film
from cluster.cli.export.frames import frames
from cluster.cli.export.map import map_
from cluster.cli.export.poster import poster
from cluster.cli.export.relief import relief
from cluster.cli.export.trajectory import trajectory


@click.group()
def export() -> None:
    """Draw pictures of a store, or write its numbers. Works on unfinished stores too.

    Of one that is being refined they show what can be predicted by now, from its first pass on, and
    say that they are previews.
    """


for command in (map_, frames, film, relief, poster, data, trajectory):
    export.add_command(command)
