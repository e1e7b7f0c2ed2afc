"""Sheets: matplotlib figures in the house style, laid out in pixels.

matplotlib reads its style from one dictionary of the process. `house` sets it for a while and puts
it back; only one page is drawn at a time. Nothing here touches pyplot.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle
from matplotlib.patheffects import AbstractPathEffect, Normal, Stroke
from matplotlib.transforms import Affine2D, Bbox, BboxBase, Transform, TransformedBbox

from renders.box import Box
from renders.colour import hex_colour
from renders.page.inks import Inks
from renders.page.text import Type, Weight, font_file, runs
from renders.page.theme import Theme

FAMILY = "Source Sans Pro"
_ALONE = "file:"
_WEIGHTS: dict[Weight, tuple[int, str]] = {
    "ExtraLight": (200, "normal"),
    "Light": (300, "normal"),
    "Regular": (400, "normal"),
    "Semibold": (600, "normal"),
    "It": (400, "italic"),
    "SemiboldIt": (600, "italic"),
}
Align = Literal["left", "centre", "right"]
_ALIGN = {"left": "left", "centre": "center", "right": "right"}
_DRAWING = threading.RLock()


@contextlib.contextmanager
def house(theme: Theme) -> Iterator[None]:
    """Whatever is drawn and written inside has the house style, whatever the user's own is.

    Other threads wait: matplotlib has one style a process.
    """
    with _DRAWING:
        for weight in _WEIGHTS:
            _family_of(font_file(weight))
        defaults: Any = matplotlib.rcParamsDefault
        plain = {k: v for k, v in defaults.items() if "backend" not in k}
        fonts = logging.getLogger("matplotlib.font_manager")
        level = fonts.level
        fonts.setLevel(logging.ERROR)  # else it tells of every weight that a fallback lacks
        try:
            with matplotlib.rc_context(plain | _style(theme)):
                yield
        finally:
            fonts.setLevel(level)


def _style(theme: Theme) -> dict[str, Any]:
    return {
        "font.family": [FAMILY],
        "text.parse_math": False,  # a dollar in a title is a dollar
        "text.color": theme.ink,
        "figure.facecolor": theme.paper,
        "axes.facecolor": "none",
        "axes.edgecolor": theme.hairline,
        "axes.axisbelow": True,
        "grid.color": theme.hairline,
        "grid.alpha": 0.45,
        "xtick.color": theme.hairline,
        "xtick.labelcolor": theme.muted,
        "ytick.color": theme.hairline,
        "ytick.labelcolor": theme.muted,
        "lines.solid_capstyle": "round",
        "lines.solid_joinstyle": "round",
        "lines.dash_capstyle": "round",
        "path.simplify": False,  # or a line would depend on where its canvas ends
        "text.hinting": "no_hinting",  # or small type is wider than it is measured
        "pdf.fonttype": 42,  # TrueType: journals refuse matplotlib's default
        "svg.fonttype": "path",
        "svg.hashsalt": "lossatlas",  # the same names in every file
    }


def _family_of(font: Path) -> str:
    """The family of one of the typeface's own files, which matplotlib then knows."""
    known = font_manager.fontManager.ttflist
    found = next((entry.name for entry in known if entry.fname == str(font)), None)
    if found is None:
        font_manager.fontManager.addfont(str(font))
        found = known[-1].name
    return found


def _family_alone(font: Path) -> str:
    """A family that holds one file, of another typeface, whatever weight and slant are asked for.

    matplotlib looks for families. It would take a slanted file of that one, which may lack letters.
    """
    name = f"{_ALONE}{font}"
    known = font_manager.fontManager.ttflist
    if all(entry.name != name for entry in known):
        known.append(font_manager.FontEntry(fname=str(font), name=name))
    return name


def know_fonts(figure: Figure) -> None:
    """Make other typefaces of a figure's texts known here: it may come from another process."""
    for text in figure.texts:
        for family in text.get_fontfamily():
            if family.startswith(_ALONE):
                _family_alone(Path(family.removeprefix(_ALONE)))


@dataclass(frozen=True, eq=False)
class Sheet:
    """A figure that is laid out in pixels from its top left corner, as the layouts are.

    Attributes:
        figure: of exactly width / dpi by height / dpi inches.
        width, height: pixels.
        dpi: pixels an inch.
        theme: colours.
        transparent: neither the paper, nor the rims in its colour that lift lines from each other.
    """

    figure: Figure
    width: int
    height: int
    dpi: float
    theme: Theme
    transparent: bool = False

    @classmethod
    def blank(
        cls, width: int, height: int, dpi: float, theme: Theme, transparent: bool = False
    ) -> Sheet:
        """An empty page; call it inside `house`."""
        figure = Figure((width / dpi, height / dpi), dpi=dpi)
        if transparent:
            figure.patch.set_alpha(0)
        return cls(figure, width, height, dpi, theme, transparent)

    @property
    def ground(self) -> str:
        """The colour of the paper, as matplotlib takes it."""
        return "none" if self.transparent else self.theme.paper

    def points(self, pixels: float) -> float:
        """Pixels as points, in which matplotlib takes type and lines."""
        return 72 * pixels / self.dpi

    def axes(self, at: Box, **options: Any) -> Axes:
        """Axes whose frame is `at`."""
        rectangle = (
            at.x / self.width,
            1 - at.bottom / self.height,
            at.width / self.width,
            at.height / self.height,
        )
        return self.figure.add_axes(rectangle, **options)

    def text(
        self,
        words: str,
        kind: Type,
        x: float,
        baseline: float,
        align: Align = "left",
        colour: str | None = None,
    ) -> None:
        """One line of text that stands on `baseline`."""
        self.figure.text(
            x / self.width,
            1 - baseline / self.height,
            clean(words, kind.weight),
            ha=_ALIGN[align],
            va="baseline",
            color=colour or self.theme.ink,
            **self.type(kind, words),
        )

    def type(self, kind: Type, words: str = "") -> dict[str, Any]:
        """A size and weight of type as matplotlib takes it, with fonts that have `words`."""
        weight, slant = _WEIGHTS[kind.weight]
        own = font_file(kind.weight)
        others = [_family_alone(font) for font, _ in runs(words, kind.weight) if font != own]
        family = [FAMILY, *dict.fromkeys(others)]
        size = self.points(kind.size)
        return {"family": family, "weight": weight, "style": slant, "size": size}

    def turned(
        self, words: str, kind: Type, x: float, y: float, radians: float, colour: str
    ) -> None:
        """One line of text, turned counter-clockwise about the middle of its baseline."""
        self.figure.text(
            x,
            y,
            clean(words, kind.weight),
            transform=self.place,
            ha="center",
            va="baseline",
            rotation=math.degrees(radians),
            rotation_mode="anchor",
            color=colour,
            **self.type(kind, words),
        )

    @property
    def place(self) -> Transform:
        """From pixels of the page, y downwards, to the display."""
        at = Affine2D().scale(1 / self.width, -1 / self.height).translate(0, 1)
        return at + self.figure.transFigure

    def mark(
        self, x: npt.ArrayLike, y: npt.ArrayLike, *, clip: Box | None = None, **options: Any
    ) -> None:
        """Lines or markers in pixels of the page; nothing of them is seen outside `clip`."""
        line = Line2D(np.atleast_1d(x), np.atleast_1d(y), transform=self.place, **options)
        self.figure.add_artist(line)
        if clip is not None:
            line.set_clip_box(self.bounds(clip))

    def disc(self, x: float, y: float, radius: float, colour: str, opacity: float = 1.0) -> None:
        """A filled circle about (x, y), at fractions of a pixel too, where markers jump."""
        look: dict[str, Any] = {"fc": colour, "ec": "none", "alpha": opacity, "zorder": 2}
        self.figure.add_artist(Circle((x, y), radius, transform=self.place, **look))

    def rectangle(self, box: Box, colour: str, opacity: float = 1.0) -> None:
        """A filled rectangle of whole pixels."""
        corner, size = (box.x, box.y), (box.width, box.height)
        look: dict[str, Any] = {"fc": colour, "ec": "none", "alpha": opacity, "aa": False}
        self.figure.add_artist(Rectangle(corner, *size, transform=self.place, **look))

    def bounds(self, box: Box) -> BboxBase:
        """A box of the page, on the display."""
        return TransformedBbox(Bbox([[box.x, box.y], [box.right, box.bottom]]), self.place)

    def haloed(
        self,
        words: str,
        kind: Type,
        x: float,
        baseline: float,
        inks: Inks,
        align: Align = "left",
        opacity: float = 1.0,
        floating: bool = False,
    ) -> None:
        """One line of text with a soft rim, so that it reads on any ground.

        Args:
            words, kind, x, baseline, align: as for `text`.
            inks: of the letters and their rim.
            opacity: of both.
            floating: at fractions of a pixel too, which what moves slowly needs; as outlines.
        """
        rim = self.points(kind.size)
        colour, casing = hex_colour(inks.pen), hex_colour(inks.casing)
        veil = inks.veil * opacity
        effects: list[AbstractPathEffect] = [
            Stroke(linewidth=0.36 * rim, foreground=casing, alpha=0.5 * veil, joinstyle="round"),
            Stroke(linewidth=0.18 * rim, foreground=casing, alpha=veil, joinstyle="round"),
        ]
        options: dict[str, Any] = {
            "ha": _ALIGN[align], "va": "baseline", "color": colour, "transform": self.place,
            **self.type(kind, words),
        }  # fmt: skip
        said = clean(words, kind.weight)
        if floating:
            effects.append(Normal())
            self.figure.text(x, baseline, said, alpha=opacity, path_effects=effects, **options)
            return
        self.figure.text(x, baseline, said, path_effects=effects, **options)
        self.figure.text(x, baseline, said, alpha=opacity, **options)

    def image(self, box: Box, pixels: npt.NDArray[np.uint8]) -> Axes:
        """Pixels, one for one, beneath everything else: uint8 (height, width, 3)."""
        axes = self.axes(box, frameon=False, zorder=-1)
        axes.set_axis_off()
        axes.imshow(pixels, interpolation="none", aspect="auto")
        return axes

    def vector(self, kind: str, text: Mapping[str, str]) -> bytes:
        """The page as a PDF or SVG file; the same bytes for the same page.

        Args:
            kind: pdf or svg.
            text: Title, Description and Software, as far as they are known.
        """
        out = io.BytesIO()
        if kind == "pdf":
            from matplotlib.backends.backend_pdf import FigureCanvasPdf

            names = {"Title": "Title", "Description": "Subject", "Software": "Creator"}
            said: dict[str, Any] = {names[k]: v for k, v in text.items() if k in names}
            said |= {"CreationDate": None, "Producer": f"matplotlib {matplotlib.__version__}"}
            canvas: Any = FigureCanvasPdf(self.figure)
            canvas.print_pdf(out, metadata=said)
        else:
            from matplotlib.backends.backend_svg import FigureCanvasSVG

            names = {"Title": "Title", "Description": "Description", "Software": "Creator"}
            said = {names[k]: v for k, v in text.items() if k in names} | {"Date": None}
            canvas = FigureCanvasSVG(self.figure)
            canvas.print_svg(out, metadata=said)
        self.figure.set_dpi(self.dpi)  # the PDF's canvas leaves its own behind
        return out.getvalue()


def clean(words: str, weight: Weight) -> str:
    """`words` without what no font has; see `renders.page.text`."""
    return "".join(part for _, part in runs(words, weight))
