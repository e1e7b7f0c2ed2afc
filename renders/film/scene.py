"""Scenes: one frame of a film as a picture, on a stage where nothing moves but the landscape.

Whatever could jump from frame to frame is decided once for the whole film: the tone, the inks, the
sides on which names stand, how many decimals a reading has. Figures on contours are left out,
because each frame would put them elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.plane import Anchor
from renders.box import Box
from renders.colour import FloatArray, hex_colour, rgb
from renders.film.moment import Moment, decimals_for, figure, readings
from renders.film.stage import Stage, stage_for
from renders.map.holes import INF, NAN, UNFINISHED, cell_kinds
from renders.map.line import Stroke, dashed
from renders.map.tone import Tone
from renders.page import caveats
from renders.page.axes import axis_sprites, frame_sprites
from renders.page.inks import Inks, ground_at, inks_on
from renders.page.legend import ramp, swatch_sprites, tick_sprites
from renders.page.lettering import fitted_type, two_lines
from renders.page.overlay import anchor_lettering, curve_strokes, disc, ring
from renders.page.sprite import Sprite, Sprites, rectangle
from renders.page.text import Type, cap_height, halo, text_sprite, text_width
from renders.page.words import Style, subtitle_of, title_of
from renders.projection import Projection, nearest_values
from renders.source.provenance import Provenance
from renders.source.surface import TITLES, Surface, labelled

if TYPE_CHECKING:
    from renders.map.canvas import Map
    from renders.picture import Layer, Picture

_HEADING = Type(16.5, "Semibold", 0.07)
_FIGURE = Type(33, "Light")
_ROUND_ASPECT = 0.46
_EPOCHS = {"", "bezier", "chain", "polychain", "curve", "checkpoint", "ckpt", "epoch", "bend"}
"""Stems of checkpoint names whose number is the epoch."""


@dataclass(frozen=True)
class Labels:
    """How a film's frames are called.

    Attributes:
        heading: of the number, in capitals.
        names: one a frame, as lettered.
        numbers: one a frame where all have one, else None.
    """

    heading: str
    names: tuple[str, ...]
    numbers: tuple[float, ...] | None

    @property
    def decimals(self) -> int:
        """Of a number between two frames: 2 where a frame's own has as many."""
        return 1 if all(round(n, 1) == round(n, 2) for n in self.numbers or ()) else 2


def labels_for(plane: Mapping[str, Any], frames: int) -> Labels:
    """Labels from a store's plane facts: the epochs it knows, else its frames' names.

    `bezier-14` is epoch 14, `frame-0007` is frame 7.
    """
    names = [str(name) for name in plane.get("frames") or []]
    epochs = plane.get("epochs")
    if isinstance(epochs, Sequence) and len(epochs) == frames:
        numbers = tuple(float(epoch) for epoch in epochs)
        named = tuple(f"{n:,.2f}".rstrip("0").rstrip(".") for n in numbers)
        return Labels("EPOCH", named, numbers)
    if len(names) != frames:
        names = [f"frame-{k + 1}" for k in range(frames)]
    parts = [re.fullmatch(r"(.*?)[\s_.-]*(\d+)", name) for name in names]
    stems = {found[1] if found else None for found in parts}
    stem = stems.pop()
    if stems or stem is None:
        return Labels("FRAME", tuple(names), None)
    numbers = tuple(float(found[2]) for found in parts if found)
    heading = "EPOCH" if stem.lower() in _EPOCHS else stem.upper()
    return Labels(heading, tuple(f"{n:,.0f}" for n in numbers), numbers)


@dataclass(frozen=True, eq=False)
class Scene:
    """All that a film's frames have in common.

    Attributes:
        stage, tone, style: where, in which colours, and how.
        facts: what the words are made of.
        labels: of the frames.
        span: first and last frame of the film, for the line of progress.
        marks: frames that are computed, for the line of progress.
        sides: per anchor, where its name stands: right, left, above or below as (x, y) steps.
        inks: of the curve and all anchors.
        extent: of all frames; None where each has its own.
        split, quantity: what is shown.
        blends: whether the film has moments in between.
        flat: whether the landscape is a map; in the round it has no frame and no axes.
    """

    stage: Stage
    tone: Tone
    style: Style
    facts: Provenance
    labels: Labels
    span: tuple[int, int]
    marks: tuple[int, ...]
    sides: Mapping[str, tuple[int, int]]
    inks: Inks
    extent: tuple[float, float, float, float] | None
    split: str
    quantity: str
    blends: bool
    flat: bool = True

    @cached_property
    def furniture(self) -> tuple[Layer, ...]:
        """What no frame changes."""
        s, u, theme = self.stage, self.stage.unit, self.style.theme
        sprites = [
            *(frame_sprites(s.map, theme, max(1, round(0.8 * u))) if self.flat else ()),
            *frame_sprites(s.legend, theme, max(1, round(0.6 * u))),
            *tick_sprites(self.tone, s.legend, theme, 17 * u, max(1, round(u))),
            *_words(self),
            *_headings(self),
            *_track(self),
        ]
        if self.extent is not None and self.flat:
            sprites += _axes(self, self.extent)
        return ramp(self.tone, s.legend), Sprites(tuple(sprites))

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
    marks: tuple[int, ...],
    extents: Sequence[tuple[float, float, float, float]],
    blends: bool = False,
    flat: bool = True,
) -> Scene:
    """Decide once what must not change from frame to frame.

    Args:
        size: width and height of the frames, pixels.
        samples: a few surfaces from all over the film, at least one.
        tone, style, facts, labels: of the whole film.
        span, marks, blends, flat: see `Scene`.
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
    columns = tuple(
        max(text_width(words, _HEADING), text_width(widest, _FIGURE))
        for words, widest in zip(
            _reading_headings(labels, quantity),
            (_widest(labels), "8.88888", "8.88888"),
            strict=True,
        )
    )
    stage = stage_for(size, aspect, columns)
    beneath = [nearest_values(s, *np.concatenate([_stations(s), _on_curve(s)]).T) for s in samples]
    inks = inks_on(ground_at(np.concatenate(beneath), tone, style.theme), style.theme)
    sides = {}
    for index, anchor in enumerate(samples[0].anchors):
        places = [
            Projection(stage.map, s.extent).pixels(s.anchors[index].x, s.anchors[index].y)
            for s in samples
        ]
        sides[anchor.name] = _side(anchor, np.array(places), stage)
    return Scene(
        stage,
        tone,
        style,
        facts,
        labels,
        span,
        marks,
        sides,
        inks,
        extent,
        samples[0].split,
        quantity,
        blends,
        flat,
    )


def scene_picture(scene: Scene, moment: Moment, model: Sequence[Layer] = ()) -> Picture:
    """One moment of a film as a picture that can be painted box by box.

    `model` is the landscape in the round, where the scene is not flat.
    """
    from renders.picture import Picture

    stage, theme, u = scene.stage, scene.style.theme, scene.stage.unit
    surface = moment.surface
    projection = Projection(stage.map, surface.extent)
    if not scene.flat:
        caption = Sprites(tuple(_caption(scene, moment)))
        whole = (*model, *scene.furniture, caption)
        return Picture(stage.width, stage.height, rgb(theme.paper), whole)
    layers: list[Layer] = [_landscape(scene, surface), *scene.furniture]
    if scene.extent is None:
        layers.append(Sprites(tuple(_axes(scene, surface.extent))))
    if scene.style.curve:
        layers += _tether(scene, surface, projection)
        layers += curve_strokes(surface, projection, scene.tone, theme, 3.4 * u, scene.inks)
    if scene.style.anchors:
        layers.append(Sprites(tuple(_anchors(scene, surface, projection))))
    layers.append(Sprites(tuple(_caption(scene, moment))))
    return Picture(stage.width, stage.height, rgb(theme.paper), tuple(layers))


def _landscape(scene: Scene, surface: Surface) -> Map:
    from renders.map.canvas import Map
    from renders.map.contour import Contours, round_levels
    from renders.map.field import field_of
    from renders.map.holes import Hatch
    from renders.map.light import Light

    stage, tone, theme, u = scene.stage, scene.tone, scene.style.theme, scene.stage.unit
    lines = None
    if scene.style.contours:
        levels, index = round_levels(tone)
        inks = tuple(hex_colour(inks_on(ground_at(v, tone, theme), theme).pen) for v in levels)
        lines = Contours(levels, index, max(1.2 * u, 0.8), max(1.9 * u, 1.1), inks, 0.24, 0.44)
    field = field_of(surface, tone, stage.map.width, stage.map.height)
    hatch = Hatch(theme.hatch_ground, theme.hatch_line, 14 * u, max(1.6 * u, 0.8))
    light = Light() if scene.style.light else None
    return Map(stage.map, field, tone, hatch, light, lines)


def _tether(scene: Scene, surface: Surface, projection: Projection) -> tuple[Stroke, ...]:
    """The bend's two arms, faintly: the bend pulls the curve, which passes below it."""
    there = {a.name: (a.x, a.y) for a in surface.anchors}
    if not {"start", "bend", "end"} <= there.keys():
        return ()
    x, y = zip(*(there[name] for name in ("start", "bend", "end")), strict=True)
    points = np.stack(projection.pixels(x, y), axis=1)
    u = scene.stage.unit
    dashes = dashed(points, 7 * u, 8 * u)
    return (Stroke(dashes, max(1.6 * u, 0.9), scene.inks.pen, 0.5, scene.stage.map),)


def _anchors(scene: Scene, surface: Surface, projection: Projection) -> list[Sprite]:
    u, at = scene.stage.unit, scene.stage.map
    radius, size = 7.5 * u, 27 * u
    x, y = projection.pixels([a.x for a in surface.anchors], [a.y for a in surface.anchors])
    rings: list[Sprite] = []
    names: list[Sprite] = []
    for anchor, px, py in zip(surface.anchors, x.tolist(), y.tolist(), strict=True):
        if Box(round(px), round(py), 1, 1).meet(at.grown(1)).empty:
            continue
        inks = scene.inks
        rings += ring(px, py, radius, inks)
        if size < 7:
            continue
        text, kind = anchor_lettering(anchor, size)
        dx, dy = scene.sides[anchor.name]
        cx = px + dx * (1.5 * radius + 0.3 * size + text_width(text, kind) / 2)
        base = py + cap_height(kind) / 2 + dy * (1.5 * radius + 0.35 * size + cap_height(kind) / 2)
        name = _floating(text, kind, inks, cx, base)
        names += [halo(name, 0.14 * size, inks.casing, inks.veil), name]
    return [*rings, *names]


def _floating(text: str, kind: Type, inks: Inks, x: float, baseline: float) -> Sprite:
    """A line of text about `x`, at a fraction of a pixel: what moves slowly must not tremble."""
    left = x - text_width(text, kind) / 2
    whole = text_sprite(text, kind, inks.pen, math.floor(left), math.floor(baseline))
    fx, fy = left - math.floor(left), baseline - math.floor(baseline)
    alpha = np.pad(whole.alpha.astype(np.float64), 1)
    alpha = alpha[:, 1:] * (1 - fx) + alpha[:, :-1] * fx
    alpha = alpha[1:] * (1 - fy) + alpha[:-1] * fy
    # Moved right and down by a fraction, the mask begins where it began.
    return Sprite(whole.x, whole.y, np.rint(alpha).astype(np.uint8), inks.pen)


def _axes(scene: Scene, extent: tuple[float, float, float, float]) -> list[Sprite]:
    u = scene.stage.unit
    projection = Projection(scene.stage.map, extent)
    line_px = max(1, round(0.8 * u))
    return list(axis_sprites(projection, scene.style.theme, 17 * u, line_px, ("", "")))


def _words(scene: Scene) -> list[Sprite]:
    """Title, subtitle and the legend's heading."""
    s, u, theme = scene.stage, scene.stage.unit, scene.style.theme
    ink, muted = rgb(theme.ink), rgb(theme.muted)
    x, title_y = s.title
    title = title_of(scene.facts, scene.style)
    kind = fitted_type(title, Type(43 * u, "Light"), s.words_px)
    plain = labelled(np.zeros((2, 2), np.float32), (0, 1, 0, 1), scene.quantity, scene.split)
    shown = Surface(plain, np.ones((2, 2), bool), (0, 1, 0, 1))
    below = subtitle_of(scene.facts, scene.style, shown)
    if scene.facts.own_losses and scene.style.subtitle is None:
        below += f" · {scene.facts.own_losses}"
    lines = two_lines(below, Type(19.5 * u), s.words_px)
    # Above the map a second line would stand on it.
    lift = 22 * u if s.kind == "stacked" and len(lines) > 1 else 0.0
    sprites = [text_sprite(title, kind, ink, x - 0.04 * kind.size, title_y - lift)]
    for k, line in enumerate(lines):
        kind = fitted_type(line, Type(19.5 * u), s.words_px)
        sprites.append(text_sprite(line, kind, muted, x, s.subtitle_y - lift + 25 * u * k))
    heading = f"{scene.split} {TITLES.get(scene.quantity, scene.quantity)}".upper()
    base = s.legend.y - 13 * u
    kind = fitted_type(heading, _scaled(_HEADING, u), s.legend.width)
    sprites.append(text_sprite(heading, kind, ink, s.legend.x, base))
    unit, italic = scene.facts.measures.get(scene.quantity, ""), Type(17 * u, "It")
    if text_width(heading, kind) + text_width(unit, italic) + 12 * u <= s.legend.width:
        sprites.append(text_sprite(unit, italic, muted, s.legend.right, base, "right"))
    return sprites


def _scaled(kind: Type, unit: float) -> Type:
    return Type(kind.size * unit, kind.weight, kind.tracking)


def _reading_headings(labels: Labels, quantity: str) -> tuple[str, str, str]:
    what = TITLES.get(quantity, quantity).split(" ")[0].upper()
    return labels.heading, f"{what} AT THE BEND", "HIGHEST ON THE CURVE"


def _widest(labels: Labels) -> str:
    if labels.numbers is None:
        return max(labels.names, key=len)
    return f"{max(labels.numbers):,.{labels.decimals}f}"


def _headings(scene: Scene) -> list[Sprite]:
    u, muted = scene.stage.unit, rgb(scene.style.theme.muted)
    kind = _scaled(_HEADING, u)
    words = _reading_headings(scene.labels, scene.quantity)
    return [
        text_sprite(text, kind, muted, x, y)
        for text, (x, y) in zip(words, scene.stage.readings, strict=True)
    ]


def _caption(scene: Scene, moment: Moment) -> list[Sprite]:
    """The readings, what the frame says of itself, and how far the film is."""
    s, u, theme = scene.stage, scene.stage.unit, scene.style.theme
    ink, muted = rgb(theme.ink), rgb(theme.muted)
    read = readings(moment.surface, scene.tone)
    texts = (
        _frame_text(scene, moment),
        figure(read.bend, scene.decimals),
        figure(read.highest, scene.decimals),
    )
    kind = _scaled(_FIGURE, u)
    sprites = [
        text_sprite(text, kind, ink, x, y + 40 * u)
        for text, (x, y) in zip(texts, s.readings, strict=True)
    ]
    note = _note(scene, moment)
    (x, y), italic = s.note, Type(17 * u, "It")
    room = max(s.map.right, s.legend.right) - x
    for k, line in enumerate(two_lines(note, italic, room) if note else ()):
        kind = fitted_type(line, italic, room)
        sprites.append(text_sprite(line, kind, muted, x, y + 22 * u * k))
    entries = _swatches(moment.surface, scene)
    if entries:
        sprites += swatch_sprites(entries, s.map.right, s.map.y - 14 * u, theme, 17 * u)
    return sprites + _playhead(scene, moment)


def _frame_text(scene: Scene, moment: Moment) -> str:
    names, numbers = scene.labels.names, scene.labels.numbers
    if numbers is None:
        return names[moment.surface.frame]
    if not scene.blends:
        return names[moment.before]
    at = numbers[moment.before] * (1 - moment.part) + numbers[moment.after] * moment.part
    return f"{at:,.{scene.labels.decimals}f}"


def _note(scene: Scene, moment: Moment) -> str:
    notes = []
    names = scene.labels.names
    if not moment.computed:
        notes.append(f"interpolated between {names[moment.before]} and {names[moment.after]}")
    elif scene.blends and not scene.facts.preview:
        notes.append("computed")
    share = float(moment.surface.finished.mean())
    if share < 1:
        shown = "shown" if scene.facts.preview else "computed"
        notes.append(f"{math.floor(100 * share)} % of the points {shown}")
    if scene.facts.preview:
        notes.append("preview, not audited yet")
    notes += [caveats.coarse(*moment.surface.values.shape), caveats.clipped(scene.tone)]
    return ", ".join(note for note in notes if note)


def _swatches(surface: Surface, scene: Scene) -> list[tuple[str, str]]:
    kinds = cell_kinds(surface.values, surface.finished)
    entries = [
        (NAN, scene.tone.nan, "not a number"),
        (INF, scene.tone.inf, "infinite"),
        (UNFINISHED, scene.style.theme.hatch_line, "not computed yet"),
    ]
    return [(colour, words) for kind, colour, words in entries if (kinds == kind).any()]


def _track(scene: Scene) -> list[Sprite]:
    """The line of progress, empty, with a stop at every computed frame where there is room."""
    if _single(scene):
        return []
    at, theme, u = scene.stage.progress, scene.style.theme, scene.stage.unit
    sprites = [rectangle(at, rgb(theme.hairline))]
    if scene.blends and len(scene.marks) * 12 * u < at.width:
        for frame in scene.marks:
            x = at.x + _part(scene, frame) * at.width
            sprites.append(disc(x, at.y + at.height / 2, 3.2 * u, rgb(theme.hairline), 1.0))
    return sprites


def _playhead(scene: Scene, moment: Moment) -> list[Sprite]:
    if _single(scene):
        return []
    at, theme, u = scene.stage.progress, scene.style.theme, scene.stage.unit
    reach = _part(scene, moment.place) * at.width
    middle = at.y + at.height / 2
    ink = rgb(theme.ink)
    done = Box(at.x, at.y, round(reach), at.height)
    sprites = [] if done.empty else [rectangle(done, ink, 0.75)]
    return [*sprites, disc(at.x + reach, middle, 5.5 * u, ink, 1.0)]


def _single(scene: Scene) -> bool:
    """Whether a film in the round has one frame alone, and so no progress to show."""
    return not scene.flat and scene.span[0] == scene.span[1]


def _part(scene: Scene, place: float) -> float:
    first, last = scene.span
    return (place - first) / (last - first) if last > first else 1.0


def _stations(surface: Surface) -> FloatArray:
    return np.array([(a.x, a.y) for a in surface.anchors]).reshape(-1, 2)


def _on_curve(surface: Surface) -> FloatArray:
    return np.empty((0, 2)) if surface.curve is None else surface.curve[:, :2]


def _side(anchor: Anchor, places: FloatArray, stage: Stage) -> tuple[int, int]:
    """Where an anchor's name stands in all frames: its own side, or another that has room."""
    own = {"start": (-1, 0), "w0": (-1, 0), "bend": (0, -1)}.get(anchor.name, (1, 0))
    wide = text_width(*anchor_lettering(anchor, 27 * stage.unit)) + 40 * stage.unit
    (x0, y0), (x1, y1) = places.min(axis=0), places.max(axis=0)
    for dx, dy in (own, (1, 0), (-1, 0), (0, 1)):
        left, right = x0 + min(dx * wide, -abs(dy) * wide / 2), x1 + max(dx, abs(dy) / 2) * wide
        top, bottom = y0 + min(0, dy) * 50 * stage.unit, y1 + max(0, dy) * 50 * stage.unit
        inside = left >= stage.map.x and right <= stage.map.right
        if inside and top >= stage.map.y and bottom <= stage.map.bottom:
            return dx, dy
    return own
