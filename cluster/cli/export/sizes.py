"""Sizes of pictures and pages, as options give them."""

from __future__ import annotations

import re


def size_from(text: str) -> tuple[int, int]:
    """Width and height in pixels from `1920x1080`.

    Raises:
        ClusterError: it is no such thing.
    """
    from cluster.errors import ClusterError

    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ClusterError(f"--size {text}: wanted WIDTHxHEIGHT in pixels, such as 1920x1080")
    return int(width), int(height)


def length_from(text: str, dpi: float, option: str = "--width") -> int:
    """A length of a page in whole pixels: `3000`, `3.25in`, `8.9cm` or `89mm`.

    Raises:
        ClusterError: it is no such thing.
    """
    from cluster.errors import ClusterError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(in|cm|mm)|(\d+)", text.strip().lower())
    if found is None:
        raise ClusterError(
            f"{option} {text}: wanted pixels or a length, such as 3000, 3.25in or 89mm"
        )
    if found[3]:
        return int(found[3])
    return round(float(found[1]) / {"in": 1.0, "cm": 2.54, "mm": 25.4}[found[2]] * dpi)


def page_size(text: str, dpi: float) -> tuple[int, int]:
    """Width and height of a page in whole pixels: `1950x1440`, `3.25x2.4in` or `89x60mm`.

    Raises:
        ClusterError: it is no such thing.
    """
    from cluster.errors import ClusterError

    found = re.fullmatch(r"([\d.]+)\s*x\s*([\d.]+)\s*(in|cm|mm|)", text.lower().replace("×", "x"))
    try:
        if found is None:
            raise ClusterError
        width, height, unit = found.groups()
        return length_from(width + unit, dpi), length_from(height + unit, dpi)
    except ClusterError:
        raise ClusterError(
            f"--size {text}: wanted pixels or lengths, such as 1920x1080, 3.25x2.4in or 89x60mm"
        ) from None


def size_or_width(text: str | None) -> tuple[int, int | None]:
    """The size of a report's picture at 300 dpi, from its width alone or both; 2400 pixels wide.

    Raises:
        ClusterError: it is no such thing.
    """
    if text is None:
        return 2400, None
    if "x" in text.lower() or "×" in text:
        return page_size(text, 300.0)
    return length_from(text, 300.0, "--size"), None
