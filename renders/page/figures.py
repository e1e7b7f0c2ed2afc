"""Figures on contours: each index level names itself once, where its line runs straight."""

from __future__ import annotations

import math

import numpy as np

from renders.box import Box
from renders.colour import FloatArray, rgb
from renders.map.contour import Contours
from renders.map.field import Field
from renders.map.tone import Tone
from renders.page.sprite import Alpha, Sprite
from renders.page.text import Type, text_width, turned
from renders.page.ticks import label


def contour_figures(
    field: Field,
    tone: Tone,
    contours: Contours,
    at: Box,
    size_px: float,
    avoid: tuple[Box, ...] = (),
) -> tuple[tuple[Sprite, ...], tuple[Sprite, ...]]:
    """Figures along index contours, where those run straight and nothing else is near.

    Args:
        field: the map's field, in the map's own pixels.
        at: where the map lies on the picture.
        size_px: the em of the figures.
        avoid: boxes, in picture coordinates, to stay clear of.

    Returns:
        The figures, and the gaps they want in the contours.
    """
    kind = Type(size_px, "Semibold")
    step = max(size_px / 3.0, 1.0)
    columns, rows = int(at.width / step), int(at.height / step)
    if columns < 8 or rows < 8:
        return (), ()
    gx, gy = np.meshgrid((np.arange(columns) + 0.5) * step, (np.arange(rows) + 0.5) * step)
    s, sx, sy = field.at(gx, gy)
    slope = np.hypot(sx, sy)
    taken = [
        (b.x + b.width / 2 - at.x, b.y + b.height / 2 - at.y, max(b.width, b.height) / 2 + size_px)
        for b in avoid
    ]
    figures, gaps = [], []
    for level, heavy, colour in zip(contours.levels, contours.index, contours.colours, strict=True):
        if not heavy:
            continue
        text = label(level)
        half = text_width(text, kind) / 2 + 0.35 * size_px
        target = float(tone.to_space(level))
        near = np.abs(s - target) < 0.6 * slope * step
        edge = half + 1.2 * size_px
        near &= (gx > edge) & (gx < at.width - edge) & (gy > edge) & (gy < at.height - edge)
        candidates = _straight(field, gx[near], gy[near], target, half, size_px)
        for _, x, y, angle in candidates:
            if any(math.hypot(x - a, y - b) < r + half for a, b, r in taken):
                continue
            alpha = turned(text, kind, angle)
            figures.append(_centred(alpha, at.x + x, at.y + y, rgb(colour), 0.92))
            gaps.append(_gap(at.x + x, at.y + y, angle, half, 0.55 * size_px))
            taken.append((x, y, half + 1.5 * size_px))
            break
    return tuple(figures), tuple(gaps)


def _straight(
    field: Field, x: FloatArray, y: FloatArray, target: float, half: float, size: float
) -> list[tuple[float, float, float, float]]:
    """Candidates (cost, x, y, angle), best first: where the isoline runs straight."""
    if not len(x):
        return []
    for _ in range(3):
        s, sx, sy = field.at(x, y)
        pull = (s - target) / np.maximum(sx * sx + sy * sy, 1e-300)
        x, y = x - np.clip(pull * sx, -size, size), y - np.clip(pull * sy, -size, size)
    s, sx, sy = field.at(x, y)
    slope = np.maximum(np.hypot(sx, sy), 1e-300)
    tx, ty = -sy / slope, sx / slope
    flip = np.where(tx < 0, -1.0, 1.0)
    tx, ty = tx * flip, ty * flip
    bow = np.zeros_like(x)
    clean = field.finite_at(x, y)
    for part in (-1.0, -0.5, 0.5, 1.0):
        px, py = x + part * half * tx, y + part * half * ty
        away, ax, ay = field.at(px, py)
        bow = np.maximum(bow, np.abs(away - target) / np.maximum(np.hypot(ax, ay), 1e-300))
        clean &= field.finite_at(px, py)
    tilt = np.abs(np.arctan2(ty, tx))
    inside = (x > half + size) & (x < field.width - half - size)
    inside &= (y > half + size) & (y < field.height - half - size)
    good = clean & inside & (bow < 0.16 * size) & np.isfinite(x + y) & (tilt < math.radians(75))
    cost = bow / size + 0.35 * tilt
    order = np.lexsort((x[good], y[good], np.round(cost[good], 4)))
    # Pictures have y downwards, so a line that falls to the right turns clockwise.
    columns = (cost[good], x[good], y[good], -np.arctan2(ty, tx)[good])
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in np.stack(columns, 1)[order]]


def _centred(alpha: Alpha, x: float, y: float, colour: FloatArray, opacity: float) -> Sprite:
    height, width = alpha.shape
    return Sprite(round(x - width / 2), round(y - height / 2), alpha, colour, opacity)


def _gap(x: float, y: float, angle: float, half: float, tall: float) -> Sprite:
    """A soft-edged, turned slot that contours leave free."""
    reach = math.ceil(math.hypot(half, tall)) + 2
    left, top = round(x) - reach, round(y) - reach
    grid = np.arange(2 * reach) + 0.5
    dx, dy = grid + left - x, (grid + top - y)[:, None]
    along = np.abs(dx * math.cos(angle) - dy * math.sin(angle))
    across = np.abs(dx * math.sin(angle) + dy * math.cos(angle))
    beyond = np.hypot(np.maximum(along - (half - tall), 0), across) - tall
    alpha = np.rint(np.clip(0.5 - beyond / 2, 0, 1) * 255).astype(np.uint8)
    return Sprite(left, top, alpha, np.zeros(3))
