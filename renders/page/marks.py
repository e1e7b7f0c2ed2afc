"""Marks on a page: a glyph for each, in the colour of its own value, and the lines that join them.

Few of them are shapes on the sheet. Thousands are painted in pixels, see `renders.map.points`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from renders.box import Box
from renders.colour import FloatArray, hex_colour, rgb
from renders.map.tone import Tone
from renders.page.glyph import outline
from renders.page.inks import inks_on
from renders.page.sheet import Sheet
from renders.page.theme import Theme
from renders.projection import Projection
from renders.source.marks import MarkGroup

T = TypeVar("T")

CROWD = 2_000
"""More marks are painted in pixels: they lie on one another, and a crowd has one outline there. As
shapes each would be four paths in a vector file."""
FAINTEST = 0.16
"""Opacity of a line where it is farthest off the plane."""
_TOGETHER = 64
"""Marks of one artist: a page is drawn cell by cell, and passes over artists that lie elsewhere."""
_RIMS = {"ring": 0.14, "cross": 0.15, "plus": 0.15}
"""Widths of the rims of glyphs that are lines themselves; in radii."""
_RIM = 0.30
CASING, HALO = 0.26, 0.62
"""How far casing and halo lie outside the glyph, in radii."""
LINE = 0.44
"""Width of a line, in radii of its marks."""
_STEM, _THIN = 0.75, 0.5
"""Opacity of a stem, and its width in widths of a line."""
_MOST_ALONG = 200
_CASINGS = ((2.9, 0.16), (1.75, 0.72))
"""Width, in widths of the line, and opacity of what lies beneath it."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A group of marks in pixels of the page.

    Attributes:
        group: whose.
        x, y: of its marks, float64 (n,); NaN where one is not seen.
        steps: of a line, one way from each mark to the next, each float64 (points, 2); none where
            it is not seen.
        opacities: one a step.
        stems: from marks down to the ground beneath them, each float64 (points, 2).
    """

    group: MarkGroup
    x: FloatArray
    y: FloatArray
    steps: tuple[FloatArray, ...] = ()
    opacities: tuple[float, ...] = ()
    stems: tuple[FloatArray, ...] = ()

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Which marks are drawn, bool (n,)."""
        return np.isfinite(self.x) & np.isfinite(self.y) & self.group.dots

    def outlines(self, radius: float) -> list[Path]:
        """Halo, casing, rim and inside of the glyph about (0, 0)."""
        glyph = self.group.glyph
        return [
            outline(glyph, radius, share * radius) for share in (HALO, CASING, 0.0, -rim_of(glyph))
        ]


def rim_of(glyph: str) -> float:
    """Width of a glyph's rim, in radii."""
    return _RIMS.get(glyph, _RIM)


def opacity(fade: npt.ArrayLike) -> FloatArray:
    """Of a line whose distance off the plane is `fade` times the greatest in the picture."""
    return 1 - (1 - FAINTEST) * np.clip(np.asarray(fade, dtype=np.float64), 0, 1)


def step_opacities(group: MarkGroup) -> FloatArray:
    """One a step of a group's line, float64 (n − 1,): that of the middle of its ends."""
    return opacity((group.fade[:-1] + group.fade[1:]) / 2)


def on_map(groups: Iterable[MarkGroup], projection: Projection) -> tuple[Placed, ...]:
    """Marks on a flat map. Those outside it are not seen; lines are clipped when they are drawn."""
    found = []
    at = projection.at
    for group in groups:
        x, y = projection.pixels(group.x, group.y)
        steps: tuple[FloatArray, ...] = ()
        if group.line:
            ends = np.stack([x, y], axis=1)
            steps = tuple(np.stack([ends[:-1], ends[1:]], axis=1))
        inside = (x >= at.x - 1) & (x <= at.right + 1) & (y >= at.y - 1) & (y <= at.bottom + 1)
        opacities = tuple(step_opacities(group).tolist()) if group.line else ()
        seen_x, seen_y = np.where(inside, x, np.nan), np.where(inside, y, np.nan)
        found.append(Placed(group, seen_x, seen_y, steps, opacities))
    return tuple(found)


def radius_for(groups: Iterable[MarkGroup], unit: float) -> float:
    """Of a mark, pixels: many are drawn smaller than few."""
    count = max(sum(group.count for group in groups), 1)
    if count <= CROWD:
        return unit * float(np.clip(5.2 * (40 / max(count, 40)) ** 0.28, 2.1, 5.2))
    return unit * max(2.1 * float((CROWD / count) ** 0.25), 0.8)


def crowded(groups: Iterable[MarkGroup]) -> bool:
    """Whether there are too many marks to be shapes."""
    return sum(group.count for group in groups) > CROWD


def fills(group: MarkGroup, quantity: str, tone: Tone, theme: Theme) -> FloatArray:
    """The colour inside every mark, encoded, float64 (n, 3): the tone of its own value.

    The casing's where it is not evaluated yet, and the group's where the store has no such values.
    """
    values = group.own_values(quantity)
    if values is None:
        colours = np.repeat(rgb(group.colour)[None], len(group.x), axis=0)
    else:
        knots = np.stack([rgb(colour) for colour in tone.palette])
        at = np.nan_to_num(tone.position(values)) * (len(knots) - 1)
        columns = [np.interp(at, np.arange(len(knots)), knots[:, c]) for c in range(3)]
        colours = np.stack(columns, axis=1)
        colours[np.isnan(values)] = rgb(tone.nan)
        colours[np.isposinf(values)] = rgb(tone.inf)
    colours[~group.finished] = casing_of(group, theme)
    return colours


def casing_of(group: MarkGroup, theme: Theme) -> FloatArray:
    """What lies beneath a group's lines and rims, encoded (3,), so that they read on any ground."""
    return inks_on(rgb(group.colour), theme).pen


def draw_marks(
    sheet: Sheet,
    placed: Sequence[Placed],
    quantity: str,
    tone: Tone,
    radius_px: float,
    clip: Box | None = None,
) -> None:
    """Lines first, and the marks over all of them.

    Args:
        sheet: where.
        placed: what; later marks lie over earlier ones, see `stacked`.
        quantity, tone: whose own values colour the marks, and how.
        radius_px: of a mark.
        clip: nothing of a line is seen outside.
    """
    for group in placed:
        stems = replace(group, steps=group.stems, opacities=(_STEM,) * len(group.stems))
        _draw_line(sheet, stems, _THIN * LINE * radius_px, clip)
    for group in placed:
        _draw_line(sheet, group, LINE * radius_px, clip)
    for group in stacked(placed):
        inside = fills(group.group, quantity, tone, sheet.theme)
        _draw_glyphs(sheet, group, inside, radius_px)


def stacked(placed: Iterable[Placed]) -> list[Placed]:
    """The lowest first: a mark that is alone in its group lies over the marks of larger groups."""
    return sorted(placed, key=lambda each: each.group.count == 1 and not each.group.line)


def draw_group(sheet: Sheet, placed: Placed, inside: FloatArray, radius_px: float) -> None:
    """One group alone, in given colours, float64 (n, 3)."""
    _draw_line(sheet, placed, LINE * radius_px, None)
    _draw_glyphs(sheet, placed, inside, radius_px)


def _draw_line(sheet: Sheet, placed: Placed, width_px: float, clip: Box | None) -> None:
    casing = hex_colour(casing_of(placed.group, sheet.theme))
    pens = [(share, casing, part) for share, part in _CASINGS]
    for share, colour, part in (*pens, (1.0, placed.group.colour, 1.0)):
        ways = [(s, o) for s, o in zip(placed.steps, placed.opacities, strict=True) if len(s) > 1]
        for some in _parts(ways):
            strokes = _Strokes(
                [way for way, _ in some],
                colors=[(colour, part * opaque) for _, opaque in some],
                linewidths=sheet.points(share * width_px),
                capstyle="butt",  # round ends would show twice where two steps meet
                joinstyle="round",
                transform=sheet.place,
                zorder=2,
            )
            sheet.figure.add_artist(strokes)
            if clip is not None:
                strokes.set_clip_box(sheet.bounds(clip))


def _draw_glyphs(sheet: Sheet, placed: Placed, inside: FloatArray, radius_px: float) -> None:
    colour, casing = rgb(placed.group.colour), casing_of(placed.group, sheet.theme)
    layers = placed.outlines(radius_px)
    for some in _parts(np.flatnonzero(placed.seen).tolist()):
        paths, faces = [], []
        for k in some:
            at = placed.x[k], placed.y[k]
            paths += [Path(np.asarray(layer.vertices) + at, layer.codes) for layer in layers]
            colours = ((casing, 0.22), (casing, 0.92), (colour, 1.0), (inside[k], 1.0))
            faces += [(hex_colour(shade), opaque) for shade, opaque in colours]
        look: dict[str, Any] = {"linewidths": 0, "snap": False, "zorder": 2}
        shapes = _Shapes(paths, facecolors=faces, transform=sheet.place, **look)
        sheet.figure.add_artist(shapes)


def _parts(items: list[T]) -> list[list[T]]:
    return [items[k : k + _TOGETHER] for k in range(0, len(items), _TOGETHER)]


class _Strokes(LineCollection):
    """Lines that know where they are: matplotlib knows it only of what is in axes."""

    def get_window_extent(self, renderer: Any = None) -> Bbox:
        return _bounds(self)


class _Shapes(PathCollection):
    """Shapes that know where they are."""

    def get_window_extent(self, renderer: Any = None) -> Bbox:
        return _bounds(self)


def _bounds(artist: Any) -> Bbox:
    places = np.concatenate([path.vertices for path in artist.get_paths()])
    low, high = places.min(axis=0), places.max(axis=0)
    return Bbox([low, high]).transformed(artist.get_transform())


def boxes(placed: Iterable[Placed], radius_px: float, cell_px: float) -> list[Box]:
    """About where marks and lines are; one box for all that share a cell of the page.

    Args:
        placed: which.
        radius_px: of a mark.
        cell_px: side of a cell, pixels.
    """
    size = max(2.5 * radius_px, cell_px)
    places = np.concatenate([_along(group, size) for group in placed] or [np.empty((0, 2))])
    cells = np.unique(np.rint(places / size), axis=0) * size
    half = round(max(1.3 * radius_px, size / 2))
    return [Box(round(x), round(y), 1, 1).grown(half) for x, y in cells.tolist()]


def _along(placed: Placed, step: float) -> FloatArray:
    """Places of marks, and on lines at least every `step` pixels, float64 (n, 2)."""
    dots = np.stack([placed.x, placed.y], axis=1)[placed.seen]
    starts = np.concatenate([*(way[:-1] for way in placed.steps), np.empty((0, 2))])
    ends = np.concatenate([*(way[1:] for way in placed.steps), np.empty((0, 2))])
    long = np.hypot(*(ends - starts).T)
    starts, ends, long = (each[np.isfinite(long)] for each in (starts, ends, long))
    counts = np.minimum(long / step, _MOST_ALONG).astype(np.int64)
    index = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
    part = ((rank + 1) / (counts[index] + 1))[:, None]
    return np.concatenate([dots, starts[index] + part * (ends - starts)[index]])
