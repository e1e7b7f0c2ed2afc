"""Themes: paper, ink and the colours that are not data."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from pipeline.errors import LossatlasError


class ThemeError(LossatlasError):
    """A theme that does not exist."""


@dataclass(frozen=True)
class Theme:
    """Colours, `#rrggbb`, of everything on the page that is not a value.

    `pen_light` and `pen_dark` draw on the map, whichever the ground asks for. `hatch_ground` and
    `hatch_line` show what is not computed yet.
    """

    name: str
    paper: str
    ink: str
    muted: str
    hairline: str
    pen_light: str
    pen_dark: str
    hatch_ground: str
    hatch_line: str
    nan: str
    inf: str
    palette: str


LIGHT = Theme(
    name="light",
    paper="#f7f4ee",
    ink="#1c1d21",
    muted="#77736b",
    hairline="#bdb7ab",
    pen_light="#ffffff",
    pen_dark="#120f1d",
    hatch_ground="#e9e4da",
    hatch_line="#d3ccbe",
    nan="#8d8a86",
    inf="#4b4a4d",
    palette="dusk",
)

DARK = Theme(
    name="dark",
    paper="#0e1014",
    ink="#f1ede4",
    muted="#8f8d88",
    hairline="#3c3f47",
    pen_light="#ffffff",
    pen_dark="#120f1d",
    hatch_ground="#191c22",
    hatch_line="#2a2e37",
    nan="#77757a",
    inf="#c9c6c0",
    palette="dusk",
)

THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def theme_named(name: str) -> Theme:
    """The theme called `name`.

    Raises:
        ThemeError: there is none; the message names the nearest.
    """
    if name in THEMES:
        return THEMES[name]
    near = difflib.get_close_matches(name, THEMES, n=1, cutoff=0.0) or ["light"]
    raise ThemeError(f"theme is {name!r}: wanted light or dark; the nearest is {near[0]!r}")


def grounded(name: str, background: str) -> Theme:
    """The theme called `name`, on white paper where the background is white.

    Raises:
        ThemeError: there is none, or its words could not be read on white.
    """
    theme = theme_named(name)
    if background != "white":
        return theme
    if theme is DARK:
        raise ThemeError(
            "background is white with theme dark, whose words are pale: wanted a ground that they "
            "are read on; choose theme light, or background transparent"
        )
    return replace(theme, paper="#ffffff")
