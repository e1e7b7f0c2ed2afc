"""Paths that grow: which marks a picture of a film shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from renders.film.labels import Labels
from renders.film.moment import Moment, figure
from renders.source.marks import MarkGroup
from renders.source.surface import Surface, short_title

MOST_READ = 3
"""Lines whose own values a film reads out."""


@dataclass(frozen=True)
class Reading:
    """A figure under a heading, and the widest that the figure becomes."""

    heading: str
    figure: str
    widest: str


def growing(groups: Sequence[MarkGroup]) -> list[MarkGroup]:
    """The lines that can grow: those with two marks or more."""
    return [group for group in groups if group.line and group.count > 1]


def grown(groups: Sequence[MarkGroup], part: float) -> tuple[MarkGroup, ...]:
    """Groups at `part` of a film, in [0, 1]: lines have come that far, all at the same pace.

    The longest has its last mark at 1. Marks without a line are there from the beginning.
    """
    longest = max((group.count for group in growing(groups)), default=1) - 1
    return tuple(group.grown(part * longest) if group.line else group for group in groups)


def grown_to(groups: Sequence[MarkGroup], number: float) -> tuple[MarkGroup, ...]:
    """Groups as far as their marks' numbers are at most `number`; those without numbers whole."""
    return tuple(_grown_to(group, number) for group in groups)


def _grown_to(group: MarkGroup, number: float) -> MarkGroup:
    numbers = group.numbers[: group.count]
    if not len(numbers) or not np.isfinite(numbers).all():
        return group
    if (np.diff(numbers) < 0).any():
        return group.taken(np.flatnonzero(numbers <= number))
    last = int(np.searchsorted(numbers, number, side="right")) - 1
    if not 0 <= last < len(numbers) - 1:
        return group.grown(float(last))
    way = numbers[last + 1] - numbers[last]
    return group.grown(last + float((number - numbers[last]) / way))


def counted(labels: Labels) -> bool:
    """Whether a film's frames have numbers that marks' numbers can be compared with."""
    return labels.numbers is not None and labels.heading != "FRAME"


def marks_at(labels: Labels, moment: Moment) -> tuple[MarkGroup, ...]:
    """The marks that a picture shows."""
    groups = moment.surface.marks
    if moment.grown is not None:
        return grown(groups, moment.grown)
    if labels.numbers is None or not counted(labels):
        return groups
    before, after = labels.numbers[moment.before], labels.numbers[moment.after]
    return grown_to(groups, before + moment.part * (after - before))


def with_marks_at(labels: Labels, moment: Moment) -> Moment:
    """A moment that shows those marks alone."""
    if not moment.surface.marks:
        return moment
    shown: Surface = replace(moment.surface, marks=marks_at(labels, moment))
    return replace(moment, surface=shown)


def path_readings(
    groups: Sequence[MarkGroup], whole: Sequence[MarkGroup], quantity: str, decimals: int
) -> list[Reading]:
    """What a film of growing lines reads out, at the last mark that each has come to.

    Args:
        groups, whole: the marks as far as they have grown, and all of them.
        quantity: whose own values.
        decimals: of a value.
    """
    lines = [(g, w) for g, w in zip(groups, whole, strict=True) if w.line and w.count > 1]
    lines = [pair for pair in lines if pair[1].seen] or lines
    longest, all_of_it = max(lines, key=lambda pair: pair[1].count)
    readings = [_number(longest, all_of_it)]
    title = short_title(quantity).upper()
    if len(lines) == 1:
        off = longest.off_plane[longest.count - 1] if longest.count else None
        readings.append(Reading(f"OWN {title}", _own(longest, quantity, decimals), "8.88888"))
        worst = figure(float(np.nanmax(all_of_it.off_plane)), 2)
        readings.append(Reading("OFF THE PLANE", figure(off, 2), worst))
        return readings
    for group, _ in lines[:MOST_READ]:
        label = group.label if len(group.label) <= 14 else f"{group.label[:13].rstrip()}…"
        heading = f"{label}: OWN {title}".upper() if group.label else f"OWN {title}"
        readings.append(Reading(heading, _own(group, quantity, decimals), "8.88888"))
    return readings


def _own(group: MarkGroup, quantity: str, decimals: int) -> str:
    values = group.own_values(quantity)
    last = group.count - 1
    if values is None or last < 0 or not group.finished[last]:
        return figure(None, decimals)
    return figure(float(values[last]), decimals)


def _number(group: MarkGroup, whole: MarkGroup) -> Reading:
    numbers = whole.numbers[: whole.count]
    if np.isfinite(numbers).all():
        named = whole.names[0].lower()
        heading = next((w for w in ("epoch", "step") if w in named), "epoch").upper()
        said = f"{group.numbers[group.count - 1]:,.0f}" if group.count else "—"
        return Reading(heading, said, f"{numbers.max():,.0f}")
    return Reading("MARK", f"{group.count:,}", f"{whole.count:,}")
