"""Scenes: all that a film's frames have in common, on a stage where only the landscape moves.

Whatever could jump from frame to frame is decided once for the whole film: the tone, the inks of
the curve, the sides on which names stand, how many decimals a reading has. Figures on contours are
left out, because each frame would put them elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.geometry.plane import Anchor
from renders.colour import FloatArray
from renders.film.growth import path_readings
from renders.film.labels import Labels
from renders.film.moment import decimals_for
from renders.film.stage import Stage, stage_for
from renders.map.tone import Tone
from renders.page.inks import Inks, ground_at, inks_on
from renders.page.overlay import anchor_lettering
from renders.page.text import Type, text_width
from renders.page.words import Style
from renders.projection import Projection, nearest_values
from renders.source.marks import MarkGroup
from renders.source.provenance import Provenance
from renders.source.surface import Surface, short_title

HEADING, FIGURE = Type(16.5, "Semibold"), Type(33, "Light")
_ROUND_ASPECT = 0.46
_MOST_READ = 2
"""Anchors whose values a film reads out."""


@dataclass(frozen=True, eq=False)
class Scene:
    """All that a film's frames have in common.

    Attributes:
        stage, tone, style: where, in which colours, and how.
        facts: what the words are made of.
        labels: of the frames.
        span: first and last frame of the film, for the line of progress.
        stops: frames that are computed, for the line of progress.
        sides: per anchor, where its name stands: right, left, above or below as (x, y) steps.
        inks: of the curve.
        extent: of all frames; None where each has its own.
        split, quantity: what is shown.
        blends: whether the film has moments in between.
        flat: whether the landscape is a map; in the round it has no frame and no axes.
        grows: whether lines of marks grow from the first mark to the last over the film.
        groups: all marks of a frame, for their key and for what is read out.
        read: anchors whose values are read out; none where the curve's are.
    """

    stage: Stage
    tone: Tone
    style: Style
    facts: Provenance
    labels: Labels
    span: tuple[int, int]
    stops: tuple[int, ...]
    sides: Mapping[str, tuple[int, int]]
    inks: Inks
    extent: tuple[float, float, float, float] | None
    split: str
    quantity: str
    blends: bool
    flat: bool = True
    grows: bool = False
    groups: tuple[MarkGroup, ...] = ()
    read: tuple[Anchor, ...] = ()

    @cached_property
    def decimals(self) -> int:
        return decimals_for(self.tone)


def scene_for(
    size: tuple[int, int],
    samples: Sequence[Surface],
    tone: Tone,
    style: Style,
    facts: Provenance,
    labels: Labels,
    span: tuple[int, int],
    stops: tuple[int, ...],
    extents: Sequence[tuple[float, float, float, float]],
    blends: bool = False,
    flat: bool = True,
    grows: bool = False,
) -> Scene:
    """Decide once what must not change from frame to frame.

    Args:
        size: width and height of the frames, pixels.
        samples: a few surfaces from all over the film, at least one.
        tone, style, facts, labels: of the whole film.
        span, stops, blends, flat, grows: see `Scene`.
        extents: one a frame; where they differ, the map has their middle aspect and fills its box.

    Raises:
        StageError: nothing fits on a frame of `size`.
    """
    extent = extents[0] if all(e == extents[0] for e in extents) else None
    aspects = sorted((e[3] - e[2]) / (e[1] - e[0]) for e in extents)
    aspect = min(max(aspects[len(aspects) // 2], 0.25), 4.0)
    if not flat:
        aspect = _ROUND_ASPECT
    quantity = samples[0].quantity
    groups, read = samples[0].marks, read_anchors(samples[0])
    columns = tuple(
        max(text_width(heading, HEADING), text_width(widest, FIGURE))
        for heading, widest in _columns(labels, quantity, groups if grows else (), read)
    )
    stage = stage_for(size, aspect, columns, any(group.count and group.seen for group in groups))
    beneath = [nearest_values(s, *np.concatenate([_stations(s), _on_curve(s)]).T) for s in samples]
    inks = inks_on(ground_at(np.concatenate(beneath), tone, style.theme), style.theme)
    sides = {}
    for index, anchor in enumerate(samples[0].anchors):
        places = [
            Projection(stage.map, s.extent).pixels(s.anchors[index].x, s.anchors[index].y)
            for s in samples
        ]
        sides[anchor.name] = _side(anchor, np.array(places), stage, _dots(samples, stage))
    return Scene(
        stage,
        tone,
        style,
        facts,
        labels,
        span,
        stops,
        sides,
        inks,
        extent,
        samples[0].split,
        quantity,
        blends,
        flat,
        grows,
        groups,
        read,
    )


def scaled(kind: Type, unit: float) -> Type:
    return Type(kind.size * unit, kind.weight)


def read_anchors(surface: Surface) -> tuple[Anchor, ...]:
    """The anchors whose values a film reads out; none where it has a curve to read."""
    if surface.curve is not None or any(anchor.name == "bend" for anchor in surface.anchors):
        return ()
    return surface.anchors[:_MOST_READ]


def reading_headings(labels: Labels, quantity: str, read: Sequence[Anchor]) -> tuple[str, ...]:
    """The headings of what is read out of every frame; see `Scene.read`."""
    what = short_title(quantity).upper()
    if read:
        names = (anchor_lettering(anchor, 1.0)[0] for anchor in read)
        return labels.heading, *(f"{what} AT {_shortened(name)}" for name in names)
    return labels.heading, f"{what} AT THE BEND", "HIGHEST ON THE CURVE"


def _shortened(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13].rstrip()}…"


def _columns(
    labels: Labels, quantity: str, groups: Sequence[MarkGroup], read: Sequence[Anchor]
) -> list[tuple[str, str]]:
    """The headings of what is read out, and the widest figure under each."""
    if groups:
        return [(r.heading, r.widest) for r in path_readings(groups, groups, quantity, 5)]
    number, *values = reading_headings(labels, quantity, read)
    return [(number, _widest(labels)), *((value, "8.88888") for value in values)]


def _widest(labels: Labels) -> str:
    if labels.numbers is None:
        return max(labels.names, key=len)
    return f"{max(labels.numbers):,.{labels.decimals}f}"


def _stations(surface: Surface) -> FloatArray:
    return np.array([(a.x, a.y) for a in surface.anchors]).reshape(-1, 2)


def _on_curve(surface: Surface) -> FloatArray:
    return np.empty((0, 2)) if surface.curve is None else surface.curve[:, :2]


def _dots(samples: Sequence[Surface], stage: Stage) -> FloatArray:
    """Where marks and their lines are in any of the samples, float64 (n, 2) in pixels."""
    found = [np.empty((0, 2))]
    for surface in samples:
        projection = Projection(stage.map, surface.extent)
        for group in surface.marks:
            at = np.stack(projection.pixels(group.x, group.y), axis=1)
            between = [at[:-1] + part * np.diff(at, axis=0) for part in (0.25, 0.5, 0.75)]
            found += [at, *(between if group.line else ())]
    return np.concatenate(found)


def _side(anchor: Anchor, places: FloatArray, stage: Stage, dots: FloatArray) -> tuple[int, int]:
    """Where an anchor's name stands in all frames: its own side, or another that has room.

    Of several with room it is the first that has the fewest of the marks, `dots`, on it.
    """
    own = {"start": (-1, 0), "w0": (-1, 0), "bend": (0, -1)}.get(anchor.name, (1, 0))
    wide = text_width(*anchor_lettering(anchor, 27 * stage.unit)) + 40 * stage.unit
    (x0, y0), (x1, y1) = places.min(axis=0), places.max(axis=0)
    best, fewest = own, len(dots) + 1
    for dx, dy in (own, (1, 0), (-1, 0), (0, 1), *(((0, -1),) if len(dots) else ())):
        left, right = x0 + min(dx * wide, -abs(dy) * wide / 2), x1 + max(dx, abs(dy) / 2) * wide
        top, bottom = y0 + min(0, dy) * 50 * stage.unit, y1 + max(0, dy) * 50 * stage.unit
        inside = left >= stage.map.x and right <= stage.map.right
        reach = 0.0 if dy else 16 * stage.unit
        low, high = (left, top - reach), (right, bottom + reach)
        on_it = (dots >= low).all(axis=1) & (dots <= high).all(axis=1)
        if inside and top >= stage.map.y and bottom <= stage.map.bottom and on_it.sum() < fewest:
            best, fewest = (dx, dy), int(on_it.sum())
    return best
