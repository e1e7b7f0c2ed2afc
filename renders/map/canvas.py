"""The map as a layer of a picture: values, shaded by Datashader, box by box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import datashader.transfer_functions as tf
import numpy as np

from renders.box import Box
from renders.map.contour import Contours
from renders.map.field import Field
from renders.map.gap import Gap
from renders.map.holes import Hatch
from renders.map.light import Light
from renders.map.palette import Bytes, Palette
from renders.map.tone import Tone

_BAND = 1 << 18
"""Pixels shaded at once, at most."""


@dataclass(frozen=True, eq=False)
class Map:
    """A lit, contoured map of one field: a layer of a picture.

    Attributes:
        at: where it lies on the picture; its size is the field's.
        field, tone: what is shown and in which colours.
        hatch: of unfinished tiles.
        light, contours: None leaves it out.
        gaps: where contours make room for their labels, in picture coordinates.
    """

    at: Box
    field: Field
    tone: Tone
    hatch: Hatch
    light: Light | None = None
    contours: Contours | None = None
    gaps: tuple[Gap, ...] = ()

    @cached_property
    def palette(self) -> Palette:
        return Palette(self.field, self.tone, self.hatch, self.light, self.contours)

    @property
    def covers(self) -> Box:
        return self.at

    def images(self, box: Box, height: int) -> Iterator[tuple[Box, tf.Image]]:
        """The part of the map inside `box`, which lies within it, at most `height` rows at a time;
        the highest y first."""
        x, y = self.at.x, self.at.y
        for window in self.field.windows(box.shifted(-x, -y), height):
            band = window.box.shifted(x, y)
            cmap = partial(self.palette.colours, window=window, x=band.x, y=band.y, gaps=self.gaps)
            values = window.aggregate({})
            yield band, tf.shade(values, cmap=cmap, how="linear", span=self.tone.span)

    def draw(self, out: Bytes, box: Box) -> None:
        """Paint the part of the map inside `box` into `out`, uint8 (height, width, 3)."""
        part = box.meet(self.at)
        if part.empty:
            return
        # A band at a time: what Datashader makes on the way then stays in the processor's cache.
        for band, image in self.images(part, max(1, _BAND // part.width)):
            rgba = image.values.view(np.uint8).reshape(band.height, band.width, 4)
            target = out[band.rows(box), band.columns(box)]
            # Numpy copies three of four bytes at a time five times more slowly.
            for channel in range(3):
                target[..., channel] = rgba[..., channel]
