"""The key of a page's marks: a glyph and a label for each group, in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from renders.colour import rgb
from renders.page.marks import Placed, draw_group
from renders.page.sheet import Align, Sheet
from renders.page.text import Type, cap_height, text_width
from renders.source.marks import MarkGroup

_LEAST = 0.62
"""How much smaller than asked for a key may become before its labels are shortened."""


@dataclass(frozen=True)
class Key:
    """A key, arranged.

    Attributes:
        rows: the entries of each row, each with its label as it is lettered.
        kind: type of the labels.
    """

    rows: tuple[tuple[tuple[MarkGroup, str], ...], ...]
    kind: Type


def arranged(groups: Sequence[MarkGroup], size_px: float, room: float, rows: int) -> Key:
    """The groups that have marks, in at most `rows` rows of `room` pixels.

    Labels become smaller where there is too little room, and are then shortened.
    """
    shown = [(group, group.label) for group in groups if group.count]
    kind = Type(size_px)
    while True:
        found = _filled(shown, kind, room)
        if len(found) <= rows:
            return Key(found, kind)
        if kind.size > _LEAST * size_px:
            kind = replace(kind, size=0.95 * kind.size)
            continue
        longest = max(len(label) for _, label in shown)
        if longest <= 2:
            return Key(found[:rows], kind)
        # The longest lose their ends first.
        shown = [(g, _shortened(label, max(2, longest - 2))) for g, label in shown]


def _filled(
    entries: Sequence[tuple[MarkGroup, str]], kind: Type, room: float
) -> tuple[tuple[tuple[MarkGroup, str], ...], ...]:
    rows: list[list[tuple[MarkGroup, str]]] = []
    left = 0.0
    for group, label in entries:
        while entry_width(group, label, kind) > room and len(label) > 2:
            label = _shortened(label, len(label) - 1)
        wide = entry_width(group, label, kind)
        if not rows or left + wide > room:
            rows.append([])
            left = 0.0
        rows[-1].append((group, label))
        left += wide + 1.5 * kind.size
    return tuple(tuple(row) for row in rows)


def _shortened(label: str, length: int) -> str:
    if len(label) <= length:
        return label
    return label.rstrip("…")[: length - 1].rstrip() + "…"


def _sample(group: MarkGroup, kind: Type) -> float:
    """Width of a group's sample, pixels."""
    return (2.3 if group.line else 1.0) * kind.size


def entry_width(group: MarkGroup, label: str, kind: Type) -> float:
    """Pixels that a group takes in a row."""
    return _sample(group, kind) + 0.45 * kind.size + text_width(label, kind)


def draw_marks_key(
    sheet: Sheet, key: Key, x: float, baseline: float, pitch: float, align: Align = "left"
) -> None:
    """Draw a key.

    Args:
        sheet, key: where and what.
        x: where rows begin, or end where they are aligned right.
        baseline: of the first row.
        pitch: from one row to the next, pixels.
        align: left or right.
    """
    kind = key.kind
    for k, row in enumerate(key.rows):
        base = baseline + k * pitch
        total = sum(entry_width(*entry, kind) for entry in row) + 1.5 * kind.size * (len(row) - 1)
        left = x - total if align == "right" else x
        for group, label in row:
            _draw_sample(sheet, group, kind, left, base - cap_height(kind) / 2)
            words = left + _sample(group, kind) + 0.45 * kind.size
            sheet.text(label, kind, words, base, colour=sheet.theme.muted)
            left += entry_width(group, label, kind) + 1.5 * kind.size


def _draw_sample(sheet: Sheet, group: MarkGroup, kind: Type, left: float, y: float) -> None:
    wide, radius = _sample(group, kind), 0.33 * kind.size
    ends = np.array([[left, y], [left + wide, y]])
    steps, opacities = ((ends,), (1.0,)) if group.line else ((), ())
    one = group.grown(0)
    middle = np.array([left + wide / 2]), np.array([y])
    placed = Placed(one, *middle, steps, opacities)
    draw_group(sheet, placed, rgb(sheet.theme.paper)[None], radius)
