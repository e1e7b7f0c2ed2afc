"""What lies on a sheet, as painted pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import RendererAgg

from renders.box import Box
from renders.page.printed import Printed
from renders.page.sheet import Sheet, house
from renders.picture import Layer

Pixels = npt.NDArray[np.uint8]
GROUND = 200, 180, 160
_RENDERER: Any = RendererAgg  # its types are not declared


def inked(sheet: Sheet) -> list[tuple[Artist, Box]]:
    """Everything on a sheet that leaves ink, each with the box of its own ink, in pixels."""
    found = []
    for artist, _ in Printed(sheet)._pieces:
        box = ink_of(sheet, artist)
        if not box.empty:
            found.append((artist, box))
    return found


def ink_of(sheet: Sheet, artist: Artist) -> Box:
    """The box of one artist's ink, drawn alone on the whole page."""
    with house(sheet.theme):
        renderer = _RENDERER(sheet.width, sheet.height, sheet.dpi)
        artist.draw(renderer)
        alpha = np.asarray(renderer.buffer_rgba())[..., 3]
    rows, columns = np.nonzero(alpha)
    if not len(rows):
        return Box(0, 0, 0, 0)
    x, y = int(columns.min()), int(rows.min())
    return Box(x, y, int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)


def words_on(sheet: Sheet) -> list[str]:
    """All texts of a sheet, in the order in which they were written."""
    return [text.get_text() for text in sheet.figure.texts]


def drawn(layer: Layer, box: Box, ground: npt.ArrayLike = GROUND) -> Pixels:
    """One box of a layer over an even ground."""
    out = np.empty((box.height, box.width, 3), dtype=np.uint8)
    out[:] = ground
    layer.draw(out, box)
    return out


def stitched(layer: Layer, whole: Box, width: int, height: int) -> Pixels:
    """The same as `drawn`, from boxes of at most `width` × `height`."""
    out = np.zeros((whole.height, whole.width, 3), dtype=np.uint8)
    for box in whole.tiles(width, height):
        out[box.rows(whole), box.columns(whole)] = drawn(layer, box)
    return out


@dataclass(frozen=True, eq=False)
class Blocks:
    """Filled boxes of one colour each: a layer of a picture."""

    blocks: tuple[tuple[Box, tuple[int, int, int]], ...]

    @property
    def covers(self) -> Box:
        right = max(box.right for box, _ in self.blocks)
        return Box(0, 0, right, max(box.bottom for box, _ in self.blocks))

    def draw(self, out: Pixels, box: Box) -> None:
        for block, colour in self.blocks:
            part = block.meet(box)
            if not part.empty:
                out[part.rows(box), part.columns(box)] = colour
