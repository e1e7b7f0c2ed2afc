"""Pages of matplotlib as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import LossatlasError
from renders.box import Box
from renders.colour import rgb
from renders.files.whole import whole_file
from renders.page.style import Sheet
from renders.picture import Picture
from renders.spread import Spread


class PageError(LossatlasError):
    """The page cannot be written where it was asked for."""


@dataclass(frozen=True, eq=False)
class Painted:
    """A layer of pixels that are painted already, uint8 (height, width, 3 or more)."""

    image: npt.NDArray[np.uint8]

    halo_px = 0

    @property
    def covers(self) -> Box:
        return Box(0, 0, self.image.shape[1], self.image.shape[0])

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None:
        """Copy what lies inside `box` into `out`, uint8 (height, width, 3)."""
        part = box.meet(self.covers)
        out[part.rows(box), part.columns(box)] = self.image[
            part.y : part.bottom, part.x : part.right, :3
        ]


def write_sheet(
    sheet: Sheet,
    path: Path,
    kind: str,
    text: Mapping[str, str],
    spread: Spread | None = None,
) -> int:
    """Write a page as png, pdf, svg or tiff; call it inside `renders.page.style.house`.

    Args:
        sheet: the page.
        path: the file; replaced whole or not at all.
        kind: of file.
        text: Title, Description and Software.
        spread: who compresses; the cores by default.

    Returns:
        The file's size in bytes.

    Raises:
        PageError: the file cannot be written.
    """
    if kind in ("pdf", "svg"):
        content = sheet.vector(kind, text)
        with whole_file(path, PageError) as partial:
            partial.write_bytes(content)
    elif sheet.transparent:
        _write_alpha(sheet, path, text)
    else:
        from renders.page.poster import write_picture

        layer = Painted(sheet.pixels())
        picture = Picture(sheet.width, sheet.height, rgb(sheet.theme.paper), (layer,))
        return write_picture(picture, path, kind, dpi=sheet.dpi, text=dict(text), spread=spread)
    return path.stat().st_size


def _write_alpha(sheet: Sheet, path: Path, text: Mapping[str, str]) -> None:
    from PIL import Image, PngImagePlugin

    said = PngImagePlugin.PngInfo()
    for key, words in text.items():
        said.add_itxt(key, words)
    with whole_file(path, PageError) as partial:
        image = Image.fromarray(sheet.pixels(), "RGBA")
        image.save(partial, "PNG", dpi=(sheet.dpi, sheet.dpi), pnginfo=said)
