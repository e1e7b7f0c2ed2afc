"""The map: exact against plain numpy, blind to tiling, and honest about holes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from renders.box import Box
from renders.colour import rgb, to_encoded, to_linear
from renders.map.canvas import Map
from renders.map.contour import Contours, round_levels
from renders.map.field import field_of
from renders.map.holes import Hatch
from renders.map.light import Light
from renders.map.palette import quantise
from renders.map.tone import How, Tone, fit_tone
from renders.picture import Picture, paint
from renders.source.surface import Surface
from tests.renders.surfaces import landscape, surface_of

HATCH = Hatch("#202428", "#303840", 9.0, 1.5)


def toned(surface: Surface, how: How = "log") -> Tone:
    return fit_tone([surface.values[surface.finished]], how=how, clip=(0, 100), inf="#010203")


def contours_of(tone: Tone) -> Contours:
    levels, index = round_levels(tone)
    return Contours(levels, index, 1.1, 2.0, ("#101018",) * len(levels), 0.4, 0.7)


def map_of(surface: Surface, width: int, height: int, *, full: bool = True) -> Map:
    tone = toned(surface)
    field = field_of(surface, tone, width, height)
    light, lines = (Light(), contours_of(tone)) if full else (None, None)
    return Map(Box(0, 0, width, height), field, tone, HATCH, light, lines)


def drawn(m: Map) -> npt.NDArray[np.float64]:
    out = np.zeros((m.at.height, m.at.width, 3), dtype=np.uint8)
    m.draw(out, m.at)
    return out.astype(np.float64)


def pixel_centres(width: int, height: int) -> tuple[npt.NDArray[np.float64], ...]:
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return x, y


def reference_colours(m: Map) -> npt.NDArray[np.float64]:
    """Colour and light of every pixel from the formulas, in float64, without tables."""
    field, tone = m.field, m.tone
    x, y = pixel_centres(field.width, field.height)
    s, sx, sy = field.at(x, y)
    lo, hi = tone.span
    palette = np.stack([rgb(c) for c in tone.palette])
    part = np.clip((s - lo) / (hi - lo), 0, 1)
    knots = np.linspace(0, 1, len(palette))
    colour = np.stack([np.interp(part, knots, palette[:, c]) for c in range(3)], axis=-1)
    if m.light is None:
        return colour
    light = m.light
    # Flat beyond the palette's ends, over half a pixel.
    beyond = np.maximum(s - hi, lo - s)
    slope = np.maximum(np.hypot(sx, sy), 1e-300)
    left = np.where(beyond > 0, np.clip(1 - 2 * beyond / slope, 0, 1), 1)
    rise = light.relief / (hi - lo) * field.width
    gx, gy = sx * rise * left, -sy * rise * left
    soft = np.sqrt(1 + (gx**2 + gy**2) / 2.2**2)
    gx, gy = gx / soft, gy / soft
    nz = 1 / np.sqrt(1 + gx**2 + gy**2)
    lx = math.cos(light.altitude) * math.sin(light.azimuth)
    ly = math.cos(light.altitude) * math.cos(light.azimuth)
    lz = math.sin(light.altitude)
    facing = np.maximum(0, (nz * (lz - gx * lx - gy * ly) + 0.25) / (lz + 0.25))
    key = np.array(light.key_colour)
    sky = (1 - (1 - light.sky) * key) / light.sky
    dome = light.sky * (0.5 + 0.5 * nz)[..., None] * sky
    shade = dome + (1 - light.sky) * facing[..., None] * key
    return to_encoded(to_linear(colour) * shade)


def test_beyond_the_palettes_ends_nothing_is_told_apart() -> None:
    """One colour, no light and no lines; a log tone's values of 0 or less too, forced though."""
    y, x = np.mgrid[-1:1:25j, -1:1:33j]
    for values, how, limits in (
        (landscape(24, 32), None, (2.0, 9.0)),
        (np.sin(3 * x) * np.cos(4 * y + x), "log", (None, None)),
    ):
        surface = surface_of(values)
        tone = fit_tone([surface.values], how=how, limits=limits)  # type: ignore[arg-type]
        field = field_of(surface, tone, 200, 150)
        at = Box(0, 0, 200, 150)
        pixels = drawn(Map(at, field, tone, HATCH, Light(), contours_of(tone)))
        s, sx, sy = field.at(*pixel_centres(200, 150))
        lo, hi = tone.span
        for end, beyond in ((tone.palette[0], lo - s), (tone.palette[-1], s - hi)):
            inside = beyond > np.hypot(sx, sy)  # a pixel and more
            assert inside.any() or end == tone.palette[-1]
            off = np.abs(pixels[inside] - rgb(end))
            assert off.max(initial=0) <= 1  # rounding, and rarely
            assert off.sum() <= 0.05 * off.size


@pytest.mark.parametrize("size", [(97, 61), (300, 220)])
def test_the_kernel_equals_the_formulas(size: tuple[int, int]) -> None:
    m = map_of(surface_of(landscape(24, 32)), *size)
    for part in (replace(m, contours=None), replace(m, contours=None, light=None)):
        expected = quantise(reference_colours(part).astype(np.float32), part.at).astype(float)
        off = np.abs(drawn(part) - expected)
        # Rounding comes after all else: a hair before it is one step behind it, and rarely.
        assert off.max() <= 1
        assert (off > 0).mean() < 0.03


def test_flat_ground_keeps_its_palette_colour_under_light() -> None:
    m = map_of(surface_of(np.full((9, 12), 2.0)), 40, 30)
    np.testing.assert_allclose(drawn(replace(m, contours=None)), reference_colours(m), atol=1)
    plain = drawn(replace(m, contours=None, light=None))
    np.testing.assert_allclose(drawn(m), plain, atol=1)
    assert abs((drawn(m) - plain).mean()) < 0.05


def test_the_highest_row_of_the_picture_is_the_highest_y() -> None:
    v, u = np.mgrid[:10, :12].astype(float)
    m = map_of(surface_of(1 + v + 0.01 * u), 60, 50, full=False)
    position = drawn(m)[:, 30] @ np.array([0.3, 0.6, 0.1])
    assert (np.diff(position[::4]) < 0).mean() > 0.9
    s, _, _ = m.field.at(0.0, 50.0)
    assert math.exp(float(s)) == pytest.approx(1.0, rel=1e-6)


def test_an_isoline_lies_where_the_value_is_the_level() -> None:
    _, u = np.mgrid[:11, :11].astype(float)
    surface = surface_of(1 + u)
    tone = fit_tone([surface.values], how="linear", clip=(0, 100))
    field = field_of(surface, tone, 200, 200)
    lines = Contours((6.0,), (True,), 1.0, 3.0, ("#000000",), 1.0, 1.0)
    m = Map(Box(0, 0, 200, 200), field, tone, HATCH, None, lines)
    ink = np.abs(drawn(m) - drawn(replace(m, contours=None))).sum(axis=2).mean(axis=0)
    # u = 5 is the middle of 200 pixels; the line is 3 pixels wide.
    assert set(np.nonzero(ink > 1)[0]) <= {98, 99, 100, 101}
    share = ink / drawn(replace(m, contours=None)).sum(axis=2).mean(axis=0)
    assert share.sum() == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("tile", [(64, 64), (17, 5), (1000, 3), (1, 1000)])
def test_any_tiling_gives_the_same_bytes(tile: tuple[int, int]) -> None:
    values = landscape(20, 26)
    values[3:6, 4:9] = np.nan
    values[12:, 20:] = np.inf
    finished = np.ones(values.shape, bool)
    finished[15:, :8] = False
    picture = page(map_of(surface_of(values, finished), 150, 120))
    whole = paint(picture, picture.box)
    assert np.array_equal(whole, stitched(picture, tile, paint))


def page(m: Map) -> Picture:
    placed = replace(m, at=Box(13, 9, m.at.width, m.at.height))
    return Picture(181, 143, rgb("#f7f4ee"), (placed,))


def stitched(picture: Picture, tile: tuple[int, int], painter) -> npt.NDArray[np.uint8]:  # type: ignore[no-untyped-def]
    out = np.zeros((picture.height, picture.width, 3), dtype=np.uint8)
    for box in picture.box.tiles(*tile):
        out[box.y : box.bottom, box.x : box.right] = painter(picture, box)
    return out


def test_the_seam_test_fails_when_a_tile_looks_at_itself() -> None:
    picture = page(map_of(surface_of(landscape(20, 26)), 150, 120))

    def locally_dithered(p: Picture, box: Box) -> npt.NDArray[np.uint8]:
        m = p.layers[0]
        assert isinstance(m, Map)
        moved = replace(m, at=m.at.shifted(-box.x, -box.y))
        return paint(replace(p, layers=(moved,)), Box(0, 0, box.width, box.height))

    whole = paint(picture, picture.box)
    assert not np.array_equal(whole, stitched(picture, (64, 64), locally_dithered))


def test_holes_have_their_own_exact_colours_and_spare_their_neighbours() -> None:
    values = landscape(16, 16)
    clean = map_of(surface_of(values), 320, 320)
    holed = values.copy()
    holed[4, 4], holed[10:13, 10:13] = np.nan, np.inf
    m = replace(map_of(surface_of(holed), 320, 320), tone=clean.tone)
    m = replace(m, tone=replace(clean.tone, nan="#0a0b0c", inf="#c0ffee"), contours=None)
    out = drawn(m)

    def pixel(row: int, column: int) -> npt.NDArray[np.float64]:
        x, y = column / 15 * 320, 320 - row / 15 * 320
        return out[min(int(y), 319), min(int(x), 319)]

    assert pixel(4, 4).tolist() == [0x0A, 0x0B, 0x0C]
    assert pixel(11, 11).tolist() == [0xC0, 0xFF, 0xEE]
    s, _, _ = m.field.at(5 / 15 * 320, 320 - 4 / 15 * 320)
    assert float(s) == pytest.approx(math.log(float(values[4, 5])), abs=1e-6)
    centre = np.array([5 / 15 * 320]), np.array([320 - 4 / 15 * 320])
    exact = reference_colours(replace(m, contours=None))
    row, column = int(centre[1][0]), int(centre[0][0])
    np.testing.assert_allclose(out[row, column], exact[row, column], atol=1.02)
    nan_share = (out == np.array([0x0A, 0x0B, 0x0C])).all(axis=2).sum() / (320 / 15) ** 2
    assert 0.6 < nan_share < 1.0


def test_unfinished_tiles_are_hatched_and_values_there_are_never_read() -> None:
    values = landscape(16, 16)
    finished = np.ones((16, 16), bool)
    finished[8:, 8:] = False
    a, b = values.copy(), values.copy()
    a[8:, 8:], b[8:, 8:] = np.nan, 7.0
    tone = toned(surface_of(values))
    both = [
        drawn(
            Map(Box(0, 0, 160, 160), field_of(surface_of(z, finished), tone, 160, 160), tone, HATCH)
        )
        for z in (a, b)
    ]
    assert np.array_equal(*both)
    corner = both[0][:60, 100:].reshape(-1, 3)
    colours = {tuple(c) for c in corner.astype(int)}
    assert tuple(rgb(HATCH.ground).astype(int)) in colours
    assert len(corner[(corner == rgb(HATCH.ground)).all(axis=1)]) > 0.6 * len(corner)


def test_whole_numbers_are_never_dithered() -> None:
    flat = np.tile(np.arange(256, dtype=np.float32)[None, :, None], (64, 1, 3))
    box = Box(123_457, 98_765, 256, 64)
    assert np.array_equal(quantise(flat.copy(), box), flat.astype(np.uint8))


def test_the_dither_keeps_the_mean() -> None:
    for level in (0.25, 100.5, 254.9):
        flat = np.full((128, 128, 3), level, dtype=np.float32)
        assert quantise(flat, Box(0, 0, 128, 128)).mean() == pytest.approx(level, abs=0.02)


@pytest.mark.parametrize("shape", [(1, 5), (2, 2), (3, 4), (1, 1)])
def test_tiny_grids_draw(shape: tuple[int, int]) -> None:
    out = drawn(map_of(surface_of(1 + np.arange(shape[0] * shape[1]).reshape(shape)), 40, 30))
    assert np.isfinite(out).all()
