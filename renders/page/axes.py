"""Axes: ticks at round coordinates of the plane, outside the map, quietly."""

from __future__ import annotations

from renders.box import Box
from renders.colour import rgb
from renders.page.sprite import Sprite, rectangle
from renders.page.text import Type, cap_height, text_sprite
from renders.page.theme import Theme
from renders.page.ticks import label, linear_ticks
from renders.projection import Projection


def frame_sprites(at: Box, theme: Theme, line_px: int) -> tuple[Sprite, ...]:
    """A hairline around `at`, outside it."""
    colour = rgb(theme.hairline)
    outer = at.grown(line_px)
    return (
        rectangle(Box(outer.x, outer.y, outer.width, line_px), colour),
        rectangle(Box(outer.x, at.bottom, outer.width, line_px), colour),
        rectangle(Box(outer.x, at.y, line_px, at.height), colour),
        rectangle(Box(at.right, at.y, line_px, at.height), colour),
    )


def axis_sprites(
    projection: Projection,
    theme: Theme,
    size_px: float,
    line_px: int,
    names: tuple[str, str],
    vertical: bool = True,
) -> tuple[Sprite, ...]:
    """Ticks and figures below and to the left of the map, and the axes' names at their ends.

    Args:
        projection: where the map is and what it spans.
        size_px: the em of the figures.
        line_px: width of a tick.
        names: of x and of y.
        vertical: draw the y axis too; False where y has no extent.
    """
    at, (x0, x1, y0, y1) = projection.at, projection.extent
    ink, muted, hair = rgb(theme.ink), rgb(theme.muted), rgb(theme.hairline)
    kind, named = Type(size_px, "Regular"), Type(size_px, "It")
    tick, gap = round(0.45 * size_px), 0.45 * size_px
    sprites: list[Sprite] = []
    base = at.bottom + line_px + tick + gap + cap_height(kind)
    for value in linear_ticks(x0, x1, max(3, at.width / (9 * size_px))):
        px = float(projection.pixels(value, y0)[0])
        sprites.append(
            rectangle(Box(round(px - line_px / 2), at.bottom + line_px, line_px, tick), hair)
        )
        if px < at.right - 2.6 * size_px:
            sprites.append(text_sprite(label(value), kind, muted, px, base, "centre"))
    sprites.append(text_sprite(names[0], named, ink, at.right, base, "right"))
    if not vertical:
        return tuple(sprites)
    edge = at.x - line_px - tick
    for value in linear_ticks(y0, y1, max(3, at.height / (9 * size_px))):
        py = float(projection.pixels(x0, value)[1])
        sprites.append(rectangle(Box(edge, round(py - line_px / 2), tick, line_px), hair))
        if py > at.y + 2.2 * size_px:
            sprites.append(
                text_sprite(
                    label(value), kind, muted, edge - gap, py + cap_height(kind) / 2, "right"
                )
            )
    sprites.append(text_sprite(names[1], named, ink, edge - gap, at.y + cap_height(kind), "right"))
    return tuple(sprites)
