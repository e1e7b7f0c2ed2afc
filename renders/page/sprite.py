"""Sprites: small masks of ink, drawn once and placed anywhere on a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import FloatArray

Alpha = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Sprite:
    """A mask in one colour.

    Attributes:
        x, y: picture pixel of the mask's upper left corner.
        alpha: uint8 (height, width), 255 is full cover.
        colour: float64 (3,), encoded, 0…255.
        opacity: multiplies the mask, in [0, 1].
    """

    x: int
    y: int
    alpha: Alpha
    colour: FloatArray
    opacity: float = 1.0

    @property
    def box(self) -> Box:
        return Box(self.x, self.y, self.alpha.shape[1], self.alpha.shape[0])


@dataclass(frozen=True, eq=False)
class Sprites:
    """Sprites over one another, the first lowest: a layer of a picture. Its halo is 0 px."""

    sprites: tuple[Sprite, ...]

    halo_px = 0

    @property
    def covers(self) -> Box:
        boxes = [s.box for s in self.sprites]
        if not boxes:
            return Box(0, 0, 0, 0)
        x, y = min(b.x for b in boxes), min(b.y for b in boxes)
        return Box(x, y, max(b.right for b in boxes) - x, max(b.bottom for b in boxes) - y)

    def draw(self, out: Alpha, box: Box) -> None:
        """Blend what lies inside `box` over `out`, uint8 (height, width, 3)."""
        for sprite in self.sprites:
            part = sprite.box.meet(box)
            if part.empty:
                continue
            cover = _cut(sprite, part) * np.float32(sprite.opacity / 255)
            shade_over(out[part.rows(box), part.columns(box)], sprite.colour, cover)


def shade_over(target: Alpha, colour: FloatArray, cover: npt.NDArray[np.float32]) -> None:
    """Blend one colour over `target`, uint8 (height, width, 3), by its cover (height, width)."""
    under = target.astype(np.float32)
    under += (colour.astype(np.float32) - under) * cover[..., None]
    target[:] = np.rint(under)


def combined_alpha(total: npt.NDArray[np.float32], box: Box, sprite: Sprite) -> None:
    """Raise `total`, float32 (height, width) over `box`, to the cover of `sprite`."""
    part = sprite.box.meet(box)
    if part.empty:
        return
    target = total[part.rows(box), part.columns(box)]
    np.maximum(target, _cut(sprite, part) * np.float32(sprite.opacity / 255), out=target)


def _cut(sprite: Sprite, part: Box) -> npt.NDArray[np.float32]:
    y, x = part.y - sprite.y, part.x - sprite.x
    return sprite.alpha[y : y + part.height, x : x + part.width].astype(np.float32)


def rectangle(box: Box, colour: FloatArray, opacity: float = 1.0) -> Sprite:
    """A filled rectangle of whole pixels, such as a hairline."""
    alpha = np.full((max(box.height, 1), max(box.width, 1)), 255, dtype=np.uint8)
    return Sprite(box.x, box.y, alpha, colour, opacity)
