"""What lies on the map lies where the plane says, inside it, and off one another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from renders.map.line import Stroke
from renders.page.overlay import anchor_lettering, anchor_sprites, curve_strokes

from pipeline.geometry.plane import Anchor
from renders.box import Box
from renders.colour import rgb
from renders.map.contour import Contours, round_levels
from renders.map.field import field_of
from renders.map.points import Points
from renders.map.tone import fit_tone
from renders.page.fallback import has_glyph
from renders.page.figures import contour_figures
from renders.page.inks import ground_at, inks_on
from renders.page.text import TextError, Type, font_file, text_mask, text_width, turned
from renders.page.theme import DARK, LIGHT, ThemeError, theme_named
from renders.projection import Projection, nearest_values
from tests.renders.surfaces import landscape, surface_of

AT = Box(10, 20, 400, 300)
PLANE = Projection(AT, (-2.0, 2.0, -1.5, 1.5))


def test_the_plane_fills_the_map_with_y_upwards() -> None:
    x, y = PLANE.pixels([-2, 2, 0], [-1.5, 1.5, 0])
    assert x.tolist() == [10, 410, 210]
    assert y.tolist() == [320, 20, 170]


def test_a_stroke_covers_its_width_and_nothing_beyond_its_halo() -> None:
    stroke = Stroke(
        np.array([[10.0, 30.5], [90.0, 30.5]]), 6.0, rgb("#ffffff"), 1.0, Box(0, 0, 100, 60)
    )
    out = np.zeros((60, 100, 3), dtype=np.uint8)
    stroke.draw(out, Box(0, 0, 100, 60))
    column = out[:, 50, 0] / 255
    assert column.sum() == pytest.approx(6.0, abs=0.01)
    inked = np.nonzero(out[..., 0].any(axis=1))[0]
    assert inked.min() >= 30 - stroke.halo_px
    assert inked.max() <= 31 + stroke.halo_px


@pytest.mark.parametrize("finer", [1, 2, 3])
def test_a_stroke_has_no_seams_on_any_canvas(finer: int) -> None:
    at = np.linspace(-5, 130, 40)
    points = np.stack([at, 30 + 25 * np.sin(at / 9)], axis=1)
    whole_box = Box(0, 0, 120, 60)
    # One width on the canvas, hence one kernel for all three.
    stroke = Stroke(points, 6.0 / finer, rgb("#ffffff"), 0.7, whole_box, finer)
    whole = np.zeros((60, 120, 3), dtype=np.uint8)
    stroke.draw(whole, whole_box)
    parts = np.zeros_like(whole)
    for box in whole_box.tiles(17, 11):
        part = np.zeros((box.height, box.width, 3), dtype=np.uint8)
        stroke.draw(part, box)
        parts[box.rows(whole_box), box.columns(whole_box)] = part
    assert whole.max() == round(0.7 * 255)
    assert np.array_equal(parts, whole)


def test_points_are_round_dots_that_add_up_without_seams() -> None:
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.uniform(-4, 104, (300, 2)), np.full((40, 2), 50.2)])
    layer = Points(places, 3, rgb("#ffffff"), 0.1, Box(5, 5, 90, 90))
    box = Box(0, 0, 100, 100)
    whole, parts = (np.zeros((100, 100, 3), dtype=np.uint8) for _ in range(2))
    layer.draw(whole, box)
    for tile in box.tiles(23, 31):
        part = np.zeros((tile.height, tile.width, 3), dtype=np.uint8)
        layer.draw(part, tile)
        parts[tile.rows(box), tile.columns(box)] = part
    assert np.array_equal(parts, whole)
    assert not whole[:5].any()
    assert whole[50, 50, 0] >= round(255 * (1 - 0.9**40))
    lone = np.zeros((9, 9, 3), dtype=np.uint8)
    Points(np.array([[4.5, 4.5]]), 2, rgb("#ffffff"), 1.0, Box(0, 0, 9, 9)).draw(
        lone, Box(0, 0, 9, 9)
    )
    assert lone[4, 2, 0] == lone[2, 4, 0] == 255
    assert lone[2, 2, 0] == 0


def test_nan_lifts_the_pen() -> None:
    points = np.array([[5.0, 10.5], [20.0, 10.5], [np.nan, np.nan], [60.0, 10.5], [80.0, 10.5]])
    out = np.zeros((20, 100, 3), dtype=np.uint8)
    Stroke(points, 3.0, rgb("#ffffff"), 1.0, Box(0, 0, 100, 20)).draw(out, Box(0, 0, 100, 20))
    assert out[10, 10, 0] == 255
    assert out[10, 40, 0] == 0
    assert out[10, 70, 0] == 255


def test_nearest_values_know_holes_and_edges() -> None:
    surface = surface_of(np.arange(12.0).reshape(3, 4), np.arange(12).reshape(3, 4) != 5)
    x = np.array([-2.0, 2.0, -2 + 4 / 3, 9.0])
    y = np.array([-1.5, 1.5, 0.0, 0.0])
    assert nearest_values(surface, x, y).tolist()[:2] == [0.0, 11.0]
    assert np.isnan(nearest_values(surface, x, y)[2:]).all()


def test_names_stay_inside_the_map_and_off_each_other() -> None:
    places = [(-2, -1.5), (2, 1.5), (2, -1.5), (-2, 1.5), (0, 0), (0.1, 0.02)]
    anchors = tuple(Anchor(f"w{k}", x, y, 0.0) for k, (x, y) in enumerate(places))
    surface = replace(surface_of(landscape(12, 16)), anchors=anchors)
    tone = fit_tone([surface.values])
    sprites = anchor_sprites(surface, PLANE, tone, LIGHT, 5.0, 18.0)
    names = sprites[4 * len(places) :][1::2]
    boxes = []
    for sprite in names:
        rows, columns = np.nonzero(sprite.alpha)
        boxes.append(
            Box(
                sprite.x + int(columns.min()),
                sprite.y + int(rows.min()),
                int(np.ptp(columns)) + 1,
                int(np.ptp(rows)) + 1,
            )
        )
    assert all(box.meet(AT) == box for box in boxes)
    for k, box in enumerate(boxes):
        assert all(box.meet(other).empty for other in boxes[k + 1 :])


def test_anchors_on_the_rim_are_shown() -> None:
    corners = tuple(Anchor("c", x, y, 0.0) for x in (-2.0, 2.0) for y in (-1.5, 1.5))
    surface = replace(surface_of(landscape(8, 8)), anchors=corners)
    assert len(anchor_sprites(surface, PLANE, fit_tone([surface.values]), LIGHT, 5, 18)) == 24


def test_anchors_outside_the_extent_are_left_out() -> None:
    surface = replace(surface_of(landscape(8, 8)), anchors=(Anchor("far", 9.0, 0.0, 0.0),))
    assert anchor_sprites(surface, PLANE, fit_tone([surface.values]), LIGHT, 5, 18) == ()


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


def test_a_curve_has_a_casing_and_contrasts_with_its_ground() -> None:
    surface = surface_of(landscape(12, 16))
    tone = fit_tone([surface.values])
    *casing, pen = curve_strokes(surface, PLANE, tone, DARK, 3.0)
    assert all(c.width_px > pen.width_px for c in casing)
    assert curve_strokes(replace(surface, curve=None), PLANE, tone, DARK, 3.0) == ()


def test_ink_is_light_on_dark_and_dark_on_light() -> None:
    assert inks_on(rgb("#0a1a50"), LIGHT).pen.tolist() == rgb(LIGHT.pen_light).tolist()
    assert inks_on(rgb("#f0e0c0"), LIGHT).pen.tolist() == rgb(LIGHT.pen_dark).tolist()
    tone = fit_tone([np.array([1.0, 2.0, 4.0])], clip=(0, 100))
    assert ground_at(4.0, tone, LIGHT).tolist() == rgb(tone.palette[-1]).tolist()
    assert ground_at([np.nan], tone, LIGHT).tolist() == rgb(LIGHT.hatch_ground).tolist()


def test_figures_stand_on_their_isoline() -> None:
    surface = surface_of(landscape(24, 32))
    tone = fit_tone([surface.values], clip=(0, 100))
    levels, index = round_levels(tone)
    lines = Contours(levels, index, 1.0, 2.0, ("#000000",) * len(levels), 0.4, 0.7)
    at = Box(50, 40, 600, 450)
    field = field_of(surface, tone, at.width, at.height)
    figures, gaps = contour_figures(field, tone, lines, at, 11.0)
    assert figures
    assert len(figures) == len(gaps)
    heavy = tone.to_space([v for v, h in zip(levels, index, strict=True) if h])
    for sprite in figures:
        box = sprite.box
        x, y = box.x + box.width / 2 - at.x, box.y + box.height / 2 - at.y
        s, sx, sy = field.at(x, y)
        assert np.abs(heavy - s).min() / np.hypot(sx, sy) < 2.0
        assert box.meet(at) == box


def test_every_glyph_we_letter_with_exists() -> None:
    own = font_file("Regular")
    for glyph in "w₀₁₂₃₄₅₆₇₈₉⁰¹²³⁴⁵⁶⁷⁸⁹×−·–%,.…":
        assert text_mask(glyph, Type(40))[0].any(), glyph
        assert has_glyph(own, glyph), glyph


def test_type_measures_itself() -> None:
    wide = text_width("LOSS", Type(20))
    assert text_width("LOSS", Type(20, "Regular", 0.1)) > wide + 3 * 1.9
    rows, columns = np.nonzero(turned("0.0005", Type(20), np.pi / 2))
    assert np.ptp(rows) > 2 * np.ptp(columns)


def test_a_missing_typeface_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.files", lambda name: [])
    font_file.cache_clear()
    with pytest.raises(TextError, match="pip install font-source-sans-pro"):
        font_file("Regular")
    font_file.cache_clear()


def test_an_unknown_theme_names_the_nearest() -> None:
    with pytest.raises(ThemeError, match="'dark'"):
        theme_named("drak")
