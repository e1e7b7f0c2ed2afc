"""Along a curve: its loss and error over t as lines, beside the straight line between its ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import LossatlasError
from renders.box import Box
from renders.files.whole import checked_place
from renders.map.holes import FINITE, cell_kinds
from renders.page.lettering import two_lines
from renders.page.lines import (
    Line,
    Panel,
    Pen,
    draw_heading,
    draw_hole_key,
    draw_panel,
    hole_key,
    line_colours,
    tick_width,
)
from renders.page.page import Page
from renders.page.sheet import Sheet, house
from renders.page.text import Type, cap_height, fitted_type, text_width
from renders.page.theme import Theme, grounded
from renders.ticks import short

GEOMETRIC = 8.0
"""Losses whose highest is more than this many times the lowest get a logarithmic scale."""
_DPI = 300.0
_NARROW = 5.0
"""Inches below which panels stand above each other."""
_WAYS = ("curve", "straight line", "ensemble with the start")
_DASHES = ((), (4.0, 3.0), (0.1, 2.4))
_KINDS = {".png": "png", ".pdf": "pdf", ".svg": "svg"}


class ReportError(LossatlasError):
    """A report that cannot be drawn as asked."""


def write_report(
    report: Mapping[str, Any],
    path: str | Path,
    *,
    examples: Mapping[str, int],
    theme: str = "light",
    background: str = "theme",
    size: tuple[int, int | None] = (2400, None),
) -> int:
    """Draw a curve's report as .png, .pdf or .svg; returns the file's size in bytes.

    Args:
        report: what `CurveReport.as_dict` gives: `t` and, of `curve` and `line`, length, loss and
            error of each split; besides, the network's name.
        path: the file, in an existing folder.
        examples: split → how many.
        theme: light or dark.
        background: the theme's, white or transparent.
        size: width and height of the picture, pixels at 300 dpi; height None follows.

    Raises:
        LossatlasError: another ending, an unknown theme, or a place that cannot be written.
    """
    place = checked_path(path)
    if size[0] < 400:
        raise ReportError(f"width is {size[0]} pixels: wanted at least 400")
    look = grounded(theme, background)
    title, subtitle = _words(report, examples)
    words = {"Software": "lossatlas", "Title": title, "Description": subtitle}
    with house(look):
        sheet = report_page(report, title, subtitle, look, *size, background == "transparent")
    return Page((), sheet).write(place, _KINDS[place.suffix.lower()], words)


def checked_path(path: str | Path) -> Path:
    """`path`, if a report could be drawn there.

    Raises:
        ReportError: another ending, or a place nobody could write to.
    """
    place = checked_place(Path(path), ReportError)
    if place.suffix.lower() not in _KINDS:
        raise ReportError(
            f"{place} ends in {place.suffix or 'nothing'!r}: wanted .png, .pdf or .svg; rename it"
        )
    return place


def _words(report: Mapping[str, Any], examples: Mapping[str, int]) -> tuple[str, str]:
    bends = report["bends"]
    kind = {"bezier": "Bézier curve", "chain": "chain"}.get(report["kind"], report["kind"])
    title = f"{report.get('network') or 'Loss'} along a {kind}"
    phrases = [
        " and ".join(f"{count:,} {split}" for split, count in examples.items()) + " examples",
        report.get("batch_norm"),
        f"{bends} bend{'' if bends == 1 else 's'}",
        f"length {report['curve']['length']:.4g}, straight line {report['line']['length']:.4g}",
    ]
    return title, " · ".join(phrase for phrase in phrases if phrase)


def report_page(
    report: Mapping[str, Any],
    title: str,
    subtitle: str,
    theme: Theme,
    width: int,
    height: int | None = None,
    transparent: bool = False,
) -> Sheet:
    """The report as a page: a panel a quantity, a colour a split, a stroke a way."""
    shown = panels(report, theme)
    splits = tuple(report["curve"]["splits"])
    narrow = width / _DPI < _NARROW
    u, point = width / 1000, _DPI / 72 * min(1.0, width / _DPI / 2)

    def at_least(units: float, points: float) -> float:
        return max(units * u, points * point)

    pen = Pen(
        at_least(10.5, 6.5),
        at_least(10, 6.5),
        0.0,
        at_least(12, 7.0),
        at_least(2.4, 1.2),
        at_least(6.6, 3.2),
        at_least(0.6, 0.4),
    )
    margin, right = 84 * u, 84 * u
    if narrow:
        margin = max(tick_width(panel, pen) for panel in shown) + 1.4 * pen.tick
        right = 1.0 * pen.tick
    room = width - margin - right
    large = Type(at_least(34, 10.0), "Semibold" if narrow else "Light")
    large = fitted_type(title, large, room)
    y = 1.4 * large.size if narrow else 72 * u
    lines = [(title, large, margin - 0.04 * large.size, y, theme.ink)]
    small = Type(at_least(14, 6.5))
    for k, words in enumerate(two_lines(subtitle, small, room)):
        y += 26 * u if k == 0 and not narrow else 1.3 * small.size
        lines.append((words, fitted_type(words, small, room), margin, y, theme.muted))
    top = y + (60 * u if not narrow else 3.0 * pen.heading)
    rows = _key_rows(splits, shown, pen, room)
    widest = max(sum(_entry_width(entry, pen) for entry in row) for row in rows)
    pen = replace(pen, key=pen.key * min(1.0, room / (widest - 2.0 * pen.key)))
    foot = 1.9 * pen.tick + 2.4 * pen.key + (46 * u if not narrow else 1.2 * pen.key)
    foot += 1.7 * pen.key * (len(rows) - 1)
    count, gap = len(shown), 78 * u
    if narrow:
        gap = 2.8 * pen.heading
        tall = 0.5 * room * count + gap * (count - 1)
    else:
        tall = 300 * u
    if height is None:
        height = round(top + tall + foot)
    tall = height - top - foot
    if tall < 5 * pen.tick * (count if narrow else 1):
        raise ReportError(f"height is {height} pixels: wanted more; ask for a higher picture")
    sheet = Sheet.blank(width, height, _DPI, theme, transparent)
    for words, kind, x, base, colour in lines:
        sheet.text(words, kind, x, base, colour=colour)
    for k, panel in enumerate(shown):
        wide, high = room, (tall - gap * (count - 1)) / count
        at = Box(round(margin), round(top + k * (high + gap)), round(wide), round(high))
        if not narrow:
            wide = (room - gap * (count - 1)) / count
            at = Box(round(margin + k * (wide + gap)), round(top), round(wide), round(tall))
        axes = draw_panel(sheet, at, panel, pen, "t", not narrow or k == count - 1)
        draw_heading(sheet, panel, at.x, at.y - 0.9 * pen.heading, pen)
        _summits(sheet, axes, panel, pen)
    base = top + tall + 1.9 * pen.tick + 2.4 * pen.key
    for k, row in enumerate(rows):
        _draw_key(sheet, row, shown, theme, pen, margin, base + 1.7 * k * pen.key)
    holes = hole_key(shown)
    if holes:
        draw_hole_key(sheet, holes, margin + room, base - 2.2 * pen.key, pen)
    return sheet


def panels(report: Mapping[str, Any], theme: Theme) -> tuple[Panel, ...]:
    """Loss, and error where the report has one: the curve's lines first, then the others'."""
    t = np.asarray(report["t"], dtype=np.float64)
    curve, line = report["curve"]["splits"], report["line"]["splits"]
    colours = dict(zip(curve, line_colours(theme, None, len(curve)), strict=True))
    found = []
    for quantity in ("loss", "error"):
        lines = []
        for way, (values, name) in enumerate(
            ((curve, quantity), (line, quantity), (curve, f"ensemble_{quantity}"))
        ):
            # The ensemble says that the functions differ by its error, not by its loss.
            if way == 2 and quantity == "loss":
                continue
            for split, of in values.items():
                if name in of:
                    heights = np.asarray(of[name]["values"], dtype=np.float64)
                    kinds = cell_kinds(heights.astype(np.float32), np.ones(heights.shape, bool))
                    lines.append(
                        Line(
                            t,
                            heights,
                            colours[split],
                            kinds,
                            _DASHES[way],
                            smooth=False,  # a chain has corners
                            hollow=way == 1,
                        )
                    )
        if lines:
            measure = (report.get("measures") or {}).get(quantity, "")
            found.append(_panel(quantity, measure, tuple(lines)))
    return tuple(found)


def _panel(quantity: str, measure: str, lines: tuple[Line, ...]) -> Panel:
    values = np.concatenate([line.values for line in lines])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    # An error's scale is never logarithmic.
    log = quantity != "error" and 0 < GEOMETRIC * low < high
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return Panel(quantity, measure, lines, log, low, high, low)


def _summits(sheet: Sheet, axes: Any, panel: Panel, pen: Pen) -> None:
    """The highest value of the curve and of the line, of the first split, in figures."""
    kind = Type(1.05 * pen.tick, "Semibold")
    first = panel.lines[0].colour
    for line in panel.lines:
        known = line.kinds == FINITE
        if line.colour != first or line.dashes == _DASHES[2] or not known.any():
            continue
        # Within the arch of the straight line, where the other splits' do not run.
        above = line.dashes != _DASHES[1]
        top = int(np.nanargmax(np.where(known, line.values, -np.inf)))
        part = (line.x[top] - line.x[0]) / max(float(np.ptp(line.x)), 1e-300)
        axes.annotate(
            short(float(line.values[top])),
            (line.x[top], line.values[top]),
            (0, (0.75 if above else -0.8) * sheet.points(pen.tick)),
            textcoords="offset points",
            ha="left" if part < 0.06 else "right" if part > 0.94 else "center",
            va="bottom" if above else "top",
            zorder=50,
            color=sheet.theme.ink,
            **sheet.type(kind),
        )


Entry = tuple[str, int | None]
"""A split's name, or a way's and its number."""


def _key_rows(
    splits: Sequence[str], shown: Sequence[Panel], pen: Pen, room: float
) -> list[list[Entry]]:
    dashes = [line.dashes for panel in shown for line in panel.lines]
    ways: list[Entry] = [(_WAYS[k], k) for k in range(3) if _DASHES[k] in dashes]
    named: list[Entry] = [(split, None) for split in splits]
    if sum(_entry_width(entry, pen) for entry in (*named, *ways)) > room:
        return [named, ways]
    return [named + ways]


def _entry_width(entry: Entry, pen: Pen) -> float:
    lead = 1.4 if entry[1] is None else 3.6
    return lead * pen.key + text_width(entry[0], Type(pen.key)) + 2.0 * pen.key


def _draw_key(
    sheet: Sheet,
    entries: Sequence[Entry],
    shown: Sequence[Panel],
    theme: Theme,
    pen: Pen,
    x: float,
    base: float,
) -> None:
    """Which colour is which split, and which stroke which way."""
    kind = Type(pen.key)
    middle = base - cap_height(kind) / 2
    colours = iter(dict.fromkeys(line.colour for line in shown[0].lines))
    for entry in entries:
        words, way = entry
        if way is None:
            dot = sheet.points(0.75 * pen.key)
            sheet.mark(x + 0.4 * pen.key, middle, marker="o", ms=dot, mec="none", mfc=next(colours))
        else:
            style = (0, _DASHES[way]) if _DASHES[way] else "-"
            ends = [x, x + 2.8 * pen.key]
            sheet.mark(ends, [middle] * 2, lw=sheet.points(pen.line), ls=style, c=theme.ink)
        lead = 1.4 if way is None else 3.6
        sheet.text(words, kind, x + lead * pen.key, base)
        x += _entry_width(entry, pen)
