"""Colours as numbers: hex strings, palettes, and the sRGB transfer curve."""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import LossatlasError

FloatArray = npt.NDArray[np.float64]

PALETTES: dict[str, tuple[str, float, float]] = {
    "dusk": ("CET_L17", 1.0, 0.05),
    "glow": ("CET_L17", 0.05, 1.0),
    "reef": ("gouldian", 0.0, 1.0),
    "ember": ("CET_L3", 0.04, 0.96),
    "glacier": ("CET_L6", 0.04, 0.96),
    "ink": ("CET_L1", 0.06, 0.96),
    "safe": ("CET_CBL2", 0.06, 0.97),
    "safe-quiet": ("CET_CBL1", 0.06, 0.97),
    "safe-tritan": ("CET_CBTL1", 0.06, 0.97),
}
"""Our names for stretches of colorcet's perceptual palettes, from and to as shares of their length.

White and black ends are left out: light could not model them. The `safe` ones hold up under colour
blindness (Kovesi's CET-CB*: red-green; CET-CBT*: blue-yellow).
"""


class ColourError(LossatlasError):
    """A colour or a palette that does not exist."""


def rgb(colour: str) -> FloatArray:
    """A `#rrggbb` colour as float64 (3,), encoded sRGB on the scale 0…255."""
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        raise ColourError(f"colour is {colour!r}: wanted six hex digits, like '#1b3a5c'")
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64)


def hex_colour(values: npt.ArrayLike) -> str:
    """The `#rrggbb` string nearest to an encoded colour on the scale 0…255."""
    r, g, b = (int(v) for v in np.clip(np.rint(np.asarray(values, dtype=np.float64)), 0, 255))
    return f"#{r:02x}{g:02x}{b:02x}"


def palette_colours(palette: str | Sequence[str]) -> tuple[str, ...]:
    """The colours of a palette, low to high.

    Args:
        palette: one of `PALETTES`, a colorcet name or one of matplotlib's, each with a trailing
            `_r` to reverse it, or at least two `#rrggbb` colours.

    Raises:
        ColourError: no such palette, or fewer than two colours.
    """
    if not isinstance(palette, str):
        if len(palette) < 2:
            raise ColourError(
                f"palette has {len(palette)} colours: wanted at least two, or a name such as dusk"
            )
        return tuple(hex_colour(rgb(colour)) for colour in palette)
    import colorcet  # 0.3 s, with matplotlib's, that a spelling mistake elsewhere need not wait for
    from matplotlib import colormaps

    others = {name for name in colormaps if not name.startswith("cet_")} - {*colorcet.palette}
    known = {*colorcet.palette, *others}
    name, reverse = _stem(palette, known)
    name, start, stop = PALETTES.get(name, (name, 0.0, 1.0))
    if name not in known:
        near = difflib.get_close_matches(palette, [*PALETTES, *sorted(known)], n=1, cutoff=0.4)
        hint = f"the nearest name is {near[0]!r}" if near else "try 'dusk'"
        raise ColourError(
            f"palette is {palette!r}: wanted a name of colorcet's or matplotlib's; {hint}"
        )
    if name in others:
        table = colormaps[name]
        whole = 255 * np.asarray(table(np.arange(table.N)), dtype=np.float64)[:, :3]
    else:
        whole = np.stack([_any_colour(c) for c in colorcet.palette[name]])
    at = np.rint(np.linspace(start, stop, len(whole)) * (len(whole) - 1)).astype(np.int64)
    at = at[np.concatenate([[True], np.diff(at) != 0])]
    colours = tuple(hex_colour(c) for c in whole[at])
    return colours[::-1] if reverse else colours


def _stem(name: str, known: Container[str]) -> tuple[str, bool]:
    # Some of colorcet's own names end in _r; those are taken as they are.
    if name in known or not name.endswith("_r"):
        return name, False
    return name.removesuffix("_r"), True


def _any_colour(colour: str | Sequence[float]) -> FloatArray:
    # colorcet keeps most palettes as hex strings and a few as triples in [0, 1].
    return rgb(colour) if isinstance(colour, str) else np.asarray(colour, dtype=np.float64) * 255


def to_linear(encoded: npt.ArrayLike) -> FloatArray:
    """Encoded sRGB 0…255 to linear light 0…1. Source: IEC 61966-2-1."""
    c = np.asarray(encoded, dtype=np.float64) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def luminance(encoded: npt.ArrayLike) -> float:
    """Relative luminance, 0…1, of an encoded colour (3,). Source: ITU-R BT.709."""
    return float(to_linear(encoded) @ np.array([0.2126, 0.7152, 0.0722]))


def to_encoded(linear: npt.ArrayLike) -> FloatArray:
    """Linear light 0…1 to encoded sRGB 0…255. Source: IEC 61966-2-1."""
    c = np.clip(np.asarray(linear, dtype=np.float64), 0, 1)
    return 255 * np.where(c <= 0.0031308, c * 12.92, 1.055 * c ** (1 / 2.4) - 0.055)
