"""Inks: what to draw with on a ground of any colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.colour import FloatArray, hex_colour, luminance, rgb
from renders.map.contour import Contours, round_levels
from renders.map.tone import Tone
from renders.page.theme import Theme

GROUND_LUMINANCE = 0.22
"""Grounds darker than this take light ink: black and white contrast equally at 0.18, and the light
darkens more ground than it brightens."""


@dataclass(frozen=True)
class Inks:
    """Ink for a dark ground or a light one: `pen` against the ground, `casing` beneath the pen."""

    pen: FloatArray
    casing: FloatArray

    @property
    def veil(self) -> float:
        """Opacity of a soft halo: a pale glow shows sooner than a dark one."""
        return 0.45 if luminance(self.casing) < 0.5 else 0.20


def inks_on(ground: FloatArray, theme: Theme) -> Inks:
    """The pair that reads on `ground`, an encoded colour (3,)."""
    pair = rgb(theme.pen_light), rgb(theme.pen_dark)
    return Inks(*pair) if luminance(ground) < GROUND_LUMINANCE else Inks(*pair[::-1])


def ground_at(values: npt.ArrayLike, tone: Tone, theme: Theme) -> FloatArray:
    """The mean colour, encoded (3,), under values that are not NaN; without any, the hatch's."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known) | np.isposinf(known)]
    if not known.size:
        return rgb(theme.hatch_ground)
    palette = np.stack([rgb(c) for c in tone.palette])
    finite = np.isfinite(known)
    colours = np.empty((known.size, 3))
    colours[~finite] = rgb(tone.inf)
    at = np.rint(tone.position(known[finite]) * (len(palette) - 1)).astype(np.int64)
    colours[finite] = palette[at]
    return np.asarray(colours.mean(axis=0))


def isolines(
    tone: Tone,
    theme: Theme,
    widths_px: tuple[float, float],
    opacities: tuple[float, float],
    count: int = 16,
) -> Contours:
    """Isolines at round values, in inks that read on their own ground.

    Args:
        tone, theme: of the map or the model.
        widths_px, opacities: of an ordinary line and of an index line.
        count: how many lines there are, about.
    """
    levels, index = round_levels(tone, count)
    pens = tuple(hex_colour(inks_on(ground_at(v, tone, theme), theme).pen) for v in levels)
    return Contours(levels, index, *widths_px, pens, *opacities)
