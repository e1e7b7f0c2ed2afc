"""Frames: one moment of a film as a picture.

What no frame changes is drawn once and laid over all of them; the rest is drawn frame by frame.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from renders.box import Box
from renders.colour import hex_colour, rgb
from renders.film.growth import path_readings, with_marks_at
from renders.film.moment import Moment, anchor_readings, figure, readings
from renders.film.scene import FIGURE, HEADING, Scene, reading_headings, scaled
from renders.map.canvas import Map
from renders.map.field import field_of
from renders.map.holes import Hatch
from renders.map.light import Light
from renders.page import caveats
from renders.page.axes import draw_axes
from renders.page.inks import isolines
from renders.page.key import arranged, draw_marks_key
from renders.page.legend import draw_scale, draw_swatches, ramp
from renders.page.lettering import swatches_of, two_lines
from renders.page.marks import Placed, crowded, draw_marks, on_map, radius_for
from renders.page.overlay import (
    anchor_lettering,
    around,
    draw_curve,
    draw_ring,
    inks_beneath,
    unmarked,
)
from renders.page.printed import Kept, Printed
from renders.page.sheet import Sheet, house
from renders.page.text import Type, cap_height, fitted_type, text_width
from renders.page.words import heading_of, marks_said, subtitle_of, title_of
from renders.picture import Layer, Picture
from renders.projection import Projection
from renders.source.marks import MarkGroup
from renders.source.surface import Surface

_DPI = 72.0
Drawing = Callable[[Sheet], None]


def scene_picture(
    scene: Scene, moment: Moment, model: Sequence[Layer] = (), names: Drawing | None = None
) -> Picture:
    """One moment of a film as a picture that can be painted box by box.

    Args:
        scene, moment: of which film, and when.
        model: the landscape in the round, or a map that is painted already.
        names: draws what is lettered on the model.
    """
    stage, theme = scene.stage, scene.style.theme
    whole = moment.surface.marks
    moment = with_marks_at(scene.labels, moment)
    painted = model or (landscape(scene, moment.surface),)
    with house(theme):
        sheet = Sheet.blank(stage.width, stage.height, _DPI, theme)
        if scene.flat:
            painted = (*painted, *_draw_on_map(sheet, scene, moment.surface))
        elif names is not None:
            names(sheet)
        _draw_caption(sheet, scene, moment, whole)
    layers = (*painted, ramp(scene.tone, stage.legend), furniture(scene), Printed(sheet).kept())
    return Picture(stage.width, stage.height, rgb(theme.paper), layers)


@functools.lru_cache(4)
def furniture(scene: Scene) -> Kept:
    """What no frame changes, drawn once."""
    stage, u, theme = scene.stage, scene.stage.unit, scene.style.theme
    with house(theme):
        sheet = Sheet.blank(stage.width, stage.height, _DPI, theme)
        draw_scale(sheet, scene.tone, stage.legend, 17 * u, max(1, round(u)))
        _draw_words(sheet, scene)
        _draw_groups(sheet, scene)
        _draw_track(sheet, scene)
        if scene.extent is not None and scene.flat:
            _draw_axes(sheet, scene, scene.extent)
    return Printed(sheet).kept()


def landscape(scene: Scene, surface: Surface) -> Map:
    stage, tone, theme, u = scene.stage, scene.tone, scene.style.theme, scene.stage.unit
    lines = None
    if scene.style.contours:
        lines = isolines(tone, theme, (max(1.2 * u, 0.8), max(1.9 * u, 1.1)), (0.24, 0.44))
    field = field_of(surface, tone, stage.map.width, stage.map.height)
    hatch = Hatch(theme.hatch_ground, theme.hatch_line, 14 * u, max(1.6 * u, 0.8))
    light = Light() if scene.style.light else None
    return Map(stage.map, field, tone, hatch, light, lines)


def _draw_on_map(sheet: Sheet, scene: Scene, surface: Surface) -> tuple[Layer, ...]:
    """Draw what lies on the map; a crowd of marks is given back as layers beneath it."""
    projection = Projection(scene.stage.map, surface.extent)
    if scene.extent is None:
        _draw_axes(sheet, scene, surface.extent)
    if scene.style.curve:
        _draw_tether(sheet, scene, surface, projection)
        draw_curve(sheet, surface, projection, 3.4 * scene.stage.unit, scene.inks)
    placed = on_map(surface.marks, projection)
    radius, crowd = radius_for(scene.groups, 1.35 * scene.stage.unit), crowded(scene.groups)
    if not crowd:
        draw_marks(sheet, placed, surface.quantity, scene.tone, radius, scene.stage.map)
    if scene.style.anchors:
        _draw_anchors(sheet, scene, surface, projection, () if crowd else placed)
    if not crowd:
        return ()
    from renders.page.crowd import crowd_layers

    theme, at = scene.style.theme, scene.stage.map
    return crowd_layers(placed, surface.quantity, scene.tone, theme, radius, at)


def _draw_tether(sheet: Sheet, scene: Scene, surface: Surface, projection: Projection) -> None:
    """The bend's two arms, faintly: the bend pulls the curve, which passes below it."""
    there = {a.name: (a.x, a.y) for a in surface.anchors}
    if not {"start", "bend", "end"} <= there.keys():
        return
    x, y = zip(*(there[name] for name in ("start", "bend", "end")), strict=True)
    u = scene.stage.unit
    width = max(1.6 * u, 0.9)
    sheet.mark(
        *projection.pixels(x, y), clip=scene.stage.map, color=hex_colour(scene.inks.pen), alpha=0.5,
        lw=sheet.points(width), ls=(0, (7 * u / width, 8 * u / width)),
    )  # fmt: skip


def _draw_anchors(
    sheet: Sheet,
    scene: Scene,
    surface: Surface,
    projection: Projection,
    marked: Sequence[Placed],
) -> None:
    u, at = scene.stage.unit, scene.stage.map
    radius, size = 7.5 * u, 27 * u
    x, y = projection.pixels([a.x for a in surface.anchors], [a.y for a in surface.anchors])
    bare = unmarked(x, y, marked, radius)
    for anchor, px, py, alone in zip(surface.anchors, x.tolist(), y.tolist(), bare, strict=True):
        if Box(round(px), round(py), 1, 1).meet(at.grown(1)).empty:
            continue
        if alone:
            about = around(px, py, radius)
            inks = inks_beneath(surface, projection, about, scene.tone, sheet.theme)
            draw_ring(sheet, px, py, radius, inks)
        if size < 7:
            continue
        words, kind = anchor_lettering(anchor, size)
        dx, dy = scene.sides[anchor.name]
        cx = px + dx * (1.5 * radius + 0.3 * size + text_width(words, kind) / 2)
        base = py + cap_height(kind) / 2 + dy * (1.5 * radius + 0.35 * size + cap_height(kind) / 2)
        wide, cap = text_width(words, kind), cap_height(kind)
        place = Box(round(cx - wide / 2), round(base - cap), round(wide), round(cap))
        inks = inks_beneath(surface, projection, place, scene.tone, sheet.theme)
        sheet.haloed(words, kind, cx, base, inks, "centre", floating=True)


def _draw_axes(sheet: Sheet, scene: Scene, extent: tuple[float, float, float, float]) -> None:
    u = scene.stage.unit
    projection = Projection(scene.stage.map, extent)
    # Coordinates are known as such; shares of variance and given directions are named.
    names = ("", "") if scene.facts.axes == ("x", "y") else scene.facts.axes
    draw_axes(sheet, projection, 17 * u, max(1, round(0.8 * u)), names)


def _draw_groups(sheet: Sheet, scene: Scene) -> None:
    """The key of the marks, above the landscape."""
    s, u = scene.stage, scene.stage.unit
    key = arranged([g for g in scene.groups if g.seen], 17 * u, 0.75 * s.map.width, 1)
    draw_marks_key(sheet, key, s.map.x, s.map.y - 14 * u, 0.0)


def _draw_words(sheet: Sheet, scene: Scene) -> None:
    """Title, subtitle, and the headings of the legend and of the readings."""
    s, u, theme = scene.stage, scene.stage.unit, scene.style.theme
    x, title_y = s.title
    title = title_of(scene.facts, scene.style)
    kind = fitted_type(title, Type(43 * u, "Light"), s.words_px)
    below = subtitle_of(scene.facts, scene.style, [scene.quantity], scene.split)
    if scene.facts.own_losses and scene.style.subtitle is None:
        below += f" · {scene.facts.own_losses}"
    lines = two_lines(below, Type(19.5 * u), s.words_px)
    # Above the map a second line would stand on it.
    lift = 22 * u if s.kind == "stacked" and len(lines) > 1 else 0.0
    sheet.text(title, kind, x - 0.04 * kind.size, title_y - lift)
    for k, line in enumerate(lines):
        kind = fitted_type(line, Type(19.5 * u), s.words_px)
        sheet.text(line, kind, x, s.subtitle_y - lift + 25 * u * k, colour=theme.muted)
    heading = heading_of(scene.quantity, scene.split)
    base = s.legend.y - 13 * u
    kind = fitted_type(heading, scaled(HEADING, u), s.legend.width)
    sheet.text(heading, kind, s.legend.x, base)
    unit, italic = scene.facts.measures.get(scene.quantity, ""), Type(17 * u, "It")
    if text_width(heading, kind) + text_width(unit, italic) + 12 * u <= s.legend.width:
        sheet.text(unit, italic, s.legend.right, base, "right", theme.muted)
    words = reading_headings(scene.labels, scene.quantity, scene.read)
    if scene.grows:
        read = path_readings(scene.groups, scene.groups, scene.quantity, scene.decimals)
        words = tuple(reading.heading for reading in read)
    for text, (x, y) in zip(words, s.readings, strict=True):
        sheet.text(text, scaled(HEADING, u), x, y, colour=theme.muted)


def _draw_caption(sheet: Sheet, scene: Scene, moment: Moment, whole: Sequence[MarkGroup]) -> None:
    """The readings, what the frame says of itself, and how far the film is."""
    s, u, theme = scene.stage, scene.stage.unit, scene.style.theme
    texts = _figures(scene, moment, whole)
    for text, (x, y) in zip(texts, s.readings, strict=True):
        sheet.text(text, scaled(FIGURE, u), x, y + 40 * u)
    note = _note(scene, moment)
    (x, y), italic = s.note, Type(17 * u, "It")
    # Beneath a landscape a long note would run into the figures of the legend.
    room = s.legend.x - 24 * u - x if s.kind == "beneath" else max(s.map.right, s.legend.right) - x
    for k, line in enumerate(two_lines(note, italic, room) if note else ()):
        kind = fitted_type(line, italic, room)
        sheet.text(line, kind, x, y + 22 * u * k, colour=theme.muted)
    entries = swatches_of(moment.surface, scene.tone, theme)
    draw_swatches(sheet, entries, s.map.right, s.map.y - 14 * u, 17 * u)
    _draw_playhead(sheet, scene, moment)


def _figures(scene: Scene, moment: Moment, whole: Sequence[MarkGroup]) -> tuple[str, ...]:
    """What is read out at a moment: along lines that grow, along the curve, else at anchors."""
    if scene.grows:
        shown = moment.surface.marks
        read = path_readings(shown, whole, scene.quantity, scene.decimals)
        return tuple(reading.figure for reading in read)
    if scene.read:
        values = anchor_readings(moment.surface, scene.tone, [a.name for a in scene.read])
    else:
        found = readings(moment.surface, scene.tone)
        values = [found.bend, found.highest]
    return _frame_text(scene, moment), *(figure(v, scene.decimals) for v in values)


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
    what = "patch" if scene.facts.units == "patch" else "plane"
    marks = marks_said(moment.surface, scene.tone, what)
    return " · ".join(words for words in (", ".join(filter(None, notes)), *marks) if words)


def _draw_track(sheet: Sheet, scene: Scene) -> None:
    """The line of progress, empty, with a stop at every computed frame where there is room."""
    if _single(scene):
        return
    at, hair, u = scene.stage.progress, scene.style.theme.hairline, scene.stage.unit
    sheet.rectangle(at, hair)
    if scene.blends and len(scene.stops) * 12 * u < at.width:
        for frame in scene.stops:
            x = at.x + _part(scene, frame) * at.width
            sheet.disc(x, at.y + at.height / 2, 3.2 * u, hair)


def _draw_playhead(sheet: Sheet, scene: Scene, moment: Moment) -> None:
    if _single(scene):
        return
    at, ink, u = scene.stage.progress, scene.style.theme.ink, scene.stage.unit
    reach = (_part(scene, moment.place) if moment.grown is None else moment.grown) * at.width
    done = Box(at.x, at.y, round(reach), at.height)
    if not done.empty:
        sheet.rectangle(done, ink, 0.75)
    sheet.disc(at.x + reach, at.y + at.height / 2, 5.5 * u, ink)


def _single(scene: Scene) -> bool:
    """Whether a film in the round has one frame alone, and so no progress to show."""
    return not scene.flat and scene.span[0] == scene.span[1] and not scene.grows


def _part(scene: Scene, place: float) -> float:
    first, last = scene.span
    return (place - first) / (last - first) if last > first else 1.0
