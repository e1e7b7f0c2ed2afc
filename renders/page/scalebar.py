"""The scale bar: how far a round distance of the plane is on the map."""

from __future__ import annotations

import math

from renders.box import Box
from renders.map.tone import Tone
from renders.page.inks import ground_at, inks_on
from renders.page.sprite import Sprite, rectangle
from renders.page.text import Type, halo, text_sprite, text_width
from renders.page.theme import Theme
from renders.page.ticks import label
from renders.projection import Projection, nearest_values
from renders.source.surface import Surface

WORDS = {"euclidean": "in weight space", "filter-normalised": "filter-normalised"}


def round_length(longest: float) -> float:
    """The longest length 1, 2 or 5 × 10ᵏ that is at most `longest` > 0."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(m * power for m in (1, 2, 5) if m * power <= longest * (1 + 1e-9))


def scale_bar_sprites(
    surface: Surface,
    projection: Projection,
    tone: Tone,
    theme: Theme,
    units: str,
    size_px: float,
    avoid: tuple[Box, ...] = (),
) -> tuple[Sprite, ...]:
    """A bar of a round length in a free lower corner of the map, its length above it.

    Args:
        surface: what the map shows; the ink follows the ground under the bar.
        projection: where the map is and what it spans; both axes to one scale.
        units: euclidean or filter-normalised.
        size_px: the em of the lettering.
        avoid: boxes, in picture coordinates, to stay clear of.
    """
    at, (x0, x1, y0, y1) = projection.at, projection.extent
    if x1 <= x0 or at.width < 14 * size_px or at.height < 8 * size_px:
        return ()
    length = round_length(0.16 * (x1 - x0))
    wide = round(length / (x1 - x0) * at.width)
    kind = Type(size_px, "Semibold")
    words = f"{label(length)} {WORDS.get(units, '')}".strip()
    need = max(wide, math.ceil(text_width(words, kind)))
    inset, tall = round(1.5 * size_px), round(2.2 * size_px)
    corners = [
        Box(at.right - inset - need, at.bottom - inset - tall, need, tall),
        Box(at.x + inset, at.bottom - inset - tall, need, tall),
        Box(at.right - inset - need, at.y + inset, need, tall),
        Box(at.x + inset, at.y + inset, need, tall),
    ]
    free = [c for c in corners if all(c.grown(inset // 2).meet(b).empty for b in avoid)]
    place = free[0] if free else corners[0]
    across = (place.x + place.width / 2 - at.x) / at.width
    up = (at.bottom - place.y - place.height / 2) / at.height
    beneath = nearest_values(surface, x0 + across * (x1 - x0), y0 + up * (y1 - y0))
    inks = inks_on(ground_at(beneath, tone, theme), theme)
    thick, post = max(1, round(0.13 * size_px)), max(2, round(0.42 * size_px))
    rightwards = place.x > at.x + at.width / 2
    left = place.right - wide if rightwards else place.x
    base = place.bottom - thick
    bars = (
        Box(left, base, wide, thick),
        Box(left, base - post, thick, post),
        Box(left + wide - thick, base - post, thick, post),
    )
    edge = max(1, thick // 3)
    end, align = (place.right, "right") if rightwards else (place.x, "left")
    text = text_sprite(
        words,
        kind,
        inks.pen,
        end,
        base - post - 0.35 * size_px,
        "right" if align == "right" else "left",
    )
    return (
        *(rectangle(bar.grown(edge), inks.casing, 0.35) for bar in bars),
        halo(text, 0.14 * size_px, inks.casing, inks.veil),
        *(rectangle(bar, inks.pen) for bar in bars),
        text,
    )
