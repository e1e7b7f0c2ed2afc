"""What lies on a terrain: the curve as a cord, the anchors as balls, and what hides them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from renders.colour import FloatArray, to_linear
from renders.relief.bake import Sun
from renders.relief.camera import Shot
from renders.relief.terrain import Ground, Patch, Terrain
from renders.source.surface import Surface

CORD = 0.0042
BALL = 0.0115
"""Radii, world units."""
_ROUND = 14


def draped(
    terrain: Terrain, surface: Surface, pen: FloatArray, curve: bool, anchors: bool
) -> Terrain:
    """The terrain with its curve and anchors on it, and their shade around them.

    Args:
        terrain: of `surface`.
        surface: whose curve and anchors.
        pen: their colour, encoded (3,).
        curve, anchors: False leaves one out.
    """
    added: list[Patch] = []
    shade = np.ones(terrain.ground.heights.shape)
    colour = to_linear(pen)
    if curve and surface.curve is not None and len(surface.curve) > 1:
        for run in _runs(terrain.ground, surface.curve):
            added.append(cord(run, CORD, colour, terrain.sun))
            _darken(shade, terrain, run, CORD)
    if anchors and surface.anchors:
        for spot in anchor_spots(terrain.ground, surface):
            if np.isfinite(spot).all():
                added.append(ball(spot + np.array([0, 0, 0.55 * BALL]), BALL, colour, terrain.sun))
                _darken(shade, terrain, spot[None], BALL)
    if not added:
        return terrain
    top, *walls = terrain.patches
    lit = replace(top, colours=top.colours * shade[..., None].astype(np.float32))
    return replace(terrain, patches=(lit, *walls, *added))


def anchor_spots(ground: Ground, surface: Surface) -> FloatArray:
    """Where the anchors touch the surface, world, float64 (n, 3); NaN for one off the model."""
    return ground.place([a.x for a in surface.anchors], [a.y for a in surface.anchors])


def _runs(ground: Ground, curve: FloatArray) -> list[FloatArray]:
    """The curve on the surface in even steps of half a cord, cut where it leaves the model."""
    knots = np.arange(len(curve))
    fine = np.linspace(0, len(curve) - 1, 40 * len(curve))
    x, y = (np.interp(fine, knots, curve[:, c]) for c in (0, 1))
    points = ground.place(x, y)
    runs = []
    gone = np.flatnonzero(np.isnan(points[:, 0]))
    for piece in np.split(points, gone):
        piece = piece[np.isfinite(piece[:, 0])]
        if len(piece) < 2:
            continue
        along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(piece, axis=0), axis=1))])
        if along[-1] > 0:
            even = np.linspace(0, along[-1], max(2, math.ceil(along[-1] / (0.5 * CORD))))
            runs.append(np.stack([np.interp(even, along, piece[:, c]) for c in range(3)], axis=1))
    return runs


def cord(points: FloatArray, radius: float, colour: FloatArray, sun: Sun) -> Patch:
    """A round cord that lies on world points, float64 (n, 3)."""
    tangent = np.gradient(points, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    side = np.cross(tangent, [0.0, 0.0, 1.0])
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
    up = np.cross(side, tangent)
    turn = np.linspace(0, 2 * math.pi, _ROUND + 1)[:, None]
    normal = np.cos(turn) * side[:, None] + np.sin(turn) * up[:, None]
    centre = points + 0.55 * radius * up
    return _patch(centre[:, None] + radius * normal, normal, colour, sun)


def ball(centre: FloatArray, radius: float, colour: FloatArray, sun: Sun) -> Patch:
    """A ball about a world point (3,)."""
    turn = np.linspace(0, 2 * math.pi, 41)
    rise = np.linspace(-math.pi / 2, math.pi / 2, 21)[:, None]
    flat = np.cos(rise)
    parts = (flat * np.cos(turn), flat * np.sin(turn), np.sin(rise) + 0 * turn)
    normal = np.stack(parts, axis=-1)
    return _patch(centre + radius * normal, normal, colour, sun)


def _patch(points: FloatArray, normal: FloatArray, colour: FloatArray, sun: Sun) -> Patch:
    """Lit by sun and sky alone; a little of the light passes through, so that white stays white."""
    facing = np.clip((normal @ sun.direction + 0.35) / 1.35, 0, 1)[..., None]
    sky = 0.55 + 0.45 * normal[..., 2:]
    light = sun.share * sun.key * facing * 1.25 + (1 - sun.share) * sun.sky * sky
    colours = colour * (0.22 + 0.78 * light)
    levels = np.full(points.shape[:2], np.nan)
    return Patch(np.ascontiguousarray(points), colours.astype(np.float32), levels)


def _darken(shade: FloatArray, terrain: Terrain, points: FloatArray, radius: float) -> None:
    """Lower `shade` around what lies at `points`, as if it kept the sky off."""
    rows, columns = shade.shape
    step = np.array(
        [2 * terrain.ground.half[0] / (columns - 1), 2 * terrain.ground.half[1] / (rows - 1)]
    )
    reach = np.ceil(5 * radius / step).astype(np.int64)
    for x, y in points[:: max(1, round(float(step.min()) / (0.5 * radius))), :2]:
        i, j = np.rint((np.array([x, y]) + terrain.ground.half) / step).astype(np.int64)
        left, right = max(0, i - reach[0]), min(columns, i + reach[0] + 1)
        low, high = max(0, j - reach[1]), min(rows, j + reach[1] + 1)
        dx = np.arange(left, right) * step[0] - terrain.ground.half[0] - x
        dy = np.arange(low, high) * step[1] - terrain.ground.half[1] - y
        far = np.hypot(dx, dy[:, None]) / radius
        part = shade[low:high, left:right]
        np.minimum(part, 1 - 0.60 * np.exp(-((far / 1.9) ** 2)), out=part)


def seen_share(ground: Ground, shot: Shot, spots: FloatArray) -> FloatArray:
    """How much of a short upright pole on each spot the surface leaves in sight, in [0, 1].

    Args:
        spots: world points on the surface, float64 (n, 3); 0 for those that are NaN.
    """
    if not len(spots):
        return np.empty(0)
    lifts = np.linspace(0.6, 2.4, 7)[:, None] * BALL
    there = np.isfinite(spots[:, 0])
    poles = np.where(there[:, None], spots, 0.0)[:, None] + np.concatenate(
        [np.zeros((7, 2)), lifts], axis=1
    )
    seen = ~hidden(ground, shot, poles.reshape(-1, 3)).reshape(len(spots), -1)
    return np.where(there, seen.mean(axis=1), 0.0)


def hidden(ground: Ground, shot: Shot, points: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether the surface or a wall stands between the camera and world points (n, 3): bool (n,).

    The ray is followed in steps of about one quad as long as it is over the model.
    """
    way = shot.position - points
    over = math.hypot(*ground.half) * 2
    # From the point on, a whole diagonal suffices: beyond it the ray has left the model.
    length = np.minimum(1.0, over / np.maximum(np.hypot(way[:, 0], way[:, 1]), 1e-9))
    steps = np.linspace(0, 1, 2 * max(ground.heights.shape))[1:]
    at = points[:, None] + (way * length[:, None])[:, None] * steps[:, None]
    inside = (np.abs(at[..., 0]) <= ground.half[0]) & (np.abs(at[..., 1]) <= ground.half[1])
    return np.asarray((inside & (ground.height_at(at) > at[..., 2])).any(axis=1))
