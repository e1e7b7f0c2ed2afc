"""Flights: a camera that moves around the landscape while a film runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import make_interp_spline

from renders.box import Box
from renders.film.growth import with_marks_at
from renders.film.moment import Moment
from renders.film.picture import scene_picture
from renders.film.scene import Scene
from renders.page.marks import crowded, draw_marks, radius_for
from renders.page.sheet import Sheet
from renders.picture import Layer
from renders.relief.bake import Sun
from renders.relief.camera import ALTITUDES, Camera, CameraError, Framing, camera_from, framed
from renders.relief.relief import (
    Marks,
    Relief,
    best_camera,
    checked,
    contours_of,
    draw_names,
    modelled,
    path_on,
    standing,
    sun_for,
)
from renders.relief.terrain import Terrain, ground_of, half_sizes, tallest
from renders.relief.view import View

if TYPE_CHECKING:
    from renders.colour import FloatArray
    from renders.picture import Picture
    from renders.source.surface import Surface

_BAKED = 320
"""Light of a film's models is baked on so many points across: they may be many."""
_SAMPLES = 2
_CAMERAS = 73
_COARSE = 64


@dataclass(frozen=True)
class Flight:
    """The camera's way.

    Attributes:
        cameras: it passes through all of them, at even steps in time; None is one of our choice.
        turn: radians that it turns about the model on top of that, clockwise seen from above;
            None is once around where there is one frame and one camera, and else not.
        rise, marks: see `renders.relief.relief.Relief`.
    """

    cameras: tuple[Camera, ...] | None = None
    turn: float | None = None
    rise: float = Relief.rise
    marks: Marks = "draped"

    @property
    def relief(self) -> Relief:
        """How the model stands, whoever looks at it."""
        return Relief(None, self.rise, None, self.marks)

    @property
    def loops(self) -> bool:
        """Whether the last picture leads on to the first."""
        whole = (self.turn or 0.0) / (2 * math.pi)
        single = self.cameras is None or len(self.cameras) == 1
        return single and round(whole) != 0 and abs(whole - round(whole)) < 1e-9

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in degrees, for a film's comment; null is our own choice."""
        cameras = None
        if self.cameras is not None:
            angles = [(c.azimuth, c.altitude, c.lens) for c in self.cameras]
            cameras = [[round(math.degrees(v), 3) for v in camera] for camera in angles]
        turn = None if self.turn is None else round(math.degrees(self.turn), 3)
        plain = {"cameras": cameras, "turn": turn, "rise": self.rise}
        return plain if self.marks == "draped" else {**plain, "marks": self.marks}

    def camera(self, part: float) -> Camera:
        """Where it is at `part` of the film, in [0, 1]."""
        cameras = self.cameras or (Camera(),)
        eased = part if self.loops else part * part * (3 - 2 * part)
        at = cameras[0]
        if len(cameras) > 1:
            at = _between(cameras, eased)
        return replace(at, azimuth=at.azimuth + eased * (self.turn or 0.0))


def _between(cameras: tuple[Camera, ...], part: float) -> Camera:
    """A cubic spline through the cameras' angles."""
    keys = np.array([(c.azimuth, c.altitude, c.lens) for c in cameras])
    spline = make_interp_spline(np.arange(len(keys)), keys, k=min(3, len(keys) - 1))
    azimuth, altitude, lens = spline(part * (len(keys) - 1)).tolist()
    # A spline swings a little beyond its keys; a camera must not dive below the floor.
    return Camera(azimuth, min(max(altitude, ALTITUDES[0]), ALTITUDES[1]), lens)


def flight_from(
    cameras: tuple[Camera, ...] | None, degrees: float | None, rise: float, marks: Marks = "draped"
) -> Flight:
    """A flight as a command line asks for it; `degrees` None turns a single frame once around.

    Raises:
        LossatlasError: an orbit or a rise that makes no film.
    """
    checked(None, rise)
    if degrees is not None and not (math.isfinite(degrees) and abs(degrees) <= 3600):
        raise CameraError(f"orbit is {degrees:g}: wanted −3,600 to 3,600 degrees")
    turn = None if degrees is None else math.radians(degrees)
    return Flight(cameras, turn, rise, marks)


def path_from(text: str) -> tuple[Camera, ...]:
    """The cameras of `AZIMUTH,ALTITUDE[,LENS] AZIMUTH,ALTITUDE[,LENS] …`, in degrees.

    Raises:
        CameraError: fewer than two, or one that cannot stand so.
    """
    cameras = tuple(camera_from(part) for part in text.replace(";", " ").split())
    if len(cameras) < 2:
        raise CameraError(
            f"path is {text!r}: wanted at least two cameras, such as '160,35 200,50 240,35'"
        )
    return cameras


@dataclass(frozen=True, eq=False)
class Stand:
    """All that a flight's pictures have in common.

    Attributes:
        scene: of the film.
        flight: with its cameras decided.
        framing: one for the whole flight, so that the model neither breathes nor is cut off.
        sun: over the first camera's shoulder, and then it stays.
    """

    scene: Scene
    flight: Flight
    framing: Framing
    sun: Sun

    def modelled(self, surface: Surface) -> Terrain:
        """The terrain of one moment, lit."""
        scene = self.scene
        room = scene.stage.map.width
        relief = self.flight.relief
        return modelled(surface, scene.tone, scene.style, relief, self.sun, room, _BAKED)

    def picture(self, moment: Moment, terrain: Terrain, part: float) -> Picture:
        """One picture of the film, at `part` of it."""
        scene = self.scene
        theme, u = scene.style.theme, scene.stage.unit
        shot = self.framing.shot(self.flight.camera(part))
        whole = Box(0, 0, scene.stage.width, scene.stage.height)
        lines = None
        if scene.style.contours:
            lines = contours_of(scene.tone, theme, max(1.2 * u, 0.7))
        view = View(whole, terrain, shot, scene.tone, theme, lines, _SAMPLES)
        shown = with_marks_at(scene.labels, moment).surface
        path = path_on(shown, terrain.ground, shot, scene.tone, self.flight.relief)
        radius, crowd = radius_for(scene.groups, 1.35 * u), crowded(scene.groups)
        layers: list[Layer] = [view]
        if crowd:
            from renders.page.crowd import crowd_layers

            layers += crowd_layers(path, scene.quantity, scene.tone, theme, radius, whole)

        def names(sheet: Sheet) -> None:
            if not crowd:
                draw_marks(sheet, path, scene.quantity, scene.tone, radius)
            if scene.style.anchors:
                draw_names(sheet, moment.surface, terrain.ground, shot, 24 * u, floating=True)

        return scene_picture(scene, moment, layers, names)


def stand_for(scene: Scene, flight: Flight, surfaces: Iterator[Surface]) -> Stand:
    """Decide where the camera flies so that it sees all of all frames, whenever it is where.

    Args:
        scene: of the film.
        flight: as asked for.
        surfaces: every frame that is shown.
    """
    tone, relief = scene.tone, flight.relief
    heights: FloatArray | None = None
    halves, last, count = set(), None, 0
    above: list[FloatArray] = []
    for surface in surfaces:
        ground = ground_of(surface, tone, flight.rise, _COARSE)
        halves.add(half_sizes(surface.extent))
        above.append(standing(surface, ground, tone, relief))
        same = heights is None or heights.shape == ground.heights.shape
        if heights is not None and same:
            heights = np.maximum(heights, ground.heights)
        elif heights is None:
            heights = ground.heights
        last, count = (surface, ground), count + 1
    assert last is not None
    assert heights is not None
    surface, ground = last
    if len(halves) == 1:
        points = ground.points.copy()
        points[..., 2] = heights + 0.004
        hull = replace(ground, points=points).hull
    else:
        hull = np.concatenate([tallest(half, flight.rise) for half in halves])
    hull = np.concatenate([hull, *above])
    if flight.cameras is None:
        camera = best_camera(surface, tone, scene.style, relief)
        flight = replace(flight, cameras=(camera,))
    if flight.turn is None:
        around = count == 1 and flight.cameras is not None and len(flight.cameras) == 1
        flight = replace(flight, turn=2 * math.pi if around else 0.0)
    cameras = [flight.camera(part) for part in np.linspace(0, 1, _CAMERAS).tolist()]
    framing = framed(cameras, hull, scene.stage.map)
    return Stand(scene, flight, framing, sun_for(cameras[0]))
