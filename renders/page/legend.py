"""The legend: the palette as a bar with round ticks, and swatches for what is no value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray, rgb
from renders.map.tone import Tone
from renders.page.sprite import Sprite, rectangle
from renders.page.text import Type, cap_height, text_sprite, text_width
from renders.page.theme import Theme
from renders.page.ticks import label, spread_ticks


@dataclass(frozen=True, eq=False)
class Ramp:
    """The palette laid along a box, low to high rightwards or upwards. Its halo is 0 px.

    Steps along the bar are equal steps of colour, whatever the tone does to values.
    """

    at: Box
    colours: FloatArray
    upwards: bool = False

    halo_px = 0

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


def ramp(tone: Tone, at: Box, upwards: bool = False) -> Ramp:
    """The tone's palette along `at`."""
    return Ramp(at, np.stack([rgb(c) for c in tone.palette]), upwards)


def tick_sprites(
    tone: Tone, at: Box, theme: Theme, size_px: float, line_px: int, upwards: bool = False
) -> tuple[Sprite, ...]:
    """Ticks and figures at round values: below a bar that runs rightwards, right of one upwards."""
    kind = Type(size_px, "Regular")
    length = at.height if upwards else at.width
    room = 2.2 * size_px if upwards else 1.1 * size_px + text_width("0.05", kind)
    values = spread_ticks(tone.low, tone.high, lambda v: float(tone.position(v)), room / length)
    tick, gap = round(0.4 * size_px), 0.4 * size_px
    hair, muted = rgb(theme.hairline), rgb(theme.muted)
    sprites: list[Sprite] = []
    for value in values:
        part = float(tone.position(value)) * length
        if upwards:
            y = at.bottom - part
            sprites.append(rectangle(Box(at.right, round(y - line_px / 2), tick, line_px), hair))
            base = y + cap_height(kind) / 2
            sprites.append(text_sprite(label(value), kind, muted, at.right + tick + gap, base))
        else:
            x = at.x + part
            sprites.append(rectangle(Box(round(x - line_px / 2), at.bottom, line_px, tick), hair))
            base = at.bottom + tick + gap + cap_height(kind)
            sprites.append(text_sprite(label(value), kind, muted, x, base, "centre"))
    return tuple(sprites)


def swatch_sprites(
    entries: list[tuple[str, str]], x: float, baseline: float, theme: Theme, size_px: float
) -> tuple[Sprite, ...]:
    """Small squares of (colour, meaning), laid leftwards so that the last ends at `x`."""
    kind = Type(size_px, "Regular")
    side = round(cap_height(kind))
    sprites: list[Sprite] = []
    for colour, meaning in reversed(entries):
        sprites.append(text_sprite(meaning, kind, rgb(theme.muted), x, baseline, "right"))
        x -= text_width(meaning, kind) + 0.5 * size_px + side
        square = Box(round(x), round(baseline) - side, side, side)
        sprites += [
            rectangle(square.grown(max(1, side // 12)), rgb(theme.hairline)),
            rectangle(square, rgb(colour)),
        ]
        x -= 1.4 * size_px
    return tuple(sprites)


def swatches_width(entries: list[tuple[str, str]], size_px: float) -> float:
    """How far `swatch_sprites` reaches, in pixels."""
    kind = Type(size_px, "Regular")
    each = 1.9 * size_px + round(cap_height(kind))
    return sum(text_width(meaning, kind) + each for _, meaning in entries)
