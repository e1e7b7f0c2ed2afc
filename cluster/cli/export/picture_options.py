"""Options that the exports of pictures share, and how their values are read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from cluster.terminal import warn

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
TONE = click.option(
    "--tone",
    type=click.Choice(["linear", "log", "equalised"]),
    help="How values become colours; default: log for a loss, linear for an error, and where any "
    "value is 0 or less.",
)
CONTOURS = click.option("--contours/--no-contours", default=True, help="Lines of equal value.")
LIGHT = click.option("--light/--no-light", default=True, help="Light and shadow on the slopes.")
CURVE = click.option("--curve/--no-curve", default=True, help="The curve between the modes.")
MARKS = click.option(
    "--marks/--no-marks", default=True, help="The marks of the spec, in their own colours."
)
TITLE = click.option("--title", help="Instead of the run's name; '' leaves it out.")
SUBTITLE = click.option("--subtitle", help="Instead of what the store says; '' leaves it out.")
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


def marks_in_the_round(condition: str = "") -> Callable[[F], F]:
    """The options --marks and --no-marks of a relief; `condition` says when they count."""

    def add(command: F) -> F:
        for option in (
            click.option("--no-marks", is_flag=True, help="Leave the marks of the spec out."),
            click.option(
                "--marks",
                "stand",
                type=click.Choice(["draped", "own"]),
                help=f"{condition}How marks lie: draped on the ground (default), or at the "
                "height of their own value, on stems.",
            ),
        ):
            command = option(command)
        return command

    return add


def stand_from(how: dict[str, Any]) -> Literal["draped", "own"]:
    """Take those options out of `how`, and say in it whether marks are shown.

    Raises:
        ClusterError: they contradict each other.
    """
    from cluster.errors import ClusterError

    stand, how["marks"] = how.pop("stand"), not how.pop("no_marks")
    if stand is not None and not how["marks"]:
        raise ClusterError(f"--marks {stand} and --no-marks are both given: leave one out")
    return "own" if stand == "own" else "draped"


def clip(percentiles: str = "Percentiles") -> Callable[[F], F]:
    """The option --clip; `percentiles` says of what."""
    return click.option(
        "--clip",
        type=(float, float),
        default=(0.0, 99.0),
        show_default=True,
        metavar="LOW HIGH",
        help=f"{percentiles} at which the colours end.",
    )


def palette_from(text: str) -> str | Sequence[str]:
    """A palette's name, or the user's own colours: `#10204a,#e07050,#f8f0d0`."""
    colours = [part.strip() for part in text.split(",")]
    return colours if "," in text or text.startswith("#") else text


@contextlib.contextmanager
def spread_over(address: str | None) -> Iterator[Spread | None]:
    """Gives the spread that paints on the cluster at `address`; None for this machine's cores."""
    if address is None:
        yield None
        return
    from cluster.workers.spread import over_cluster

    with over_cluster(address) as spread:
        yield spread


def warn_of(remarks: Sequence[str]) -> None:
    """Print on stderr what a picture does not show as it is."""
    for remark in remarks:
        warn(remark)


def unfinished_text(share: float, preview: bool) -> str:
    """How much of a picture is rendered, and whether it is a preview; empty if it is complete."""
    from cluster import format

    rendered = "" if share >= 1 else f", {format.percent(share)} rendered"
    return rendered + (", a preview: some of it predicted and not audited yet" if preview else "")
