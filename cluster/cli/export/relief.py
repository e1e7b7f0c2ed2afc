"""`export relief`: a landscape in the round."""

from __future__ import annotations

from typing import Any

import click

from cluster.cli import arguments
from cluster.cli.export import page_options, picture_options
from cluster.cli.export.interruption import interruptible, whole_output


@click.command()
@arguments.RUN
@click.argument("out", type=click.Path())
@click.option(
    "--camera",
    metavar="AZIMUTH,ALTITUDE[,LENS]",
    help="Where it stands, degrees: 180 looks along y as the map lies, 90 above looks straight "
    "down; and its angle of view. It is as near as shows everything. Default: whence most of the "
    "curve is in sight.",
)
@click.option(
    "--rise",
    type=float,
    default=0.20,
    show_default=True,
    help="Height of the colours' whole range, in lengths of the longer side.",
)
@picture_options.marks_in_the_round()
@page_options.add_page_options
@click.option("--theme", type=click.Choice(["light", "dark"]), default="dark", show_default=True)
@click.option("--light/--no-light", default=True, help="Sunlight and its shadows.")
def relief(
    run: str, out: str, as_json: bool, camera: str | None, rise: float, **style: Any
) -> None:
    """Draw one frame in the round: sun and sky, soft shadows, the curve on the ground.

    OUT ends in .png, .pdf or .tif. Heights are in the colours' own scale, so logarithmic for a
    loss.

    \b
    Examples:
      lossatlas export relief runs/bowl.zarr bowl.png
      lossatlas export relief runs/bowl.zarr bowl.png --camera 200,25 --theme light
      lossatlas export relief runs/sgd.zarr sgd.png --marks own
      lossatlas export relief runs/bowl.zarr bowl.png --size 1920x1080 --layout bare
      lossatlas export relief runs/bowl.zarr bowl.pdf --paper A2
    """
    with interruptible(whole_output(out)):
        from pipeline.url import store_url
        from renders.poster import export_poster
        from renders.relief.camera import camera_from
        from renders.relief.relief import checked

        stand = picture_options.stand_from(style)
        asked = checked(None if camera is None else camera_from(camera), rise, stand)
        made = export_poster(store_url(run), out, relief=asked, **page_options.page_style(style))
    page_options.print_result(out, made, as_json)
