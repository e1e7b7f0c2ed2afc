"""The page of a render of height 1: loss and error along a line, a panel each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline import format
from pipeline.errors import LossatlasError
from renders.box import Box
from renders.map.holes import cell_kinds
from renders.map.tone import Tone
from renders.page.layout import Layout, LayoutError, layout_for, line_aspect
from renders.page.lettering import (
    draw_small_print,
    draw_titles,
    fitted_lines,
    two_lines,
)
from renders.page.lines import (
    Line,
    Panel,
    Pen,
    draw_heading,
    draw_hole_key,
    draw_panel,
    draw_verticals,
    hole_key,
    hole_key_width,
    line_colours,
    tick_width,
)
from renders.page.overlay import anchor_lettering
from renders.page.page import Page
from renders.page.sheet import Sheet, house
from renders.page.text import Type, cap_height, fitted_type, text_width
from renders.page.words import Style, scale_words, small_print, subtitle_of, title_of
from renders.source.provenance import Provenance
from renders.source.surface import TITLES, Surface

_SHARES = (0.62, 0.38)
"""Of the height of the plots: the first quantity's, and the second's."""


class LineError(LossatlasError):
    """A line plot that cannot be drawn as asked."""


@dataclass(frozen=True, eq=False)
class Quantity:
    """One quantity of a line: a surface of height 1 a split, and the tone fitted over them."""

    lines: tuple[Surface, ...]
    tone: Tone


@dataclass(frozen=True, eq=False)
class _Plot:
    """What a page shows, with its small print, and its size in pixels; see `line_page`."""

    panels: Sequence[Panel]
    quantities: Sequence[Quantity]
    facts: Provenance
    style: Style
    print_: tuple[list[str], str]
    width: int
    height: int | None
    dpi: float
    transparent: bool


def line_page(
    quantities: Sequence[Quantity],
    facts: Provenance,
    style: Style,
    width: int,
    height: int | None,
    dpi: float,
    transparent: bool = False,
) -> Page:
    """The page.

    Args:
        quantities: one or two, over the same coordinates.
        facts, style: as for a map; `bare` keeps the lines alone.
        width, height: of the page, pixels; height None follows from the layout.
        dpi: pixels an inch.
        transparent: leave the paper out.

    Raises:
        LineError: no α without two anchors.
        LayoutError: the page is too small.
    """
    panels = _panels(quantities, facts, style)
    print_ = line_print(quantities, facts, style)
    plot = _Plot(panels, quantities, facts, style, print_, width, height, dpi, transparent)
    with house(style.theme):
        return Page((), _paper_page(plot) if style.layout == "paper" else _wide_page(plot))


def _wide_page(plot: _Plot) -> Sheet:
    """A page to hang up, or the lines alone."""
    page = layout_for(plot.style.layout, plot.width, line_aspect(len(plot.panels)), plot.height)
    sheet = Sheet.blank(page.width, page.height, plot.dpi, plot.style.theme, plot.transparent)
    pen = Pen.of(page.unit)
    if page.kind == "bare":
        for panel, at in zip(plot.panels, _stacked(page.map, len(plot.panels), 0.0), strict=True):
            draw_panel(sheet, at, panel, pen, "", False)
        return sheet
    _draw_panels(sheet, page.map, plot.panels, pen, plot.style)
    _gallery_words(
        sheet, page, plot.panels, plot.quantities, plot.facts, plot.style, plot.print_, pen
    )
    return sheet


def _panels(quantities: Sequence[Quantity], facts: Provenance, style: Style) -> list[Panel]:
    first = quantities[0].lines[0]
    shift, scale = alpha_of(first) if style.axis == "alpha" else (0.0, 1.0)
    x0, x1 = first.extent[:2]
    x = (np.linspace(x0, x1, first.values.shape[1]) - shift) / scale
    order = slice(None, None, 1 if scale > 0 else -1)
    verticals: tuple[tuple[float, str], ...] = ()
    if style.anchors:
        verticals = tuple(
            ((a.x - shift) / scale, anchor_lettering(a, 1.0)[0])
            for a in first.anchors
            if x0 <= a.x <= x1
        )
    found = []
    for quantity in quantities:
        tone = quantity.tone
        colours = line_colours(style.theme, tone.palette, len(quantity.lines))
        lines = tuple(
            Line(
                x[order],
                surface.values[0].astype(np.float64)[order],
                colour,
                cell_kinds(surface.values, surface.finished)[0][order],
            )
            for surface, colour in zip(quantity.lines, colours, strict=True)
        )
        name = quantity.lines[0].quantity
        found.append(
            Panel(
                TITLES.get(name, name),
                facts.measures.get(name, ""),
                lines,
                tone.space == "log",
                tone.low,
                tone.high,
                tone.floor,
                verticals,
            )
        )
    return found


def line_print(
    quantities: Sequence[Quantity], facts: Provenance, style: Style
) -> tuple[list[str], str]:
    """The small print of a line as phrases, and the signature."""
    # A line plot draws no marks, so it says nothing of them.
    surface, tone = replace(quantities[0].lines[0], marks=()), quantities[0].tone
    alpha = style.axis == "alpha"
    phrases, foot = small_print(surface, tone, replace(facts, units="") if alpha else facts)
    after = phrases.index(scale_words(surface, tone)) + 1
    phrases[after:after] = [scale_words(other.lines[0], other.tone) for other in quantities[1:]]
    if alpha:
        zero, one = (anchor_lettering(anchor, 1.0)[0] for anchor in surface.anchors[:2])
        phrases.append(f"α is 0 at {zero} and 1 at {one}")
    return phrases, foot


def alpha_of(surface: Surface) -> tuple[float, float]:
    """Where α is 0 along a line, and the distance to where it is 1.

    Raises:
        LineError: fewer than two anchors, or both at one place.
    """
    places = [anchor.x for anchor in surface.anchors[:2]]
    if len(places) < 2 or places[0] == places[1]:
        raise LineError(
            f"the line has {format.plural(len(places), 'anchor')}: wanted two apart "
            "for α; leave --axis alpha out"
        )
    return places[0], places[1] - places[0]


def _stacked(at: Box, count: int, gap: float) -> list[Box]:
    if count == 1:
        return [at]
    room = at.height - gap
    upper = round(_SHARES[0] * room)
    lower = round(upper + gap)
    return [
        Box(at.x, at.y, at.width, upper),
        Box(at.x, at.y + lower, at.width, at.height - lower),
    ]


def _draw_panels(sheet: Sheet, at: Box, panels: Sequence[Panel], pen: Pen, style: Style) -> None:
    name = "α" if style.axis == "alpha" else "x"
    gap = 3.1 * pen.heading
    for k, (panel, box) in enumerate(zip(panels, _stacked(at, len(panels), gap), strict=True)):
        axes = draw_panel(sheet, box, panel, pen, name, k == len(panels) - 1)
        draw_heading(sheet, panel, box.x, box.y - 0.9 * pen.heading, pen)
        if k == 0:
            draw_verticals(sheet, axes, panel, pen)


def _key(
    sheet: Sheet, lines: Sequence[Surface], panel: Panel, x: float, baseline: float, pen: Pen
) -> float:
    """Which line is which split, a dot and a word each, in a row; where it ends."""
    kind = Type(pen.key)
    for surface, line in zip(lines, panel.lines, strict=True):
        middle = baseline - cap_height(kind) / 2
        dot = sheet.points(0.75 * pen.key)
        sheet.mark(x + 0.4 * pen.key, middle, marker="o", ms=dot, mec="none", mfc=line.colour)
        sheet.text(surface.split, kind, x + 1.4 * pen.key, baseline)
        x += 1.4 * pen.key + text_width(surface.split, kind) + 1.8 * pen.key
    return x - 1.8 * pen.key


def _key_width(lines: Sequence[Surface], pen: Pen) -> float:
    kind = Type(pen.key)
    return sum(text_width(s.split, kind) + 3.2 * pen.key for s in lines) - 1.8 * pen.key


def _gallery_words(
    sheet: Sheet,
    page: Layout,
    panels: Sequence[Panel],
    quantities: Sequence[Quantity],
    facts: Provenance,
    style: Style,
    print_: tuple[list[str], str],
    pen: Pen,
) -> None:
    u, lines = page.unit, quantities[0].lines
    right = page.map.right
    key = _key_width(lines, pen)
    _key(sheet, lines, panels[0], right - key, page.title_y, pen)
    holes = hole_key(panels)
    draw_hole_key(sheet, holes, right, page.subtitle_y, pen)
    room = page.map.width - max(key, hole_key_width(holes, pen), 180 * u) - 24 * u
    below = subtitle_of(facts, style, [q.lines[0].quantity for q in quantities])
    draw_titles(sheet, page, title_of(facts, style), below, room)
    draw_small_print(sheet, page, *print_)


def _paper_page(plot: _Plot) -> Sheet:
    """A figure for print: type is never smaller than readers can read, whatever the width."""
    theme, lines, height = plot.style.theme, plot.quantities[0].lines, plot.height
    u = plot.width / 1000
    # Of figures narrower than two inches, nobody expects seven points.
    point = plot.dpi / 72 * min(1.0, plot.width / plot.dpi / 2)

    def at_least(units: float, points: float) -> float:
        return max(units * u, points * point)

    pen = Pen(
        at_least(10.5, 7.0),
        at_least(10, 7.0),
        at_least(14, 9.0),
        at_least(11, 7.0),
        at_least(2.6, 1.3),
        at_least(7.4, 3.6),
        at_least(0.6, 0.5),
    )
    pad = at_least(18, 3.0)
    left = round(pad + max(tick_width(panel, pen) for panel in plot.panels) + 0.7 * pen.tick)
    inner = plot.width - left - round(pad + 0.3 * pen.tick)
    if inner < 0.4 * plot.width:
        raise LayoutError(
            f"width is {plot.width} pixels: wanted more for a plot; ask for a wider one"
        )
    room = plot.width - 2 * pad
    y, words = pad, []
    title = title_of(plot.facts, plot.style)
    if title:
        size = at_least(30, 10.0)
        kind = fitted_type(title, Type(size, "Light" if size > 16 * point else "Semibold"), room)
        y += 0.85 * kind.size
        words.append((title, kind, y, theme.ink))
    below = subtitle_of(plot.facts, plot.style, [q.lines[0].quantity for q in plot.quantities])
    for line in two_lines(below, Type(at_least(15, 7.5)), room) if below else []:
        kind = fitted_type(line, Type(at_least(15, 7.5)), room)
        y += 1.35 * kind.size
        words.append((line, kind, y, theme.muted))
    holes = hole_key(plot.panels)
    wide = _key_width(lines, pen) + (2 * pen.key if holes else 0)
    y += 2.3 * pen.key if words else 0.8 * pen.key
    key_y = y
    own_row = (
        text_width(plot.panels[0].heading + plot.panels[0].unit, Type(1.1 * pen.heading)) + wide
    )
    own_row += hole_key_width(holes, pen) + 6 * pen.heading
    if own_row > inner:  # the heading has a row of its own
        y += 2.1 * pen.heading
    top = round(y + 0.75 * pen.heading)
    small = Type(at_least(9.8, 5.5))
    phrases, foot = plot.print_
    fine, wrapped = fitted_lines([*phrases, foot], small, room, 12)
    feet = 1.45 * small.size * len(wrapped)
    bottom = 0.9 * pen.tick + pen.tick + 1.6 * small.size + feet + pad - 0.6 * small.size
    if height is None:
        high = round(line_aspect(len(plot.panels)) * inner)
        height = round(top + high + bottom)
    high = round(height - top - bottom)
    if high < 5 * pen.tick * len(plot.panels):
        raise LayoutError(
            f"height is {height} pixels, {height / plot.dpi:.2g} inches: wanted more for "
            f"{'two plots' if len(plot.panels) > 1 else 'a plot'}; ask for a higher figure, one "
            "--quantity, or --title '' --subtitle ''"
        )
    sheet = Sheet.blank(plot.width, height, plot.dpi, theme, plot.transparent)
    for text, kind, base, colour in words:
        sheet.text(text, kind, pad, base, colour=colour)
    at = Box(left, top, inner, high)
    _draw_panels(sheet, at, plot.panels, pen, plot.style)
    end = at.right
    draw_hole_key(sheet, holes, end, key_y, pen)
    _key(sheet, lines, plot.panels[0], end - hole_key_width(holes, pen) - wide, key_y, pen)
    base = at.bottom + 1.9 * pen.tick + 1.6 * small.size
    for k, text in enumerate(wrapped):
        sheet.text(text, fine, pad, base + 1.45 * k * small.size, colour=theme.muted)
    return sheet
