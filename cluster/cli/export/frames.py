"""`export frames`: the frames of a store as numbered pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from cluster.cli import arguments
from cluster.cli.export import film_options, picture_options
from cluster.cli.export.interruption import interruptible
from cluster.terminal import print_json, print_line


@click.command()
@arguments.RUN
@click.argument("folder", type=click.Path())
@film_options.add_film_options
@picture_options.MARKS
def frames(run: str, folder: str, quiet: bool, as_json: bool, **how: Any) -> None:
    """Draw every frame as a numbered PNG, in parallel, all in the same colours.

    Frames that FOLDER holds already, drawn in the same way from complete frames, are kept.

    \b
    Examples:
      lossatlas export frames runs/curve.zarr frames
      lossatlas export frames runs/curve.zarr frames --frames 100:200 --size 1080x1080
    """
    from cluster import format
    from cluster.monitor.progress import CountProgress

    count = CountProgress("frames", "pictures", quiet)

    def kept() -> str:
        if not count.done:
            return "no frame was made this time"
        frames = format.plural(count.done, "frame")
        return f"{frames} in {format.place(folder)} kept; the same command makes the others"

    with interruptible(kept):
        from pipeline.url import store_url
        from renders.film.frames import export_frames

        facts = export_frames(
            store_url(run), folder, on_progress=count, **film_options.film_style(how)
        )
    picture_options.warn_of(facts.remarks)
    if as_json:
        print_json(dataclasses.asdict(facts))
    elif not quiet:
        print_line(
            f"{format.place(folder)}: {format.plural(facts.frames, 'frame')} of "
            f"{facts.width:,} × {facts.height:,} pixels, {facts.made:,} made and {facts.kept:,} "
            f"kept{film_options.unfinished_text(facts)}, in {format.duration(facts.seconds)}"
        )
