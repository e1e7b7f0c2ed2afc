"""The page around a landscape in pixels: title, axes, legend and the small print."""

from __future__ import annotations

from dataclasses import replace

from renders.colour import rgb
from renders.map.holes import INF, NAN, UNFINISHED, cell_kinds
from renders.map.tone import Tone
from renders.page.axes import axis_sprites, frame_sprites
from renders.page.layout import Layout
from renders.page.legend import Ramp, ramp, swatch_sprites, swatches_width, tick_sprites
from renders.page.sprite import Sprite, Sprites
from renders.page.text import Type, text_sprite, text_width
from renders.page.theme import Theme
from renders.page.words import (
    INFINITE,
    NOT_A_NUMBER,
    NOT_COMPUTED,
    Style,
    small_print,
    subtitle_of,
    title_of,
)
from renders.projection import Projection
from renders.source.provenance import Provenance
from renders.source.surface import TITLES, Surface


def page_layers(
    surface: Surface,
    tone: Tone,
    facts: Provenance,
    style: Style,
    page: Layout,
    projection: Projection,
    equal: bool,
) -> tuple[Ramp, Sprites]:
    """Everything around the map, as layers."""
    u, theme = page.unit, style.theme
    line_px = max(1, round(0.6 * u))
    upright = page.legend.height > page.legend.width
    sprites = [
        *frame_sprites(page.map, theme, line_px),
        *frame_sprites(page.legend, theme, max(1, round(0.4 * u))),
        *axis_sprites(projection, theme, 10.5 * u, line_px, ("x", "y")),
        *tick_sprites(tone, page.legend, theme, 10.5 * u, line_px, upright),
        *title_sprites(facts, style, page, surface),
        *small_print_sprites(surface, tone, facts, style, page, equal),
    ]
    return ramp(tone, page.legend, upright), Sprites(tuple(sprites))


def title_sprites(facts: Provenance, style: Style, page: Layout, surface: Surface) -> list[Sprite]:
    """Title, subtitle and the legend's heading."""
    u, theme = page.unit, style.theme
    ink, muted = rgb(theme.ink), rgb(theme.muted)
    x = page.margin
    gallery = page.kind == "gallery"
    room = (page.legend.x if gallery else page.map.right) - x - 24 * u
    title = fitted_type(title_of(facts, style), Type((46 if gallery else 30) * u, "Light"), room)
    sprites = [text_sprite(title_of(facts, style), title, ink, x - 0.04 * title.size, page.title_y)]
    heading, left = heading_sprites(facts, style, page, surface)
    if not gallery:
        # The legend's heading stands beside the subtitle.
        room = min(room, left - x - 24 * u)
    below = subtitle_of(facts, style, surface)
    for k, line in enumerate(two_lines(below, Type(15 * u), room)):
        kind = fitted_type(line, Type(15 * u), room)
        sprites.append(text_sprite(line, kind, muted, x, page.subtitle_y + 19 * k * u))
    return sprites + heading


def heading_sprites(
    facts: Provenance, style: Style, page: Layout, surface: Surface
) -> tuple[list[Sprite], float]:
    """The legend's heading and unit, and where their left end is, in pixels."""
    u, ink, muted = page.unit, rgb(style.theme.ink), rgb(style.theme.muted)
    what = TITLES.get(surface.quantity, surface.quantity)
    heading = f"{surface.split} {what}".upper()
    unit = facts.measures.get(surface.quantity, "")
    small, named = Type(10 * u, "Semibold", 0.08), Type(10.5 * u, "It")
    bar, gap = page.legend, 12 * u
    if page.kind != "gallery":
        right, room = page.map.right + 98 * u, 0.4 * page.map.width
        small, named = fitted_type(heading, small, room), fitted_type(unit, named, room)
        base = bar.y - 10 * u
        return [
            text_sprite(unit, named, muted, right, base, "right"),
            text_sprite(heading, small, ink, right, base - 14 * u, "right"),
        ], right - max(text_width(heading, small), text_width(unit, named))
    base = bar.y - 11 * u
    wide, beside = text_width(heading, small), text_width(unit, named)
    above = 0.0
    if unit and wide + beside + gap > bar.width:
        above = 15 * u
    small, named = fitted_type(heading, small, bar.width), fitted_type(unit, named, bar.width)
    return [
        text_sprite(heading, small, ink, bar.x, base - above),
        text_sprite(unit, named, muted, bar.right, base, "right"),
    ], bar.x


def small_print_sprites(
    surface: Surface, tone: Tone, facts: Provenance, style: Style, page: Layout, equal: bool
) -> list[Sprite]:
    """Provenance at the foot of the page, and swatches for what is on the map but no value."""
    u, theme = page.unit, style.theme
    kind = Type(9.8 * u, "Regular")
    phrases, foot = small_print(surface, tone, facts, equal)
    muted = rgb(theme.muted)
    entries = _swatches(surface, tone, theme)
    below = page.kind == "gallery"  # the swatches stand beneath the legend, else beside the print
    taken = [text_width(foot, kind), 0.0 if below else swatches_width(entries, kind.size)]
    room = page.map.width - max(150 * u, max(taken) + 24 * u)
    rows = max(1, 1 + int((page.height - page.small_y - 12 * u) / (15 * u)))
    sprites: list[Sprite] = []
    fine, lines = fitted_lines(phrases, kind, room, rows)
    for k, words in enumerate(lines):
        sprites.append(text_sprite(words, fine, muted, page.margin, page.small_y + 15 * k * u))
    sprites.append(text_sprite(foot, kind, muted, page.map.right, page.small_y, "right"))
    if entries:
        base = page.legend.bottom + 45 * u if below else page.small_y + 15 * u
        sprites += swatch_sprites(entries, page.map.right, base, theme, 9.8 * u)
    return sprites


def _swatches(surface: Surface, tone: Tone, theme: Theme) -> list[tuple[str, str]]:
    kinds = cell_kinds(surface.values, surface.finished)
    entries = [
        (NAN, tone.nan, NOT_A_NUMBER),
        (INF, tone.inf, INFINITE),
        (UNFINISHED, theme.hatch_line, NOT_COMPUTED),
    ]
    return [(colour, words) for kind, colour, words in entries if (kinds == kind).any()]


def fitted_type(text: str, kind: Type, room: float) -> Type:
    """`kind`, made smaller where `text` would be wider than `room` pixels."""
    wide = text_width(text, kind)
    return kind if wide <= room else replace(kind, size=kind.size * room / wide)


def two_lines(text: str, kind: Type, room: float) -> list[str]:
    """`text` on one line, or on two of about one length where it is far too wide for one."""
    if text_width(text, kind) <= 1.12 * room:
        return [text]
    words = text.split(" ")
    cuts = [(" ".join(words[:k]), " ".join(words[k:])) for k in range(1, len(words))]
    if not cuts:
        return [text]
    return list(min(cuts, key=lambda cut: max(text_width(line, kind) for line in cut)))


def fitted_lines(phrases: list[str], kind: Type, room: float, rows: int) -> tuple[Type, list[str]]:
    """Lines that fit into `room` pixels, and `kind` as small as it has to be for `rows` of them."""
    least = 0.4 * kind.size
    while True:
        lines = _wrapped(phrases, kind, room)
        if len(lines) <= rows or kind.size <= least:
            return kind, lines
        kind = replace(kind, size=0.95 * kind.size)


def _wrapped(phrases: list[str], kind: Type, room: float) -> list[str]:
    """Lines of about equal length, as few as fit into `room` pixels."""
    lines = _filled(phrases, kind, room)
    for share in range(95, 40, -5):
        tighter = _filled(phrases, kind, room * share / 100)
        if len(tighter) > len(lines):
            break
        lines = tighter
    return lines


def _filled(phrases: list[str], kind: Type, room: float) -> list[str]:
    lines: list[str] = []
    for phrase in phrases:
        between = "  ·  "
        # A phrase that is wider than a line is broken between its words.
        wide = text_width(phrase, kind) > room
        for part in phrase.split(" ") if wide else [phrase]:
            longer = f"{lines[-1]}{between}{part}" if lines else part
            if lines and text_width(longer, kind) <= room:
                lines[-1] = longer
            else:
                lines.append(part)
            between = " "
    return lines
