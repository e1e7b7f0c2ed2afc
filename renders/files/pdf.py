"""PDF posters: one page at its exact physical size that holds the picture, in sRGB.

Pillow's PDF drops the ICC profile and wants the whole picture in memory. Here the picture's strips
are written as they are painted, each pixel less its left neighbour (predictor 2).

Source: ISO 32000-1:2008, §7.4.4, §8.6.5.5, §14.3.3.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import LossatlasError
from renders.files.metadata import srgb_profile
from renders.files.scratch import strips
from renders.files.whole import whole_file
from renders.picture import Picture
from renders.spread import Spread, over_threads

MAX_UNITS = 14_400.0
"""The longest side of a page in its units, by ISO 32000-1 annex C; UserUnit stretches them."""
_LEVEL = 2


class PdfError(LossatlasError):
    """The page cannot be written where it was asked for."""


def write_pdf(
    picture: Picture,
    path: Path,
    *,
    dpi: float,
    text: Mapping[str, str] | None = None,
    spread: Spread | None = None,
) -> int:
    """Paint a picture onto a PDF page; memory is a few strips, whatever the picture's size.

    Args:
        picture: what to paint.
        path: the file; its folder must exist; replaced whole or not at all.
        dpi: pixels an inch, which decides the page's size.
        text: Title and other entries of the document's information.
        spread: who paints the strips; the cores by default.

    Returns:
        The file's size in bytes.

    Raises:
        PdfError: the file cannot be written.
    """
    with whole_file(path, PdfError) as partial, partial.open("wb") as file:
        _write(picture, file, dpi, text or {}, spread or over_threads())
    return path.stat().st_size


def _write(
    picture: Picture, file: BinaryIO, dpi: float, text: Mapping[str, str], spread: Spread
) -> None:
    wide, high = 72 * picture.width / dpi, 72 * picture.height / dpi
    unit = max(1.0, max(wide, high) / MAX_UNITS)
    wide, high = wide / unit, high / unit
    stretch = f" /UserUnit {unit:.6f}" if unit > 1 else ""
    file.write(b"%PDF-1.6\n%\xe2\xe3\xcf\xd3\n")
    places: list[int] = []

    def begin(content: str) -> None:
        places.append(file.tell())
        file.write(f"{len(places)} 0 obj\n{content}".encode("ascii"))

    def end() -> None:
        file.write(b"\nendobj\n")

    for content in (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {wide:.4f} {high:.4f}]{stretch}"
        " /Resources << /XObject << /P 5 0 R >> >> /Contents 4 0 R >>",
    ):
        begin(content)
        end()
    draw = f"q {wide:.4f} 0 0 {high:.4f} 0 0 cm /P Do Q"
    begin(f"<< /Length {len(draw)} >>\nstream\n{draw}\nendstream")
    end()
    begin(
        f"<< /Type /XObject /Subtype /Image /Width {picture.width} /Height {picture.height}"
        " /BitsPerComponent 8 /ColorSpace [/ICCBased 7 0 R] /Filter /FlateDecode"
        f" /DecodeParms << /Predictor 2 /Colors 3 /Columns {picture.width} >>"
        " /Length 6 0 R >>\nstream\n"
    )
    length = 0
    for packed in _deflated(picture, spread):
        length += file.write(packed)
    file.write(b"\nendstream")
    end()
    # The stream's length is known only now, hence an object of its own.
    begin(str(length))
    end()
    profile = zlib.compress(srgb_profile(), 9)
    begin(f"<< /N 3 /Filter /FlateDecode /Length {len(profile)} >>\nstream\n")
    file.write(profile + b"\nendstream")
    end()
    begin("<< " + " ".join(f"/{_name(k)} {_string(v)}" for k, v in text.items()) + " >>")
    end()
    start = file.tell()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(places) + 1
    trailer = (
        f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n"
        f"<< /Size {size} /Root 1 0 R /Info {len(places)} 0 R >>\nstartxref\n{start}\n%%EOF\n"
    )
    file.write(trailer.encode("ascii"))


def _deflated(picture: Picture, spread: Spread) -> Iterator[bytes]:
    deflate = zlib.compressobj(_LEVEL)
    for strip in strips(picture, spread):
        strip[:, 1:] -= strip[:, :-1].copy()
        yield deflate.compress(strip.data)
    yield deflate.flush()


def _name(keyword: str) -> str:
    return {"Software": "Creator", "Description": "Subject"}.get(keyword, keyword)


def _string(value: str) -> str:
    return f"<feff{value.encode('utf-16-be').hex()}>"
