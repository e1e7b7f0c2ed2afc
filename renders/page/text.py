"""Type: Source Sans Pro, measured in pixels, and other fonts for what it lacks."""

from __future__ import annotations

import functools
import importlib.metadata
import unicodedata
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import ImageFont, features

from pipeline.errors import LossatlasError, LossatlasWarning
from renders.page.fallback import font_with, has_glyph, is_mark

Weight = Literal["ExtraLight", "Light", "Regular", "Semibold", "It", "SemiboldIt"]
_DISTRIBUTION = "font-source-sans-pro"


_TOLD: set[str] = set()


class TextError(LossatlasError):
    """The typeface is not installed."""


class TextWarning(LossatlasWarning):
    """A text cannot be drawn as it is written."""


@dataclass(frozen=True)
class Type:
    """A size and weight of type; `size` is the em in pixels."""

    size: float
    weight: Weight = "Regular"


@functools.cache
def font_file(weight: Weight) -> Path:
    """The TrueType file of one weight.

    Raises:
        TextError: the font distribution is not installed, or lacks the weight.
    """
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == f"SourceSansPro-{weight}.ttf":
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise TextError(
        f"typeface Source Sans Pro {weight} is not installed: wanted for the picture's lettering; "
        f"run `pip install {_DISTRIBUTION}`"
    )


@functools.lru_cache(512)
def _font(path: Path, size: float) -> ImageFont.FreeTypeFont:
    # Raqm applies the typeface's own kerning; without it the basic layout still reads well.
    engine = ImageFont.Layout.RAQM if _shapes() else ImageFont.Layout.BASIC
    return ImageFont.truetype(str(path), size, layout_engine=engine)


@functools.cache
def _shapes() -> bool:
    return bool(features.check("raqm"))


@functools.lru_cache(4096)
def runs(text: str, weight: Weight) -> tuple[tuple[Path, str], ...]:
    """`text` in parts of one font each: the typeface's, or another's for what it lacks.

    What no font here has becomes a question mark, and a warning says so.
    """
    own = font_file(weight)
    if text.isascii() and text.isprintable():
        return ((own, text),)
    runs: list[tuple[Path, str]] = []
    missing = []
    for found in unicodedata.normalize("NFC", text):
        last, before = runs[-1] if runs else (own, "")
        character = " " if found.isspace() else found
        font = last if character == " " or is_mark(character) else _font_for(character, last, own)
        if font is None:
            missing.append(character)
            font, character = own, "?"
        elif is_mark(character) and not has_glyph(font, character):
            missing += [character] if unicodedata.combining(character) else []
            continue
        if font == last:
            runs[-1:] = [(font, before + character)]
            continue
        # Space between two fonts is the typeface's, whichever way the other one runs.
        kept = before.rstrip() if font == own else before
        runs[-1:] = [(last, kept), (font, before[len(kept) :] + character)]
    _tell(missing, text)
    return tuple((font, part) for font, part in runs if part)


def _font_for(character: str, last: Path, own: Path) -> Path | None:
    """The typeface where it has the character, else the font of the one before, else any."""
    if has_glyph(own, character):
        return own
    return last if has_glyph(last, character) else font_with(character)


def _tell(missing: list[str], text: str) -> None:
    """Warn of characters that cannot be drawn, of each once."""
    new = [character for character in dict.fromkeys(missing) if character not in _TOLD]
    if new:
        _TOLD.update(new)
        named = (c if c.isprintable() else f"U+{ord(c):04X}" for c in new)
        warnings.warn(
            f"no font on this machine has {' '.join(named)}: drawn as ?. Install one that "
            "has, such as a Noto font of that script",
            TextWarning,
            stacklevel=2,
        )


def text_width(text: str, kind: Type) -> float:
    """Advance width in pixels."""
    parts = runs(text, kind.weight)
    return float(sum(_font(path, kind.size).getlength(part) for path, part in parts))


def fitted_type(text: str, kind: Type, room: float) -> Type:
    """`kind`, made smaller where `text` would be wider than `room` pixels."""
    wide = text_width(text, kind)
    return kind if wide <= room else replace(kind, size=kind.size * room / wide)


def cap_height(kind: Type) -> float:
    """Height of a capital letter in pixels (0.66 em in Source Sans Pro)."""
    return 0.66 * kind.size
