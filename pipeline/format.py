"""Durations, rates, sizes and counts for people."""

from __future__ import annotations

import math
from collections.abc import Mapping

_MANY_DAYS = 1000


def duration(seconds: float) -> str:
    """`850 ms`, `12 s`, `3 min 20 s`, `5 h 10 min`, `2 d 4 h`, `3,200 years`.

    `unknown` if it is not a number.
    """
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole >= _MANY_DAYS * 86400:
        return f"{whole / 86400 / 365.25:,.0f} years"
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def rate(points_per_second: float) -> str:
    """`0.25 points/s`, `81 points/s`, `12,300 points/s`."""
    digits = 0 if points_per_second >= 10 else 1 if points_per_second >= 1 else 2
    return f"{points_per_second:,.{digits}f} points/s"


def size(bytes_: float) -> str:
    """`512 bytes`, `3.4 MB`, `1.2 GB` (powers of 1000)."""
    if bytes_ < 1000:
        return f"{bytes_:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        bytes_ /= 1000
        if bytes_ < 999.5:
            return f"{bytes_:.{0 if bytes_ >= 99.5 else 1}f} {unit}"
    return f"{bytes_ / 1000:,.1f} TB"


def plural(count: int, noun: str, nouns: str = "") -> str:
    """`1 tile`, `2,000 tiles`; `nouns` is the plural where an s is not enough."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {nouns or f'{noun}s'}"


def table(title: str, rows: Mapping[str, str]) -> list[str]:
    """A title, and a line for each row that has a text, with its name in front."""
    shown = {name: text for name, text in rows.items() if text}
    width = max(len(name) for name in shown)
    return [title, *(f"  {name:<{width}}  {text}" for name, text in shown.items())]


def bar(fraction: float, width: int = 30) -> str:
    """A bar of `width` characters; full only when everything is done."""
    filled = math.floor(fraction * width)
    return "█" * filled + "░" * (width - filled)


def percent(fraction: float) -> str:
    """Rounded down: 100 % means all of it."""
    return f"{math.floor(fraction * 100)} %"
