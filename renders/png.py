"""PNG files written band by band, on all cores, and never left half-written."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pipeline.errors import LossatlasError
from renders.box import Box
from renders.picture import Picture, paint
from renders.spread import Spread, over_threads
from renders.whole import whole_file

BAND_ROWS = 128
TILE_COLUMNS = 2_048
_LEVEL = 4


class PngError(LossatlasError):
    """The picture cannot be written where it was asked for."""


def write_png(
    picture: Picture,
    path: Path,
    *,
    dpi: float,
    text: Mapping[str, str] | None = None,
    spread: Spread | None = None,
) -> int:
    """Paint a picture into a PNG file; memory is a few bands, whatever the picture's size.

    The file is written beside `path` under a temporary name and renamed at the end, so an
    interrupted export leaves nothing under the final name.

    Args:
        picture: what to paint.
        path: the file; its folder must exist.
        dpi: written as pixels per metre.
        text: keyword → text, kept as international text chunks.
        spread: who paints the bands; the cores by default.

    Returns:
        The file's size in bytes.

    Raises:
        PngError: the file cannot be written.
    """
    with whole_file(path, PngError) as partial, partial.open("wb") as file:
        _write(picture, file, dpi, text or {}, spread or over_threads())
    return path.stat().st_size


def _write(
    picture: Picture, file: BinaryIO, dpi: float, text: Mapping[str, str], spread: Spread
) -> None:
    per_metre = round(dpi / 0.0254)
    file.write(b"\x89PNG\r\n\x1a\n")
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    _chunk(file, b"IHDR", header)
    _chunk(file, b"iCCP", b"sRGB\0\0" + zlib.compress(srgb_profile(), 9))
    _chunk(file, b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1))
    for keyword, value in text.items():
        _chunk(file, b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + value.encode())
    for packed in zlib_bands(picture, spread):
        _chunk(file, b"IDAT", packed)
    _chunk(file, b"IEND", b"")


def zlib_bands(picture: Picture, spread: Spread) -> Iterator[bytes]:
    """The picture's rows, PNG-filtered, as the pieces of one zlib stream (PDF takes it too)."""
    yield b"\x78\x5e"  # zlib header; the bands are one raw deflate stream
    checksum = 1
    for packed, raw_checksum, length in _bands(picture, spread):
        yield packed
        checksum = adler32_combine(checksum, raw_checksum, length)
    yield struct.pack(">I", checksum)


def _bands(picture: Picture, spread: Spread) -> Iterator[tuple[bytes, int, int]]:
    return spread(functools.partial(_band, picture), picture.box.tiles(picture.width, BAND_ROWS))


def _band(picture: Picture, box: Box) -> tuple[bytes, int, int]:
    pixels = np.empty((box.height, box.width, 3), dtype=np.uint8)
    for tile in box.tiles(TILE_COLUMNS, BAND_ROWS):
        pixels[:, tile.x : tile.right] = paint(picture, tile)
    raw = _filtered(pixels)
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
    packed = deflate.compress(raw)
    last = box.bottom == picture.height
    packed += deflate.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)
    return packed, zlib.adler32(raw), len(raw)


def _filtered(pixels: npt.NDArray[np.uint8]) -> bytes:
    # Sub on a band's first row, Up below it: bands stay independent of one another.
    height, width, _ = pixels.shape
    rows = np.empty((height, 1 + 3 * width), dtype=np.uint8)
    flat = pixels.reshape(height, 3 * width)
    rows[0, 0], rows[1:, 0] = 1, 2
    rows[0, 1:4] = flat[0, :3]
    rows[0, 4:] = flat[0, 3:] - flat[0, :-3]
    rows[1:, 1:] = flat[1:] - flat[:-1]
    return rows.tobytes()


def adler32_combine(first: int, second: int, second_length: int) -> int:
    """The Adler-32 of two byte strings joined, from theirs and the second's length.

    Source: zlib 1.3, adler32.c, adler32_combine_.
    """
    base = 65_521
    a1, b1 = first & 0xFFFF, first >> 16
    a2, b2 = second & 0xFFFF, second >> 16
    a = (a1 + a2 - 1) % base
    b = (b1 + b2 + (second_length % base) * (a1 - 1)) % base
    return b << 16 | a


def _chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content)
    file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))


@functools.cache
def srgb_profile() -> bytes:
    """The sRGB ICC profile that Little CMS makes, with its creation date set to a fixed one."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    profile[84:100] = bytes(16)  # the profile id, a digest that would no longer match
    return bytes(profile)
