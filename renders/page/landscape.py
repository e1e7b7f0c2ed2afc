"""The page of a landscape: the map, and on a sheet over it all lines, marks and words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from renders.box import Box
from renders.colour import FloatArray
from renders.map.canvas import Map
from renders.map.contour import Contours
from renders.map.field import Field, field_of
from renders.map.gap import Gap
from renders.map.holes import Hatch
from renders.map.light import Light
from renders.map.tone import Tone
from renders.page.axes import draw_axes
from renders.page.figures import Figure, contour_figures
from renders.page.inks import isolines
from renders.page.layout import layout_for, map_aspect
from renders.page.legend import draw_scale, ramp
from renders.page.lettering import draw_words
from renders.page.marks import (
    Placed,
    boxes,
    crowded,
    draw_marks,
    on_map,
    radius_for,
)
from renders.page.overlay import curve_inks, draw_anchors, draw_curve, draw_scale_bar
from renders.page.page import Page
from renders.page.sheet import Sheet, house
from renders.page.words import Style
from renders.picture import Layer, Stack
from renders.projection import Projection
from renders.source.provenance import Provenance
from renders.source.surface import Surface

_FINE = 1_600
"""Points along the longer side between which vector isolines are found."""


def landscape_page(
    surface: Surface,
    tone: Tone,
    facts: Provenance,
    style: Style,
    width: int,
    height: int | None = None,
    dpi: float = 300.0,
    transparent: bool = False,
    vector_contours: bool = False,
) -> Page:
    """The page, `width` pixels wide.

    Args:
        surface, tone, facts, style: what it shows, and how.
        width, height: pixels; the height follows from the plane, unless the paper decides it.
        dpi: pixels an inch.
        transparent: no paper behind the map.
        vector_contours: isolines as paths on the sheet, and not in the map.
    """
    aspect, equal = map_aspect(surface.extent)
    page = layout_for(style.layout, width, aspect, height)
    u, theme = page.unit, style.theme
    with house(theme):
        sheet = Sheet.blank(page.width, page.height, dpi, theme, transparent)
        # A bar suggests a distance.
        bar = style.scale_bar and equal and page.kind != "bare" and facts.has_lengths
        landscape = draw_map(
            sheet, surface, tone, facts, replace(style, scale_bar=bar), page.map, u, vector_contours
        )
        painted: tuple[Layer, ...] = (landscape,)
        if page.kind != "bare":
            painted += (ramp(tone, page.legend),)
            line_px = max(1, round(0.6 * u))
            projection = Projection(page.map, surface.extent)
            draw_axes(sheet, projection, 10.5 * u, line_px, facts.axes)
            draw_scale(sheet, tone, page.legend, 10.5 * u, line_px)
            draw_words(sheet, surface, tone, facts, style, page, equal)
    return Page(painted, sheet)


def draw_map(
    sheet: Sheet,
    surface: Surface,
    tone: Tone,
    facts: Provenance,
    style: Style,
    at: Box,
    unit: float,
    vector_contours: bool = False,
) -> Layer:
    """A map with what lies on it.

    Args:
        sheet: takes figures, curve, marks, anchors and scale bar.
        surface, tone, facts, style: what it shows, and how.
        at: where on the page.
        unit: pixels; type and lines are multiples of it.
        vector_contours: isolines as paths on the sheet, and not in the map.

    Returns:
        What is painted in pixels.
    """
    theme, projection = style.theme, Projection(at, surface.extent)
    field = field_of(surface, tone, at.width, at.height)
    lines = None
    if style.contours:
        widths = max(0.9 * unit, 0.8), max(1.6 * unit, 1.2)
        lines = isolines(tone, theme, widths, (0.26, 0.50))
    placed = on_map(surface.marks, projection)
    taken = _draw_over(sheet, surface, tone, facts, style, projection, placed, unit)
    figures: tuple[Figure, ...] = ()
    if lines is not None and style.figures and 9 * unit >= 6:
        figures = contour_figures(field, tone, lines, at, 9 * unit, taken)
    for figure in figures:
        figure.draw(sheet)
    gaps = tuple(figure.gap for figure in figures)
    if lines is not None and vector_contours:
        _draw_contours(sheet, at, field, tone, lines, gaps)
        lines = None
    hatch = Hatch(theme.hatch_ground, theme.hatch_line, 9 * unit, max(1.1 * unit, 0.8))
    shown = Map(at, field, tone, hatch, Light() if style.light else None, lines, gaps)
    if not crowded(surface.marks):
        return shown
    from renders.page.crowd import crowd_layers

    radius = radius_for(surface.marks, unit)
    return Stack(shown, crowd_layers(placed, surface.quantity, tone, theme, radius, at))


def _draw_over(
    sheet: Sheet,
    surface: Surface,
    tone: Tone,
    facts: Provenance,
    style: Style,
    projection: Projection,
    placed: tuple[Placed, ...],
    u: float,
) -> tuple[Box, ...]:
    """Curve, marks, anchors and scale bar; returns where they are."""
    if style.curve and surface.curve is not None:
        draw_curve(sheet, surface, projection, 2.6 * u, curve_inks(surface, tone, sheet))
    radius = radius_for(surface.marks, u)
    if not crowded(surface.marks):
        draw_marks(sheet, placed, surface.quantity, tone, radius, projection.at)
    taken = boxes(placed, radius, 6 * u)
    if style.anchors:
        marked = () if crowded(surface.marks) else placed
        taken += draw_anchors(sheet, surface, projection, tone, 5.6 * u, 19 * u, taken, marked)
    if style.scale_bar:
        taken += draw_scale_bar(sheet, surface, projection, tone, facts.units, 9 * u, taken)
    if style.curve and surface.curve is not None:
        taken += _along(projection, surface.curve, round(8 * u))
    return tuple(taken)


def _along(projection: Projection, curve: FloatArray, reach: int) -> list[Box]:
    x, y = projection.pixels(curve[:, 0], curve[:, 1])
    return [Box(round(a), round(b), 1, 1).grown(reach) for a, b in zip(x, y, strict=True)]


def _draw_contours(
    sheet: Sheet, at: Box, field: Field, tone: Tone, contours: Contours, gaps: tuple[Gap, ...]
) -> None:
    """Isolines as paths, beneath the marks."""
    step = max(1.0, max(at.width, at.height) / _FINE)
    x = np.linspace(0, at.width, max(2, round(at.width / step)) + 1)
    y = np.linspace(0, at.height, max(2, round(at.height / step)) + 1)
    grid = np.meshgrid(x, y)
    values = np.where(field.finite_at(*grid), field.at(*grid)[0], np.nan)
    for gap in gaps:
        values[gap.beyond(grid[0] + at.x, grid[1] + at.y) < 0] = np.nan
    axes = sheet.axes(at, frameon=False, zorder=-0.5)
    axes.set_axis_off()
    axes.set_xlim(0, at.width)
    axes.set_ylim(at.height, 0)
    for heavy, width, opacity in (
        (False, contours.width_px, contours.opacity),
        (True, contours.index_width_px, contours.index_opacity),
    ):
        chosen = [
            (float(tone.to_space(level)), colour)
            for level, index, colour in zip(
                contours.levels, contours.index, contours.colours, strict=True
            )
            if index == heavy and np.nanmin(values) < tone.to_space(level) < np.nanmax(values)
        ]
        if chosen:
            levels, colours = zip(*chosen, strict=True)
            look: dict[str, Any] = {
                "linewidths": sheet.points(width),
                "alpha": opacity,
                "linestyles": "solid",
            }
            axes.contour(x, y, values, levels=levels, colors=list(colours), **look)
