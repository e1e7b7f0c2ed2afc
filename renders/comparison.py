"""Landscapes side by side: one tone, one legend, so that equal colours are equal values."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import LossatlasError
from pipeline.refinement.scale import CLIP
from renders.box import Box
from renders.map.tone import How, Tone, fit_tone
from renders.page.axes import draw_axes
from renders.page.caveats import remarks
from renders.page.key import arranged, draw_marks_key
from renders.page.landscape import draw_map
from renders.page.layout import map_aspect
from renders.page.legend import draw_scale, ramp
from renders.page.lettering import fitted_lines
from renders.page.page import Page
from renders.page.paper import VECTOR
from renders.page.sheet import Sheet, house
from renders.page.text import Type, fitted_type, text_width
from renders.page.theme import grounded
from renders.page.words import Style, heading_of, small_print, title_of
from renders.picture import Layer
from renders.poster import (
    BACKGROUNDS,
    PosterFacts,
    check_kind,
    check_page,
    checked_dpi,
    checked_path,
    kind_of,
    one_of,
)
from renders.projection import Projection
from renders.source.provenance import Provenance, provenance
from renders.source.surface import (
    Surface,
    finished_values,
    opened,
    read_surface,
    sample_stride,
)

if TYPE_CHECKING:
    from renders.spread import Spread

MOST = 4
"""Landscapes in one row."""


class ComparisonError(LossatlasError):
    """Landscapes that cannot stand side by side."""


def export_comparison(
    store_urls: Sequence[str],
    out_path: str | Path,
    *,
    width: int | None = None,
    dpi: float = 300.0,
    quantity: str = "loss",
    split: str | None = None,
    frame: int = 0,
    tone: How | None = None,
    clip: tuple[float, float] = CLIP,
    limits: tuple[float | None, float | None] = (None, None),
    palette: str | Sequence[str] | None = None,
    theme: str = "light",
    background: str = "theme",
    contours: bool = True,
    vector_contours: bool = False,
    light: bool = True,
    curve: bool = True,
    anchors: bool = True,
    marks: bool = True,
    spread: Spread | None = None,
    yes: bool = False,
    format_: str | None = None,
) -> PosterFacts:
    """Draw the same frame of several stores beside each other, in one tone.

    Args:
        store_urls: two to four renders of planes.
        out_path: see `renders.poster.export_poster`, whose arguments the others are; the tone
            is fitted over all frames of all stores.

    Raises:
        LossatlasError: anything asked for that cannot be had; the message names the cure.
    """
    start = time.monotonic()
    if not 2 <= len(store_urls) <= MOST:
        raise ComparisonError(
            f"{len(store_urls)} stores are given: wanted 2 to {MOST} side by side; leave some out"
        )
    path = checked_path(Path(out_path), format_)
    kind = kind_of(path, format_)
    checked_dpi(dpi)
    one_of("background", background, BACKGROUNDS)
    check_kind(kind, background, vector_contours)
    style = Style(grounded(theme, background), "paper", contours, light, curve, anchors, contours)
    stores = [opened(url) for url in store_urls]
    for store in stores:
        if min(store.height, store.width) == 1:
            raise ComparisonError(
                f"{store.url} is a line, not a plane: wanted planes side by side; draw it alone"
            )
    surfaces = [read_surface(store, quantity, split, frame) for store in stores]
    if not marks:
        surfaces = [replace(surface, marks=()) for surface in surfaces]
    facts = [provenance(store, frame) for store in stores]
    units = {each.measures.get(quantity, "") for each in facts}
    if len(units) > 1:
        raise ComparisonError(
            f"{quantity} is in {' and in '.join(sorted(u or 'no unit' for u in units))}: wanted "
            "one unit for one tone; compare renders of the same loss"
        )
    slabs = (
        finished_values(store, quantity, (surface.split,))
        for store, surface in zip(stores, surfaces, strict=True)
    )
    fitted = fit_tone(
        itertools.chain.from_iterable(slabs),
        how=tone or ("linear" if quantity == "error" else None),
        clip=clip,
        limits=limits,
        palette=palette or style.theme.palette,
        nan=style.theme.nan,
        inf=style.theme.inf,
        stride=max(sample_stride(store) for store in stores),
    )
    page = comparison_page(
        surfaces, fitted, facts, style, width or 3000, dpi, background == "transparent",
        vector_contours,
    )  # fmt: skip
    in_memory = kind in VECTOR or page.sheet.transparent
    check_page(page.sheet.width, page.sheet.height, dpi, kind, in_memory, yes)
    words = {
        "Software": f"lossatlas {facts[0].version}",
        "Title": " · ".join(title_of(each, style) for each in facts),
        "Description": " · ".join(_shared(surfaces, facts, fitted)[0]),
    }
    bytes_ = page.write(path, kind, words, spread)
    told = [
        remarks(store.url, [], set(s.absent)) for store, s in zip(stores, surfaces, strict=True)
    ]
    return PosterFacts(
        str(path),
        page.sheet.width,
        page.sheet.height,
        dpi,
        bytes_,
        min(float(surface.finished.mean()) for surface in surfaces),
        time.monotonic() - start,
        fitted.to_dict(),
        any(each.preview for each in facts),
        (*remarks("", [fitted], ()), *itertools.chain.from_iterable(told)),
    )


def comparison_page(
    surfaces: Sequence[Surface],
    tone: Tone,
    facts: Sequence[Provenance],
    style: Style,
    width: int,
    dpi: float = 300.0,
    transparent: bool = False,
    vector_contours: bool = False,
) -> Page:
    """The page, `width` pixels wide: maps of one height in a row, each under its own name.

    Args:
        surfaces, facts: one a map.
        tone: of all of them.
        style, dpi, transparent, vector_contours: as for a poster.
    """
    u, theme, count = width / 1000, style.theme, len(surfaces)
    size, line_px = 10.5 * u, max(1, round(0.6 * u))
    left, between, right, top = (round(v * u) for v in (50, 52, 96, 74))
    aspects = [map_aspect(surface.extent)[0] for surface in surfaces]
    room = width - left - right - between * (count - 1)
    high = round(room / sum(1 / aspect for aspect in aspects))
    boxes, x = [], left
    for aspect in aspects:
        boxes.append(Box(x, top, round(high / aspect), high))
        x = boxes[-1].right + between
    end = boxes[-1].right
    common, own = _shared(surfaces, facts, tone)
    small = Type(9 * u)
    below = [
        fitted_lines(lines, small, box.width, 4) for lines, box in zip(own, boxes, strict=True)
    ]
    foot = small_print(surfaces[0], tone, facts[0])[1]
    spare = end - left - text_width(foot, small) - 24 * u
    fine, lines = fitted_lines(common, small, spare, 3)
    keys = [
        arranged([g for g in s.marks if g.meets(s.extent)], 9.5 * u, box.width, 2)
        for s, box in zip(surfaces, boxes, strict=True)
    ]
    key_y = top + high + round(48 * u)
    rows = max(len(key.rows) for key in keys)
    base = key_y + (15 * rows + 5 * (rows > 0)) * u
    feet = base + 14 * u * max(len(found) for _, found in below) + 12 * u
    height = round(feet + 14 * u * max(1, len(lines)) + 14 * u)
    legend = Box(end + round(22 * u), top, max(2, round(13 * u)), high)
    painted: list[Layer] = [ramp(tone, legend)]
    with house(theme):
        sheet = Sheet.blank(width, height, dpi, theme, transparent)
        for surface, each, box, (kind, words) in zip(surfaces, facts, boxes, below, strict=True):
            scaled = map_aspect(surface.extent)[1] and each.has_lengths
            shown = replace(style, scale_bar=scaled)
            unit = 0.62 * u if count == 2 else 0.5 * u
            painted.append(draw_map(sheet, surface, tone, each, shown, box, unit, vector_contours))
            draw_axes(sheet, Projection(box, surface.extent), size, line_px, each.axes)
            title = title_of(each, style)
            sheet.text(
                title, fitted_type(title, Type(20 * u, "Light"), box.width), box.x, top - 18 * u
            )
            for k, line in enumerate(words):
                sheet.text(line, kind, box.x, base + 14 * u * k, colour=theme.muted)
        for key, box in zip(keys, boxes, strict=True):
            draw_marks_key(sheet, key, box.x, key_y, 15 * u)
        draw_scale(sheet, tone, legend, size, line_px)
        _draw_heading(
            sheet,
            legend,
            heading_of(surfaces[0].quantity, surfaces[0].split),
            facts[0].measures.get(surfaces[0].quantity, ""),
            u,
        )
        for k, line in enumerate(lines):
            sheet.text(line, fine, left, feet + 14 * u * k, colour=theme.muted)
        sheet.text(foot, small, end, feet, "right", theme.muted)
    return Page(tuple(painted), sheet)


def _draw_heading(sheet: Sheet, legend: Box, heading: str, unit: str, u: float) -> None:
    """The legend's heading and unit above it, ending at the page's right margin."""
    right = sheet.width - 20 * u
    sheet.text(heading, Type(9.5 * u, "Semibold"), right, legend.y - 25 * u, "right")
    sheet.text(unit, Type(10 * u, "It"), right, legend.y - 11 * u, "right", sheet.theme.muted)


def _shared(
    surfaces: Sequence[Surface], facts: Sequence[Provenance], tone: Tone
) -> tuple[list[str], list[list[str]]]:
    """The small print that holds for all maps, and what holds for each alone."""
    prints = [
        small_print(surface, tone, each, map_aspect(surface.extent)[1])[0]
        for surface, each in zip(surfaces, facts, strict=True)
    ]
    common = [phrase for phrase in prints[0] if all(phrase in other for other in prints)]
    return common, [[p for p in phrases if p not in common] for phrases in prints]
