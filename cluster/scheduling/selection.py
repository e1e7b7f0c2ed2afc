"""The selection of a film's tiles: which to render now, and which first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cluster.errors import ClusterError
from pipeline.geometry.grid import Tile


@dataclass(frozen=True)
class Selection:
    """Frames from `first` up to, but without, `last`; every `every`-th of all frames first."""

    first: int = 0
    last: int | None = None
    every: int = 1

    def of(self, tiles: Iterable[Tile]) -> list[Tile]:
        """The tiles to render, in the order to render them."""
        chosen = [
            tile
            for tile in tiles
            if tile.frame >= self.first and (self.last is None or tile.frame < self.last)
        ]
        if self.every > 1:
            chosen.sort(key=lambda tile: tile.frame % self.every != 0)
        return chosen

    def check(self, frames: int) -> None:
        """Refuse an empty selection.

        Raises:
            ClusterError: none of `frames` frames is selected.
        """
        if self.first >= (frames if self.last is None else min(self.last, frames)):
            last = "" if self.last is None else self.last
            raise ClusterError(
                f"--frames {self.first}:{last} selects none of this render's frames; wanted some "
                f"of 0:{frames}"
            )


def parse(text: str) -> Selection:
    """The selection for `A:B`, `A:`, `:B` or `A`, counted as in Python.

    Raises:
        ClusterError: the text is something else.
    """
    first, colon, last = text.partition(":")
    try:
        begin = int(first or 0)
        end = (int(last) if last else None) if colon else begin + 1
    except ValueError:
        begin, end = -1, None
    if begin < 0 or (end is not None and end <= begin):
        raise ClusterError(f"--frames {text}: wanted A:B with 0 <= A < B, such as 100:200")
    return Selection(begin, end)
