"""The view: a terrain as a camera sees it, with floor and sky: a layer of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from renders.box import Box
from renders.colour import rgb, to_encoded, to_linear
from renders.map.contour import Contours
from renders.map.palette import quantise
from renders.map.tone import LUT_SIZE, Tone
from renders.page.theme import Theme
from renders.relief.camera import Shot
from renders.relief.raster import CARRIED, blocks_of, raster, resolve
from renders.relief.terrain import PLINTH, Terrain

Pixels = npt.NDArray[np.float32]

_TILE = 256
_ENCODE_SIZE = 4_096
_LIGHT_LINES = 0.45
_REACH = (0.55, 1.25)
"""How far from the model the floor begins and ends to melt into the backdrop, world units."""


@dataclass(frozen=True)
class Sky:
    """The backdrop's colours: `#rrggbb` of the paper below, the zenith, and the glow that the sun
    gives the horizon and the floor about the model; `haze` is its share of the farthest ground."""

    paper: str
    zenith: str
    glow: str
    pool: str
    haze: float


SKIES = {
    "light": Sky("#f7f4ee", "#cfdae2", "#2a1c0a", "#000000", 0.05),
    "dark": Sky("#0e1014", "#1a2234", "#2c2019", "#272b39", 0.10),
}


@dataclass(frozen=True, eq=False)
class View:
    """A terrain seen by a camera.

    Attributes:
        at: which part of the picture it fills; the shot's pixels are the picture's.
        terrain, shot: what is seen, and from where.
        tone, theme: of the terrain.
        contours: None leaves them out.
        samples: along the edge of a pixel, each way.

    A sample asks for nothing beyond itself.
    """

    at: Box
    terrain: Terrain
    shot: Shot
    tone: Tone
    theme: Theme
    contours: Contours | None = None
    samples: int = 2

    @property
    def covers(self) -> Box:
        return self.at

    @cached_property
    def _sheets(self) -> list[tuple[npt.NDArray[Any], ...]]:
        sheets: list[tuple[npt.NDArray[Any], ...]] = []
        for patch in self.terrain.patches:
            x, y, depth = self.shot.project(patch.points)
            x, y = x * self.samples, y * self.samples
            near = 1 / depth
            levels = patch.levels
            sheets.append((x, y, near, patch.colours, levels, blocks_of(x, y)))
        return sheets

    @cached_property
    def _tables(self) -> dict[str, npt.NDArray[Any]]:
        shot, sun, sky = self.shot, self.terrain.sun, SKIES[self.theme.name]
        colours = [to_linear(rgb(c)) for c in (sky.paper, sky.zenith, sky.glow, sky.pool)]
        sunward = sun.direction[:2] / np.hypot(*sun.direction[:2])
        middle = sum(self.terrain.ground.half)
        depths = [shot.project(p.points)[2] for p in self.terrain.patches[:1]]
        if self.contours is not None and self.contours.levels:
            table, level_of = self.contours.numbers(self.tone)
            table[:, 1] *= self.samples
            table[:, 4:] = to_linear(table[:, 4:])
            # Mixed in linear light, a little white is much.
            table[:, 2] *= np.where(table[:, 5] > 0.5, _LIGHT_LINES, 1.0)
        else:
            table, level_of = np.zeros((0, 7)), np.zeros(LUT_SIZE, dtype=np.int32)
        return {
            "eye": np.array([*shot.position, *shot.axes.ravel(), shot.focal_px, *shot.centre]),
            "sky": np.array(
                [
                    *np.concatenate(colours[:3]),
                    *sunward,
                    -PLINTH,
                    *self.terrain.apron,
                    *(middle / 2 + reach for reach in _REACH),
                    *colours[3],
                ]
            ),
            "haze": np.array([depths[0].min(), depths[0].max() + 1e-9, sky.haze]),
            "encode": to_encoded(np.linspace(0, 1, _ENCODE_SIZE + 1)).astype(np.float32),
            "table": table,
            "level_of": level_of,
        }

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None:
        """Paint the part of the view inside `box` into `out`, uint8 (height, width, 3)."""
        for tile in box.meet(self.at).tiles(_TILE, _TILE):
            out[tile.rows(box), tile.columns(box)] = quantise(self._drawn(tile), tile)

    def _drawn(self, tile: Box) -> Pixels:
        """The colours of a box of pixels, float32 (height, width, 3), 0…255."""
        out = np.empty((tile.height, tile.width, 3), dtype=np.float32)
        n, tables = self.samples, self._tables
        nearest = np.zeros((tile.height * n, tile.width * n), dtype=np.float32)
        carried = np.empty((*nearest.shape, CARRIED), dtype=np.float32)
        draw: Any = raster
        for sheet in self._sheets:
            draw(*sheet, tile.x * n, tile.y * n, nearest, carried)
        lo, hi = self.tone.span
        resolve(
            nearest,
            carried,
            n,
            tile.x,
            tile.y,
            tables["eye"],
            tables["sky"],
            self.terrain.floor,
            lo,
            (LUT_SIZE - 1) / (hi - lo),
            tables["table"],
            tables["level_of"],
            tables["haze"],
            tables["encode"],
            0,
            0,
            out,
        )
        return out
