"""Contours: isolines at round values, found per pixel as |z − level| / |∇z|."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.colour import FloatArray, rgb
from renders.map.tone import LUT_SIZE, Tone
from renders.ticks import label, linear_ticks, round_step, spread_ticks


@dataclass(frozen=True)
class Contours:
    """Which values are drawn as lines, and how wide.

    Attributes:
        levels: ascending values.
        index: per level, whether it is a heavier, labelled index contour.
        width_px: of an ordinary line; an index contour is `index_width_px`.
        colours: one `#rrggbb` a level, so that dark lines cross light ground and the reverse.
        opacity, index_opacity: in [0, 1].

    Value and slope come from the spline at the pixel itself.
    """

    levels: tuple[float, ...]
    index: tuple[bool, ...]
    width_px: float
    index_width_px: float
    colours: tuple[str, ...]
    opacity: float
    index_opacity: float

    def numbers(self, tone: Tone) -> tuple[FloatArray, npt.NDArray[np.int32]]:
        """Per level (position in space, half width, opacity, room to the next, encoded r, g, b),
        float64 (levels, 7), and the nearest level of every look-up table entry, int32 (65536,)."""
        at = tone.to_space(np.array(self.levels, dtype=np.float64))
        table = np.empty((len(at), 7))
        index = np.array(self.index, dtype=bool)
        table[:, 0] = at
        table[:, 1] = np.where(index, self.index_width_px, self.width_px) / 2
        table[:, 2] = np.where(index, self.index_opacity, self.opacity)
        table[:, 3] = _room(at)
        if index.any():
            table[index, 3] = _room(at[index])
        table[:, 4:] = [rgb(c) for c in self.colours]
        lo, hi = tone.span
        middles = (at[1:] + at[:-1]) / 2
        nearest = np.searchsorted(middles, np.linspace(lo, hi, LUT_SIZE))
        return table, nearest.astype(np.int32)


def _room(at: FloatArray) -> FloatArray:
    gaps = np.concatenate([[np.inf], np.diff(at), [np.inf]])
    return np.asarray(np.minimum(gaps[1:], gaps[:-1]))


def round_levels(tone: Tone, count: int = 16) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    """About `count` round values spread over the palette, and which of them are index contours."""
    low, high = tone.low, tone.high

    def place(value: float) -> float:
        return float(tone.position(value))

    if tone.how == "linear":
        step = round_step(high - low, count)
        levels = linear_ticks(low, high, count)
        heavy = [abs(v / step - 5 * round(v / step / 5)) < 1e-6 for v in levels]
    else:
        levels = spread_ticks(low, high, place, 0.62 / count)
        chosen = {label(v) for v in spread_ticks(low, high, place, 2.6 / count)}
        heavy = [label(v) in chosen for v in levels]
    inside = [(v, h) for v, h in zip(levels, heavy, strict=True) if low < v < high]
    return tuple(v for v, _ in inside), tuple(h for _, h in inside)
