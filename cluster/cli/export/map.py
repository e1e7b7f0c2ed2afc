"""`export map`: a store as a folder that any browser can zoom into."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from cluster.cli import arguments
from cluster.cli.export import picture_options
from cluster.cli.export.interruption import interruptible, whole_output
from cluster.terminal import print_json, print_line


@click.command("map")
@arguments.RUN
@click.argument("folder", type=click.Path())
@click.option("--width", type=int, help="Of the deepest level, pixels; default: by the grid.")
@click.option("--quantity", "quantities", multiple=True, help="Default: all but loss_stderr.")
@click.option("--split", "splits", multiple=True, help="Default: all.")
@click.option("--frame", "frames", type=int, multiple=True, help="Default: all.")
@picture_options.TONE
@picture_options.clip()
@picture_options.PALETTE
@click.option("--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True)
@picture_options.CONTOURS
@picture_options.LIGHT
@picture_options.MARKS
@click.option("--title", help="Instead of the run's name.")
@picture_options.SUBTITLE
@picture_options.ADDRESS
@click.option("--offline", is_flag=True, help="Never call npm for the page's library.")
@click.option("--yes", is_flag=True, help="Go on even when the map is absurdly large.")
@arguments.JSON
def map_(run: str, folder: str, address: str | None, as_json: bool, **style: Any) -> None:
    """Write a web page that zooms to the last pixel and reads out the numbers.

    Open FOLDER/index.html, or copy the folder to any static host. The page uses OpenSeadragon,
    fetched once from npm and checked; without npm it is loaded from a CDN.

    \b
    Examples:
      lossatlas export map runs/bowl.zarr bowl-map
      lossatlas export map runs/bowl.zarr bowl-map --width 32768 --quantity loss
    """
    from cluster import shell
    from pipeline import format

    if style["palette"] is not None:
        style["palette"] = picture_options.palette_from(style["palette"])
    with interruptible(whole_output(folder)):
        from pipeline.url import store_url
        from renders.web.webmap import export_map

        with picture_options.spread_over(address) as spread:
            facts = dataclasses.asdict(export_map(store_url(run), folder, spread=spread, **style))
    picture_options.warn_of(facts["remarks"])
    if as_json:
        print_json(facts)
        return
    unfinished = picture_options.unfinished_text(facts["share"], facts["preview"])
    print_line(
        f"{shell.place(folder)}/index.html: {facts['layers']} × {facts['width']:,} × "
        f"{facts['height']:,} pixels, {facts['tiles']:,} tiles, {format.size(facts['bytes'])}"
        f"{unfinished}, in {format.duration(facts['seconds'])}"
    )
    if facts["library"] == "cdn":
        print_line(f"OpenSeadragon is loaded from a CDN: {facts['why_cdn']}")
