"""`export …`: from a store to pictures."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import click

from cluster.commands.film import film, frames
from cluster.commands.map import map_


@click.group()
def export() -> None:
    """Draw pictures of a store. Works on unfinished stores too."""


export.add_command(map_)
export.add_command(frames)
export.add_command(film)


@export.command()
@click.argument("run", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--width", type=int, help="Of the page, pixels; 3000 without a --paper.")
@click.option("--paper", help="Instead of --width: A0 … B5, letter, 24x36in, 60x90cm.")
@click.option(
    "--orientation",
    type=click.Choice(["auto", "portrait", "landscape"]),
    default="auto",
    show_default=True,
    help="How the paper hangs; auto: as the picture lies.",
)
@click.option("--dpi", type=float, default=300.0, show_default=True, help="Dots per inch.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["png", "pdf", "tiff"]),
    help="Default: what OUT ends in. tiff: a tiled pyramid, for viewers of very large pictures.",
)
@click.option("--quantity", default="loss", show_default=True, help="loss, error or loss_stderr.")
@click.option("--split", help="Whose numbers; default: the one that calibrates batch norm.")
@click.option("--frame", type=int, default=0, show_default=True)
@click.option(
    "--tone",
    type=click.Choice(["linear", "log", "equalised"]),
    default="log",
    show_default=True,
    help="How values become colours.",
)
@click.option(
    "--clip",
    type=(float, float),
    default=(0.0, 99.0),
    show_default=True,
    metavar="LOW HIGH",
    help="Percentiles at which the colours end.",
)
@click.option(
    "--limits",
    type=(float, float),
    default=None,
    metavar="LOW HIGH",
    help="Values at which the colours end, instead of --clip.",
)
@click.option("--palette", help="Name of a palette; default: the theme's.")
@click.option("--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True)
@click.option(
    "--layout",
    type=click.Choice(["gallery", "paper", "bare"]),
    default="gallery",
    show_default=True,
    help="gallery: for a wall; paper: for print, compact; bare: the picture alone.",
)
@click.option("--contours/--no-contours", default=True, help="Lines of equal value.")
@click.option("--light/--no-light", default=True, help="Light and shadow on the slopes.")
@click.option("--curve/--no-curve", default=True, help="The curve between the modes.")
@click.option("--anchors/--no-anchors", default=True, help="The given weights, as points.")
@click.option("--scale-bar/--no-scale-bar", default=True, help="How far a round distance is.")
@click.option("--title", help="Instead of the run's name; '' leaves it out.")
@click.option("--subtitle", help="Instead of what the store says; '' leaves it out.")
@click.option("--yes", is_flag=True, help="Go on even when the picture is absurdly large.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def poster(run: str, out: str, as_json: bool, kind: str | None, **style: Any) -> None:
    """Draw one frame as a poster: colour, relief, contours, curve, scale and provenance.

    \b
    Examples:
      lossatlas export poster runs/bowl.zarr bowl.png
      lossatlas export poster runs/bowl.zarr bowl.png --width 12000 --theme dark
      lossatlas export poster runs/bowl.zarr bowl.pdf --paper A0
      lossatlas export poster runs/bowl.zarr bowl.tif --paper 24x36in --dpi 600
      lossatlas export poster runs/bowl.zarr error.png --quantity error --split test --tone linear
    """
    from cluster import phrases
    from pipeline.spec import is_url
    from renders.poster import export_poster

    url = run if is_url(run) else os.path.abspath(os.path.expanduser(run))
    if style["limits"] is None:
        del style["limits"]
    facts = dataclasses.asdict(export_poster(url, out, format_=kind, **style))
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    unfinished = "" if facts["share"] >= 1 else f", {phrases.percent(facts['share'])} rendered"
    click.echo(
        f"{phrases.place(out)}: {facts['width']:,} × {facts['height']:,} pixels, "
        f"{phrases.size(facts['bytes_'])}{unfinished}, in {phrases.duration(facts['seconds'])}"
    )
