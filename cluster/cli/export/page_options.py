"""Options of a page: what `export poster` and `export relief` have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cluster.cli import arguments
from cluster.cli.export import picture_options, sizes
from cluster.terminal import print_json, print_line

F = TypeVar("F", bound=Callable[..., Any])


def add_page_options(command: F) -> F:
    """Give a command the options of a page; `page_style` makes of them what the exports take."""
    chosen = (
        click.option(
            "--width", metavar="W", help="Of the page: pixels, or 3.25in, 89mm; default: 3000."
        ),
        click.option("--size", metavar="WxH", help="Instead: pixels, or 3.25x2.4in, 89x60mm."),
        click.option("--paper", help="Instead of --width: A0 … B5, letter, 24x36in, 60x90cm."),
        click.option(
            "--orientation",
            type=click.Choice(["auto", "portrait", "landscape"]),
            default="auto",
            show_default=True,
            help="How the paper hangs; auto: as the picture lies.",
        ),
        click.option("--dpi", type=float, default=300.0, show_default=True, help="Dots per inch."),
        click.option(
            "--format",
            "kind",
            type=click.Choice(["png", "pdf", "svg", "tiff"]),
            help="Default: what OUT ends in. tiff: a tiled pyramid, for viewers of very large "
            "pictures.",
        ),
        click.option(
            "--quantity",
            help="loss, error, loss_stderr or one of your own; default: loss, on a line plot loss "
            "and error.",
        ),
        picture_options.SPLIT,
        click.option("--frame", type=int, default=0, show_default=True),
        picture_options.TONE,
        picture_options.clip(),
        picture_options.LIMITS,
        picture_options.PALETTE,
        click.option(
            "--layout",
            type=click.Choice(["gallery", "paper", "bare"]),
            default="gallery",
            show_default=True,
            help="gallery: for a wall; paper: for print, compact; bare: the picture alone.",
        ),
        picture_options.CONTOURS,
        picture_options.CURVE,
        click.option("--anchors/--no-anchors", default=True, help="The given weights, as points."),
        picture_options.TITLE,
        picture_options.SUBTITLE,
        click.option("--yes", is_flag=True, help="Go on even when the picture is absurdly large."),
        arguments.JSON,
    )
    for option in reversed(chosen):
        command = option(command)
    return command


def page_style(asked: dict[str, Any]) -> dict[str, Any]:
    """The options as the exports take them.

    Raises:
        ClusterError: a size that is none.
    """
    style = dict(asked)
    style["format_"] = style.pop("kind")
    if style["limits"] is None:
        del style["limits"]
    if style["width"] is not None:
        style["width"] = sizes.length_from(style["width"], style["dpi"])
    if style["size"] is not None:
        style["size"] = sizes.page_size(style["size"], style["dpi"])
    if style["palette"] is not None:
        style["palette"] = picture_options.palette_from(style["palette"])
    return style


def print_result(out: str, facts: Any, as_json: bool) -> None:
    """Print what was made."""
    from cluster import shell
    from pipeline import format

    made = dataclasses.asdict(facts)
    picture_options.warn_of(facts.remarks)
    if as_json:
        print_json(made)
        return
    unfinished = picture_options.unfinished_text(made["share"], made["preview"])
    print_line(
        f"{shell.place(out)}: {made['width']:,} × {made['height']:,} pixels, "
        f"{format.size(made['bytes'])}{unfinished}, in {format.duration(made['seconds'])}"
    )
