"""The words of a page: titles, the legend's heading, and the small print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from renders.map.holes import INF, NAN, UNFINISHED, cell_kinds
from renders.map.tone import Tone
from renders.page.key import arranged, draw_marks_key
from renders.page.layout import Layout
from renders.page.legend import draw_swatches, swatches_width
from renders.page.sheet import Sheet
from renders.page.text import Type, fitted_type, text_width
from renders.page.theme import Theme
from renders.page.words import (
    INFINITE,
    NOT_A_NUMBER,
    NOT_COMPUTED,
    NOT_CONVERGED,
    Style,
    heading_of,
    small_print,
    subtitle_of,
    title_of,
)
from renders.source.marks import MarkGroup
from renders.source.provenance import Provenance
from renders.source.surface import Surface


def draw_words(
    sheet: Sheet,
    surface: Surface,
    tone: Tone,
    facts: Provenance,
    style: Style,
    page: Layout,
    equal: bool,
) -> None:
    """Titles, the legend's heading, the key and the small print."""
    u, gallery = page.unit, page.kind == "gallery"
    unit = facts.measures.get(surface.quantity, "")
    left = draw_heading(sheet, page, heading_of(surface.quantity, surface.split), unit)
    room = (left if gallery else page.map.right) - page.margin - 24 * u
    below = room if gallery else min(room, left - page.margin - 24 * u)
    title, subtitle = (
        title_of(facts, style),
        subtitle_of(facts, style, [surface.quantity], surface.split),
    )
    draw_titles(sheet, page, title, subtitle, room, below)
    swatches = swatches_of(surface, tone, style.theme)
    groups = [group for group in surface.marks if group.meets(surface.extent)]
    _draw_groups(sheet, page, groups, bool(swatches))
    taken = draw_key(sheet, page, swatches)
    draw_small_print(sheet, page, *small_print(surface, tone, facts, equal), taken)


def draw_titles(
    sheet: Sheet, page: Layout, title: str, subtitle: str, room: float, below: float | None = None
) -> None:
    """Title and subtitle, made smaller where they are wider than `room` and `below` pixels."""
    u, gallery = page.unit, page.kind == "gallery"
    kind = fitted_type(title, Type((46 if gallery else 30) * u, "Light"), room)
    sheet.text(title, kind, page.margin - 0.04 * kind.size, page.title_y)
    room = room if below is None else below
    for k, line in enumerate(two_lines(subtitle, Type(15 * u), room)):
        kind = fitted_type(line, Type(15 * u), room)
        base = page.subtitle_y + 19 * k * u
        sheet.text(line, kind, page.margin, base, colour=sheet.theme.muted)


def draw_heading(sheet: Sheet, page: Layout, heading: str, unit: str) -> float:
    """The legend's heading and unit; returns where their left end is, in pixels."""
    u, muted, bar = page.unit, sheet.theme.muted, page.legend
    small, named = Type(10 * u, "Semibold"), Type(10.5 * u, "It")
    if page.kind != "gallery":
        right, room = page.map.right + 98 * u, 0.4 * page.map.width
        small, named = fitted_type(heading, small, room), fitted_type(unit, named, room)
        base = bar.y - 10 * u
        sheet.text(unit, named, right, base, "right", muted)
        sheet.text(heading, small, right, base - 14 * u, "right")
        return right - max(text_width(heading, small), text_width(unit, named))
    base = bar.y - 11 * u
    above = 0.0
    if unit and text_width(heading, small) + text_width(unit, named) + 12 * u > bar.width:
        above = 15 * u
    small, named = fitted_type(heading, small, bar.width), fitted_type(unit, named, bar.width)
    sheet.text(heading, small, bar.x, base - above)
    sheet.text(unit, named, bar.right, base, "right", muted)
    return bar.x


def draw_small_print(
    sheet: Sheet, page: Layout, phrases: Sequence[str], foot: str, beside: float = 0.0
) -> None:
    """Phrases at the foot of the page, and at its right the signature.

    Args:
        sheet, page: where.
        phrases, foot: what.
        beside: pixels at the right that are taken by something else.
    """
    u, muted = page.unit, sheet.theme.muted
    kind = Type(9.8 * u)
    room = page.map.width - max(150 * u, max(text_width(foot, kind), beside) + 24 * u)
    rows = max(1, 1 + int((page.height - page.small_y - 12 * u) / (15 * u)))
    fine, lines = fitted_lines(phrases, kind, room, rows)
    for k, words in enumerate(lines):
        sheet.text(words, fine, page.margin, page.small_y + 15 * k * u, colour=muted)
    sheet.text(foot, kind, page.map.right, page.small_y, "right", muted)


def draw_key(sheet: Sheet, page: Layout, entries: list[tuple[str, str]]) -> float:
    """Swatches for what is on the map but no value: beneath the legend, or beside the small print.

    Returns:
        How much of the small print's room they take, in pixels.
    """
    if not entries:
        return 0.0
    u, below = page.unit, page.kind == "gallery"
    base = page.legend.bottom + 45 * u if below else page.small_y + 15 * u
    draw_swatches(sheet, entries, page.map.right, base, 9.8 * u)
    return 0.0 if below else swatches_width(entries, 9.8 * u)


def _draw_groups(sheet: Sheet, page: Layout, groups: Sequence[MarkGroup], swatches: bool) -> None:
    """The groups of marks: beneath the legend and its swatches, or between axis and small print."""
    u = page.unit
    if page.kind == "gallery":
        rows, first = (2, 61 * u) if swatches else (3, 45 * u)
        key = arranged(groups, 10.5 * u, page.legend.width, rows)
        draw_marks_key(sheet, key, page.legend.x, page.legend.bottom + first, 16.5 * u)
        return
    key = arranged(groups, 10.5 * u, page.map.width, 1)
    draw_marks_key(sheet, key, page.margin, page.small_y - 22 * u, 0.0)


def swatches_of(surface: Surface, tone: Tone, theme: Theme) -> list[tuple[str, str]]:
    """Colour and meaning of what is on the map but no value."""
    kinds = cell_kinds(surface.values, surface.finished)
    entries = [
        (NAN, tone.nan, NOT_A_NUMBER),
        (INF, tone.inf, INFINITE),
        (UNFINISHED, theme.hatch_line, NOT_COMPUTED),
    ]
    found = [(colour, words) for kind, colour, words in entries if (kinds == kind).any()]
    if surface.unsure is not None and surface.unsure.any():
        found.append((theme.hatch_line, NOT_CONVERGED))
    return found


def two_lines(text: str, kind: Type, room: float) -> list[str]:
    """`text` on one line, or on two of about one length where it is far too wide for one."""
    if text_width(text, kind) <= 1.12 * room:
        return [text]
    words = text.split(" ")
    cuts = [(" ".join(words[:k]), " ".join(words[k:])) for k in range(1, len(words))]
    if not cuts:
        return [text]
    return list(min(cuts, key=lambda cut: max(text_width(line, kind) for line in cut)))


def fitted_lines(
    phrases: Sequence[str], kind: Type, room: float, rows: int
) -> tuple[Type, list[str]]:
    """Lines that fit into `room` pixels, and `kind` as small as it has to be for `rows` of them."""
    least = 0.4 * kind.size
    while True:
        lines = _wrapped(phrases, kind, room)
        if len(lines) <= rows or kind.size <= least:
            return kind, lines
        kind = replace(kind, size=0.95 * kind.size)


def _wrapped(phrases: Sequence[str], kind: Type, room: float) -> list[str]:
    """Lines of about equal length, as few as fit into `room` pixels."""
    lines = _filled(phrases, kind, room)
    for share in range(95, 40, -5):
        tighter = _filled(phrases, kind, room * share / 100)
        if len(tighter) > len(lines):
            break
        lines = tighter
    return lines


def _filled(phrases: Sequence[str], kind: Type, room: float) -> list[str]:
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
