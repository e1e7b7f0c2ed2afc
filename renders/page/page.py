"""A page: what is painted in pixels, and the sheet that lies over it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import LossatlasError
from renders.box import Box
from renders.colour import rgb
from renders.files.whole import whole_file
from renders.page.paper import VECTOR
from renders.page.printed import Printed, over
from renders.page.sheet import Sheet, house
from renders.picture import Layer, Picture, paint
from renders.spread import Spread


class PageError(LossatlasError):
    """The page cannot be written where it was asked for."""


@dataclass(frozen=True, eq=False)
class Page:
    """One page.

    Attributes:
        painted: layers of pixels, the lowest first: a landscape, the legend's bar.
        sheet: axes, words and marks over them.
    """

    painted: tuple[Layer, ...]
    sheet: Sheet

    @property
    def picture(self) -> Picture:
        """All of it as a picture that can be painted box by box."""
        size, drawn = (self.sheet.width, self.sheet.height), Printed(self.sheet)
        # Line plots have dashes, which would begin anew at every box.
        top: Layer = drawn if self.painted else drawn.kept()
        return Picture(*size, rgb(self.sheet.theme.paper), (*self.painted, top))

    def write(
        self, path: Path, kind: str, text: Mapping[str, str], spread: Spread | None = None
    ) -> int:
        """Write the page as a file.

        A vector file, and one with a transparent ground, is drawn in memory: what is painted is
        embedded as an image, everything else is lines and type. A png or tiff with a ground is
        painted box by box, in little memory whatever its size.

        Args:
            path: the file; replaced whole or not at all.
            kind: png, tiff, pdf or svg.
            text: Title, Description and Software.
            spread: who paints; the cores by default.

        Returns:
            The file's size in bytes.

        Raises:
            LossatlasError: the file cannot be written.
        """
        sheet = self.sheet
        if kind not in VECTOR and not sheet.transparent:
            from renders.files.image import write_png, write_tiff

            write = write_tiff if kind == "tiff" else write_png
            return write(self.picture, path, dpi=sheet.dpi, text=text, spread=spread)
        content = self._vector(kind, text) if kind in VECTOR else self._alpha(text)
        with whole_file(path, PageError) as partial:
            partial.write_bytes(content)
        return path.stat().st_size

    def _pixels(self) -> Iterator[tuple[Box, npt.NDArray[np.uint8]]]:
        """Each painted layer in pixels, uint8 (height, width, 3), and where it lies."""
        size = self.sheet.width, self.sheet.height
        for layer in self.painted:
            ground = Picture(*size, rgb(self.sheet.theme.paper), (layer,))
            yield layer.covers, paint(ground, layer.covers)

    def _vector(self, kind: str, text: Mapping[str, str]) -> bytes:
        with house(self.sheet.theme):
            images = [self.sheet.image(box, pixels) for box, pixels in self._pixels()]
            try:
                return self.sheet.vector(kind, text)
            finally:
                for image in images:
                    image.remove()

    def _alpha(self, text: Mapping[str, str]) -> bytes:
        """A PNG without paper."""
        from PIL import Image, PngImagePlugin

        sheet, drawn = self.sheet, Printed(self.sheet)
        whole = np.zeros((sheet.height, sheet.width, 4), dtype=np.uint8)
        whole[..., :3] = 255
        for box, pixels in self._pixels():
            part = whole[box.y : box.bottom, box.x : box.right]
            part[..., :3], part[..., 3] = pixels, 255
        ink = drawn.ink(drawn.covers) if self.painted else drawn.whole()
        said, out = PngImagePlugin.PngInfo(), io.BytesIO()
        for key, words in text.items():
            said.add_itxt(key, words)
        image = Image.fromarray(whole if ink is None else over(whole, ink), "RGBA")
        image.save(out, "PNG", dpi=(sheet.dpi, sheet.dpi), pnginfo=said)
        return out.getvalue()
