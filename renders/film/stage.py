"""The stage: where everything stands on a film's frames, the same in all of them.

Lengths follow from the shorter side of the frame, so that a square one keeps its type; on small
frames type shrinks more slowly than the frame, to stay legible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import LossatlasError
from renders.box import Box

SMALLEST_PX = 32
LARGEST_PX = 16_384


class StageError(LossatlasError):
    """A film's size that nothing fits on."""


@dataclass(frozen=True)
class Stage:
    """One arrangement of a frame, in pixels.

    Attributes:
        kind: beneath (words under the landscape), beside (at its right) or stacked (title above).
        width, height: of the frame.
        unit: 1 px where the shorter side has 1080; type and lines are multiples of it.
        map: where the landscape goes.
        title: x and baseline; the subtitle's baseline is `subtitle_y`.
        words_px: room for title and subtitle.
        readings: x and baseline of each reading's heading, its figure below it.
        note: x and baseline of what a frame says of itself.
        legend: the colour bar; it runs rightwards.
        progress: the line that fills as the film goes.
    """

    kind: Literal["beneath", "beside", "stacked"]
    width: int
    height: int
    unit: float
    map: Box
    title: tuple[float, float]
    subtitle_y: float
    words_px: float
    readings: tuple[tuple[float, float], ...]
    note: tuple[float, float]
    legend: Box
    progress: Box


def stage_for(
    size: tuple[int, int], aspect: float, columns: tuple[float, ...], keyed: bool = False
) -> Stage:
    """Arrange a frame so that the landscape is as large as it can be.

    Args:
        size: width and height of the frame, pixels.
        aspect: height over width of the landscape.
        columns: widths that the readings want, in units.
        keyed: whether a row is wanted above the landscape, for a key.

    Raises:
        StageError: a size below 32 or above 16,384 pixels.
    """
    width, height = size
    if not (min(size) >= SMALLEST_PX and max(size) <= LARGEST_PX):
        raise StageError(
            f"size is {width}x{height}: wanted {SMALLEST_PX} to {LARGEST_PX:,} pixels a side"
        )
    stages = [
        _beside(width, height, aspect, columns),
        _stacked(width, height, aspect, columns, keyed),
    ]
    if width >= 1.6 * height and width >= (sum(columns) + 800) * _unit(width, height):
        stages.append(_beneath(width, height, aspect, columns))
    return max(stages, key=lambda stage: stage.map.width * stage.map.height)


def _unit(width: int, height: int) -> float:
    shorter = min(width, height) / 1080
    return shorter if shorter >= 1 else shorter**0.75


def _fitted(room: Box, aspect: float) -> Box:
    """The largest box of an aspect in the upper middle of `room`."""
    wide = max(1, round(min(room.width, room.height / aspect)))
    high = max(1, min(room.height, round(wide * aspect)))
    return Box(room.x + (room.width - wide) // 2, room.y, wide, high)


def _beneath(width: int, height: int, aspect: float, columns: tuple[float, ...]) -> Stage:
    u = _unit(width, height)
    room = Box(round(96 * u), round(46 * u), width - 2 * round(96 * u), height - round(248 * u))
    at = _fitted(room, aspect)
    # Words keep to the landscape's edges where it is wide enough for them.
    left, right = at.x, at.right
    if at.width < 1500 * u:
        left, right = room.x, room.right
    bar = Box(right - round(300 * u), at.bottom + round(84 * u), round(300 * u), round(9 * u))
    gap = 46 * u
    x = bar.x - 20 * u - sum(c * u + gap for c in columns)
    readings = []
    for column in columns:
        readings.append((x, at.bottom + 74 * u))
        x += column * u + gap
    return Stage(
        "beneath",
        width,
        height,
        u,
        at,
        (left, at.bottom + 98 * u),
        at.bottom + 130 * u,
        readings[0][0] - gap - left,
        tuple(readings),
        (readings[0][0], at.bottom + 138 * u),
        bar,
        Box(left, round(height - 26 * u), right - left, max(1, round(2 * u))),
    )


def _beside(width: int, height: int, aspect: float, columns: tuple[float, ...]) -> Stage:
    u = _unit(width, height)
    edge, column = round(64 * u), round(470 * u)
    room = Box(round(96 * u), edge, width - round(96 * u) - edge - column, height - round(150 * u))
    if room.width < 1 or room.height < 1:
        room = Box(0, 0, 1, 1)
    at = _fitted(room, aspect)
    left = at.right + edge
    words = column - edge
    readings = tuple((float(left), at.y + (230 + 120 * k) * u) for k in range(len(columns)))
    return Stage(
        "beside",
        width,
        height,
        u,
        at,
        (left, at.y + 34 * u),
        at.y + 68 * u,
        words,
        readings,
        (left, readings[-1][1] + 110 * u),
        Box(left, at.bottom - round(30 * u), words, max(1, round(9 * u))),
        Box(at.x, round(height - 30 * u), left + words - at.x, max(1, round(2 * u))),
    )


def _stacked(
    width: int, height: int, aspect: float, columns: tuple[float, ...], keyed: bool
) -> Stage:
    u = _unit(width, height)
    # Too narrow for the readings in a row: everything becomes smaller together.
    u *= min(1.0, (width / u - 152) / (sum(columns) + 40 * (len(columns) - 1)))
    side = round(76 * u)
    row = 26 * u if keyed else 0.0
    above, below = 130 * u + row, 340 * u
    room = Box(side, round(above), width - 2 * side, max(1, round(height - above - below)))
    at = _fitted(room, aspect)
    spare = max(0, round(0.42 * (height - above - below - at.height)))
    at = at.shifted(0, spare)
    left, wide = room.x, room.width
    x, readings = float(left), []
    gap = (wide - sum(columns) * u) / max(1, len(columns) - 1)
    for column in columns:
        readings.append((x, at.bottom + 92 * u))
        x += column * u + gap
    return Stage(
        "stacked",
        width,
        height,
        u,
        at,
        (left, at.y - 66 * u - row),
        at.y - 30 * u - row,
        wide,
        tuple(readings),
        (left, at.bottom + 166 * u),
        Box(left, at.bottom + round(232 * u), wide, max(1, round(9 * u))),
        Box(left, round(height - 30 * u), wide, max(1, round(2 * u))),
    )
