"""`export data`: the numbers of a store as a file of another program."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from cluster.cli import arguments
from cluster.cli.export.interruption import interruptible, whole_output
from cluster.terminal import print_json, print_line


@click.command()
@arguments.RUN
@click.argument("out", type=click.Path())
@click.option("--frame", type=int, help="Of a film; default: the first. A .nc holds all.")
@click.option("--quantity", default="loss", show_default=True, help="The height of a .vtp.")
@click.option("--split", help="Of the height of a .vtp; default: the first.")
@arguments.JSON
def data(run: str, out: str, as_json: bool, **asked: Any) -> None:
    """Write the numbers as netCDF, NumPy, HDF5 or VTK; the suffix of OUT decides.

    \b
    .nc   the whole run, for xarray and other netCDF readers
    .npz  x, y, finished, and <split>_<quantity> (y, x), for NumPy
    .h5   xcoordinates, ycoordinates, train_loss, train_acc, …: as the code of Li et al. writes
          it; it wants pip install 'lossatlas[peers]'
    .vtp  a surface for ParaView, with all quantities at its points

    \b
    Examples:
      lossatlas export data runs/bowl.zarr bowl.nc
      lossatlas export data runs/bowl.zarr bowl.npz --json
      lossatlas export data runs/film.zarr third.h5 --frame 2
      lossatlas export data runs/bowl.zarr bowl.vtp --quantity error --split test
    """
    from cluster import shell
    from pipeline import format

    with interruptible(whole_output(out)):
        from pipeline.url import store_url
        from renders.data import export_data

        facts = dataclasses.asdict(export_data(store_url(run), out, **asked))
    if as_json:
        print_json(facts)
        return
    frames = f"{facts['frames']:,} frames of " if facts["frames"] > 1 else ""
    unfinished = "" if facts["share"] >= 1 else f", {100 * facts['share']:.0f} % of it computed"
    print_line(
        f"{shell.place(out)}: {', '.join(facts['quantities'])} of {', '.join(facts['splits'])}, "
        f"{frames}{facts['width']:,} × {facts['height']:,} points, {format.size(facts['bytes'])}"
        f"{unfinished}"
    )
