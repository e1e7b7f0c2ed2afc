"""Type: Source Sans Pro as masks of ink, measured in pixels."""

from __future__ import annotations

import functools
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, features

from pipeline.errors import LossatlasError
from renders.colour import FloatArray
from renders.sprite import Alpha, Sprite

Weight = Literal["ExtraLight", "Light", "Regular", "Semibold", "It", "SemiboldIt"]
AlignX = Literal["left", "centre", "right"]
_DISTRIBUTION = "font-source-sans-pro"


class TextError(LossatlasError):
    """The typeface is not installed."""


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


@functools.cache
def _font(weight: Weight, size: float) -> ImageFont.FreeTypeFont:
    # Raqm applies the typeface's own kerning; without it the basic layout still reads well.
    raqm = features.check("raqm")
    engine = ImageFont.Layout.RAQM if raqm else ImageFont.Layout.BASIC
    return ImageFont.truetype(str(font_file(weight)), size, layout_engine=engine)


def text_width(text: str, kind: Type) -> float:
    """Advance width in pixels."""
    font = _font(kind.weight, kind.size)
    if kind.tracking:
        return sum(font.getlength(c) for c in text) + kind.tracking * kind.size * (len(text) - 1)
    return font.getlength(text)


def cap_height(kind: Type) -> float:
    """Height of a capital letter in pixels (0.66 em in Source Sans Pro)."""
    return 0.66 * kind.size


def text_mask(text: str, kind: Type) -> tuple[Alpha, float]:
    """The ink of one line: alpha, uint8 (height, width), and its baseline's row in it.

    The mask has a margin of half an em on every side.
    """
    font = _font(kind.weight, kind.size)
    pad = int(np.ceil(kind.size / 2))
    baseline = pad + int(np.ceil(kind.size))
    width = int(np.ceil(text_width(text, kind))) + 2 * pad
    image = Image.new("L", (width, baseline + int(np.ceil(kind.size * 0.4)) + pad))
    pen = ImageDraw.Draw(image)
    if not kind.tracking:
        pen.text((pad, baseline), text, fill=255, font=font, anchor="ls")
    else:
        at = float(pad)
        for letter in text:
            pen.text((at, baseline), letter, fill=255, font=font, anchor="ls")
            at += font.getlength(letter) + kind.tracking * kind.size
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
