"""A rectangle of whole pixels: the unit of drawing work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels [x, x + width) × [y, y + height); y grows downwards, as in every picture file."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def empty(self) -> bool:
        return self.width <= 0 or self.height <= 0

    def meet(self, other: Box) -> Box:
        """The common rectangle; `empty` where there is none."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        return Box(x, y, min(self.right, other.right) - x, min(self.bottom, other.bottom) - y)

    def rows(self, of: Box) -> slice:
        """Which rows of an array over `of` this box is; `columns` likewise."""
        return slice(self.y - of.y, self.bottom - of.y)

    def columns(self, of: Box) -> slice:
        return slice(self.x - of.x, self.right - of.x)

    def shifted(self, dx: int, dy: int) -> Box:
        return Box(self.x + dx, self.y + dy, self.width, self.height)

    def grown(self, by: int) -> Box:
        return Box(self.x - by, self.y - by, self.width + 2 * by, self.height + 2 * by)

    def tiles(self, width: int, height: int) -> Iterator[Box]:
        """Cut into boxes of at most `width` × `height`, row by row."""
        for y in range(self.y, self.bottom, height):
            for x in range(self.x, self.right, width):
                yield Box(x, y, min(width, self.right - x), min(height, self.bottom - y))
