"""`export poster`: one frame, or several runs side by side, on a page."""

from __future__ import annotations

from typing import Any

import click

from cluster.cli.export import page_options, picture_options
from cluster.cli.export.interruption import interruptible, whole_output


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1)
@click.argument("out", type=click.Path())
@page_options.add_page_options
@click.option("--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True)
@picture_options.BACKGROUND
@click.option(
    "--axis",
    type=click.Choice(["x", "alpha"]),
    default="x",
    show_default=True,
    help="Of a line plot: the plane's x, or alpha, 0 and 1 at the two sets of weights.",
)
@click.option(
    "--vector-contours",
    is_flag=True,
    help="In a .pdf or .svg: lines of equal value as paths, which do not fade where they crowd.",
)
@picture_options.LIGHT
@picture_options.MARKS
@click.option("--scale-bar/--no-scale-bar", default=True, help="How far a round distance is.")
@picture_options.ADDRESS
def poster(
    runs: tuple[str, ...], out: str, address: str | None, as_json: bool, **style: Any
) -> None:
    """Draw one frame as a poster: colour, relief, contours, curve, scale and provenance.

    Two to four runs stand side by side, in one tone: equal colours are equal values.

    A store of height 1 becomes a line plot: loss and error, dots where they were computed. In a
    .pdf or .svg type and lines are vectors; a landscape is an image in it.

    \b
    Examples:
      lossatlas export poster runs/bowl.zarr bowl.png
      lossatlas export poster runs/bowl.zarr bowl.png --width 12000 --theme dark
      lossatlas export poster runs/bowl.zarr bowl.pdf --paper A0
      lossatlas export poster runs/bowl.zarr bowl.svg --width 6.75in --vector-contours
      lossatlas export poster runs/a.zarr runs/b.zarr both.png --quantity error --split test
      lossatlas export poster runs/bowl.zarr bowl.tif --paper 24x36in --dpi 600
      lossatlas export poster runs/bowl.zarr error.png --quantity error --split test --tone linear
      lossatlas export poster runs/line.zarr line.pdf --layout paper --size 3.25x2.4in --axis alpha
    """
    from pipeline.url import store_url

    if not runs:  # click gives a single argument to OUT
        raise click.UsageError(
            f"Only {out} is given; wanted RUN and OUT, such as {out} poster.png."
        )
    with interruptible(whole_output(out)):
        asked, places = page_options.page_style(style), [store_url(run) for run in runs]
        with picture_options.spread_over(address) as spread:
            if len(places) > 1:
                from renders.comparison import export_comparison

                made = export_comparison(places, out, spread=spread, **_comparison_style(asked))
            else:
                from renders.poster import export_poster

                made = export_poster(places[0], out, spread=spread, **asked)
    page_options.print_result(out, made, as_json)


def _comparison_style(asked: dict[str, Any]) -> dict[str, Any]:
    """The options as a comparison takes them.

    Raises:
        ClusterError: one is given that only a single picture has.
    """
    from cluster.errors import ClusterError

    alone = {
        "size": None, "paper": None, "orientation": "auto", "layout": "gallery", "axis": "x",
        "title": None, "subtitle": None, "scale_bar": True,
    }  # fmt: skip
    for name, default in alone.items():
        if asked.pop(name) != default:
            raise ClusterError(
                f"--{name.replace('_', '-')} is given with several runs: wanted it with one; leave "
                "it out, --width and --dpi decide the size"
            )
    if asked["quantity"] is None:
        del asked["quantity"]
    return asked
