"""Marks on a model: where a camera sees them, on the ground or at the height of their own value.

They are shapes on the sheet and not balls in the model: their glyphs and colours tell groups and
values, which light and shade would change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.geometry.plane import Anchor
from renders.colour import FloatArray
from renders.map.tone import Tone
from renders.page.marks import Placed, step_opacities
from renders.relief.camera import Shot
from renders.relief.drape import BALL, hidden
from renders.relief.terrain import Ground
from renders.source.marks import MarkGroup, parts_inside

_COARSE = 160
"""Vertices along the longer side of the ground that hides marks: rays are followed over all."""
_STEP_PX = 9.0
_MOST = 48
_LIFT = 0.35 * BALL
_NEAR = 0.012
"""How near an anchor a mark counts as lying on it, in lengths of the longer side."""


def world(
    group: MarkGroup, ground: Ground, tone: Tone, quantity: str, own: bool, rise: float
) -> FloatArray:
    """Marks as world points, float64 (n, 3); NaN off the model.

    Args:
        group, ground: which marks, and on what.
        tone, quantity: from own values to heights.
        own: at the height of their own value, where they have one; else on the ground.
        rise: height of the tone's whole span.
    """
    points = ground.place(group.x, group.y)
    values = group.own_values(quantity) if own else None
    if values is not None:
        lo, hi = tone.span
        heights = rise * np.clip((tone.to_space(values) - lo) / (hi - lo), 0, 1)
        points[:, 2] = np.where(np.isnan(heights), points[:, 2], heights)
    return points


def on_model(
    groups: Iterable[MarkGroup],
    ground: Ground,
    shot: Shot,
    tone: Tone,
    quantity: str,
    own: bool,
    rise: float,
) -> tuple[Placed, ...]:
    """Marks and lines in pixels, as far as the surface leaves them in sight; see `world`."""
    coarse = _coarse(ground)
    found = []
    for group in groups:
        points = world(group, ground, tone, quantity, own, rise)
        x, y = _seen(points, coarse, shot)
        steps: list[FloatArray] = []
        opacities: list[float] = []
        if group.line:
            for k, opaque in enumerate(step_opacities(group)):
                step = group.taken(np.array([k, k + 1]))
                ends = _on_ground(step, points[k : k + 2], ground, own)
                runs = _runs(_way(ends, ground, shot, own), coarse, shot)
                steps += runs
                opacities += [float(opaque)] * len(runs)
        stems: list[FloatArray] = []
        if own:
            feet = ground.place(group.x, group.y)
            for ends in np.stack([points, feet], axis=1)[group.dots]:
                stems += _runs(_way(ends, ground, shot, True), coarse, shot)
        found.append(Placed(group, x, y, tuple(steps), tuple(opacities), tuple(stems)))
    return tuple(found)


def _coarse(ground: Ground) -> Ground:
    """The same ground with few vertices."""
    rows, columns = ground.heights.shape
    step = max(1.0, max(rows, columns) / _COARSE)
    across = np.linspace(-ground.half[0], ground.half[0], max(9, round(columns / step)))
    up = np.linspace(-ground.half[1], ground.half[1], max(9, round(rows / step)))
    flat = np.stack(np.meshgrid(across, up), axis=-1)
    return replace(ground, points=np.concatenate([flat, ground.height_at(flat)[..., None]], axis=2))


def _on_ground(step: MarkGroup, points: FloatArray, ground: Ground, own: bool) -> FloatArray:
    """The ends of a line between two marks, world points (2, 3), cut where it leaves the model.

    Args:
        step: the two marks.
        points: the marks as world points; see `world`.
        ground, own: as for `world`.

    Returns:
        NaN where nothing of the line is on the model.
    """
    ends = np.stack([step.x, step.y], axis=1)
    if np.isfinite(points).all() or not np.isfinite(ends).all():
        return points
    low, high = (each[0] for each in parts_inside(step.x, step.y, ground.extent))
    if low >= high:
        return np.full_like(points, np.nan)
    parts = np.array([low, high])
    x0, x1, y0, y1 = ground.extent
    # Rounding may leave an end just beside the rim.
    cut = np.clip(ends[0] + parts[:, None] * (ends[1] - ends[0]), (x0, y0), (x1, y1))
    found = ground.place(*cut.T)
    if own:
        found[:, 2] = points[0, 2] + parts * (points[1, 2] - points[0, 2])
    return found


def _way(ends: FloatArray, ground: Ground, shot: Shot, straight: bool) -> FloatArray:
    """World points from one mark to the next, float64 (n, 3), along the ground or straight."""
    if not np.isfinite(ends).all():
        return np.empty((0, 3))
    x, y, _ = shot.project(ends)
    count = min(max(math.ceil(math.hypot(x[1] - x[0], y[1] - y[0]) / _STEP_PX), 1), _MOST) + 1
    way = np.linspace(ends[0], ends[1], count)
    if not straight:
        way[:, 2] = ground.height_at(way)
    return way


def _in_sight(points: FloatArray, coarse: Ground, shot: Shot) -> npt.NDArray[np.bool_]:
    lifted = np.nan_to_num(points) + np.array([0.0, 0.0, _LIFT])
    return np.asarray(np.isfinite(points[:, 0]) & ~hidden(coarse, shot, lifted))


def _seen(points: FloatArray, coarse: Ground, shot: Shot) -> tuple[FloatArray, FloatArray]:
    """Pixels of world points (n, 3); NaN where one is not seen."""
    if not len(points):
        return np.empty(0), np.empty(0)
    x, y, _ = shot.project(points)
    seen = _in_sight(points, coarse, shot)
    return np.where(seen, x, np.nan), np.where(seen, y, np.nan)


def _runs(way: FloatArray, coarse: Ground, shot: Shot) -> list[FloatArray]:
    """The parts of a way that are seen, each float64 (points, 2) in pixels."""
    if len(way) < 2:
        return []
    x, y, _ = shot.project(way)
    places = np.stack([x, y], axis=1)
    gone = ~_in_sight(way, coarse, shot)
    if not gone.any():
        return [places]
    pieces = np.split(places, np.flatnonzero(gone))
    found = [pieces[0], *(piece[1:] for piece in pieces[1:])]
    return [piece for piece in found if len(piece) > 1]


def unmarked(
    anchors: Sequence[Anchor], groups: Sequence[MarkGroup], ground: Ground
) -> tuple[Anchor, ...]:
    """The anchors that no mark lies on."""
    places = [ground.place(group.x, group.y)[group.dots, :2] for group in groups]
    marks = np.concatenate([*places, np.empty((0, 2))])
    spots = ground.place([a.x for a in anchors], [a.y for a in anchors])[:, :2]
    apart = np.linalg.norm(spots[:, None] - marks, axis=2)
    least = np.min(apart, axis=1, initial=np.inf, where=np.isfinite(apart))
    return tuple(a for a, far in zip(anchors, least, strict=True) if far > _NEAR)
