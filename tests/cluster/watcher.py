"""An observer that remembers."""

from __future__ import annotations

from cluster.scheduling.events import Done
from pipeline.geometry.grid import Tile


class Watcher:
    def __init__(self) -> None:
        self.tiles: list[Tile] = []
        self.given_up: dict[Tile, tuple[str, ...]] = {}
        self.warnings: list[str] = []

    def rendered(self, tile: Tile, done: Done) -> None:
        self.tiles.append(tile)

    def quarantined(self, tile: Tile, reasons: tuple[str, ...]) -> None:
        self.given_up[tile] = reasons

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def advanced(self, ready: object) -> None: ...

    def ticked(self, scheduler: object) -> None: ...
