"""`export frames`, `export film`: the frames of a store, one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cluster.cli import shared
from cluster.cli.counter import Counter
from cluster.cli.pages import LIMITS, PALETTE, SPLIT, TONE, palette_from, size_from, tell
from cluster.cli.places import place_of
from cluster.cli.stopping import one_place, stoppable
from cluster.terminal import print_json, print_line

if TYPE_CHECKING:
    from renders.film.flight import Flight

F = TypeVar("F", bound=Callable[..., Any])


def _of_a_reel(command: F) -> F:
    chosen = (
        click.option("--size", metavar="WxH", help="In pixels; default: 1920x1080."),
        click.option("--frames", metavar="A:B", help="Only these frames, as Python counts them."),
        click.option(
            "--finished-only", is_flag=True, help="Leave out frames that are not complete."
        ),
        click.option("--quantity", default="loss", show_default=True, help="loss, error …"),
        SPLIT,
        click.option(
            "--tone",
            type=click.Choice(["linear", "log", "equalised"]),
            help=TONE,
        ),
        click.option(
            "--clip",
            type=(float, float),
            default=(0.0, 99.0),
            show_default=True,
            metavar="LOW HIGH",
            help="Percentiles, over all frames, at which the colours end.",
        ),
        LIMITS,
        PALETTE,
        click.option(
            "--theme", type=click.Choice(["light", "dark"]), default="dark", show_default=True
        ),
        click.option("--contours/--no-contours", default=True, help="Lines of equal value."),
        click.option("--light/--no-light", default=True, help="Light and shadow on the slopes."),
        click.option("--curve/--no-curve", default=True, help="The curve between the modes."),
        click.option("--anchors/--no-anchors", default=True, help="The ends and the bend."),
        click.option("--title", help="Instead of the run's name; '' leaves it out."),
        click.option("--subtitle", help="Instead of what the store says; '' leaves it out."),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            metavar="N",
            help="Pictures painted at once; default: one a core.",
        ),
        click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors."),
        shared.JSON,
    )
    for option in reversed(chosen):
        command = option(command)
    return command


@click.command()
@shared.RUN
@click.argument("folder", type=click.Path())
@_of_a_reel
def frames(run: str, folder: str, quiet: bool, as_json: bool, **how: Any) -> None:
    """Draw every frame as a numbered PNG, in parallel, all in the same colours.

    Frames that FOLDER holds already, drawn in the same way from complete frames, are kept.

    \b
    Examples:
      lossatlas export frames runs/curve.zarr frames
      lossatlas export frames runs/curve.zarr frames --frames 100:200 --size 1080x1080
    """
    from cluster import format

    count = Counter("frames", "pictures", quiet)

    def kept() -> str:
        if not count.done:
            return "no frame was made this time"
        frames = format.plural(count.done, "frame")
        return f"{frames} in {format.place(folder)} kept; the same command makes the others"

    with stoppable(kept):
        from renders.film.frames import export_frames

        facts = export_frames(place_of(run), folder, on_progress=count, **_how(how))
    tell(facts.remarks)
    if as_json:
        print_json(dataclasses.asdict(facts))
    elif not quiet:
        print_line(
            f"{format.place(folder)}: {format.plural(facts.frames, 'frame')} of "
            f"{facts.width:,} × {facts.height:,} pixels, {facts.made:,} made and {facts.kept:,} "
            f"kept{_missing(facts.unfinished, facts.left_out, facts.preview)}, in "
            f"{format.duration(facts.seconds)}"
        )


@click.command()
@shared.RUN
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
@click.option("--lossless", is_flag=True, help="A master: every pixel as painted.")
@click.option(
    "--quality",
    type=float,
    help="H.264: 0 to 51, lower is better, default 16; WebP: 0 to 100, default 82.",
)
@_of_a_reel
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
      lossatlas export film runs/bowl.zarr bowl.mp4 --relief --path "160,30 200,55 240,30"
    """
    from cluster import format

    how["threads"] = how.pop("workers")
    with stoppable(one_place(out)):
        from renders.film.film import export_film

        how["flight"] = _flight(how)
        count = Counter("film", "pictures", quiet)
        facts = export_film(place_of(run), out, on_progress=count, **_how(how))
    tell(facts.remarks)
    if as_json:
        print_json(dataclasses.asdict(facts))
        return
    if quiet:
        return
    between = f" and {facts.interpolated:,} interpolated" if facts.interpolated else ""
    print_line(
        f"{format.place(out)}: {facts.width:,} × {facts.height:,} pixels, "
        f"{facts.duration:.1f} s at {facts.fps:g} a second from {facts.computed:,} computed"
        f"{between} pictures{_missing(facts.unfinished, facts.left_out, facts.preview)}, "
        f"{format.size(facts.bytes)}, in {format.duration(facts.seconds)}"
    )
    if how["flight"] is None and not facts.interpolated and facts.computed < 3 * facts.fps:
        print_line("few frames for a film: --interpolate 29 adds smooth ones in between")


def _flight(how: dict[str, Any]) -> Flight | None:
    """Take the options of --relief out of `how`, as the flight they mean."""
    from cluster.errors import ClusterError

    asked = {name: how.pop(name) for name in ("camera", "orbit", "path")}
    rise, in_the_round = how.pop("rise"), how.pop("relief")
    given = [name for name, value in asked.items() if value is not None]
    if not in_the_round:
        if given:
            raise ClusterError(f"--{given[0]} is for films in the round: say --relief too")
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
    return flight_from(cameras, asked["orbit"], rise)


def _how(given: dict[str, Any]) -> dict[str, Any]:
    """The options as the exports take them."""
    how = {k: v for k, v in given.items() if k not in ("size", "frames", "limits")}
    if given["size"] is not None:
        how["size"] = size_from(given["size"])
    if given["palette"] is not None:
        how["palette"] = palette_from(given["palette"])
    if given["limits"] is not None:
        how["limits"] = given["limits"]
    if given["frames"] is not None:
        from cluster.scheduling.selection import parse

        chosen = parse(given["frames"])
        how["first"] = chosen.first
        how["last"] = None if chosen.last is None else chosen.last - 1
    return how


def _missing(unfinished: int, left_out: int, preview: bool) -> str:
    parts = [
        f"{unfinished:,} {'as previews' if preview else 'not complete'}" if unfinished else "",
        f"{left_out:,} left out" if left_out else "",
    ]
    said = ", ".join(part for part in parts if part)
    return f" ({said})" if said else ""
