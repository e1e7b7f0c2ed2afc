"""Reliefs: light, cameras and what hides what, where the right answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import LossatlasError
from pipeline.geometry.plane import Anchor
from renders.box import Box
from renders.map.tone import Tone, fit_tone
from renders.page.theme import DARK, LIGHT
from renders.page.words import Style
from renders.picture import paint
from renders.poster import PosterError, export_poster
from renders.relief.bake import Sun, irradiance
from renders.relief.camera import Camera, CameraError, camera_from, framed
from renders.relief.drape import anchor_spots, draped, hidden, seen_share
from renders.relief.relief import Relief, best_camera, checked, relief_layout, relief_page
from renders.relief.terrain import PLINTH, Ground, Terrain, build_terrain, ground_of
from renders.source.provenance import Provenance
from tests.renders.surfaces import landscape, surface_of

STYLE = Style(DARK, "bare")
FACTS = Provenance("two-wells", "PreResNet-20", units="euclidean")


def _tone(values: np.ndarray) -> Tone:
    return fit_tone([values])


def _fence(height: float = 0.2, thin: float = 0.02) -> Ground:
    """Flat ground with a sharp ridge along y = 0."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 101), np.linspace(-0.4, 0.4, 401))
    z = height * np.clip(1 - np.abs(y) / thin, 0, 1)
    return Ground(np.stack([x, y, z], axis=-1), (-1, 1, -0.8, 0.8), (0.5, 0.4))


@pytest.mark.parametrize("azimuth", [0, 77, 180, 250])
@pytest.mark.parametrize("altitude", [5, 40, 90])
def test_a_framing_holds_the_model_and_wastes_nothing(azimuth: float, altitude: float) -> None:
    surface = surface_of(landscape(20, 30))
    ground = ground_of(surface, _tone(surface.values))
    inside = Box(10, 20, 300, 170)
    camera = Camera(math.radians(azimuth), math.radians(altitude), math.radians(35))
    shot = framed([camera], ground.hull, inside).shot(camera)
    feet = ground.points.copy()
    feet[..., 2] = -PLINTH
    x, y, depth = shot.project(np.concatenate([ground.points, feet]))
    assert depth.min() > 0
    assert x.min() > inside.x - 0.01 and x.max() < inside.right + 0.01  # noqa: PT018
    assert y.min() > inside.y - 0.01 and y.max() < inside.bottom + 0.01  # noqa: PT018
    used = max((x.max() - x.min()) / inside.width, (y.max() - y.min()) / inside.height)
    assert used > 0.95


def test_from_straight_above_a_relief_lies_as_the_map_does() -> None:
    camera = Camera(math.pi, math.pi / 2)
    corners = np.array([[-0.5, -0.3, 0], [0.5, -0.3, 0], [-0.5, 0.3, 0]])
    shot = framed([camera], corners, Box(0, 0, 100, 100)).shot(camera)
    (left, right, _), (low, _, high), _ = shot.project(corners)
    assert (left, right) == pytest.approx((0, 100), abs=0.01)
    assert low - high == pytest.approx(60, abs=0.01)


def test_a_camera_is_read_in_degrees_and_refused_with_reasons() -> None:
    assert camera_from("200,30,50") == Camera(*map(math.radians, (200, 30, 50)))
    for text, words in (
        ("200", "wanted AZIMUTH,ALTITUDE"),
        ("a,b", "wanted AZIMUTH,ALTITUDE"),
        ("nan,30", "wanted AZIMUTH,ALTITUDE"),
        ("200,1", "altitude is 1: wanted 4 to 90"),
        ("200,30,170", "lens is 170: wanted 5 to 100"),
    ):
        with pytest.raises(CameraError, match=words):
            camera_from(text)
    with pytest.raises(LossatlasError, match="rise is 9"):
        checked(None, 9)


def test_open_flat_ground_gets_all_the_light() -> None:
    flat = np.zeros((12, 16))
    light = irradiance(flat, np.full((12, 16, 3), 0.5), (0.01, 0.01), Sun())
    assert np.allclose(light, 1, atol=1e-12)


def test_the_bottom_of_a_pit_sees_as_much_sky_as_geometry_says() -> None:
    # A round pit of depth 0.2 and radius 0.3: the horizon stands at atan(2/3) all around, and of
    # a sky that is equally bright everywhere cos² of that is left.
    x, y = np.meshgrid(np.linspace(-0.6, 0.6, 241), np.linspace(-0.6, 0.6, 241))
    pit = np.where(np.hypot(x, y) < 0.3, -0.2, 0.0)
    dark = irradiance(pit, np.zeros((241, 241, 3)), (0.005, 0.005), Sun(share=1e-9))
    assert dark[120, 120].mean() == pytest.approx(1 / (1 + (2 / 3) ** 2), rel=0.06)


def test_a_fence_throws_a_shadow_as_long_as_the_sun_is_low() -> None:
    ground = _fence(0.1, 0.04)
    sun = Sun(
        azimuth=0.0,
        altitude=math.radians(35),
        share=0.999,
        radius=math.radians(2),
        key_colour=(1, 1, 1),
    )
    cell = (0.01, 0.002)
    light = irradiance(ground.heights, np.zeros((401, 101, 3)), cell, sun)[:, 50].mean(axis=-1)
    y = ground.points[:, 50, 1]
    # The sun stands at +y, so that the shadow falls towards −y.
    reach = 0.1 / math.tan(sun.altitude)
    assert light[(y < -0.05) & (y > -0.8 * reach)].max() < 0.05
    assert light[(y < -1.2 * reach)].min() > 0.95


@pytest.mark.parametrize("behind", [0.05, 0.15, 0.3])
def test_what_lies_behind_a_fence_is_hidden_just_as_far_as_a_straight_line_says(
    behind: float,
) -> None:
    ground = _fence(0.2)
    camera = Camera(math.pi, math.radians(30))
    shot = framed([camera], ground.hull, Box(0, 0, 400, 300)).shot(camera)
    # The line of sight over the fence's top, at the fence: from the camera, which stands at −y.
    eye = shot.position
    grazing = 0.2 - (eye[2] - 0.2) / (0 - eye[1]) * behind
    above = np.array([[0.0, behind, grazing + 0.01], [0.0, behind, grazing - 0.03]])
    assert hidden(ground, shot, above).tolist() == [False, True]
    spots = np.array([[0.0, -0.2, 0.0], [0.0, 0.05, 0.0], [np.nan] * 3])
    assert seen_share(ground, shot, spots).tolist() == [1.0, 0.0, 0.0]


def _with_curve_behind(terrain: Terrain, y: float) -> Terrain:
    surface = replace(
        surface_of(np.ones((4, 4))),
        anchors=(),
        extent=(-1.0, 1.0, -0.8, 0.8),
        curve=np.array([[-0.6, y, 0.0], [0.6, y, 0.0]]),
    )
    return draped(terrain, surface, np.array([0.0, 255.0, 0.0]), True, True)


def test_a_curve_is_seen_before_a_fence_and_not_behind_it() -> None:
    from renders.relief.view import View

    ground = _fence(0.2)
    surface = surface_of(np.ones((4, 4)))
    tone = fit_tone([np.array([0.5, 2.0])])
    lit = build_terrain(surface, tone, DARK, detail=24, baked=24)
    top = replace(
        lit.patches[0],
        points=ground.points,
        colours=np.full(ground.points.shape, 0.2, np.float32),
        levels=np.full(ground.heights.shape, np.nan),
    )
    bare = replace(lit, ground=ground, patches=(top,))
    camera = Camera(math.pi, math.radians(25))
    shot = framed([camera], ground.hull, Box(0, 0, 200, 120)).shot(camera)
    green = []
    for y in (-0.3, 0.1):
        view = View(Box(0, 0, 200, 120), _with_curve_behind(bare, y), shot, tone, DARK)
        out = np.empty((120, 200, 3), np.float32)
        view.draw(out, view.at)
        green.append(int((out[..., 1] > out[..., 0] + 40).sum()))
    assert green[0] > 100
    assert green[1] == 0


def test_a_view_is_the_same_however_it_is_cut() -> None:
    surface = surface_of(landscape(24, 36))
    page = relief_page(surface, _tone(surface.values), FACTS, STYLE, Relief(Camera()), 200)
    picture = page.picture
    whole = paint(picture, picture.box)
    pieces = np.zeros_like(whole)
    for box in picture.box.tiles(67, 41):
        pieces[box.y : box.bottom, box.x : box.right] = paint(picture, box)
    assert (whole == pieces).all()
    assert whole.std() > 20


def test_what_is_no_number_and_what_is_not_computed_have_their_own_colours() -> None:
    values = landscape(24, 36)
    plain = surface_of(values)
    spoilt = values.copy()
    spoilt[:12, :18], spoilt[12:, 18:] = np.nan, np.inf
    done = np.ones(values.shape, bool)
    done[12:, :18] = False
    tone = _tone(values)
    terrain = build_terrain(surface_of(spoilt, done), tone, LIGHT, detail=48, baked=48)
    top = terrain.patches[0]
    quarter = (slice(4, 14), slice(4, 18))
    assert np.isfinite(top.points).all()
    assert np.isfinite(top.colours).all()
    assert np.isnan(top.levels[quarter]).all(), "contours stop where there is no value"
    grey = top.colours[quarter]
    assert np.abs(grey[..., 0] / grey[..., 1] - 1).max() < 0.25, "the colour of NaN is a grey"
    first = build_terrain(plain, tone, LIGHT, detail=48, baked=48).patches[0]
    assert np.isfinite(first.levels).all()


def test_the_camera_goes_where_the_curve_is_in_sight() -> None:
    x, y = np.meshgrid(np.linspace(-2, 2, 40), np.linspace(-1.5, 1.5, 30))
    # A ridge before the curve, seen from the lowest y.
    values = 0.1 + 30 * np.exp(-((y + 0.5) ** 2) / 0.05) + 0.02 * x**2
    surface = replace(
        surface_of(values), curve=np.array([[-1.5, 0.1, 0], [1.5, 0.1, 0]]), anchors=()
    )
    tone = fit_tone([values], how="linear")
    camera = best_camera(surface, tone, STYLE, Relief())
    ground = ground_of(surface, tone)
    shot = framed([camera], ground.hull, Box(0, 0, 600, 400)).shot(camera)
    points = ground.place(np.linspace(-1.4, 1.4, 9), np.full(9, 0.1)) + np.array([0, 0, 0.01])
    low = Camera(math.pi, math.radians(30))
    first = framed([low], ground.hull, Box(0, 0, 600, 400)).shot(low)
    assert hidden(ground, first, points).mean() > 0.8
    assert hidden(ground, shot, points).mean() < 0.4


@pytest.mark.parametrize("size", [(400, 400), (640, 360), (360, 640)])
def test_a_page_of_any_shape_is_filled(size: tuple[int, int]) -> None:
    page = relief_layout("gallery", *size)
    assert (page.width, page.height) == size
    assert page.map.bottom < page.legend.y < page.height


def test_a_relief_of_a_store_is_a_file_of_the_size_asked_for(
    make_store: Callable[..., str], tmp_path: Path
) -> None:
    url = make_store(landscape(16, 24))
    out = tmp_path / "relief.png"
    made = export_poster(url, out, relief=Relief(Camera()), size=(320, 280), theme="dark")
    assert (made.width, made.height) == (320, 280)
    with Image.open(out) as image:
        assert image.size == (320, 280)
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 2_000


def test_a_line_and_two_sizes_are_refused(make_store: Callable[..., str], tmp_path: Path) -> None:
    url = make_store(np.linspace(1, 2, 16)[None])
    with pytest.raises(PosterError, match="is a line, not a plane"):
        export_poster(url, tmp_path / "a.png", relief=Relief())
    with pytest.raises(PosterError, match="size 320x200 is given together with paper"):
        export_poster(url, tmp_path / "a.png", relief=Relief(), size=(320, 200), paper="A4")
    assert not list(tmp_path.glob("*.png"))


def test_a_camera_that_sees_every_anchor_is_taken_where_there_is_one() -> None:
    """The bend lies behind a ridge that hides it from all low places."""
    x, y = np.meshgrid(np.linspace(-2, 2, 60), np.linspace(-1.5, 1.5, 60))
    values = 0.1 + 30 * np.exp(-(((np.hypot(x, y) - 0.5) / 0.15) ** 2))
    anchors = tuple(Anchor(n, a, b, 0.0) for n, a, b in (("start", -1.8, -1.2), ("bend", 0, 0)))
    surface = replace(surface_of(values), curve=None, anchors=anchors)
    tone = _tone(values)
    camera = best_camera(surface, tone, STYLE, Relief())
    ground = ground_of(surface, tone)
    shot = framed([camera], ground.hull, Box(0, 0, 600, 400)).shot(camera)
    assert (seen_share(ground, shot, anchor_spots(ground, surface)) >= 0.5).all()
    low = Camera(camera.azimuth, math.radians(40))
    shot = framed([low], ground.hull, Box(0, 0, 600, 400)).shot(low)
    assert seen_share(ground, shot, anchor_spots(ground, surface))[1] < 0.5
