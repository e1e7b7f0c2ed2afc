"""A page: what is painted in pixels, and the sheet that lies over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import LossatlasError
from renders.colour import rgb
from renders.files.whole import whole_file
from renders.page.printed import Printed
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
        size = self.sheet.width, self.sheet.height
        return Picture(*size, rgb(self.sheet.theme.paper), (*self.painted, Printed(self.sheet)))

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
        if kind not in ("pdf", "svg") and not sheet.transparent:
            from renders.files.image import write_png, write_tiff

            write = write_tiff if kind == "tiff" else write_png
            return write(self.picture, path, dpi=sheet.dpi, text=text, spread=spread)
        with house(sheet.theme):
            self._embed(spread)
            if kind in ("pdf", "svg"):
                content = sheet.vector(kind, text)
                with whole_file(path, PageError) as partial:
                    partial.write_bytes(content)
            else:
                _write_alpha(sheet, path, text)
        return path.stat().st_size

    def _embed(self, spread: Spread | None) -> None:
        """Lay what is painted into the sheet."""
        size = self.sheet.width, self.sheet.height
        for layer in self.painted:
            part = Picture(*size, rgb(self.sheet.theme.paper), (layer,))
            box = layer.covers
            self.sheet.image(box, paint(part, box))


def _write_alpha(sheet: Sheet, path: Path, text: Mapping[str, str]) -> None:
    from PIL import Image, PngImagePlugin

    said = PngImagePlugin.PngInfo()
    for key, words in text.items():
        said.add_itxt(key, words)
    with whole_file(path, PageError) as partial:
        image = Image.fromarray(sheet.pixels(), "RGBA")
        image.save(partial, "PNG", dpi=(sheet.dpi, sheet.dpi), pnginfo=said)
