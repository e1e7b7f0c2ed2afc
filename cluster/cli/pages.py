"""What `export poster` and `export relief` have in common: a page."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cluster.cli import shared
from cluster.terminal import print_json, print_line, warn

if TYPE_CHECKING:
    from renders.spread import Spread

F = TypeVar("F", bound=Callable[..., Any])

SPLIT = click.option("--split", help="Whose numbers; default: the first split's.")
LIMITS = click.option(
    "--limits",
    type=(float, float),
    default=None,
    metavar="LOW HIGH",
    help="Values at which the colours end, instead of --clip.",
)
PALETTE = click.option(
    "--palette",
    help="A name of ours, colorcet's or matplotlib's, or colours such as #10204a,#f8f0d0; default: "
    "the theme's.",
)

TONE = (
    "How values become colours; default: log for a loss, linear for an error, and where any value "
    "is 0 or less."
)

ADDRESS = click.option(
    "--address",
    metavar="HOST:PORT",
    help="Paint on the Ray cluster there; the file is written here.",
)

BACKGROUND = click.option(
    "--background",
    type=click.Choice(["theme", "white", "transparent"]),
    default="theme",
    show_default=True,
    help="The paper; a relief and a .tif cannot be transparent.",
)

PREVIEW = ", a preview: some of it predicted and not audited yet"


def of_a_page(command: F) -> F:
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
            help="loss, error or loss_stderr; default: loss, on a line plot loss and error.",
        ),
        SPLIT,
        click.option("--frame", type=int, default=0, show_default=True),
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
            help="Percentiles at which the colours end.",
        ),
        LIMITS,
        PALETTE,
        click.option(
            "--layout",
            type=click.Choice(["gallery", "paper", "bare"]),
            default="gallery",
            show_default=True,
            help="gallery: for a wall; paper: for print, compact; bare: the picture alone.",
        ),
        click.option("--contours/--no-contours", default=True, help="Lines of equal value."),
        click.option("--curve/--no-curve", default=True, help="The curve between the modes."),
        click.option("--anchors/--no-anchors", default=True, help="The given weights, as points."),
        click.option("--title", help="Instead of the run's name; '' leaves it out."),
        click.option("--subtitle", help="Instead of what the store says; '' leaves it out."),
        click.option("--yes", is_flag=True, help="Go on even when the picture is absurdly large."),
        shared.JSON,
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
        style["width"] = length_from(style["width"], style["dpi"])
    if style["size"] is not None:
        style["size"] = page_size(style["size"], style["dpi"])
    if style["palette"] is not None:
        style["palette"] = palette_from(style["palette"])
    return style


def size_from(text: str) -> tuple[int, int]:
    """Width and height in pixels from `1920x1080`.

    Raises:
        ClusterError: it is no such thing.
    """
    from cluster.errors import ClusterError

    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ClusterError(f"--size {text}: wanted WIDTHxHEIGHT in pixels, such as 1920x1080")
    return int(width), int(height)


def length_from(text: str, dpi: float, option: str = "--width") -> int:
    """A length of a page in whole pixels: `3000`, `3.25in`, `8.9cm` or `89mm`.

    Raises:
        ClusterError: it is no such thing.
    """
    from cluster.errors import ClusterError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(in|cm|mm)|(\d+)", text.strip().lower())
    if found is None:
        raise ClusterError(
            f"{option} {text}: wanted pixels or a length, such as 3000, 3.25in or 89mm"
        )
    if found[3]:
        return int(found[3])
    return round(float(found[1]) / {"in": 1.0, "cm": 2.54, "mm": 25.4}[found[2]] * dpi)


def page_size(text: str, dpi: float) -> tuple[int, int]:
    """Width and height of a page in whole pixels: `1950x1440`, `3.25x2.4in` or `89x60mm`.

    Raises:
        ClusterError: it is no such thing.
    """
    from cluster.errors import ClusterError

    found = re.fullmatch(r"([\d.]+)\s*x\s*([\d.]+)\s*(in|cm|mm|)", text.lower().replace("×", "x"))
    try:
        if found is None:
            raise ClusterError
        width, height, unit = found.groups()
        return length_from(width + unit, dpi), length_from(height + unit, dpi)
    except ClusterError:
        raise ClusterError(
            f"--size {text}: wanted pixels or lengths, such as 1920x1080, 3.25x2.4in or 89x60mm"
        ) from None


def size_or_width(text: str | None) -> tuple[int, int | None]:
    """The size of a report's picture at 300 dpi, from its width alone or both; 2400 pixels wide.

    Raises:
        ClusterError: it is no such thing.
    """
    if text is None:
        return 2400, None
    if "x" in text.lower() or "×" in text:
        return page_size(text, 300.0)
    return length_from(text, 300.0, "--size"), None


def palette_from(text: str) -> str | Sequence[str]:
    """A palette's name, or colours of one's own: `#10204a,#e07050,#f8f0d0`."""
    colours = [part.strip() for part in text.split(",")]
    return colours if "," in text or text.startswith("#") else text


@contextlib.contextmanager
def spread_over(address: str | None) -> Iterator[Spread | None]:
    """Who paints: the cluster at `address`, or None for the cores of this machine."""
    if address is None:
        yield None
        return
    from cluster.workers.spread import over_cluster

    with over_cluster(address) as spread:
        yield spread


def tell(remarks: Sequence[str]) -> None:
    """Say on stderr what a picture does not show as it is."""
    for remark in remarks:
        warn(remark)


def report(out: str, facts: Any, as_json: bool) -> None:
    """Say what was made."""
    from cluster import format

    made = dataclasses.asdict(facts)
    tell(facts.remarks)
    if as_json:
        print_json(made)
        return
    unfinished = "" if made["share"] >= 1 else f", {format.percent(made['share'])} rendered"
    unfinished += PREVIEW if made["preview"] else ""
    print_line(
        f"{format.place(out)}: {made['width']:,} × {made['height']:,} pixels, "
        f"{format.size(made['bytes'])}{unfinished}, in {format.duration(made['seconds'])}"
    )
