"""`export trajectory`: a group of marks for the tools of Li et al."""

from __future__ import annotations

import click

from cluster.cli import arguments
from cluster.cli.export.interruption import interruptible, whole_output
from cluster.terminal import print_json, print_line


@click.command()
@arguments.RUN
@click.argument("out", type=click.Path())
@click.option("--group", "label", help="The label of the marks, where there are several groups.")
@click.option("--frame", type=int, default=0, show_default=True, help="Of a film.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def trajectory(run: str, out: str, label: str | None, frame: int, as_json: bool) -> None:
    """Write where marks lie on the plane, as HDF5 for the code of Li et al. (2018).

    OUT ends in .h5 and holds proj_xcoord and proj_ycoord, and explained_variance_ratio_ where the
    plane is a best fit. It takes h5py: pip install 'lossatlas[peers]'.

    \b
    Examples:
      lossatlas export trajectory runs/path.zarr path_proj_cos.h5
      lossatlas export trajectory runs/three.zarr adam_proj_cos.h5 --group adam
    """
    with interruptible(whole_output(out)):
        from cluster import shell
        from pipeline import format
        from pipeline.url import store_url
        from renders.files.trajectory import export_trajectory

        count = export_trajectory(store_url(run), out, label, frame)
    if as_json:
        print_json({"out": out, "marks": count})
    else:
        print_line(f"{shell.place(out)}: {format.plural(count, 'mark')}")
