"""Fonts for what the typeface lacks: the machine's own, found by a plain search, glyph by glyph."""

from __future__ import annotations

import functools
import importlib.util
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from PIL import ImageFont

_ENDINGS = (".ttf", ".otf", ".ttc")
_NO_FONTS = ("lastresort", "blank")  # they have a box, or nothing, for every character
_UNLIKE = ("bold", "italic", "oblique", "mono", "serif", "condensed", "black", "light", "thin")
_NOWHERE = "\U0010ffff"  # no character, so that its glyph is the one for what is missing
_SIZE = 32.0


def font_with(character: str) -> Path | None:
    """The font of this machine that draws a character most like ours; None where none has it."""
    return next((path for path in _fonts() if has_glyph(path, character)), None)


@functools.lru_cache(4096)
def has_glyph(path: Path, character: str) -> bool:
    """Whether a font draws a character, and not the box for one that it lacks."""
    try:
        font = ImageFont.truetype(str(path), _SIZE, layout_engine=ImageFont.Layout.BASIC)
        found, missing = font.getmask(character), font.getmask(_NOWHERE)
    except (OSError, ValueError):  # damaged, or of fixed sizes alone, as some of emoji are
        return False
    return found.size != missing.size or bytes(found) != bytes(missing)


def is_mark(character: str) -> bool:
    """Whether a character only changes the one before it, and is drawn with that one's font."""
    return unicodedata.category(character) in ("Mn", "Me", "Cf")


@functools.cache
def _fonts() -> tuple[Path, ...]:
    """The fonts of this machine, plain sans-serif ones first."""
    found = {path for folder in _folders() for path in _below(folder)}
    return tuple(sorted(found, key=_likeness))


def _likeness(path: Path) -> tuple[int, bool, str]:
    name = path.stem.lower()
    return sum(word in name for word in _UNLIKE), "sans" not in name, str(path)


def _folders() -> Iterable[Path]:
    home = Path.home()
    yield from (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
    yield from (home / ".fonts", home / ".local/share/fonts", home / "Library/Fonts")
    yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"))
    yield Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"
    matplotlib = importlib.util.find_spec("matplotlib")  # not imported; it ships DejaVu Sans
    if matplotlib is not None and matplotlib.origin is not None:
        yield Path(matplotlib.origin).parent / "mpl-data/fonts/ttf"


def _below(folder: Path) -> Iterable[Path]:
    for place, _, names in os.walk(folder):  # a folder that is not there has nothing below it
        for name in names:
            lower = name.lower()
            if lower.endswith(_ENDINGS) and not any(word in lower for word in _NO_FONTS):
                yield Path(place) / name
