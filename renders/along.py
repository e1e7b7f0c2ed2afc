"""Along a curve: its loss and error over t as lines, beside the straight line between its ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import LossatlasError
from renders.axes import axis_sprites, frame_sprites
from renders.box import Box
from renders.colour import FloatArray, palette_colours, rgb
from renders.map.line import Stroke, dashed
from renders.overlay import disc
from renders.page import fitted_type
from renders.picture import Layer, Picture
from renders.projection import Projection
from renders.sprite import Sprite, Sprites, rectangle
from renders.text import Type, cap_height, halo, text_sprite, text_width
from renders.theme import Theme, theme_named
from renders.ticks import label, linear_ticks, short, spread_ticks
from renders.whole import checked_place

HEADROOM = 0.08
"""Room above and below the lines, as a share of a panel's height."""
GEOMETRIC = 8.0
"""Losses whose highest is more than this many times the lowest get a logarithmic scale."""
_DPI = 300.0
_STRENGTH = (1.0, 0.75, 0.9)
_WAYS = ("curve", "straight line", "ensemble with the start")


class AlongError(LossatlasError):
    """A report that cannot be drawn as asked."""


@dataclass(frozen=True, eq=False)
class Line:
    """One quantity of one split along one way: float64 (T,) `values`, and which way it went."""

    split: str
    way: int
    values: FloatArray


@dataclass(frozen=True, eq=False)
class Panel:
    """The lines of one quantity, under one scale; `measure` says what its figures are."""

    quantity: str
    lines: tuple[Line, ...]
    measure: str = ""

    @property
    def geometric(self) -> bool:
        """Whether the scale is logarithmic; an error's never is."""
        finite = self._finite()
        if self.quantity == "error" or not finite.size:
            return False
        return bool(finite.min() > 0 and finite.max() > GEOMETRIC * finite.min())

    def height(self, values: FloatArray) -> FloatArray:
        """Values as heights; NaN where they are not finite, or have no logarithm."""
        usable = np.isfinite(values) & ((values > 0) | (not self.geometric))
        safe = np.where(usable, values, 1.0)
        return np.asarray(np.where(usable, np.log(safe) if self.geometric else safe, np.nan))

    def span(self) -> tuple[float, float]:
        """The lowest and the highest height, apart even where all values are the same."""
        finite = self._finite()
        if not finite.size:
            return 0.0, 1.0
        heights = self.height(finite)
        low, high = float(heights.min()), float(heights.max())
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    def _finite(self) -> FloatArray:
        values = np.concatenate([line.values for line in self.lines])
        return np.asarray(values[np.isfinite(values)])


def write_report(
    report: Mapping[str, Any],
    path: str | Path,
    *,
    examples: Mapping[str, int],
    theme: str = "light",
    width: int = 2400,
) -> int:
    """Draw a curve's report as a .png; returns the file's size in bytes.

    Args:
        report: what `pipeline.curve_report.CurveReport.as_dict` gives: `t` and, of `curve` and
            `line`, length, loss and error of each split; besides, the network's name.
        path: the file, in an existing folder.
        examples: split → how many.
        theme: light or dark.
        width: of the picture, pixels.

    Raises:
        LossatlasError: another ending, an unknown theme, or a place that cannot be written.
    """
    place = checked_path(path)
    if width < 400:
        raise AlongError(f"width is {width} pixels: wanted at least 400")
    from renders.files.image import write_png

    title, subtitle = _words(report, examples)
    picture = report_picture(report, title, subtitle, theme_named(theme), width)
    words = {"Software": "lossatlas", "Title": title, "Description": subtitle}
    return write_png(picture, place, dpi=_DPI, text=words)


def checked_path(path: str | Path) -> Path:
    """`path`, if a report could be drawn there.

    Raises:
        AlongError: an ending other than .png, or a place nobody could write to.
    """
    place = checked_place(Path(path), AlongError)
    if place.suffix.lower() != ".png":
        raise AlongError(f"{place} ends in {place.suffix or 'nothing'!r}: wanted .png; rename it")
    return place


def _words(report: Mapping[str, Any], examples: Mapping[str, int]) -> tuple[str, str]:
    bends = report["bends"]
    kind = {"bezier": "Bézier curve", "chain": "chain"}.get(report["kind"], report["kind"])
    title = f"{report.get('network') or 'Loss'} along a {kind}"
    phrases = [
        " and ".join(f"{count:,} {split}" for split, count in examples.items()) + " examples",
        report.get("batch_norm"),
        f"{bends} bend{'' if bends == 1 else 's'}",
        f"length {report['curve']['length']:.4g}, straight line {report['line']['length']:.4g}",
    ]
    return title, " · ".join(phrase for phrase in phrases if phrase)


def report_picture(
    report: Mapping[str, Any], title: str, subtitle: str, theme: Theme, width: int
) -> Picture:
    """The report as a picture: a panel a quantity, a colour a split, a stroke a way."""
    t = np.asarray(report["t"], dtype=np.float64)
    shown = panels(report)
    splits = tuple(report["curve"]["splits"])
    u = width / 1000
    margin, gap = 84 * u, 78 * u
    wide = (width - 2 * margin - gap * (len(shown) - 1)) / len(shown)
    top, tall = 158 * u, 300 * u
    inks = _inks(theme, len(splits))
    layers: list[Layer] = []
    furniture = _titles(title, subtitle, theme, u, margin, width - 2 * margin)
    for index, panel in enumerate(shown):
        at = Box(round(margin + index * (wide + gap)), round(top), round(wide), round(tall))
        low, high = panel.span()
        room = HEADROOM * (high - low)
        plot = Projection(at, (float(t[0]), float(t[-1]), low - room, high + room))
        layers.append(Sprites(tuple(_grid(panel, plot, theme, u))))
        for line in reversed(panel.lines):
            ink = inks[splits.index(line.split)]
            layers += _strokes(line, panel, plot, t, ink, theme, u)
        furniture += _frame(panel, plot, theme, u)
        furniture += _summits(panel, plot, t, theme, u)
    foot = top + tall + 74 * u
    key, samples = _key(splits, shown, inks, theme, u, margin, foot)
    furniture += key
    box = Box(0, 0, width, round(foot + 46 * u))
    layers += [Stroke(points, 2.4 * u, ink, 1.0, box, finer=2) for points, ink in samples]
    return Picture(box.width, box.height, rgb(theme.paper), (*layers, Sprites(tuple(furniture))))


def panels(report: Mapping[str, Any]) -> tuple[Panel, ...]:
    """Loss, and error where the report has one: the curve's lines first, then the others'."""
    curve, line = report["curve"]["splits"], report["line"]["splits"]
    found = []
    for quantity in ("loss", "error"):
        lines = []
        for way, (values, name) in enumerate(
            ((curve, quantity), (line, quantity), (curve, f"ensemble_{quantity}"))
        ):
            # The ensemble says that the functions differ by its error, not by its loss.
            if way == 2 and quantity == "loss":
                continue
            lines += [
                Line(split, way, np.asarray(of[name]["values"], dtype=np.float64))
                for split, of in values.items()
                if name in of
            ]
        if lines:
            measure = (report.get("measures") or {}).get(quantity, "")
            found.append(Panel(quantity, tuple(lines), measure))
    return tuple(found)


def _inks(theme: Theme, count: int) -> list[FloatArray]:
    # From the palette's inner half: its ends may be as pale or as dark as the paper.
    colours = [rgb(c) for c in palette_colours(theme.palette)]
    return [colours[round(p * (len(colours) - 1))] for p in np.linspace(0.22, 0.68, max(count, 2))]


def _titles(
    title: str, subtitle: str, theme: Theme, u: float, x: float, room: float
) -> list[Sprite]:
    large = fitted_type(title, Type(34 * u, "Light"), room)
    small = fitted_type(subtitle, Type(14 * u, "Regular"), room)
    return [
        text_sprite(title, large, rgb(theme.ink), x - 0.04 * large.size, 72 * u),
        text_sprite(subtitle, small, rgb(theme.muted), x, 98 * u),
    ]


def _grid(panel: Panel, plot: Projection, theme: Theme, u: float) -> list[Sprite]:
    at, kind = plot.at, Type(10.5 * u, "Regular")
    line_px = max(1, round(0.5 * u))
    low, high = (np.exp(v) if panel.geometric else v for v in panel.span())

    def place(value: float) -> float:
        return float(plot.pixels(0.0, panel.height(np.array(value)))[1]) / at.height

    sprites = []
    ticks = (
        spread_ticks(float(low), float(high), place, 3.4 * kind.size / at.height)
        if panel.geometric
        else linear_ticks(float(low), float(high), at.height / (5 * kind.size))
    )
    for value in ticks:
        y = place(value) * at.height
        line = Box(at.x, round(y - line_px / 2), at.width, line_px)
        sprites.append(rectangle(line, rgb(theme.hairline), 0.45))
        base = y + cap_height(kind) / 2
        words = label(value)
        sprites.append(text_sprite(words, kind, rgb(theme.muted), at.x - 9 * u, base, "right"))
    return sprites


def _frame(panel: Panel, plot: Projection, theme: Theme, u: float) -> list[Sprite]:
    at, line_px = plot.at, max(1, round(0.6 * u))
    heading, unit = panel.quantity.upper(), panel.measure
    small, named = Type(10 * u, "Semibold", 0.08), Type(10.5 * u, "It")
    base = at.y - 13 * u
    beside = at.x + text_width(heading, small) + 9 * u
    return [
        *frame_sprites(at, theme, line_px),
        *axis_sprites(plot, theme, 10.5 * u, line_px, ("t", ""), vertical=False),
        text_sprite(heading, small, rgb(theme.ink), at.x, base),
        text_sprite(unit, named, rgb(theme.muted), beside, base),
    ]


def _strokes(
    line: Line,
    panel: Panel,
    plot: Projection,
    t: FloatArray,
    ink: FloatArray,
    theme: Theme,
    u: float,
) -> list[Layer]:
    points = np.stack(plot.pixels(t, panel.height(line.values)), axis=1)
    casing = Stroke(points, 4.8 * u, rgb(theme.paper), 0.7, plot.at)
    drawn = _cut(points, line.way, u)
    return [casing, Stroke(drawn, 2.4 * u, ink, _STRENGTH[line.way], plot.at, finer=2)]


def _cut(points: FloatArray, way: int, u: float) -> FloatArray:
    """Whole for the curve, long dashes for the line, short ones for the ensemble."""
    match way:
        case 0:
            return points
        case 1:
            return dashed(points, 9 * u, 6 * u)
    return dashed(points, 0.2 * u, 5.5 * u)


def _summits(panel: Panel, plot: Projection, t: FloatArray, theme: Theme, u: float) -> list[Sprite]:
    """The highest value of the curve and of the line, of the first split, in figures."""
    sprites: list[Sprite] = []
    kind = Type(11 * u, "Semibold")
    first = panel.lines[0].split
    for line in panel.lines:
        if line.split != first or line.way == 2 or not np.isfinite(line.values).any():
            continue
        top = int(np.nanargmax(np.where(np.isfinite(line.values), line.values, np.nan)))
        x, y = (float(v) for v in plot.pixels(t[top], panel.height(line.values[top : top + 1])[0]))
        words = short(float(line.values[top]))
        half = text_width(words, kind) / 2
        x = min(max(x, plot.at.x + half + 6 * u), plot.at.right - half - 6 * u)
        base = max(y - 8 * u, plot.at.y + cap_height(kind) + 4 * u)
        figure = text_sprite(words, kind, rgb(theme.ink), x, base, "centre")
        sprites += [halo(figure, 2 * u, rgb(theme.paper), 1.0), figure]
    return sprites


def _key(
    splits: Sequence[str],
    shown: Sequence[Panel],
    inks: Sequence[FloatArray],
    theme: Theme,
    u: float,
    x: float,
    base: float,
) -> tuple[list[Sprite], list[tuple[FloatArray, FloatArray]]]:
    """Which colour is which split, and which stroke which way; with the strokes' samples."""
    kind = Type(12 * u, "Regular")
    ink, middle = rgb(theme.ink), base - cap_height(kind) / 2
    sprites: list[Sprite] = []
    for split, colour in zip(splits, inks, strict=False):
        sprites.append(disc(x + 5 * u, middle, 4.5 * u, colour, 1.0))
        sprites.append(text_sprite(split, kind, ink, x + 17 * u, base))
        x += 17 * u + text_width(split, kind) + 28 * u
    x += 18 * u
    samples = []
    for way in sorted({line.way for panel in shown for line in panel.lines}):
        points = np.array([[x, middle], [x + 34 * u, middle]])
        samples.append((_cut(points, way, u), ink))
        sprites.append(text_sprite(_WAYS[way], kind, ink, x + 43 * u, base))
        x += 43 * u + text_width(_WAYS[way], kind) + 28 * u
    return sprites, samples
