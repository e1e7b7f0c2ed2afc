"""Options of a film: what `export film` and `export frames` have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cluster.cli import arguments
from cluster.cli.export import picture_options, sizes

if TYPE_CHECKING:
    from renders.film.film import FilmFacts
    from renders.film.frames import FramesFacts

F = TypeVar("F", bound=Callable[..., Any])


def add_film_options(command: F) -> F:
    chosen = (
        click.option("--size", metavar="WxH", help="In pixels; default: 1920x1080."),
        click.option("--frames", metavar="A:B", help="Only these frames, as Python counts them."),
        click.option(
            "--finished-only", is_flag=True, help="Leave out frames that are not complete."
        ),
        click.option("--quantity", default="loss", show_default=True, help="loss, error …"),
        picture_options.SPLIT,
        picture_options.TONE,
        picture_options.clip("Percentiles, over all frames,"),
        picture_options.LIMITS,
        picture_options.PALETTE,
        click.option(
            "--theme", type=click.Choice(["light", "dark"]), default="dark", show_default=True
        ),
        picture_options.CONTOURS,
        picture_options.LIGHT,
        picture_options.CURVE,
        click.option("--anchors/--no-anchors", default=True, help="The ends and the bend."),
        picture_options.TITLE,
        picture_options.SUBTITLE,
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            metavar="N",
            help="Pictures painted at once; default: one a core.",
        ),
        click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors."),
        arguments.JSON,
    )
    for option in reversed(chosen):
        command = option(command)
    return command


def film_style(given: dict[str, Any]) -> dict[str, Any]:
    """The options as the exports take them."""
    how = {k: v for k, v in given.items() if k not in ("size", "frames", "limits")}
    if given["size"] is not None:
        how["size"] = sizes.size_from(given["size"])
    if given["palette"] is not None:
        how["palette"] = picture_options.palette_from(given["palette"])
    if given["limits"] is not None:
        how["limits"] = given["limits"]
    if given["frames"] is not None:
        from cluster.scheduling.selection import parse

        chosen = parse(given["frames"])
        how["first"] = chosen.first
        how["last"] = None if chosen.last is None else chosen.last - 1
    return how


def unfinished_text(facts: FilmFacts | FramesFacts) -> str:
    """How many frames are not complete or left out; empty if there are none."""
    parts = []
    if facts.unfinished:
        parts.append(f"{facts.unfinished:,} {'as previews' if facts.preview else 'not complete'}")
    if facts.left_out:
        parts.append(f"{facts.left_out:,} left out")
    return f" ({', '.join(parts)})" if parts else ""
