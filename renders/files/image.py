"""PNG and pyramidal BigTIFF, by libvips, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import LossatlasError
from renders.files.metadata import KEEP, labelled
from renders.files.scratch import painted, save
from renders.files.whole import whole_file
from renders.picture import Picture
from renders.spread import Spread, over_threads

TILE = 512
_PNG = {"compression": 4, "filter": "up"}
# Level 1 of libvips's deflate (zlib-ng) makes files of nearly twice the size.
_TIFF = {
    "bigtiff": True,
    "tile": True,
    "tile_width": TILE,
    "tile_height": TILE,
    "pyramid": True,
    "subifd": True,
    "compression": "deflate",
    "level": 2,
    "predictor": "horizontal",
    "resunit": "inch",
}


class ImageError(LossatlasError):
    """The picture cannot be written where it was asked for."""


def write_png(
    picture: Picture,
    path: Path,
    *,
    dpi: float,
    text: Mapping[str, str] | None = None,
    spread: Spread | None = None,
) -> int:
    """Paint a picture into a PNG file.

    Args:
        picture: what to paint.
        path: the file; its folder must exist and have room for three bytes a pixel beside the
            file; replaced whole or not at all.
        dpi: written as the resolution.
        text: of Title, Description and Software what there is.
        spread: who paints; the cores by default.

    Returns:
        The file's size in bytes.

    Raises:
        ImageError: the file cannot be written.
    """
    return _write("pngsave", _PNG, picture, path, dpi, text, spread)


def write_tiff(
    picture: Picture,
    path: Path,
    *,
    dpi: float,
    text: Mapping[str, str] | None = None,
    spread: Spread | None = None,
) -> int:
    """Paint a picture into a pyramidal BigTIFF: 512-pixel tiles, deflate, horizontal predictor.

    Arguments, result and errors are `write_png`'s.
    """
    return _write("tiffsave", _TIFF, picture, path, dpi, text, spread)


def _write(
    how: str,
    options: Mapping[str, Any],
    picture: Picture,
    path: Path,
    dpi: float,
    text: Mapping[str, str] | None,
    spread: Spread | None,
) -> int:
    with (
        whole_file(path, ImageError) as partial,
        painted(picture, path.parent, spread or over_threads()) as pixels,
    ):
        image = labelled(pixels, dpi, text or {})
        save(image, path.parent, lambda: getattr(image, how)(str(partial), keep=KEEP, **options))
    return path.stat().st_size
