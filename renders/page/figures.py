"""Figures on isolines: each heavier level bears its value once, where its line runs straight."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from renders.box import Box
from renders.colour import FloatArray
from renders.map.contour import Contours
from renders.map.field import Field
from renders.map.gap import Gap
from renders.map.tone import Tone
from renders.page.sheet import Sheet
from renders.page.text import Type, cap_height, text_width
from renders.ticks import label


@dataclass(frozen=True)
class Figure:
    """One value on its isoline, in pixels of the page.

    Attributes:
        text, kind, colour: what is written, and how.
        x, y: the middle of the figure.
        radians: counter-clockwise.
    """

    text: str
    kind: Type
    colour: str
    x: float
    y: float
    radians: float

    @property
    def gap(self) -> Gap:
        """The room that it wants in its isoline."""
        half = text_width(self.text, self.kind) / 2 + 0.35 * self.kind.size
        return Gap(self.x, self.y, self.radians, half, 0.55 * self.kind.size)

    def draw(self, sheet: Sheet) -> None:
        """Write it, standing on its own baseline."""
        below = cap_height(self.kind) / 2
        x = self.x + below * math.sin(self.radians)
        y = self.y + below * math.cos(self.radians)
        sheet.turned(self.text, self.kind, x, y, self.radians, self.colour)


def contour_figures(
    field: Field,
    tone: Tone,
    contours: Contours,
    at: Box,
    size_px: float,
    avoid: tuple[Box, ...] = (),
) -> tuple[Figure, ...]:
    """Figures along index contours, where those run straight and nothing else is near.

    Args:
        field: the map's field, in the map's own pixels.
        at: where the map lies on the picture.
        size_px: the em of the figures.
        avoid: boxes, in picture coordinates, to stay clear of.

    """
    kind = Type(size_px, "Semibold")
    step = max(size_px / 3.0, 1.0)
    columns, rows = int(at.width / step), int(at.height / step)
    if columns < 8 or rows < 8:
        return ()
    gx, gy = np.meshgrid((np.arange(columns) + 0.5) * step, (np.arange(rows) + 0.5) * step)
    s, sx, sy = field.at(gx, gy)
    slope = np.hypot(sx, sy)
    round_them = [
        (b.x + b.width / 2 - at.x, b.y + b.height / 2 - at.y, max(b.width, b.height) / 2 + size_px)
        for b in avoid
    ]
    taken = np.array(round_them).reshape(-1, 3)
    figures = []
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
            if (np.hypot(x - taken[:, 0], y - taken[:, 1]) < taken[:, 2] + half).any():
                continue
            figures.append(Figure(text, kind, colour, at.x + x, at.y + y, angle))
            taken = np.append(taken, [[x, y, half + 1.5 * size_px]], axis=0)
            break
    return tuple(figures)


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
