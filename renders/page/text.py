"""Type: Source Sans Pro as masks of ink, measured in pixels; other fonts for what it lacks."""

from __future__ import annotations

import functools
import importlib.metadata
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, features

from pipeline.errors import LossatlasError, LossatlasWarning
from renders.colour import FloatArray
from renders.page.fallback import font_with, has_glyph, is_mark
from renders.page.sprite import Alpha, Sprite

Weight = Literal["ExtraLight", "Light", "Regular", "Semibold", "It", "SemiboldIt"]
AlignX = Literal["left", "centre", "right"]
_DISTRIBUTION = "font-source-sans-pro"


_TOLD: set[str] = set()


class TextError(LossatlasError):
    """The typeface is not installed."""


class TextWarning(LossatlasWarning):
    """A text cannot be drawn as it is written."""


@dataclass(frozen=True)
class Type:
    """A size and weight of type.

    `size` is the em in pixels; `tracking` is extra space between letters, in ems.
    """

    size: float
    weight: Weight = "Regular"
    tracking: float = 0.0


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
    from_right = any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)
    if from_right and not _shapes() and "raqm" not in _TOLD:
        _TOLD.add("raqm")
        warnings.warn(
            f"{text} is written from right to left, and Pillow has no Raqm here to do so: its "
            "letters stand apart and in the wrong order. Install FriBiDi",
            TextWarning,
            stacklevel=2,
        )


def text_width(text: str, kind: Type) -> float:
    """Advance width in pixels."""
    width = 0.0
    for path, part in runs(text, kind.weight):
        font = _font(path, kind.size)
        width += sum(font.getlength(piece) for piece in _pieces(path, part, kind))
    return width + (kind.tracking * kind.size * (len(text) - 1) if kind.tracking else 0.0)


def _pieces(path: Path, part: str, kind: Type) -> list[str]:
    """What is set at once: all of a part, or each letter where letters are spaced."""
    # Letters of other scripts may be joined: they are never set apart.
    return list(part) if kind.tracking and path == font_file(kind.weight) else [part]


def cap_height(kind: Type) -> float:
    """Height of a capital letter in pixels (0.66 em in Source Sans Pro)."""
    return 0.66 * kind.size


def text_mask(text: str, kind: Type) -> tuple[Alpha, float]:
    """The ink of one line: alpha, uint8 (height, width), and its baseline's row in it.

    The mask has a margin of half an em on every side.
    """
    pad = int(np.ceil(kind.size / 2))
    baseline = pad + int(np.ceil(kind.size))
    width = int(np.ceil(text_width(text, kind))) + 2 * pad
    image = Image.new("L", (width, baseline + int(np.ceil(kind.size * 0.4)) + pad))
    pen = ImageDraw.Draw(image)
    at: float = pad
    for path, part in runs(text, kind.weight):
        font = _font(path, kind.size)
        for piece in _pieces(path, part, kind):
            pen.text((at, baseline), piece, fill=255, font=font, anchor="ls")
            at += font.getlength(piece) + kind.tracking * kind.size
    return np.asarray(image), float(baseline)


def text_sprite(
    text: str,
    kind: Type,
    colour: FloatArray,
    x: float,
    baseline: float,
    align: AlignX = "left",
    opacity: float = 1.0,
) -> Sprite:
    """One line of text whose left end, middle or right end is at `x`, standing on `baseline`."""
    alpha, base = text_mask(text, kind)
    pad = int(np.ceil(kind.size / 2))
    shift = {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * text_width(text, kind)
    return Sprite(round(x - shift) - pad, round(baseline - base), alpha, colour, opacity)


def halo(sprite: Sprite, radius_px: float, colour: FloatArray, opacity: float) -> Sprite:
    """A soft, grown copy of a sprite to lay beneath it, so that it reads on any ground."""
    pad = int(np.ceil(2.5 * radius_px)) + 1
    image = Image.fromarray(np.pad(sprite.alpha, pad))
    grown = image.filter(ImageFilter.GaussianBlur(radius_px))
    strong = np.minimum(np.asarray(grown, dtype=np.float64) * 2.6, 255)
    return Sprite(sprite.x - pad, sprite.y - pad, strong.astype(np.uint8), colour, opacity)


def turned(text: str, kind: Type, radians: float) -> Alpha:
    """The ink of one line turned counter-clockwise about its centre, uint8, centred in the mask."""
    alpha, baseline = text_mask(text, kind)
    # Centre on the optical middle of figures, not on the line box.
    middle = baseline - cap_height(kind) / 2
    half = int(max(middle, alpha.shape[0] - middle)) + 1
    centred = np.zeros((2 * half, alpha.shape[1]), dtype=np.uint8)
    top = round(half - middle)
    centred[top : top + alpha.shape[0]] = alpha
    image = Image.fromarray(centred)
    return np.asarray(
        image.rotate(np.degrees(radians), resample=Image.Resampling.BICUBIC, expand=True)
    )
