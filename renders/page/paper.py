"""Paper: the sheets that posters are printed on, by name or by measure."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import LossatlasError

Orientation = Literal["auto", "portrait", "landscape"]
ORIENTATIONS: tuple[Orientation, ...] = ("auto", "portrait", "landscape")
MM_PER_INCH = 25.4
VECTOR = ("pdf", "svg")
"""Files whose lines and type are vectors."""
_MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "in": MM_PER_INCH, '"': MM_PER_INCH}
_NAMED = {
    "letter": (215.9, 279.4),
    "legal": (215.9, 355.6),
    "tabloid": (279.4, 431.8),
    "a0": (841.0, 1189.0),
    "a1": (594.0, 841.0),
    "a2": (420.0, 594.0),
    "a3": (297.0, 420.0),
    "a4": (210.0, 297.0),
    "a5": (148.0, 210.0),
    "a6": (105.0, 148.0),
    "b0": (1000.0, 1414.0),
    "b1": (707.0, 1000.0),
    "b2": (500.0, 707.0),
    "b3": (353.0, 500.0),
    "b4": (250.0, 353.0),
    "b5": (176.0, 250.0),
}


class PaperError(LossatlasError):
    """A sheet that does not exist, or that no printer could take."""


@dataclass(frozen=True)
class Sheet:
    """A sheet of paper, millimetres, as it hangs."""

    width_mm: float
    height_mm: float

    def pixels(self, dpi: float) -> tuple[int, int]:
        """Width and height in whole pixels at `dpi` dots per inch."""
        return (
            max(1, round(self.width_mm / MM_PER_INCH * dpi)),
            max(1, round(self.height_mm / MM_PER_INCH * dpi)),
        )


def sheet_named(paper: str, orientation: str = "auto", aspect: float = 1.0) -> Sheet:
    """The sheet called `paper`.

    Args:
        paper: A0 to A6, B0 to B5, letter, legal, tabloid, or a measure like `24x36in`, `60x90cm`.
        orientation: portrait, landscape, or auto, which turns the sheet as the picture lies.
        aspect: height over width of what goes on it; for auto alone.

    Raises:
        PaperError: no such sheet or orientation, or a side under 2 cm or over 100 m.
    """
    if orientation not in ORIENTATIONS:
        near = difflib.get_close_matches(orientation, ORIENTATIONS, n=1, cutoff=0.0)[0]
        raise PaperError(
            f"orientation is {orientation!r}: wanted auto, portrait or landscape; the nearest is "
            f"{near!r}"
        )
    short, long = sorted(_sides(paper))
    if short < 20 or long > 100_000:
        raise PaperError(
            f"paper {paper} is {short:g} × {long:g} mm: wanted sides of 2 cm to 100 m; check the "
            "unit"
        )
    upright = orientation == "portrait" or (orientation == "auto" and aspect >= 1)
    return Sheet(short, long) if upright else Sheet(long, short)


def _sides(paper: str) -> tuple[float, float]:
    name = paper.strip().lower()
    if name in _NAMED:
        return _NAMED[name]
    number, unit = r"(\d+(?:\.\d+)?)", r"(mm|cm|m|in|\")"
    found = re.fullmatch(rf"{number}\s*{unit}?\s*[x×*]\s*{number}\s*{unit}", name)
    if found:
        first, of_first, second, of_second = found.groups()
        return (
            float(first) * _MM_PER_UNIT[of_first or of_second],
            float(second) * _MM_PER_UNIT[of_second],
        )
    near = difflib.get_close_matches(name, _NAMED, n=1, cutoff=0.3)
    hint = f"; the nearest name is {near[0].upper()}" if near else ""
    raise PaperError(f"paper is {paper!r}: wanted a size like A0, letter, 24x36in or 60x90cm{hint}")
