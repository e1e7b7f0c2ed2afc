"""Profiles: a render of height 1 as lines, one a split, instead of a map."""

from __future__ import annotations

import numpy as np

from renders.axes import axis_sprites, frame_sprites
from renders.box import Box
from renders.colour import FloatArray, rgb
from renders.layout import PROFILE_ASPECT, layout_for
from renders.map.field import on_grid, spline_of
from renders.map.holes import FINITE, cell_kinds, fill
from renders.map.line import Stroke
from renders.map.tone import Tone
from renders.overlay import anchor_lettering, disc
from renders.page import Style, small_print_sprites, title_sprites
from renders.picture import Layer, Picture
from renders.projection import Projection
from renders.source.provenance import Provenance
from renders.source.surface import Surface
from renders.sprite import Sprite, Sprites, rectangle
from renders.text import Type, cap_height, text_sprite, text_width
from renders.theme import Theme
from renders.ticks import label, spread_ticks

HEADROOM = 0.06
"""Room above and below the lines, as a share of the plot's height."""


def profile_picture(
    lines: list[Surface],
    tone: Tone,
    facts: Provenance,
    style: Style,
    width: int,
    height: int | None = None,
) -> Picture:
    """A page with one line a surface: value upwards on the tone's scale, x along.

    Args:
        lines: surfaces of height 1 and one extent; the first is drawn last, on top.
        tone: fitted over all of them; says whether the scale is logarithmic, and its ends.
        facts, style: as for a map; `bare` keeps the lines alone.
        width, height: of the page, pixels; height None follows from the layout.
    """
    page = layout_for(style.layout, width, PROFILE_ASPECT, height)
    at, u, theme = page.map, page.unit, style.theme
    low, high = tone.span
    room = HEADROOM * (high - low)
    x0, x1 = lines[0].extent[:2]
    plot = Projection(at, (x0, x1, low - room, high + room))
    colours = _line_colours(tone, theme, len(lines))
    layers: list[Layer] = [Sprites(tuple(_grid(tone, plot, theme, u, page.kind != "bare")))]
    if style.anchors:
        layers.append(Sprites(tuple(_stations(lines[0], plot, theme, u))))
    for surface, colour in reversed(list(zip(lines, colours, strict=True))):
        points = _line(surface, tone, plot)
        layers.append(Stroke(points, 5.2 * u, rgb(theme.paper), 0.7, at))
        layers.append(Stroke(points, 2.6 * u, colour, 1.0, at, finer=2))
    if page.kind != "bare":
        furniture = [
            *frame_sprites(at, theme, max(1, round(0.6 * u))),
            *axis_sprites(plot, theme, 10.5 * u, max(1, round(0.6 * u)), ("x", ""), vertical=False),
            *title_sprites(facts, style, page, lines[0]),
            *_key(lines, colours, page.legend, theme, u),
            *small_print_sprites(lines[0], tone, facts, style, page, True),
        ]
        layers.append(Sprites(tuple(furniture)))
    return Picture(page.width, page.height, rgb(theme.paper), tuple(layers))


def _line(surface: Surface, tone: Tone, plot: Projection) -> FloatArray:
    """The spline through one row as a polyline of about one point a pixel, NaN over its holes."""
    kinds = cell_kinds(surface.values, surface.finished)[0]
    s = tone.to_space(np.where(kinds == FINITE, surface.values[0], np.float32(1)))
    known = kinds == FINITE
    spline = spline_of(fill(s[None], known[None]))
    u = np.linspace(0, len(s) - 1, plot.at.width + 1)
    value = on_grid(spline, [0.0], u)[0]
    x0, x1 = surface.extent[:2]
    x, y = plot.pixels(x0 + (x1 - x0) * u / max(len(s) - 1, 1), value)
    hole = ~known[np.rint(u).astype(np.int64)]
    return np.where(hole[:, None], np.nan, np.stack([x, y], axis=1))


def _line_colours(tone: Tone, theme: Theme, count: int) -> list[FloatArray]:
    # From the palette's inner half: its ends may be as pale or as dark as the paper.
    colours = [rgb(c) for c in tone.palette]
    places = np.linspace(0.25, 0.68, max(count, 2))[:count]
    return [colours[round(p * (len(colours) - 1))] for p in places]


def _grid(tone: Tone, plot: Projection, theme: Theme, u: float, lettered: bool) -> list[Sprite]:
    kind, line_px = Type(10.5 * u, "Regular"), max(1, round(0.5 * u))
    at = plot.at

    def place(value: float) -> float:
        return float(plot.pixels(0.0, tone.to_space(value))[1]) / at.height

    sprites = []
    for value in spread_ticks(tone.low, tone.high, place, 3.4 * kind.size / at.height):
        y = place(value) * at.height
        line = Box(at.x, round(y - line_px / 2), at.width, line_px)
        sprites.append(rectangle(line, rgb(theme.hairline), 0.45))
        if lettered:
            base = y + cap_height(kind) / 2
            muted = rgb(theme.muted)
            sprites.append(text_sprite(label(value), kind, muted, at.x - 9 * u, base, "right"))
    return sprites


def _stations(surface: Surface, plot: Projection, theme: Theme, u: float) -> list[Sprite]:
    """A fine upright line and a name for every anchor on the line."""
    sprites = []
    x0, x1 = surface.extent[:2]
    for anchor in surface.anchors:
        if not x0 <= anchor.x <= x1:
            continue
        x = float(plot.pixels(anchor.x, 0.0)[0])
        line = Box(round(x - 0.5 * u), plot.at.y, max(1, round(u)), plot.at.height)
        sprites.append(rectangle(line, rgb(theme.muted), 0.6))
        name, kind = anchor_lettering(anchor, 15 * u)
        right = x + text_width(name, kind) + 14 * u > plot.at.right
        side = -7 * u if right else 7 * u
        base = plot.at.y + 20 * u
        ink = rgb(theme.ink)
        sprites.append(text_sprite(name, kind, ink, x + side, base, "right" if right else "left"))
    return sprites


def _key(
    lines: list[Surface], colours: list[FloatArray], at: Box, theme: Theme, u: float
) -> list[Sprite]:
    """Which line is which split, a dot and a word each."""
    kind = Type(12 * u, "Regular")
    step = 19 * u
    sprites = []
    for k, (surface, colour) in enumerate(zip(lines, colours, strict=True)):
        y = at.y + 8 * u + k * step
        sprites.append(disc(at.x + 5 * u, y - cap_height(kind) / 2, 4.5 * u, colour, 1.0))
        sprites.append(text_sprite(surface.split, kind, rgb(theme.ink), at.x + 17 * u, y))
    return sprites
