"""Layouts: where on the page everything stands. All lengths follow from the page's width."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.errors import LossatlasError
from renders.box import Box

Kind = Literal["gallery", "paper", "bare"]
KINDS: tuple[Kind, ...] = ("gallery", "paper", "bare")
PROFILE_ASPECT = 0.56
"""Height over width of the plot of a one-dimensional render."""
ASPECTS = (0.4, 2.5)
"""Between these ratios, height over width, a map keeps its plane's proportions."""


class LayoutError(LossatlasError):
    """A layout that does not exist, or a page too small to hold it."""


@dataclass(frozen=True)
class Layout:
    """One page, in pixels.

    Attributes:
        kind: gallery (map above, title and legend beneath), paper (a compact figure) or bare.
        width, height: of the page.
        map: where the landscape goes.
        unit: a thousandth of the layout's width; type and lines are multiples of it.
        legend: where the colour bar goes, empty for bare; it runs upwards if taller than wide.
        title_y, subtitle_y, small_y: baselines; `small_y` is of the first line of small print.
        margin: distance from the page's edge to the map's left edge and the text.
    """

    kind: Kind
    width: int
    height: int
    map: Box
    unit: float
    legend: Box
    title_y: float
    subtitle_y: float
    small_y: float
    margin: int


def layout_for(kind: str, width: int, aspect: float, height: int | None = None) -> Layout:
    """Lay out a page.

    Args:
        kind: gallery, paper or bare.
        width: of the page, pixels.
        aspect: height over width of the map.
        height: of the page, where the paper decides it; see `fitted_layout`.

    Raises:
        LayoutError: unknown kind, or a page too narrow for its margins.
    """
    if height is not None:
        return fitted_layout(kind, width, height, aspect)
    if width < 64:
        raise LayoutError(f"width is {width} pixels: wanted at least 64; ask for a larger picture")
    match kind:
        case "gallery":
            return _gallery(width, aspect)
        case "paper":
            return _paper(width, aspect)
        case "bare":
            at = Box(0, 0, width, max(1, round(width * aspect)))
            none = Box(0, 0, 0, 0)
            return Layout("bare", width, at.height, at, width / 1000, none, 0, 0, 0, 0)
    near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.0)[0]
    raise LayoutError(f"layout is {kind!r}: wanted gallery, paper or bare; the nearest is {near!r}")


def fitted_layout(kind: str, width: int, height: int, aspect: float) -> Layout:
    """Lay out a page of a given size: the layout as large as it fits, margins where it does not.

    What is left above and below is shared a little in favour of the foot, as mounts are cut.

    Args:
        kind: gallery, paper or bare.
        width, height: of the page, pixels.
        aspect: height over width of the map.

    Raises:
        LayoutError: unknown kind, or a page too small for its margins.
    """
    if height < 64:
        raise LayoutError(f"height is {height} pixels: wanted at least 64; ask for more dpi")
    natural = layout_for(kind, width, aspect)
    inner = width
    while natural.height > height:
        # Twice at most: lengths are proportional to the width but for their rounding.
        inner = max(1, min(inner - 1, math.floor(inner * height / natural.height)))
        natural = layout_for(kind, inner, aspect)
    dx, dy = (width - inner) // 2, round(0.46 * (height - natural.height))
    return replace(
        natural,
        width=width,
        height=height,
        map=natural.map.shifted(dx, dy),
        legend=natural.legend.shifted(dx, dy),
        title_y=natural.title_y + dy,
        subtitle_y=natural.subtitle_y + dy,
        small_y=natural.small_y + dy,
        margin=natural.margin + dx,
    )


def _gallery(width: int, aspect: float) -> Layout:
    """The map as large as its margins allow; title and legend stand beneath it."""
    u = width / 1000
    margin = round(84 * u)
    wide = width - 2 * margin
    at = Box(margin, round(80 * u), wide, max(1, round(wide * aspect)))
    bar = round(330 * u)
    title = at.bottom + 117 * u
    return Layout(
        kind="gallery",
        width=width,
        height=round(title + 148 * u),
        map=at,
        unit=u,
        legend=Box(at.right - bar, at.bottom + round(96 * u), bar, max(2, round(11 * u))),
        title_y=title,
        subtitle_y=title + 29 * u,
        small_y=title + 86 * u,
        margin=margin,
    )


def _paper(width: int, aspect: float) -> Layout:
    """A compact figure: title above, colour bar at the right."""
    u = width / 1000
    left, right = round(74 * u), round(112 * u)
    wide = width - left - right
    at = Box(left, round(104 * u), wide, max(1, round(wide * aspect)))
    return Layout(
        kind="paper",
        width=width,
        height=round(at.bottom + 112 * u),
        map=at,
        unit=u,
        legend=Box(at.right + round(26 * u), at.y, max(2, round(16 * u)), at.height),
        title_y=46 * u,
        subtitle_y=73 * u,
        small_y=at.bottom + 70 * u,
        margin=left,
    )


def line_aspect(panels: int) -> float:
    """Height over width of so many plots above each other."""
    return PROFILE_ASPECT if panels == 1 else 0.7


def map_aspect(extent: tuple[float, float, float, float]) -> tuple[float, bool]:
    """Height over width of a map of `extent`, and whether both axes have the same scale."""
    wide, high = extent[1] - extent[0], extent[3] - extent[2]
    if wide <= 0 or high <= 0:
        return 1.0, False
    true = high / wide
    shown = min(max(true, ASPECTS[0]), ASPECTS[1])
    return shown, shown == true
