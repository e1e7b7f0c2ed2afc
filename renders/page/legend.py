"""The legend: the palette as a bar with round ticks, and swatches for what is no value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray, rgb
from renders.map.tone import Tone
from renders.page.axes import framed, lettered
from renders.page.sheet import Sheet
from renders.page.text import Type, cap_height, text_width
from renders.ticks import label, spread_ticks


@dataclass(frozen=True, eq=False)
class Ramp:
    """The palette laid along a box, low to high rightwards or upwards: a layer of a picture.

    Steps along the bar are equal steps of colour, whatever the tone does to values. It is dithered
    as the map is: matplotlib would show its 256 colours as steps.
    """

    at: Box
    colours: FloatArray
    upwards: bool = False

    @property
    def covers(self) -> Box:
        return self.at

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None:
        """Paint what lies inside `box` into `out`, uint8 (height, width, 3)."""
        from renders.map.palette import quantise

        part = box.meet(self.at)
        if part.empty:
            return
        if self.upwards:
            at = 1 - (np.arange(part.y, part.bottom) + 0.5 - self.at.y) / self.at.height
            colours = self._at(at)[:, None]
        else:
            at = (np.arange(part.x, part.right) + 0.5 - self.at.x) / self.at.width
            colours = self._at(at)[None]
        shown = np.broadcast_to(colours, (part.height, part.width, 3)).astype(np.float32)
        out[part.rows(box), part.columns(box)] = quantise(shown, part)

    def _at(self, part: FloatArray) -> FloatArray:
        knots = np.linspace(0, 1, len(self.colours))
        return np.stack([np.interp(part, knots, self.colours[:, c]) for c in range(3)], axis=-1)


def ramp(tone: Tone, at: Box) -> Ramp:
    """The tone's palette along `at`: upwards where it is taller than wide."""
    return Ramp(at, np.stack([rgb(c) for c in tone.palette]), at.height > at.width)


def draw_scale(sheet: Sheet, tone: Tone, at: Box, size_px: float, line_px: int) -> None:
    """The bar's frame, and ticks and figures below it; right of it where it runs upwards."""
    kind, upwards = Type(size_px), at.height > at.width
    axes = framed(sheet, at, max(1, round(0.6 * line_px)))
    length = at.height if upwards else at.width
    room = 2.2 * size_px if upwards else 1.1 * size_px + text_width("0.05", kind)
    values = spread_ticks(tone.low, tone.high, lambda v: float(tone.position(v)), room / length)
    places = [float(tone.position(v)) for v in values]
    if upwards:
        axes.yaxis.tick_right()
    tick, gap = round(0.4 * size_px), 0.4 * size_px
    words = [label(v) for v in values]
    lettered(sheet, axes, "y" if upwards else "x", places, words, kind, tick, gap, line_px)


def draw_swatches(
    sheet: Sheet, entries: list[tuple[str, str]], x: float, baseline: float, size_px: float
) -> None:
    """Small squares of (colour, meaning), laid leftwards so that the last ends at `x`."""
    kind = Type(size_px)
    side = round(cap_height(kind))
    for colour, meaning in reversed(entries):
        sheet.text(meaning, kind, x, baseline, "right", sheet.theme.muted)
        x -= text_width(meaning, kind) + 0.5 * size_px + side
        square = Box(round(x), round(baseline) - side, side, side)
        sheet.rectangle(square.grown(max(1, side // 12)), sheet.theme.hairline)
        sheet.rectangle(square, colour)
        x -= 1.4 * size_px


def swatches_width(entries: list[tuple[str, str]], size_px: float) -> float:
    """How far `draw_swatches` reaches, in pixels."""
    kind = Type(size_px)
    each = 1.9 * size_px + round(cap_height(kind))
    return sum(text_width(meaning, kind) + each for _, meaning in entries)
