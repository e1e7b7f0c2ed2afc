"""What lies on the map lies where the plane says, inside it, and off one another."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from pipeline.geometry.plane import Anchor
from renders.box import Box
from renders.colour import hex_colour, rgb
from renders.map.contour import Contours, round_levels
from renders.map.field import Field, field_of
from renders.map.tone import Tone, fit_tone
from renders.page.axes import draw_axes
from renders.page.figures import Figure, contour_figures
from renders.page.inks import Inks, ground_at, inks_on
from renders.page.overlay import (
    anchor_lettering,
    curve_inks,
    draw_anchors,
    draw_curve,
    draw_ring,
    draw_scale_bar,
    name_place,
    round_length,
)
from renders.page.printed import Printed
from renders.page.sheet import Sheet, house
from renders.page.text import TextError, Type, cap_height, font_file
from renders.page.theme import LIGHT, ThemeError, theme_named
from renders.projection import Projection, nearest_values
from renders.source.surface import Surface
from tests.renders.sheets import inked
from tests.renders.surfaces import landscape, surface_of

AT = Box(10, 20, 400, 300)
PLANE = Projection(AT, (-2.0, 2.0, -1.5, 1.5))


def test_the_plane_fills_the_map_with_y_upwards() -> None:
    x, y = PLANE.pixels([-2, 2, 0], [-1.5, 1.5, 0])
    assert x.tolist() == [10, 410, 210]
    assert y.tolist() == [320, 20, 170]


def test_nearest_values_know_holes_and_edges() -> None:
    surface = surface_of(np.arange(12.0).reshape(3, 4), np.arange(12).reshape(3, 4) != 5)
    x = np.array([-2.0, 2.0, -2 + 4 / 3, 9.0])
    y = np.array([-1.5, 1.5, 0.0, 0.0])
    assert nearest_values(surface, x, y).tolist()[:2] == [0.0, 11.0]
    assert np.isnan(nearest_values(surface, x, y)[2:]).all()


def sheet() -> Sheet:
    with house(LIGHT):
        return Sheet.blank(430, 350, 100.0, LIGHT)


def anchored(surface: Surface, size: float = 18.0) -> Sheet:
    """A sheet with the surface's anchors on it."""
    page = sheet()
    with house(LIGHT):
        draw_anchors(page, surface, PLANE, fit_tone([surface.values]), 5.0, size)
    return page


def words_and_discs(page: Sheet) -> tuple[dict[str, Box], list[Box]]:
    """The ink of every text without its rim, and that of every disc."""
    found = inked(page)
    words = {a.get_text(): b for a, b in found if isinstance(a, Text) and not a.get_path_effects()}
    return words, [box for artist, box in found if not isinstance(artist, Text)]


def test_names_stay_inside_the_map_and_off_each_other() -> None:
    places = [(-2, -1.5), (2, 1.5), (2, -1.5), (-2, 1.5), (0, 0), (0.1, 0.02)]
    anchors = tuple(Anchor(f"w{k}", x, y, 0.0) for k, (x, y) in enumerate(places))
    surface = replace(surface_of(landscape(12, 16)), anchors=anchors)
    page = anchored(surface)
    words, discs = words_and_discs(page)
    assert len(words) == len(places)
    assert len(discs) == 4 * len(places)
    # From the corners, names lean inwards.
    assert all(box.meet(AT) == box for box in words.values())
    for one, other in itertools.combinations(words.values(), 2):
        assert one.meet(other).empty


def test_names_stay_off_the_curve_and_the_rings() -> None:
    surface = surface_of(landscape(12, 16))
    page = anchored(surface)
    words, discs = words_and_discs(page)
    assert surface.curve is not None
    x, y = PLANE.pixels(surface.curve[:, 0], surface.curve[:, 1])
    for box in words.values():
        assert not ((x > box.x) & (x < box.right) & (y > box.y) & (y < box.bottom)).any()
        assert all(box.meet(disc).empty for disc in discs)


@pytest.mark.parametrize("name", ["w0", "bend", "Ångström"])
def test_a_name_stands_where_it_was_found_room(name: str) -> None:
    """Its capitals fill the box that was looked for, so that what is kept free is what is used."""
    one = (Anchor(name, 0.3, 0.2, 0.0),)
    surface = replace(surface_of(landscape(12, 16)), anchors=one, curve=None)
    words, kind = anchor_lettering(surface.anchors[0], 40.0)
    (x,), (y,) = PLANE.pixels([0.3], [0.2])
    ring = Box(round(x - 5), round(y - 5), 10, 10)
    place = name_place(words, kind, (x, y), 5.0, AT, [ring])
    assert place.height == math.ceil(cap_height(kind))
    (ink,) = words_and_discs(anchored(surface, 40.0))[0].values()
    assert ink.x >= place.x - 3
    assert ink.right <= place.right + 3
    # Figures below the line hang a little, accents stand out above.
    assert abs(ink.bottom - place.bottom) <= 0.3 * kind.size
    assert ink.y >= place.y - 0.35 * kind.size


def test_anchors_on_the_rim_are_shown() -> None:
    corners = tuple(Anchor("c", x, y, 0.0) for x in (-2.0, 2.0) for y in (-1.5, 1.5))
    surface = replace(surface_of(landscape(8, 8)), anchors=corners)
    found = inked(anchored(surface))
    assert sum(not isinstance(artist, Text) for artist, _ in found) == 16
    assert sum(isinstance(artist, Text) for artist, _ in found) == 8


def test_anchors_outside_the_extent_are_left_out() -> None:
    surface = replace(surface_of(landscape(8, 8)), anchors=(Anchor("far", 9.0, 0.0, 0.0),))
    assert inked(anchored(surface)) == []


@pytest.mark.parametrize("x", [100.0, 100.3, 100.5, 100.9])
def test_a_ring_is_round_about_its_anchor(x: float) -> None:
    """At fractions of a pixel too, or rings would jump in films."""
    page = sheet()
    with house(LIGHT):
        draw_ring(page, x, 80.25, 12.0, inks_on(rgb("#0a1a50"), LIGHT))
    alpha = np.asarray(Printed(page).ink(Box(0, 0, 200, 160)))[..., 3].astype(float)
    across, down = np.meshgrid(np.arange(200) + 0.5, np.arange(160) + 0.5)
    assert (alpha * across).sum() / alpha.sum() == pytest.approx(x, abs=0.05)
    assert (alpha * down).sum() / alpha.sum() == pytest.approx(80.25, abs=0.05)


def test_the_parts_of_a_ring_are_round_and_grow() -> None:
    page = sheet()
    with house(LIGHT):
        draw_ring(page, 100.25, 80.5, 12.0, inks_on(rgb("#0a1a50"), LIGHT))
    for (_, box), radius in zip(inked(page), (18.6, 15.0, 12.0, 6.24), strict=True):
        assert box.width / 2 == pytest.approx(radius, abs=1.1)
        assert box.height / 2 == pytest.approx(radius, abs=1.1)


def test_names_are_lettered_as_in_papers() -> None:
    def lettered(*words: str) -> tuple[str, str]:
        text, kind = anchor_lettering(Anchor(words[0], 0, 0, 0, *words[1:]), 20)
        return text, kind.weight

    assert lettered("w0") == ("w₀", "SemiboldIt")
    assert lettered("w12") == ("w₁₂", "SemiboldIt")
    assert lettered("w₀") == ("w₀", "SemiboldIt")
    assert lettered("bend") == ("bend", "Semibold")
    # A label is a word and no symbol, whatever it begins with.
    assert lettered("w0", "w1") == ("w1", "Semibold")
    assert lettered("start", "wide") == ("wide", "Semibold")


def curved(surface: Surface, inks: Inks, width: float) -> Sheet:
    page = sheet()
    with house(LIGHT):
        draw_curve(page, surface, PLANE, width, inks)
    return page


def test_a_curve_has_a_casing_and_contrasts_with_its_ground() -> None:
    surface = surface_of(landscape(12, 16))
    tone = fit_tone([surface.values])
    page = sheet()
    inks = curve_inks(surface, tone, page)
    assert surface.curve is not None
    beneath = nearest_values(surface, surface.curve[:, 0], surface.curve[:, 1])
    there = inks_on(ground_at(beneath, tone, LIGHT), LIGHT)
    assert hex_colour(inks.pen) == hex_colour(there.pen) != hex_colour(there.casing)
    lines = curved(surface, inks, 3.0).figure.findobj(Line2D)
    *casing, pen = [line for line in lines if isinstance(line, Line2D)]
    assert all(line.get_linewidth() > pen.get_linewidth() for line in casing)
    assert pen.get_color() == hex_colour(inks.pen)
    assert {line.get_color() for line in casing} == {hex_colour(inks.casing)}
    assert pen.get_linewidth() == pytest.approx(page.points(3.0))
    assert inked(curved(replace(surface, curve=None), inks, 3.0)) == []


def test_a_curve_lies_where_it_is_and_ends_with_the_map() -> None:
    """It is as wide as it is asked to be, and leaves no ink outside the map."""
    level = np.array([[-9.0, 0.5, 0.0], [9.0, 0.5, 0.0]])
    surface = replace(surface_of(landscape(12, 16)), curve=level)
    inks = inks_on(rgb("#0a1a50"), LIGHT)
    page = curved(surface, inks, 6.0)
    out = np.asarray(Printed(page).ink(Box(0, 0, page.width, page.height)))
    rows, columns = np.nonzero(out[..., 3])
    assert (columns.min(), columns.max()) == (AT.x, AT.right - 1)
    _, y = PLANE.pixels(0.0, 0.5)
    assert (rows.min() + rows.max() + 1) / 2 == pytest.approx(float(y), abs=1)
    pen = (out[..., :3] == inks.pen.round()).all(axis=2) & (out[..., 3] == 255)
    assert pen[:, 200].sum() == pytest.approx(6, abs=1)


def test_a_curve_that_is_nowhere_lifts_the_pen() -> None:
    nowhere = np.array([[-1.5, 0, 0], [-0.5, 0, 0], [np.nan] * 3, [0.5, 0, 0], [1.5, 0, 0]])
    surface = replace(surface_of(landscape(12, 16)), curve=nowhere)
    page = curved(surface, inks_on(rgb("#0a1a50"), LIGHT), 4.0)
    alpha = np.asarray(Printed(page).ink(Box(0, 0, page.width, page.height)))[..., 3]
    shown = [bool(alpha[170, round(210 + 100 * x)]) for x in (-1.0, 0.0, 1.0)]
    assert shown == [True, False, True]


@pytest.mark.parametrize("anchored", [False, True])
def test_a_scale_bar_is_as_long_as_it_says_and_stays_in_a_free_corner(anchored: bool) -> None:
    surface, page = surface_of(landscape(12, 16)), sheet()
    tone = fit_tone([surface.values])
    corner = Box(AT.right - 120, AT.bottom - 60, 120, 60)
    with house(LIGHT):
        (place,) = draw_scale_bar(
            page, surface, PLANE, tone, "euclidean", 12.0, [corner] if anchored else []
        )
    found = inked(page)
    bars = [box for artist, box in found if isinstance(artist, Rectangle)]
    words = [(a.get_text(), box) for a, box in found if isinstance(a, Text)]
    assert {text for text, _ in words} == {"0.5 in weight space"}
    assert max(bars[3:], key=lambda box: box.width).width == 50  # 400 pixels are 4 units
    for box in (*bars, *(box for _, box in words)):
        assert box.meet(AT) == box
        assert not anchored or box.meet(corner).empty
    for _, box in words:
        assert box.bottom <= bars[3].y + 1
    assert not place.meet(corner).empty or anchored


def test_a_map_without_room_has_no_scale_bar() -> None:
    surface, page = surface_of(landscape(12, 16)), sheet()
    with house(LIGHT):
        tone = fit_tone([surface.values])
        assert draw_scale_bar(page, surface, PLANE, tone, "euclidean", 40.0) == []
    assert inked(page) == []


def test_lengths_of_scale_bars() -> None:
    assert [round_length(v) for v in (1, 1.99, 2, 4.9, 7, 0.03)] == [1, 1, 2, 2, 5, 0.02]


def test_ink_is_light_on_dark_and_dark_on_light() -> None:
    assert inks_on(rgb("#0a1a50"), LIGHT).pen.tolist() == rgb(LIGHT.pen_light).tolist()
    assert inks_on(rgb("#f0e0c0"), LIGHT).pen.tolist() == rgb(LIGHT.pen_dark).tolist()
    tone = fit_tone([np.array([1.0, 2.0, 4.0])], clip=(0, 100))
    assert ground_at(4.0, tone, LIGHT).tolist() == rgb(tone.palette[-1]).tolist()
    assert ground_at([np.nan], tone, LIGHT).tolist() == rgb(LIGHT.hatch_ground).tolist()


@pytest.mark.parametrize("line_px", [1, 2, 3])
def test_a_frame_lies_just_outside_its_map(line_px: int) -> None:
    """It covers none of the map, and no paper is seen between them."""
    for width in (430, 431, 433):
        with house(LIGHT):
            page = Sheet.blank(width, 350, 100.0, LIGHT)
            draw_axes(page, PLANE, 11.0, line_px, ("", ""))
        alpha = np.asarray(Printed(page).ink(Box(0, 0, width, 350)))[..., 3]
        across = np.flatnonzero(alpha[AT.y + 40 : AT.bottom - 40].mean(axis=0) > 200)
        down = np.flatnonzero(alpha[:, AT.x + 40 : AT.right - 40].mean(axis=1) > 200)
        for found, first, last in ((across, AT.x, AT.right), (down, AT.y, AT.bottom)):
            before, after = range(first - line_px, first), range(last, last + line_px)
            assert found.tolist() == [*before, *after]


def figured(at: Box, avoid: tuple[Box, ...] = ()) -> tuple[tuple[Figure, ...], Field, Tone]:
    surface = surface_of(landscape(24, 32))
    tone = fit_tone([surface.values], clip=(0, 100))
    levels, index = round_levels(tone)
    lines = Contours(levels, index, 1.0, 2.0, ("#000000",) * len(levels), 0.4, 0.7)
    field = field_of(surface, tone, at.width, at.height)
    return contour_figures(field, tone, lines, at, 11.0, avoid), field, tone


def test_figures_stand_on_their_isoline() -> None:
    """Each where it says, once, turned along its line, and upright enough to be read."""
    at = Box(50, 40, 600, 450)
    figures, field, tone = figured(at)
    assert len(figures) > 2
    assert len({figure.text for figure in figures}) == len(figures)
    with house(LIGHT):
        page = Sheet.blank(700, 530, 100.0, LIGHT)
        for figure in figures:
            figure.draw(page)
    for figure, (_, box) in zip(figures, inked(page), strict=True):
        assert box.meet(at) == box
        x, y = box.x + box.width / 2, box.y + box.height / 2
        assert math.hypot(x - figure.x, y - figure.y) < 0.2 * figure.kind.size
        s, sx, sy = (float(v) for v in field.at(x - at.x, y - at.y))
        level = float(tone.to_space(float(figure.text.replace(",", ""))))
        assert abs(s - level) / math.hypot(sx, sy) < 2.0
        # The line runs across the slope; y grows downwards.
        along = math.atan2(sx, sy)
        assert abs(math.sin(figure.radians - along)) < 0.2
        assert abs(figure.radians) <= math.radians(75)


def test_figures_stay_clear_of_what_is_there_and_of_each_other() -> None:
    at = Box(50, 40, 600, 450)
    free, *_ = figured(at)
    taken = tuple(figure.gap.box for figure in free)
    moved, *_ = figured(at, taken)
    assert moved
    for figure, other in itertools.product(moved, free):
        assert math.hypot(figure.x - other.x, figure.y - other.y) > figure.gap.half
    for one, two in itertools.combinations(moved, 2):
        assert math.hypot(one.x - two.x, one.y - two.y) > one.gap.half + two.gap.half


@pytest.mark.parametrize("degrees", [0, 30, -75])
def test_a_gap_has_room_for_its_figure(degrees: float) -> None:
    """All of the figure's ink lies where the isoline is left out, and the gap ends near it."""
    figure = Figure("0.0005", Type(24.0, "Semibold"), "#000000", 120.4, 90.2, math.radians(degrees))
    with house(LIGHT):
        page = Sheet.blank(240, 180, 100.0, LIGHT)
        figure.draw(page)
    box = Box(0, 0, 240, 180)
    covered = np.zeros((180, 240), np.float32)
    figure.gap.cover(covered, box)
    ink = np.asarray(Printed(page).ink(box))[..., 3]
    assert covered[ink > 0].min() > 0.99
    x, y = np.meshgrid(np.arange(240) + 0.5, np.arange(180) + 0.5)
    near = figure.gap.box
    assert not covered[(x < near.x) | (x > near.right) | (y < near.y) | (y > near.bottom)].any()
    assert covered.sum() < 2.5 * (np.ptp(np.nonzero(ink)[1]) + 1) * 1.6 * 24
    parts = np.zeros_like(covered)
    for tile in box.tiles(37, 29):
        part = np.zeros((tile.height, tile.width), np.float32)
        figure.gap.cover(part, tile)
        parts[tile.rows(box), tile.columns(box)] = part
    np.testing.assert_array_equal(parts, covered)


def test_a_missing_typeface_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.files", lambda name: [])
    font_file.cache_clear()
    with pytest.raises(TextError, match="pip install font-source-sans-pro"):
        font_file("Regular")
    font_file.cache_clear()


def test_an_unknown_theme_names_the_nearest() -> None:
    with pytest.raises(ThemeError, match="'dark'"):
        theme_named("drak")
