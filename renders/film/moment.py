"""Moments of a film: its computed frames, and smooth ones in between.

In between, every grid value runs along a cubic through the computed frames: C¹ in time, and
monotone from frame to frame, so that nothing is ever shown lower or higher than it was computed
before or after. Values run in the tone's space, like the colours; the extent, the anchors and the
curve run along with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from renders.colour import FloatArray
from renders.map.field import spline_of
from renders.map.holes import FINITE, cell_kinds, fill
from renders.map.tone import Tone
from renders.source.marks import MarkGroup
from renders.source.surface import Surface, labelled


@dataclass(frozen=True, eq=False)
class Moment:
    """What one picture of a film shows.

    Attributes:
        surface: the landscape; of a moment in between, its `frame` is the nearer neighbour's.
        before, after: the computed frames it lies between; equal for a computed frame.
        part: how far it is from `before` to `after`, in [0, 1).
        grown: how far the lines of marks have grown, in [0, 1]; None follows the frames' numbers.
    """

    surface: Surface
    before: int
    after: int
    part: float = 0.0
    grown: float | None = None

    @property
    def computed(self) -> bool:
        return self.before == self.after

    @property
    def place(self) -> float:
        """The frame number, with a fraction in between."""
        return self.before + self.part * (self.after - self.before)


@dataclass(frozen=True)
class Readings:
    """What a frame's caption says, in the values' own unit; None where there is no such place.

    `bend` is the value at the bend, `highest` the highest on the curve.
    """

    bend: float | None
    highest: float | None


def moments(surfaces: Iterable[Surface], between: int, tone: Tone) -> Iterator[Moment]:
    """The computed frames, and `between` even steps from each to the next.

    Holds four surfaces at a time, however many there are.
    """
    source = iter(surfaces)
    window: list[Surface | None] = [None, None, next(source, None), next(source, None)]
    while window[2] is not None:
        window = [*window[1:], next(source, None)]
        past, first, second, future = window
        assert first is not None
        yield Moment(first, first.frame, first.frame)
        if second is None:
            return
        for step in range(1, between + 1):
            part = step / (between + 1)
            surface = surface_between(past, first, second, future, part, tone)
            yield Moment(surface, first.frame, second.frame, part)


def surface_between(
    past: Surface | None,
    first: Surface,
    second: Surface,
    future: Surface | None,
    part: float,
    tone: Tone,
) -> Surface:
    """The landscape between two computed frames.

    A grid point that is not finite, or not computed, in one of the two keeps for each half of the
    way what it is in the nearer one.

    Args:
        past, future: the frames before and after the two; None at the film's ends.
        first, second: what it lies between, of one grid.
        part: how far, strictly between 0 and 1.
        tone: in whose space values run.
    """
    near = first if part < 0.5 else second
    space = [None if s is None else _known(s, tone) for s in (past, first, second, future)]
    blend = _along(space[0], _array(space[1]), _array(space[2]), space[3], part)
    values = np.where(np.isfinite(blend), tone.from_space(blend), near.values)

    def run(of: list[FloatArray | None]) -> FloatArray:
        return _along(of[0], _array(of[1]), _array(of[2]), of[3], part)

    four = (past, first, second, future)
    extent = run([None if s is None else np.array(s.extent) for s in four])
    places = run([None if s is None else _places(s) for s in four])
    curve = None
    if first.curve is not None and second.curve is not None:
        curve = run([None if s is None else s.curve for s in four])
    rim = float(extent[0]), float(extent[1]), float(extent[2]), float(extent[3])
    data = labelled(
        values.astype(np.float32), rim, near.quantity, near.split, near.frame, near.data.attrs
    )
    return Surface(
        data,
        np.where(np.isfinite(blend), True, near.finished),
        rim,
        tuple(
            replace(anchor, x=float(x), y=float(y), off_plane=float(off_plane))
            for anchor, (x, y, off_plane) in zip(first.anchors, places, strict=True)
        ),
        curve,
        (),
        _marks_between(four, run),
    )


def _marks_between(
    four: Sequence[Surface | None], run: Callable[[list[FloatArray | None]], FloatArray]
) -> tuple[MarkGroup, ...]:
    """The marks in a plane between two frames' planes; their own values are the same in both."""
    assert four[1] is not None
    found = []
    for index, group in enumerate(four[1].marks):
        places = run([None if s is None else s.marks[index].places for s in four])
        found.append(group.moved(*places.T))
    return tuple(found)


def _along(
    past: FloatArray | None,
    first: FloatArray,
    second: FloatArray,
    future: FloatArray | None,
    part: float,
) -> FloatArray:
    """The monotone cubic from `first` to `second`; NaN where either is.

    Source: Fritsch & Butland 1984, doi:10.1137/0905021, for even steps.
    """
    rise = second - first
    start = rise if past is None else _slope(first - past, rise)
    end = rise if future is None else _slope(rise, future - second)
    t = part
    swing = start * t * (1 - t) ** 2 - end * t * t * (1 - t)
    return np.asarray(first + rise * t * t * (3 - 2 * t) + swing)


def _slope(before: FloatArray, after: FloatArray) -> FloatArray:
    # A neighbour that is not finite counts as absent: the slope is then the other side's own.
    before, after = (
        np.where(np.isfinite(before), before, after),
        np.where(np.isfinite(after), after, before),
    )
    same = before * after > 0
    total = np.where(same, before + after, 1.0)
    return np.where(same, 2 * before * after / total, 0.0)


def _known(surface: Surface, tone: Tone) -> FloatArray:
    finite = cell_kinds(surface.values, surface.finished) == FINITE
    space = tone.to_space(np.where(finite, surface.values, np.float32(1)))
    return np.where(finite, space, np.nan)


def _places(surface: Surface) -> FloatArray:
    return np.array([(a.x, a.y, a.off_plane) for a in surface.anchors]).reshape(-1, 3)


def _array(values: FloatArray | None) -> FloatArray:
    assert values is not None
    return values


def readings(surface: Surface, tone: Tone) -> Readings:
    """The values at the bend and at the highest point of the curve, read off the rendered grid.

    They are values of the picture, not new evaluations of the network: the spline that the picture
    is drawn with, at the projected places, kept within the grid points around each. Between grid
    points, and for weights off the plane, the network's own loss may differ; a report along the
    curve says it exactly.

    Args:
        surface: of one moment.
        tone: in whose space the spline runs.

    Returns:
        None for what does not exist, lies outside the grid, or is not computed yet; inf or NaN
        where the landscape is.
    """
    bends = [(a.x, a.y) for a in surface.anchors if a.name == "bend"]
    curve = surface.curve[:, :2] if surface.curve is not None else np.empty((0, 2))
    values, seen = _read(surface, tone, np.array([*bends, *_dense(curve)]).reshape(-1, 2))
    bend = float(values[0]) if bends and seen[0] else None
    along = values[len(bends) :][seen[len(bends) :]]
    return Readings(bend, float(along.max()) if len(along) else None)


def anchor_readings(surface: Surface, tone: Tone, names: Sequence[str]) -> list[float | None]:
    """The values at the anchors of these names, read off the grid as `readings` does."""
    there = {anchor.name: (anchor.x, anchor.y) for anchor in surface.anchors}
    points = np.array([there[name] for name in names]).reshape(-1, 2)
    values, seen = _read(surface, tone, points)
    return [
        float(value) if here else None for value, here in zip(values.tolist(), seen, strict=True)
    ]


def _read(surface: Surface, tone: Tone, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values at places (n, 2) of the plane, and whether they are inside the grid and computed."""
    height, width = surface.values.shape
    x0, x1, y0, y1 = surface.extent
    if height < 2 or width < 2 or not (x1 > x0 and y1 > y0):
        return np.full(len(points), np.nan), np.zeros(len(points), bool)
    u = (points[:, 0] - x0) / (x1 - x0) * (width - 1)
    v = (points[:, 1] - y0) / (y1 - y0) * (height - 1)
    return _sampled(surface, tone, u, v)


def _dense(curve: FloatArray) -> FloatArray:
    """The curve with four points for one, so that its summit is not stepped over."""
    if len(curve) < 2:
        return curve
    at = np.linspace(0, len(curve) - 1, 4 * (len(curve) - 1) + 1)
    knots = np.arange(len(curve))
    return np.stack([np.interp(at, knots, curve[:, c]) for c in (0, 1)], axis=1)


def _sampled(
    surface: Surface, tone: Tone, u: FloatArray, v: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Values at grid coordinates, and whether they are inside the grid and computed."""
    height, width = surface.values.shape
    slack = 1e-9 * max(height, width)
    inside = (u >= -slack) & (u <= width - 1 + slack) & (v >= -slack) & (v <= height - 1 + slack)
    i = np.clip(np.floor(u), 0, width - 2).astype(np.int64)
    j = np.clip(np.floor(v), 0, height - 2).astype(np.int64)
    known = _known(surface, tone)
    holes = np.isnan(known)
    smooth = spline_of(fill(known, ~holes))(np.stack([v, u], axis=-1))
    corners = np.stack([known[j + b, i + a] for b in (0, 1) for a in (0, 1)])
    # A spline beside a wall swings; what it adds to its four corners is held to their spread.
    low, high = corners.min(axis=0), corners.max(axis=0)
    spread = high - low
    smooth = np.clip(smooth, low - spread / 4, high + spread / 4)
    near_i = np.clip(np.rint(u), 0, width - 1).astype(np.int64)
    near_j = np.clip(np.rint(v), 0, height - 1).astype(np.int64)
    plain = surface.values[near_j, near_i].astype(np.float64)
    values = np.where(np.isfinite(smooth), tone.from_space(smooth), plain)
    return values, inside & surface.finished[near_j, near_i]


def figure(value: float | None, decimals: int) -> str:
    """A reading as it is lettered, always as wide: `0.061`; `—` where there is none."""
    if value is None or math.isnan(value):
        return "—" if value is None else "NaN"
    if math.isinf(value):
        return "∞"
    if abs(value) >= 1e5:
        return f"{value:.2e}".replace("e+0", "e").replace("e+", "e")
    return f"{value:,.{decimals}f}".replace("-", "−")


def decimals_for(tone: Tone) -> int:
    """How many decimals a film's readings have, the same in all of its frames."""
    least = max(tone.low, 1e-12) if tone.space == "log" else (tone.high - tone.low) / 10
    return min(5, max(0, 1 - math.floor(math.log10(least))))
