"""What lies on a map: the curve, and the anchors with their names."""

from __future__ import annotations

import math
import re

import numpy as np

from pipeline.plane import Anchor
from renders.box import Box
from renders.colour import FloatArray
from renders.map.line import Stroke
from renders.map.tone import Tone
from renders.page.inks import Inks, ground_at, inks_on
from renders.page.sprite import Sprite
from renders.page.text import Type, cap_height, halo, text_sprite, text_width
from renders.page.theme import Theme
from renders.projection import Projection, nearest_values
from renders.source.surface import Surface


def curve_strokes(
    surface: Surface,
    projection: Projection,
    tone: Tone,
    theme: Theme,
    width_px: float,
    inks: Inks | None = None,
) -> tuple[Stroke, ...]:
    """The curve, and beneath it a wider casing, so that it reads on any colour.

    `inks` None chooses them by the ground; a film gives the same ones to every frame.
    """
    if surface.curve is None or len(surface.curve) < 2:
        return ()
    points = np.stack(projection.pixels(surface.curve[:, 0], surface.curve[:, 1]), axis=1)
    if inks is None:
        beneath = nearest_values(surface, surface.curve[:, 0], surface.curve[:, 1])
        inks = inks_on(ground_at(beneath, tone, theme), theme)
    return (
        # Widths in the ratio 6 to 3 to 2 share one compiled kernel, see `Stroke.finer`.
        Stroke(points, 3.0 * width_px, inks.casing, 0.20, projection.at),
        Stroke(points, 1.5 * width_px, inks.casing, 0.70, projection.at, finer=2),
        Stroke(points, width_px, inks.pen, 1.0, projection.at, finer=3),
    )


def anchor_sprites(
    surface: Surface,
    projection: Projection,
    tone: Tone,
    theme: Theme,
    radius_px: float,
    size_px: float,
) -> tuple[Sprite, ...]:
    """A ring and a haloed name for every anchor inside the map, names kept off the curve."""
    x, y = projection.pixels([a.x for a in surface.anchors], [a.y for a in surface.anchors])
    occupied = [
        Box(round(a - radius_px), round(b - radius_px), *[round(2 * radius_px)] * 2)
        for a, b in zip(x, y, strict=True)
    ]
    if surface.curve is not None:
        on_curve = zip(*projection.pixels(surface.curve[:, 0], surface.curve[:, 1]), strict=True)
        occupied += [Box(round(a) - 1, round(b) - 1, 3, 3) for a, b in on_curve]
    rings: list[Sprite] = []
    names: list[Sprite] = []
    for anchor, px, py in zip(surface.anchors, x.tolist(), y.tolist(), strict=True):
        # An anchor on the rim itself still belongs to the map.
        if Box(round(px), round(py), 1, 1).meet(projection.at.grown(1)).empty:
            continue
        value = nearest_values(surface, anchor.x, anchor.y)
        inks = inks_on(ground_at(value, tone, theme), theme)
        rings += ring(px, py, radius_px, inks)
        lettering = anchor_lettering(anchor, size_px)
        name = _place_name(*lettering, px, py, radius_px, inks.pen, projection.at, occupied)
        occupied.append(_ink_box(name))
        names += [halo(name, 0.14 * size_px, inks.casing, inks.veil), name]
    return (*rings, *names)


def ring(x: float, y: float, radius_px: float, inks: Inks) -> tuple[Sprite, ...]:
    """The mark of an anchor about pixel coordinates (x, y)."""
    return (
        disc(x, y, 1.55 * radius_px, inks.casing, 0.22),
        disc(x, y, 1.25 * radius_px, inks.casing, 0.9),
        disc(x, y, 1.0 * radius_px, inks.pen, 1.0),
        disc(x, y, 0.52 * radius_px, inks.casing, 1.0),
    )


def anchor_lettering(anchor: Anchor, size_px: float) -> tuple[str, Type]:
    """An anchor's name as it is lettered, and its type: `w0` becomes an italic w₀.

    A label of the user's own is never taken for a symbol.
    """
    if anchor.label:
        return anchor.label, Type(size_px, "Semibold")
    if re.fullmatch(r"w\d+", anchor.name):
        below = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
        return "w" + anchor.name[1:].translate(below), Type(size_px, "SemiboldIt")
    return anchor.name, Type(size_px, "SemiboldIt" if anchor.name.startswith("w") else "Semibold")


def _place_name(
    name: str,
    kind: Type,
    x: float,
    y: float,
    radius: float,
    colour: FloatArray,
    inside: Box,
    occupied: list[Box],
) -> Sprite:
    size = kind.size
    off, cap = 1.5 * radius + 0.28 * size, cap_height(kind)
    wide = text_width(name, kind)
    best: tuple[float, Sprite] | None = None
    for rank, (dx, dy) in enumerate(
        [
            (1, 0),
            (-1, 0),
            (0.75, -0.75),
            (-0.75, -0.75),
            (0.75, 0.75),
            (-0.75, 0.75),
            (0, -1),
            (0, 1),
        ]
    ):
        cx = x + dx * (off + (wide / 2 if dx else 0)) if dx else x
        cy = y + dy * (off + cap / 2)
        sprite = text_sprite(name, kind, colour, cx - wide / 2, cy + cap / 2)
        ink = _ink_box(sprite).grown(round(0.2 * size))
        outside = ink.width * ink.height - max(0, ink.meet(inside).width) * max(
            0, ink.meet(inside).height
        )
        clash = sum(_area(ink.meet(box)) for box in occupied)
        cost = 10.0 * outside + clash + 0.01 * rank
        if best is None or cost < best[0]:
            best = (cost, sprite)
    assert best is not None
    return best[1]


def _ink_box(sprite: Sprite) -> Box:
    rows, columns = np.nonzero(sprite.alpha)
    if not len(rows):
        return Box(sprite.x, sprite.y, 0, 0)
    x, y = int(columns.min()), int(rows.min())
    return Box(sprite.x + x, sprite.y + y, int(columns.max()) - x + 1, int(rows.max()) - y + 1)


def _area(box: Box) -> int:
    return 0 if box.empty else box.width * box.height


def disc(x: float, y: float, radius: float, colour: FloatArray, opacity: float) -> Sprite:
    """A filled, antialiased circle about pixel coordinates (x, y)."""
    left, top = math.floor(x - radius) - 1, math.floor(y - radius) - 1
    side = math.ceil(2 * radius) + 4
    at = np.arange(side) + 0.5
    distance = np.hypot(at + left - x, (at + top - y)[:, None])
    alpha = np.rint(np.clip(radius + 0.5 - distance, 0, 1) * 255).astype(np.uint8)
    return Sprite(left, top, alpha, colour, opacity)
