"""Reliefs: the landscape in the round, on a page or in a film."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.errors import LossatlasError
from renders.box import Box
from renders.colour import FloatArray, rgb
from renders.map.contour import Contours
from renders.map.tone import Tone
from renders.page.inks import Inks, ground_at, inks_on, isolines
from renders.page.layout import Layout, layout_for
from renders.page.legend import draw_scale, ramp
from renders.page.lettering import draw_words
from renders.page.marks import Placed, crowded, draw_marks, radius_for
from renders.page.overlay import anchor_lettering
from renders.page.page import Page
from renders.page.sheet import Sheet, house
from renders.page.text import cap_height
from renders.page.theme import Theme
from renders.page.words import Style
from renders.picture import Layer, Stack
from renders.projection import nearest_values
from renders.relief.bake import Sun
from renders.relief.camera import Camera, Shot, framed
from renders.relief.drape import BALL, anchor_spots, draped, hidden, seen_share
from renders.relief.path import on_model, unmarked, world
from renders.relief.rim import draw_rim
from renders.relief.terrain import BAKED, RISE, Ground, Terrain, build_terrain, ground_of
from renders.relief.view import View
from renders.source.provenance import Provenance
from renders.source.surface import Surface

ASPECT = 0.62
"""Height over width of the room for the model where the page's height is free."""
_ASPECTS = (0.3, 1.0)
_DETAIL = (240, 2_000)
_SUN_LEFT = math.radians(68)
"""How far left of the camera the sun stands: over its left shoulder, so that shadows fall away."""
_BARE_MARGIN = 0.05
_ALTITUDES = (34, 40, 46, 52, 62, 72, 82)
_STEEP = 52
_IN_SIGHT = 0.5
"""How much of a short pole on an anchor has to be seen, see `seen_share`."""
_AZIMUTHS = (160, 200, 140, 220, 120, 240, 100, 260)


Marks = Literal["draped", "own"]


class ReliefError(LossatlasError):
    """A relief that cannot be made as asked."""


@dataclass(frozen=True)
class Relief:
    """How a landscape stands in the round.

    Attributes:
        camera: where it is seen from; None is where most of the curve is seen.
        rise: height of the tone's span, in lengths of the model's longer side.
        samples: along the edge of a pixel; None chooses by the size of the picture.
        marks: draped lie on the ground; own stand at the height of their own value, on stems.
    """

    camera: Camera | None = None
    rise: float = RISE
    samples: int | None = None
    marks: Marks = "draped"


def checked(camera: Camera | None, rise: float, marks: Marks = "draped") -> Relief:
    """A relief of these.

    Raises:
        ReliefError: a rise that makes no landscape.
    """
    if not 0.01 <= rise <= 2:
        raise ReliefError(
            f"rise is {rise:g}: wanted 0.01 to 2 lengths of the longer side, 0.2 as a rule"
        )
    return Relief(camera, rise, None, marks)


def relief_layout(kind: str, width: int, height: int | None) -> Layout:
    """The page of a relief: the model's room takes what height the words leave.

    Raises:
        LayoutError: see `renders.page.layout.layout_for`.
    """
    if height is None:
        return layout_for(kind, width, ASPECT)
    least = layout_for(kind, width, _ASPECTS[0])
    aspect = _ASPECTS[0] + (height - least.height) / max(1, least.map.width)
    return layout_for(kind, width, min(max(aspect, _ASPECTS[0]), _ASPECTS[1]), height)


def best_camera(surface: Surface, tone: Tone, style: Style, relief: Relief) -> Camera:
    """Where all anchors are in sight, if any camera sees them all, and most of the curve.

    Of several it is the least unusual one; it looks down steeply only where it has to.
    """
    ground = ground_of(surface, tone, relief.rise)
    anchors = anchor_spots(ground, surface) if style.anchors else np.empty((0, 3))
    anchors = anchors[np.isfinite(anchors[:, 0])]
    curve = np.empty((0, 3))
    if style.curve and surface.curve is not None:
        step = -(-len(surface.curve) // 60)
        curve = ground.place(*surface.curve[::step, :2].T)
        curve = curve[np.isfinite(curve[:, 0])] + np.array([0.0, 0.0, BALL])
    path = mark_points(surface, ground, tone, relief)
    path = path[np.isfinite(path[:, 0])][:: -(-len(path) // 60) or 1]
    curve = np.concatenate([curve, path + np.array([0.0, 0.0, BALL])])
    if not len(anchors) and not len(curve):
        return Camera()
    best, most = Camera(), (-1, -math.inf)
    for altitude, azimuth in itertools.product(_ALTITUDES, _AZIMUTHS):
        if altitude > _STEEP and most[0] == len(anchors):
            break
        camera = Camera(math.radians(azimuth), math.radians(altitude))
        framing = framed([camera], ground.hull, Box(0, 0, 1000, 600))
        shot = framing.shot(camera)
        # Far away the model is small on the page.
        unusual = abs(azimuth - 180) / 300 + (altitude - _ALTITUDES[0]) / 180 + framing.distance / 2
        shares = seen_share(ground, shot, anchors)
        along = 1 - float(hidden(ground, shot, curve).mean()) if len(curve) else 0.0
        seen = (int((shares >= _IN_SIGHT).sum()), float(shares.sum()) / 10 + along - unusual)
        if seen[0] > most[0] or (seen[0] == most[0] and seen[1] > most[1] + 1e-9):
            best, most = camera, seen
    return best


def sun_for(camera: Camera) -> Sun:
    """The sun over the camera's left shoulder."""
    return Sun(azimuth=camera.azimuth + _SUN_LEFT)


def relief_page(
    surface: Surface,
    tone: Tone,
    facts: Provenance,
    style: Style,
    relief: Relief,
    width: int,
    height: int | None = None,
    dpi: float = 300.0,
) -> Page:
    """The page, `width` pixels wide, at `dpi` pixels an inch."""
    page = relief_layout(style.layout, width, height)
    u, theme, bare = page.unit, style.theme, page.kind == "bare"
    room = page.map
    if bare:
        room = room.grown(-round(_BARE_MARGIN * min(room.width, room.height)))
    camera = relief.camera or best_camera(surface, tone, style, relief)
    terrain = modelled(surface, tone, style, relief, sun_for(camera), room.width)
    hull = np.concatenate([terrain.ground.hull, standing(surface, terrain.ground, tone, relief)])
    shot = framed([camera], hull, room).shot(camera)
    samples = relief.samples or (3 if width <= 4_000 else 2)
    whole = Box(0, 0, page.width, page.height)
    lines = contours_of(tone, theme, max(0.9 * u, 0.7)) if style.contours else None
    view: Layer = View(whole, terrain, shot, tone, theme, lines, samples)
    with house(theme):
        sheet = Sheet.blank(page.width, page.height, dpi, theme)
        path = path_on(surface, terrain.ground, shot, tone, relief)
        radius = radius_for(surface.marks, u)
        if crowded(surface.marks):
            from renders.page.crowd import crowd_layers

            crowd = crowd_layers(path, surface.quantity, tone, theme, radius, whole)
            view = Stack(view, crowd)
        else:
            draw_marks(sheet, path, surface.quantity, tone, radius)
        painted: list[Layer] = [view]
        if style.anchors:
            draw_names(sheet, surface, terrain.ground, shot, 17 * u)
        if not bare:
            painted.append(ramp(tone, page.legend))
            draw_rim(sheet, terrain.ground, shot, 10.5 * u, facts.axes)
            draw_scale(sheet, tone, page.legend, 10.5 * u, max(1, round(0.6 * u)))
            draw_words(sheet, surface, tone, facts, style, page, True)
    return Page(tuple(painted), sheet)


def modelled(
    surface: Surface,
    tone: Tone,
    style: Style,
    relief: Relief,
    sun: Sun,
    room_px: int,
    baked: int = BAKED,
) -> Terrain:
    """The terrain of a surface with what lies on it, as fine as `room_px` pixels across ask for."""
    theme = style.theme
    detail = min(max(round(0.55 * room_px), _DETAIL[0]), _DETAIL[1])
    if not style.light:
        sun = replace(sun, share=0.0)
    terrain = build_terrain(
        surface, tone, theme, rise=relief.rise, detail=detail, baked=baked, sun=sun
    )
    alone = unmarked(surface.anchors, surface.marks, terrain.ground)
    pen = _pen(surface, tone, theme).pen
    return draped(terrain, replace(surface, anchors=alone), pen, style.curve, style.anchors)


def mark_points(surface: Surface, ground: Ground, tone: Tone, relief: Relief) -> FloatArray:
    """All marks as world points, float64 (n, 3); NaN off the model."""
    own = relief.marks == "own"
    found = [
        world(group, ground, tone, surface.quantity, own, relief.rise) for group in surface.marks
    ]
    return np.concatenate([*found, np.empty((0, 3))])


def standing(surface: Surface, ground: Ground, tone: Tone, relief: Relief) -> FloatArray:
    """World points, float64 (n, 3), of marks that may stand above the ground's hull."""
    if relief.marks != "own":
        return np.empty((0, 3))
    points = mark_points(surface, ground, tone, relief)
    return points[np.isfinite(points[:, 0])]


def path_on(
    surface: Surface, ground: Ground, shot: Shot, tone: Tone, relief: Relief
) -> tuple[Placed, ...]:
    """A surface's marks in pixels, as far as they are in sight."""
    own = relief.marks == "own"
    return on_model(surface.marks, ground, shot, tone, surface.quantity, own, relief.rise)


def contours_of(tone: Tone, theme: Theme, width_px: float) -> Contours:
    """The isolines on a model."""
    return isolines(tone, theme, (width_px, 1.7 * width_px), (0.22, 0.42))


def _pen(surface: Surface, tone: Tone, theme: Theme) -> Inks:
    """One pair for the curve and all anchors, by the ground beneath them."""
    places = [(a.x, a.y) for a in surface.anchors]
    if surface.curve is not None:
        places += [(x, y) for x, y in surface.curve[:, :2].tolist()]
    if not places:
        return inks_on(ground_at(surface.values, tone, theme), theme)
    x, y = np.array(places).T
    return inks_on(ground_at(nearest_values(surface, x, y), tone, theme), theme)


def draw_names(
    sheet: Sheet,
    surface: Surface,
    ground: Ground,
    shot: Shot,
    size_px: float,
    floating: bool = False,
) -> None:
    """The anchors' names above their balls, as far as the surface leaves those in sight."""
    if not surface.anchors or size_px < 7:
        return
    spots = anchor_spots(ground, surface)
    shares = seen_share(ground, shot, spots)
    tops = spots + np.array([0.0, 0.0, 1.9 * BALL])
    x, y, _ = shot.project(tops)
    inks = Inks(rgb(sheet.theme.pen_light), rgb(sheet.theme.pen_dark))
    places = zip(surface.anchors, x.tolist(), y.tolist(), shares.tolist(), strict=True)
    for anchor, px, py, share in places:
        if share < 0.3:
            continue
        words, kind = anchor_lettering(anchor, size_px)
        base = py - 0.35 * cap_height(kind)
        sheet.haloed(words, kind, px, base, inks, "centre", share, floating)
