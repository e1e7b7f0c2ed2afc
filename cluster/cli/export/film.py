"""`export film`: the frames of a store as a film."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from cluster.cli import arguments
from cluster.cli.export import film_options, picture_options
from cluster.cli.export.interruption import interruptible, whole_output
from cluster.terminal import print_json, print_line

if TYPE_CHECKING:
    from renders.film.flight import Flight


@click.command()
@arguments.RUN
@click.argument("out", type=click.Path())
@click.option("--fps", type=float, default=30.0, show_default=True, help="Pictures a second.")
@click.option(
    "--hold",
    type=float,
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How much longer the first and the last frame stand.",
)
@click.option(
    "--each",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="How long every computed frame stands; at least one picture.",
)
@click.option(
    "--interpolate",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Smooth pictures between two frames, marked as interpolated.",
)
@click.option("--relief", is_flag=True, help="The landscape in the round; one frame is enough.")
@click.option(
    "--camera",
    metavar="AZIMUTH,ALTITUDE[,LENS]",
    help="With --relief: where it starts, degrees; as for `export relief`.",
)
@click.option(
    "--orbit",
    type=float,
    metavar="DEGREES",
    help="With --relief: how far it turns about the model; 360 for a single frame by default.",
)
@click.option(
    "--path",
    metavar='"A,H A,H …"',
    help="With --relief, instead: cameras that it passes through, evenly in time.",
)
@click.option(
    "--rise",
    type=float,
    default=0.20,
    show_default=True,
    help="With --relief: height of the colours' whole range, in lengths of the longer side.",
)
@picture_options.marks_in_the_round("With --relief: ")
@click.option(
    "--grow", is_flag=True, help="Lines of marks grow over the film; one frame is enough."
)
@click.option("--lossless", is_flag=True, help="A master: every pixel as painted.")
@click.option(
    "--quality",
    type=float,
    help="H.264: 0 to 51, lower is better, default 16; WebP: 0 to 100, default 82.",
)
@film_options.add_film_options
def film(run: str, out: str, quiet: bool, as_json: bool, **how: Any) -> None:
    """Show the frames one after another, as a film.

    OUT ends in .mp4, .mov or .mkv (H.264), or in .webp or .gif, which loop. A lossless .mkv is
    FFV1. An interrupted export leaves no file.

    \b
    Examples:
      lossatlas export film runs/curve.zarr curve.mp4
      lossatlas export film runs/curve.zarr curve.mp4 --interpolate 29 --size 1280x720
      lossatlas export film runs/curve.zarr curve.gif --fps 25 --interpolate 9
      lossatlas export film runs/curve.zarr master.mkv --lossless
      lossatlas export film runs/curve.zarr curve.mp4 --relief --interpolate 29 --orbit 60
      lossatlas export film runs/bowl.zarr bowl.mp4 --relief --orbit 360 --each 20
      lossatlas export film runs/sgd.zarr sgd.mp4 --grow
      lossatlas export film runs/bowl.zarr bowl.mp4 --relief --path "160,30 200,55 240,30"
    """
    from cluster import shell
    from cluster.monitor.progress import CountProgress
    from pipeline import format

    how["threads"] = how.pop("workers")
    with interruptible(whole_output(out)):
        from pipeline.url import store_url
        from renders.film.film import export_film

        how["flight"] = _flight(how)
        count = CountProgress("film", "pictures", quiet)
        facts = export_film(store_url(run), out, on_progress=count, **film_options.film_style(how))
    picture_options.warn_of(facts.remarks)
    if as_json:
        print_json(dataclasses.asdict(facts))
        return
    if quiet:
        return
    between = f" and {facts.interpolated:,} interpolated" if facts.interpolated else ""
    noun = "picture" if facts.computed == 1 and not between else "pictures"
    print_line(
        f"{shell.place(out)}: {facts.width:,} × {facts.height:,} pixels, "
        f"{facts.duration:.1f} s at {facts.fps:g} a second from {facts.computed:,} computed"
        f"{between} {noun}{film_options.unfinished_text(facts)}, "
        f"{format.size(facts.bytes)}, in {format.duration(facts.seconds)}"
    )
    still = how["flight"] is None and not how["grow"] and not facts.interpolated
    if still and facts.computed < 3 * facts.fps:
        print_line("few frames for a film: --interpolate 29 adds smooth ones in between")


def _flight(how: dict[str, Any]) -> Flight | None:
    """Take the options of --relief out of `how`, as the flight they mean."""
    from cluster.errors import ClusterError

    asked = {name: how.pop(name) for name in ("camera", "orbit", "path")}
    rise, in_the_round = how.pop("rise"), how.pop("relief")
    given = [name for name, value in asked.items() if value is not None]
    alone = [*given, *(["marks"] if how["stand"] is not None else [])]
    stand = picture_options.stand_from(how)
    if not in_the_round:
        if alone:
            raise ClusterError(f"--{alone[0]} is for films in the round: say --relief too")
        return None
    if asked["path"] is not None and len(given) > 1:
        raise ClusterError(
            f"--path and --{given[0]} are both given: a path says already where the camera is"
        )
    from renders.film.flight import flight_from, path_from
    from renders.relief.camera import camera_from

    cameras = None
    if asked["path"] is not None:
        cameras = path_from(asked["path"])
    elif asked["camera"] is not None:
        cameras = (camera_from(asked["camera"]),)
    return flight_from(cameras, asked["orbit"], rise, stand)
