"""What lies on a map: the curve, the anchors with their names, and the scale bar."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from pipeline.geometry.plane import Anchor
from renders.box import Box
from renders.colour import FloatArray, hex_colour
from renders.map.tone import Tone
from renders.page.inks import Inks, ground_at, inks_on
from renders.page.marks import Placed
from renders.page.sheet import Sheet
from renders.page.text import Type, cap_height, text_width
from renders.page.theme import Theme
from renders.projection import Projection, nearest_values
from renders.source.surface import Surface
from renders.ticks import label

WORDS = {
    "euclidean": "in weight space",
    "filter-normalised": "filter-normalised",
    "layer-normalised": "layer-normalised",
}
_BENEATH = 7
"""Places along each side of a name whose ground decides its ink."""
_SLANT = 0.75
_SIDES = (
    *((1, 0), (-1, 0)),
    *((x * _SLANT, y * _SLANT) for y in (-1, 1) for x in (1, -1)),
    *((0, -1), (0, 1)),
)


def curve_inks(surface: Surface, tone: Tone, sheet: Sheet) -> Inks:
    """The inks that read along the curve."""
    assert surface.curve is not None
    beneath = nearest_values(surface, surface.curve[:, 0], surface.curve[:, 1])
    return inks_on(ground_at(beneath, tone, sheet.theme), sheet.theme)


def draw_curve(
    sheet: Sheet, surface: Surface, projection: Projection, width_px: float, inks: Inks
) -> None:
    """The curve, and beneath it a wider casing, so that it reads on any colour."""
    if surface.curve is None or len(surface.curve) < 2:
        return
    x, y = projection.pixels(surface.curve[:, 0], surface.curve[:, 1])
    pen, casing = hex_colour(inks.pen), hex_colour(inks.casing)
    for share, colour, opacity in ((3.0, casing, 0.2), (1.5, casing, 0.7), (1.0, pen, 1.0)):
        width = sheet.points(share * width_px)
        sheet.mark(x, y, clip=projection.at, color=colour, lw=width, alpha=opacity)


def inks_beneath(
    surface: Surface, projection: Projection, box: Box, tone: Tone, theme: Theme
) -> Inks:
    """The inks that read on what lies beneath `box`, in pixels."""
    x0, x1, y0, y1 = surface.extent
    at = projection.at
    across = np.linspace(box.x, box.right, _BENEATH)
    down = np.linspace(box.y, box.bottom, _BENEATH)
    x, y = np.meshgrid(
        x0 + (across - at.x) / at.width * (x1 - x0), y0 + (at.bottom - down) / at.height * (y1 - y0)
    )
    return inks_on(ground_at(nearest_values(surface, x, y), tone, theme), theme)


def draw_anchors(
    sheet: Sheet,
    surface: Surface,
    projection: Projection,
    tone: Tone,
    radius_px: float,
    size_px: float,
    occupied: Sequence[Box] = (),
    marked: Sequence[Placed] = (),
) -> list[Box]:
    """A ring and a name for every anchor inside the map, names kept off the curve.

    An anchor that is a mark too has no ring, only its name.

    Args:
        sheet, surface, projection, tone: where, and of what.
        radius_px, size_px: of a ring, and the em of the names.
        occupied: boxes that names stay clear of as far as they can.
        marked: the marks, as they are drawn.

    Returns:
        Where they are, in pixels.
    """
    x, y = projection.pixels([a.x for a in surface.anchors], [a.y for a in surface.anchors])
    rings = [around(a, b, radius_px) for a, b in zip(x, y, strict=True)]
    occupied = [*rings, *occupied]
    bare = unmarked(x, y, marked, radius_px)
    if surface.curve is not None:
        on_curve = zip(*projection.pixels(surface.curve[:, 0], surface.curve[:, 1]), strict=True)
        occupied += [Box(round(a) - 1, round(b) - 1, 3, 3) for a, b in on_curve]
    taken: list[Box] = []
    names: list[tuple[str, Type, Box, Inks]] = []
    places = zip(surface.anchors, x.tolist(), y.tolist(), rings, bare, strict=True)
    for anchor, px, py, about, alone in places:
        # An anchor on the rim itself still belongs to the map.
        if Box(round(px), round(py), 1, 1).meet(projection.at.grown(1)).empty:
            continue
        if alone:
            inks = inks_beneath(surface, projection, about, tone, sheet.theme)
            draw_ring(sheet, px, py, radius_px, inks)
        words, kind = anchor_lettering(anchor, size_px)
        place = name_place(words, kind, (px, py), radius_px, projection.at, occupied)
        occupied.append(place)
        inks = inks_beneath(surface, projection, place, tone, sheet.theme)
        names.append((words, kind, place, inks))
        taken += [about.grown(round(0.6 * radius_px)), place.grown(round(0.3 * size_px))]
    for words, kind, place, inks in names:
        sheet.haloed(words, kind, place.x, place.bottom, inks)
    return taken


def unmarked(
    x: FloatArray, y: FloatArray, marked: Sequence[Placed], radius_px: float
) -> list[bool]:
    """Whether no mark lies on an anchor, one an anchor; `x` and `y` are theirs, pixels."""
    places = [np.stack([group.x, group.y], axis=1)[group.seen] for group in marked]
    dots = np.concatenate([*places, np.empty((0, 2))])
    apart = np.hypot(x[:, None] - dots[:, 0], y[:, None] - dots[:, 1])
    return [bool(row.min(initial=np.inf) > radius_px) for row in apart]


def draw_ring(sheet: Sheet, x: float, y: float, radius_px: float, inks: Inks) -> None:
    """The mark of an anchor about (x, y)."""
    pen, casing = hex_colour(inks.pen), hex_colour(inks.casing)
    sheet.disc(x, y, 1.55 * radius_px, casing, 0.22)
    sheet.disc(x, y, 1.25 * radius_px, casing, 0.9)
    sheet.disc(x, y, radius_px, pen)
    sheet.disc(x, y, 0.52 * radius_px, casing)


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


def name_place(
    name: str,
    kind: Type,
    about: tuple[float, float],
    radius_px: float,
    inside: Box,
    occupied: Sequence[Box],
) -> Box:
    """Where a name beside a ring stands on: at the side where it covers least that is `occupied`.

    Its letters fill the box from capital height to the baseline.
    """
    x, y = about
    size, cap, wide = kind.size, cap_height(kind), text_width(name, kind)
    off = 1.5 * radius_px + 0.28 * size
    best: tuple[float, Box] | None = None
    for rank, (dx, dy) in enumerate(_SIDES):
        left = x + dx * (off + wide / 2) - wide / 2
        base = y + dy * (off + cap / 2) + cap / 2
        box = Box(round(left), round(base) - math.ceil(cap), math.ceil(wide), math.ceil(cap))
        ink = box.grown(round(0.2 * size))
        clash = sum(_area(ink.meet(other)) for other in occupied)
        cost = 10.0 * (_area(ink) - _area(ink.meet(inside))) + clash + 0.01 * rank
        if best is None or cost < best[0]:
            best = (cost, box)
    assert best is not None
    return best[1]


def around(x: float, y: float, radius: float) -> Box:
    """The square about a disc, in whole pixels."""
    return Box(round(x - radius), round(y - radius), round(2 * radius), round(2 * radius))


def _area(box: Box) -> int:
    return 0 if box.empty else box.width * box.height


def round_length(longest: float) -> float:
    """The longest length 1, 2 or 5 × 10ᵏ that is at most `longest` > 0."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(m * power for m in (1, 2, 5) if m * power <= longest * (1 + 1e-9))


def draw_scale_bar(
    sheet: Sheet,
    surface: Surface,
    projection: Projection,
    tone: Tone,
    units: str,
    size_px: float,
    avoid: Sequence[Box] = (),
) -> list[Box]:
    """A bar of a round length in a free corner of the map, its length above it.

    Args:
        sheet: where.
        surface: what the map shows; the ink follows the ground under the bar.
        projection: where the map is and what it spans; both axes to one scale.
        tone: of the map.
        units: euclidean, filter-normalised or layer-normalised.
        size_px: the em of the lettering.
        avoid: boxes, in pixels of the page, to stay clear of.

    Returns:
        Where it is, if there is room for one.
    """
    at, (x0, x1, y0, y1) = projection.at, projection.extent
    if x1 <= x0 or at.width < 14 * size_px or at.height < 8 * size_px:
        return []
    length = round_length(0.16 * (x1 - x0))
    wide = round(length / (x1 - x0) * at.width)
    kind = Type(size_px, "Semibold")
    words = f"{label(length)} {WORDS.get(units, '')}".strip()
    need = max(wide, math.ceil(text_width(words, kind)))
    inset, tall = round(1.5 * size_px), round(2.2 * size_px)
    left, right = at.x + inset, at.right - inset - need
    top, bottom = at.y + inset, at.bottom - inset - tall
    corners = [Box(x, y, need, tall) for y in (bottom, top) for x in (right, left)]
    free = [c for c in corners if all(c.grown(inset // 2).meet(b).empty for b in avoid)]
    place = free[0] if free else corners[0]
    across = (place.x + place.width / 2 - at.x) / at.width
    up = (at.bottom - place.y - place.height / 2) / at.height
    beneath = nearest_values(surface, x0 + across * (x1 - x0), y0 + up * (y1 - y0))
    inks = inks_on(ground_at(beneath, tone, sheet.theme), sheet.theme)
    thick, post = max(1, round(0.13 * size_px)), max(2, round(0.42 * size_px))
    rightwards = place.x > at.x + at.width / 2
    start = place.right - wide if rightwards else place.x
    base = place.bottom - thick
    bars = (
        Box(start, base, wide, thick),
        Box(start, base - post, thick, post),
        Box(start + wide - thick, base - post, thick, post),
    )
    for bar in bars:
        sheet.rectangle(bar.grown(max(1, thick // 3)), hex_colour(inks.casing), 0.35)
    for bar in bars:
        sheet.rectangle(bar, hex_colour(inks.pen))
    end = place.right if rightwards else place.x
    above = base - post - 0.35 * size_px
    sheet.haloed(words, kind, end, above, inks, "right" if rightwards else "left")
    return [place]
