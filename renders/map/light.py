"""Light: one key light from the upper left and a soft sky, fixed for the whole picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_STEEPEST = 2.2


@dataclass(frozen=True)
class Light:
    """How a surface is lit.

    The ground is the tone's span: from the low to the high end of the palette a surface rises by
    `relief` picture widths. That is fixed by the tone, so tiles and frames are lit alike. A flat
    place keeps its palette colour exactly.

    Attributes:
        azimuth: where the key light stands, radians clockwise from the top of the picture.
        altitude: its height above the horizon, radians.
        relief: height of the tone's span, in picture widths.
        sky: share of the light that comes from the sky, in [0, 1].
        strength: 0 is unlit, 1 is full modelling.
        key_colour: of the key light, linear; the sky's is its complement, so that flat ground is
            neutral. A greenish key gives violet shadows, which keep creams from turning khaki.

    Slopes are those of the spline, not differences of pixels: no box asks for more than itself.
    """

    azimuth: float = math.radians(-45)
    altitude: float = math.radians(48)
    relief: float = 0.30
    sky: float = 0.35
    strength: float = 1.0
    key_colour: tuple[float, float, float] = (0.98, 1.10, 0.90)

    def numbers(
        self, span: float, width: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """What the kernel needs.

        Args:
            span: of the tone, in its space.
            width: of the whole picture, in pixels.

        Returns:
            rise of a value, in pixels; direction of the key light; steepest slope, (5,); per colour
            the shares that no light, the key light and the sky have in it, (3, 3).
        """
        scale = self.relief / span * width
        key = np.array(self.key_colour)
        sky = (1 - (1 - self.sky) * key) / self.sky if self.sky > 0 else np.ones(3)
        direction = [
            math.cos(self.altitude) * math.sin(self.azimuth),
            math.cos(self.altitude) * math.cos(self.azimuth),
            math.sin(self.altitude),
        ]
        shares = np.stack(
            [
                np.full(3, 1 - self.strength),
                self.strength * (1 - self.sky) * key,
                self.strength * self.sky * sky,
            ],
            axis=1,
        )
        numbers = [scale, *direction, _STEEPEST]
        return np.array(numbers, dtype=np.float32), shares.astype(np.float32)
