"""Axes: ticks at round coordinates of the plane, outside the map, quietly."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from renders.box import Box
from renders.page.sheet import Sheet
from renders.page.text import Type, cap_height, fitted_type, text_width
from renders.projection import Projection
from renders.ticks import axis_ticks, label

_SHORT = 2.2
"""Ems of a name that stands beside its axis' figures as they do."""


def draw_axes(
    sheet: Sheet, projection: Projection, size_px: float, line_px: int, names: tuple[str, str]
) -> None:
    """The map's frame, ticks and figures below and to the left of it, and the axes' names.

    Args:
        sheet: where.
        projection: where the map is and what it spans.
        size_px: the em of the figures.
        line_px: width of the frame and of a tick.
        names: of x and of y, at the axes' ends; empty for none. A long name of y runs upwards.
    """
    at, (x0, x1, y0, y1) = projection.at, projection.extent
    axes = framed(sheet, at, line_px)
    axes.set_xlim(x0, x1 if x1 > x0 else x0 + 1)
    axes.set_ylim(y0, y1 if y1 > y0 else y0 + 1)
    tick, gap = round(0.45 * size_px), 0.45 * size_px
    kind, named = Type(size_px), Type(size_px, "It")
    long = text_width(names[1], named) > _SHORT * size_px
    shown = (
        fitted_type(names[0], named, 0.7 * at.width),
        fitted_type(names[1], named, 0.9 * at.height),
    )
    # Figures that would touch an axis' name are left out.
    end = at.right - max(2.6 * size_px, text_width(names[0], shown[0]) + 2.1 * size_px)
    top = at.y + (-1.0 if long else 2.2 * size_px)
    xs = axis_ticks(
        x0, x1, max(3, at.width / (9 * size_px)), x0 + (end - at.x) / at.width * (x1 - x0)
    )
    ys = axis_ticks(
        y0, y1, max(3, at.height / (9 * size_px)), y0 + (at.bottom - top) / at.height * (y1 - y0)
    )
    across, _ = projection.pixels(xs, y0)
    _, down = projection.pixels(x0, ys)
    below = [label(x) if px < end else "" for x, px in zip(xs, across, strict=True)]
    beside = [label(y) if py > top else "" for y, py in zip(ys, down, strict=True)]
    lettered(sheet, axes, "x", xs if x1 > x0 else [], below, kind, tick, gap, line_px)
    lettered(sheet, axes, "y", ys if y1 > y0 else [], beside, kind, tick, gap, line_px)
    base = at.bottom + line_px + tick + gap + cap_height(kind)
    sheet.text(names[0], shown[0], at.right, base, "right")
    edge = at.x - line_px - tick - gap
    if not long:
        sheet.text(names[1], shown[1], edge, at.y + cap_height(kind), "right")
        return
    wide = max((text_width(words, kind) for words in beside), default=0.0)
    middle = at.y + text_width(names[1], shown[1]) / 2
    ink = sheet.theme.ink
    sheet.turned(names[1], shown[1], edge - wide - 0.6 * size_px, middle, math.pi / 2, ink)


def framed(sheet: Sheet, at: Box, line_px: int) -> Axes:
    """Axes with a hairline of whole pixels around `at`, outside it, and no ticks yet."""
    axes = sheet.axes(at)
    for spine in axes.spines.values():
        spine.set_visible(False)
        spine.set_position(("outward", sheet.points(line_px)))  # ticks begin outside the hairline
    outer, hair = at.grown(line_px), sheet.theme.hairline
    sheet.rectangle(Box(outer.x, outer.y, outer.width, line_px), hair)
    sheet.rectangle(Box(outer.x, at.bottom, outer.width, line_px), hair)
    sheet.rectangle(Box(outer.x, at.y, line_px, at.height), hair)
    sheet.rectangle(Box(at.right, at.y, line_px, at.height), hair)
    axes.xaxis.set_major_locator(NullLocator())
    axes.yaxis.set_major_locator(NullLocator())
    return axes


def lettered(
    sheet: Sheet,
    axes: Axes,
    which: str,
    values: Sequence[float],
    words: Sequence[str],
    kind: Type,
    tick_px: float,
    gap_px: float,
    line_px: float,
) -> None:
    """Ticks at `values` of the x or the y axis, and `words` beside them."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_major_formatter(FixedFormatter(list(words)))
    length, pad, width = (sheet.points(v) for v in (tick_px, gap_px, line_px))
    axis.set_tick_params(length=length, pad=pad, width=width)
    look = sheet.type(kind)
    for text in axis.get_ticklabels():
        text.set(family=look["family"], size=look["size"], weight=look["weight"])
