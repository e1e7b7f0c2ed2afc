"""Lines over one coordinate: dots where something was computed, thin lines between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator

from renders.box import Box
from renders.colour import FloatArray, luminance, palette_colours, rgb
from renders.map.holes import FINITE, INF, NAN, UNFINISHED
from renders.page.sheet import Sheet
from renders.page.text import Type, cap_height, text_width
from renders.page.theme import Theme
from renders.page.words import INFINITE, NOT_A_NUMBER, NOT_COMPUTED
from renders.ticks import label, linear_ticks, spread_ticks

HEADROOM = 0.07
"""Room above and below the lines, as a share of their height."""
LEAST_CONTRAST = 2.4
"""Of a line's colour with the paper."""
_SMOOTH = 2_000
"""Points beyond which a line is drawn from point to point."""
Dashes = tuple[float, ...]


@dataclass(frozen=True)
class Pen:
    """How wide and large everything on a page of lines is, in pixels."""

    tick: float
    heading: float
    name: float
    key: float
    line: float
    dot: float
    hair: float

    @classmethod
    def of(cls, u: float) -> Pen:
        """In proportion to a layout's unit."""
        return cls(10.5 * u, 10 * u, 15 * u, 12 * u, 2.6 * u, 7.4 * u, 0.6 * u)


@dataclass(frozen=True, eq=False)
class Line:
    """One quantity of one split along one way.

    Attributes:
        x, values: float64 (n,), ascending x.
        colour: `#rrggbb`.
        kinds: uint8 (n,), see `renders.map.holes`.
        dashes: on and off in line widths; none is a whole line.
        smooth: a monotone cubic between points, else straight.
        hollow: dots are rings.
    """

    x: FloatArray
    values: FloatArray
    colour: str
    kinds: npt.NDArray[np.uint8]
    dashes: Dashes = ()
    smooth: bool = True
    hollow: bool = False


@dataclass(frozen=True, eq=False)
class Panel:
    """Lines under one scale.

    Attributes:
        heading, unit: above it.
        lines: the first lies on top.
        log: whether the scale is logarithmic.
        low, high: the scale's ends, without headroom.
        floor: what values of 0 or less are drawn as on a logarithmic scale.
    """

    heading: str
    unit: str
    lines: tuple[Line, ...]
    log: bool
    low: float
    high: float
    floor: float = 0.0
    verticals: tuple[tuple[float, str], ...] = field(default=())


def draw_panel(sheet: Sheet, at: Box, panel: Panel, pen: Pen, x_name: str, below: bool) -> Axes:
    """Draw a panel whose frame is `at`.

    Args:
        sheet: where.
        at: of the frame; ticks, figures and the heading stand outside it.
        panel: what.
        pen: sizes.
        x_name: of the coordinate; empty draws neither ticks nor figures.
        below: whether figures stand beneath the frame, else another panel's do.
    """
    theme = sheet.theme
    axes = sheet.axes(at)
    for spine in axes.spines.values():
        spine.set_linewidth(sheet.points(pen.hair))
    _scales(axes, panel, at, pen)
    lettered = bool(x_name)
    _ticks(sheet, axes, panel, at, pen, lettered, lettered and below)
    _holes(sheet, axes, panel, pen)
    for x, _ in panel.verticals:
        axes.axvline(x, color=theme.muted, lw=sheet.points(0.8 * pen.hair), alpha=0.8, zorder=1.2)
    for order, line in enumerate(reversed(panel.lines)):
        _draw_line(sheet, axes, line, panel, at, pen, 2 + order)
    if lettered and below:
        kind = Type(pen.tick, "It" if x_name.isascii() else "Regular")  # α is not italic
        drop = 0.9 * pen.tick + cap_height(Type(pen.tick))
        sheet.text(x_name, kind, at.right, at.bottom + drop, "right")
    return axes


def draw_heading(sheet: Sheet, panel: Panel, x: float, baseline: float, pen: Pen) -> None:
    """What a panel shows, and in which unit, at its top left."""
    heading, small = panel.heading.upper(), Type(pen.heading, "Semibold")
    sheet.text(heading, small, x, baseline)
    x += text_width(heading, small) + 0.9 * pen.heading
    sheet.text(panel.unit, Type(1.05 * pen.heading, "It"), x, baseline, colour=sheet.theme.muted)


def draw_verticals(sheet: Sheet, axes: Axes, panel: Panel, pen: Pen) -> None:
    """The names of the upright lines, inside at the top, on paper so that they read on lines."""
    kind = Type(pen.name, "SemiboldIt")
    x0, x1 = axes.get_xlim()
    width = axes.get_position().width * sheet.width
    for x, name in panel.verticals:
        room = (x1 - x) / (x1 - x0) * width
        left = text_width(name, kind) + 0.8 * pen.name < room
        off = 0.4 * sheet.points(pen.name)
        axes.annotate(
            name,
            (x, 1),
            (off if left else -off, -off),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="left" if left else "right",
            va="top",
            zorder=50,
            color=sheet.theme.ink,
            bbox={"fc": sheet.ground, "ec": "none", "alpha": 0.75, "pad": 0.12 * off},
            **sheet.type(kind, name),
        )


def _scales(axes: Axes, panel: Panel, at: Box, pen: Pen) -> None:
    low, high = panel.low, panel.high
    head = HEADROOM
    if panel.verticals:  # the names stand above the lines where there is room
        head = max(head, min(0.3, 2.0 * pen.name / at.height))
    if panel.log:
        axes.set_yscale("log")
        span = math.log(high / low)
        axes.set_ylim(low * math.exp(-HEADROOM * span), high * math.exp(head * span))
    else:
        span = high - low
        axes.set_ylim(low - HEADROOM * span, high + head * span)
    x = panel.lines[0].x
    first, last = (float(x[0]), float(x[-1])) if len(x) > 1 else (x[0] - 0.5, x[0] + 0.5)
    # Dots at the ends are whole.
    room = 0.9 * pen.dot / at.width * (last - first)
    axes.set_xlim(first - room, last + room)


def _ticks(
    sheet: Sheet, axes: Axes, panel: Panel, at: Box, pen: Pen, lettered: bool, below: bool
) -> None:
    low, high = axes.get_ylim()

    def place(value: float) -> float:
        part = math.log(value / low) / math.log(high / low) if panel.log else (value - low)
        return part if panel.log else part / (high - low)

    if panel.log:
        ys = spread_ticks(panel.low, panel.high, place, min(0.45, 2.4 * pen.tick / at.height))
    else:
        ys = linear_ticks(low, high, max(2.0, at.height / (3.4 * pen.tick)))
    hair = sheet.points(pen.hair)
    axes.yaxis.set_major_locator(FixedLocator(ys))
    axes.yaxis.set_minor_locator(FixedLocator([]))
    axes.yaxis.set_major_formatter(FixedFormatter([label(v) for v in ys] if lettered else []))
    axes.tick_params("y", length=0, pad=sheet.points(0.7 * pen.tick))
    axes.grid(axis="y", lw=0.8 * hair)
    x0, x1 = axes.get_xlim()
    xs = linear_ticks(x0, x1, max(3, at.width / (9 * pen.tick)))
    shown = [v for v in xs if (x1 - v) / (x1 - x0) * at.width > 2.6 * pen.tick]
    names = [label(v) if v in shown else "" for v in xs]
    axes.xaxis.set_major_locator(FixedLocator(xs))
    axes.xaxis.set_major_formatter(FixedFormatter(names if below else [""] * len(xs)))
    tick = sheet.points(0.4 * pen.tick) if lettered else 0
    axes.tick_params("x", length=tick, width=hair, pad=sheet.points(0.35 * pen.tick))
    kind = sheet.type(Type(pen.tick))
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set(family=kind["family"], size=kind["size"])


def tick_width(panel: Panel, pen: Pen) -> float:
    """How wide the figures of the scale may be, in pixels."""
    kind = Type(pen.tick)
    if panel.log:
        values = spread_ticks(panel.low, panel.high, lambda v: math.log(v), 0.0)[:40]
    else:
        values = linear_ticks(panel.low, panel.high, 5)
    return max((text_width(label(v), kind) for v in values), default=0.0)


def _draw_line(
    sheet: Sheet, axes: Axes, line: Line, panel: Panel, at: Box, pen: Pen, order: float
) -> None:
    """The line, and dots where its values were computed as long as those keep apart."""
    known = line.kinds == FINITE
    values = np.where(known, line.values, np.nan)
    if panel.log:
        values = np.where(values <= 0, panel.floor, values)
    spacing = at.width / max(1, len(line.x) - 1)
    # Dots shrink into the line as they come close to each other.
    strength = float(np.clip((spacing / pen.dot - 0.8) / 1.4, 0.0, 1.0))
    width = sheet.points(pen.line * (1 - 0.5 * strength))
    x, y = _between(line.x, values, panel.log and line.smooth, line.smooth)
    axes.plot(x, y, color=sheet.ground, lw=2 * width, alpha=0.7, zorder=order)
    style = (0, line.dashes) if line.dashes else "-"
    axes.plot(x, y, color=line.colour, lw=width, ls=style, zorder=order + 0.3)
    size = sheet.points(pen.dot)
    if line.dashes and line.dashes[0] < 1:  # dots among dots would not be told apart
        return
    if strength:
        face = sheet.ground if line.hollow else line.colour
        edge = (line.colour, 0.22 * size) if line.hollow else (sheet.ground, 0.12 * size)
        axes.plot(
            line.x, values, "o", ms=max(size * (0.4 + 0.6 * strength), 1.6 * width), mfc=face,
            mec=edge[0], mew=edge[1], zorder=order + 0.6,
        )  # fmt: skip
        return
    alone = known & ~np.roll(known, 1) & ~np.roll(known, -1)
    if len(known) > 1:
        alone[0], alone[-1] = known[0] and not known[1], known[-1] and not known[-2]
    if alone.any():  # no line shows a point between two holes
        axes.plot(
            line.x[alone], values[alone], "o", ms=1.3 * width, c=line.colour, zorder=order + 0.6
        )


def _between(
    x: FloatArray, values: FloatArray, log: bool, smooth: bool
) -> tuple[FloatArray, FloatArray]:
    """The line through finite values, NaN where it is broken.

    Between two points it stays between their values: a spline would invent minima.
    """
    if not smooth or len(x) > _SMOOTH:
        return x, values
    from scipy.interpolate import PchipInterpolator

    heights = np.log(values) if log else values
    known = np.isfinite(heights)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(np.int8), [0]])))
    xs: list[FloatArray] = []
    ys: list[FloatArray] = []
    lift = np.array([np.nan])
    for start, end in edges.reshape(-1, 2):
        part = x[start:end]
        steps = max(2, round(1_500 / len(x)))
        fine = np.interp(np.arange((len(part) - 1) * steps + 1) / steps, np.arange(len(part)), part)
        inner = heights[start:end]
        fit = PchipInterpolator(part, inner)(fine) if len(part) > 1 else inner
        xs += [fine, lift]
        ys += [np.exp(fit) if log else fit, lift]
    if not xs:
        return x, values
    return np.concatenate(xs), np.concatenate(ys)


def _holes(sheet: Sheet, axes: Axes, panel: Panel, pen: Pen) -> None:
    """A band where nothing is computed yet, a cross below where it is NaN, a tip above for inf."""
    theme = sheet.theme
    x = panel.lines[0].x
    kinds = np.stack([line.kinds for line in panel.lines])
    rims = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
    missing = (kinds == UNFINISHED).any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(np.int8), [0]])))
    for start, end in edges.reshape(-1, 2):
        axes.axvspan(rims[start], rims[end], fc=theme.hatch_ground, ec="none", zorder=0.5)
    for kind, mark, height in ((NAN, "x", 0.0), (INF, "^", 1.0)):
        places = x[(kinds == kind).any(axis=0)]
        if len(places):
            axes.plot(
                places, np.full(len(places), height), ls="none", zorder=40, clip_on=False,
                transform=axes.get_xaxis_transform(), **_hole_mark(sheet, mark, pen),
            )  # fmt: skip


def _hole_mark(sheet: Sheet, mark: str, pen: Pen) -> dict[str, Any]:
    size = sheet.points(pen.dot)
    colour = sheet.theme.ink
    return {"marker": mark, "ms": 0.95 * size, "mew": 0.16 * size, "mfc": colour, "mec": colour}


def hole_key(panels: Sequence[Panel]) -> list[str]:
    """The meanings of what stands for no value, of which some is shown."""
    kinds = {int(k) for panel in panels for line in panel.lines for k in np.unique(line.kinds)}
    named = ((NAN, NOT_A_NUMBER), (INF, INFINITE), (UNFINISHED, NOT_COMPUTED))
    return [words for kind, words in named if kind in kinds]


def draw_hole_key(
    sheet: Sheet, words: Sequence[str], right: float, baseline: float, pen: Pen
) -> None:
    """The marks and meanings, laid leftwards so that the last ends at `right`."""
    kind, theme = Type(0.82 * pen.key), sheet.theme
    middle = baseline - cap_height(kind) / 2
    for meaning in reversed(words):
        sheet.text(meaning, kind, right, baseline, "right", theme.muted)
        right -= text_width(meaning, kind) + 1.05 * kind.size
        if meaning == NOT_COMPUTED:
            size = 1.5 * sheet.points(pen.dot)
            look: dict[str, Any] = {"marker": "s", "ms": size, "mew": 0.08 * size}
            look |= {"mfc": theme.hatch_ground, "mec": theme.hairline}
        else:
            look = _hole_mark(sheet, "x" if meaning == NOT_A_NUMBER else "^", pen)
        sheet.mark(right, middle, ls="none", **look)
        right -= 1.7 * kind.size


def hole_key_width(words: Sequence[str], pen: Pen) -> float:
    kind = Type(0.82 * pen.key)
    return sum(text_width(meaning, kind) + 2.6 * kind.size for meaning in words)


def line_colours(theme: Theme, palette: Sequence[str] | None, count: int) -> list[str]:
    """So many colours of a palette that stand off from the paper and from each other."""
    colours = list(palette or palette_colours(theme.palette))
    paper = luminance(rgb(theme.paper)) + 0.05

    def contrast(colour: str) -> float:
        other = luminance(rgb(colour)) + 0.05
        return max(paper, other) / min(paper, other)

    inner = colours[round(0.12 * len(colours)) : round(0.92 * len(colours))] or colours
    fit = [c for c in inner if contrast(c) >= LEAST_CONTRAST] or colours
    places = np.linspace(0.12, 1.0, max(count, 2))[:count]
    return [fit[round(p * (len(fit) - 1))] for p in places]
