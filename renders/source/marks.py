"""Marks of a run: named sets of weights beside a plane, with values of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline import naming
from pipeline.errors import LossatlasError
from renders.colour import FloatArray

if TYPE_CHECKING:
    from pipeline.store.reader import StoreReader

Rectangle = tuple[float, float, float, float]
GLYPHS = ("circle", "square", "diamond", "triangle", "cross", "plus", "ring")
COLOURS = ("#ffffff", "#f2cf1f", "#9fcbf2", "#ee5038", "#4ce8a3", "#c263ee")
"""Of groups without one of their own, in this order.

All read over a dark casing. They are told apart with any of the three kinds of colour blindness,
which `tests/renders/test_marks.py` measures.
"""
IN_PLANE = 1e-6
"""Distances below this share of the plane's diagonal are rounding, and count as none."""


class MarksError(LossatlasError):
    """Marks of a store that cannot be drawn."""


@dataclass(frozen=True, eq=False)
class MarkGroup:
    """Marks that are drawn alike, over one frame and one split.

    Attributes:
        label: what the legend calls them; safe to show.
        x, y: places in the plane, float64 (n,).
        off_plane: distance of the weights off the plane, float64 (n,).
        fade: that distance as a share of the greatest of the marks inside the picture, over all
            frames, float64 (n,) in [0, 1].
        own: quantity → values at the marks' own weights, float64 (n,); NaN and inf are results.
        finished: whether a mark is evaluated, bool (n,).
        names: one a mark; safe to show.
        numbers: epoch or step, float64 (n,); NaN where there is none.
        line: whether the marks are joined in their order.
        glyph: one of `GLYPHS`.
        colour: `#rrggbb`, of line and rims.
        seen: whether any frame of the run shows a mark of it or a part of its line.
        tip: whether the last entry is not a mark but the place to which a growing line has come.
    """

    label: str
    x: FloatArray
    y: FloatArray
    off_plane: FloatArray
    fade: FloatArray
    own: Mapping[str, FloatArray]
    finished: npt.NDArray[np.bool_]
    names: tuple[str, ...]
    numbers: FloatArray
    line: bool = False
    glyph: str = "circle"
    colour: str = COLOURS[0]
    seen: bool = True
    tip: bool = False

    @property
    def count(self) -> int:
        """How many marks there are, the tip of a growing line not among them."""
        return len(self.x) - self.tip

    def own_values(self, quantity: str) -> FloatArray | None:
        """Values at the marks' own weights, float64 (n,), NaN where none is evaluated yet.

        None where the store has no such values.
        """
        return self.own.get(quantity)

    def inside(self, extent: Rectangle) -> npt.NDArray[np.bool_]:
        """Which marks lie inside x0, x1, y0, y1, bool (n,); the tip of a growing line does not."""
        return inside(self.x, self.y, extent) & self.dots

    def meets(self, extent: Rectangle) -> bool:
        """Whether a mark, or a part of the line, lies inside x0, x1, y0, y1."""
        return _meets(self.x, self.y, self.line, extent)

    @property
    def places(self) -> FloatArray:
        """x, y, distance off the plane, and that as a share: float64 (n, 4)."""
        return np.stack([self.x, self.y, self.off_plane, self.fade], axis=1)

    def moved(
        self, x: FloatArray, y: FloatArray, off_plane: FloatArray, fade: FloatArray
    ) -> MarkGroup:
        """The same marks at other places."""
        return replace(self, x=x, y=y, off_plane=off_plane, fade=fade)

    @property
    def dots(self) -> npt.NDArray[np.bool_]:
        """Which entries are marks, bool (n,): all but the tip of a growing line."""
        return np.arange(len(self.x)) < self.count

    def grown(self, upto: float) -> MarkGroup:
        """The marks with an index of at most `upto`, and the line to the place at `upto`.

        Between two marks the tip moves straight and evenly from one to the other.

        Args:
            upto: a fractional index; below 0 nothing is left, from the last mark on everything.
        """
        last = self.count - 1
        if upto >= last:
            return self
        whole = math.floor(upto)
        part = upto - whole
        tip = self.line and whole >= 0 and part > 0
        kept = self.taken(np.arange(max(0, whole + 1 + tip)))
        if not tip:
            return kept

        def moved(values: FloatArray) -> FloatArray:
            values = values.copy()
            with np.errstate(invalid="ignore"):  # a mark may have diverged
                values[-1] = values[-2] + part * (values[-1] - values[-2])
            return values

        own = {name: moved(values) for name, values in kept.own.items()}
        return replace(kept.moved(*moved(kept.places).T), own=own, tip=True)

    def taken(self, index: npt.NDArray[np.int64]) -> MarkGroup:
        """The marks with these indices alone."""
        return replace(
            self,
            x=self.x[index],
            y=self.y[index],
            off_plane=self.off_plane[index],
            fade=self.fade[index],
            own={name: values[index] for name, values in self.own.items()},
            finished=self.finished[index],
            names=tuple(self.names[k] for k in index.tolist()),
            numbers=self.numbers[index],
            tip=False,
        )


def inside(x: FloatArray, y: FloatArray, extent: Rectangle) -> npt.NDArray[np.bool_]:
    """Which places lie inside x0, x1, y0, y1, bool (n,); on the rim but for rounding they do."""
    x0, x1, y0, y1 = extent
    wide, high = 1e-9 * (x1 - x0), 1e-9 * (y1 - y0)
    across = (x >= x0 - wide) & (x <= x1 + wide)
    return np.asarray(across & (y >= y0 - high) & (y <= y1 + high))


def parts_inside(x: FloatArray, y: FloatArray, extent: Rectangle) -> tuple[FloatArray, FloatArray]:
    """Between which parts of the way from each place to the next it lies inside x0, x1, y0, y1.

    Returns:
        Two arrays, float64 (n − 1,), in [0, 1]. The first is not below the second where nothing
        lies inside.

    Source: Liang & Barsky 1984, doi:10.1145/357332.357333.
    """
    low, high = np.zeros(max(len(x) - 1, 0)), np.ones(max(len(x) - 1, 0))
    for at, rims in ((x, extent[:2]), (y, extent[2:])):
        start, end = at[:-1], at[1:]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            enter, leave = np.sort([(rim - start) / (end - start) for rim in rims], axis=0)
        still = start == end
        within = (start >= rims[0]) & (start <= rims[1])
        low = np.maximum(low, np.where(still, 0.0, enter))
        high = np.minimum(high, np.where(still, np.where(within, 1.0, 0.0), leave))
    nowhere = np.isnan(low) | np.isnan(high)
    return np.where(nowhere, 0.0, low), np.where(nowhere, 0.0, high)


def _meets(x: FloatArray, y: FloatArray, line: bool, extent: Rectangle) -> bool:
    if inside(x, y, extent).any():
        return True
    low, high = parts_inside(x, y, extent)
    return line and bool((low < high).any())


def read_marks(store: StoreReader, split: str, frame: int) -> tuple[MarkGroup, ...]:
    """The marks of a store over one split and one frame; empty where it has none.

    Raises:
        MarksError: a glyph or a colour does not exist.
        LossatlasError: a chunk is damaged.
    """
    from pipeline.store.marks import StoredMarks  # Zarr: not for those who ask for help

    stored = StoredMarks(store)
    if not stored.count:
        return ()
    at = store.splits.index(split)
    places, finished = stored.places(frame), stored.finished()
    own = {q: stored.values(q)[at].astype(np.float64) for q in store.quantities}
    own = {quantity: np.where(finished, values, np.nan) for quantity, values in own.items()}
    frames = [stored.places(k) for k in range(store.frames)]
    extents = [_rectangle(store, k) for k in range(store.frames)]
    fade = _fade(places, frames, extents)
    found, start = [], 0
    for index, group in enumerate(stored.groups):
        part = slice(start, start + group.count)
        start += group.count
        ways = (
            (places[part].T[:2], extent) for places, extent in zip(frames, extents, strict=True)
        )
        found.append(
            MarkGroup(
                naming.shown(group.label),
                places[part, 0],
                places[part, 1],
                places[part, 2],
                fade[part],
                {name: values[part] for name, values in own.items()},
                finished[part],
                tuple(map(naming.shown, group.names)),
                np.array([math.nan if n is None else n for n in group.numbers], np.float64),
                group.line,
                _glyph(group.glyph, index, store.url),
                _colour(group.colour, index, store.url),
                any(_meets(x, y, group.line, extent) for (x, y), extent in ways),
            )
        )
    return tuple(found)


def _rectangle(store: StoreReader, frame: int) -> Rectangle:
    extent = store.extent(frame)
    return extent.x0, extent.x1, extent.y0, extent.y1


def _fade(
    places: FloatArray, frames: Sequence[FloatArray], extents: Sequence[Rectangle]
) -> FloatArray:
    """δ of `places` as a share of the greatest inside the picture, over all frames, (n,).

    Marks outside would else decide how what is seen fades. Without any inside, all of them count.
    """
    shown = [inside(at[:, 0], at[:, 1], extent) for at, extent in zip(frames, extents, strict=True)]
    if not any(each.any() for each in shown):
        shown = [np.ones(len(places), bool)] * len(frames)
    off = np.concatenate([at[each, 2] for at, each in zip(frames, shown, strict=True)])
    worst = float(off[np.isfinite(off)].max(initial=0.0))
    x0, x1, y0, y1 = extents[0]
    least = IN_PLANE * math.hypot(x1 - x0, y1 - y0)
    if worst <= least:
        return np.where(places[:, 2] <= least, 0.0, 1.0)
    return np.clip(np.nan_to_num(places[:, 2] / worst, nan=1.0), 0.0, 1.0)


def _glyph(glyph: str | None, index: int, url: str) -> str:
    glyph = glyph or GLYPHS[index % len(GLYPHS)]
    if glyph not in GLYPHS:
        raise MarksError(
            f"{url} has a glyph '{naming.shown(glyph)}': wanted one of {', '.join(GLYPHS)}"
        )
    return glyph


def _colour(colour: str | None, index: int, url: str) -> str:
    if colour is None:
        return COLOURS[index % len(COLOURS)]
    from matplotlib.colors import to_hex

    try:
        return to_hex(colour)
    except ValueError:
        raise MarksError(
            f"{url} has a colour '{naming.shown(colour)}': wanted #rrggbb or a name that "
            "matplotlib knows, such as crimson"
        ) from None
