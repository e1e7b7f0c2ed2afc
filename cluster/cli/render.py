"""`render`: evaluate a spec here."""

from __future__ import annotations

from typing import Any

import click

from cluster.cli import arguments
from cluster.terminal import print_line


@click.command()
@arguments.SPEC
@arguments.STORE
@arguments.run_options
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
    if arguments.is_jobs_api(chosen.address):
        raise ClusterError(
            f"--address {chosen.address} is a Jobs API; wanted the HOST:PORT of a Ray head that "
            "this process joins. For a job there, use lossatlas submit"
        )
    return drive.render(arguments.read_spec(spec, store), chosen, print_line)
