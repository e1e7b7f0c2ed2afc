"""Round numbers: where ticks, contours and legends stop, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

_LADDER: tuple[tuple[float, ...], ...] = ((1,), (5, 2), (3, 7), (1.5, 4), (2.5, 6), (8, 1.2))
"""Mantissas from the roundest on."""


def round_step(span: float, count: float) -> float:
    """The step 1, 2 or 5 × 10ᵏ that cuts `span` > 0 into at most about `count` parts."""
    raw = span / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    for mantissa in (1, 2, 5, 10):
        if mantissa * magnitude >= raw * (1 - 1e-9):
            return mantissa * magnitude
    return 10 * magnitude


def linear_ticks(low: float, high: float, count: float) -> list[float]:
    """Multiples of a round step within [low, high]; about `count` of them, 0 written as 0.0."""
    if not high > low:
        return [low]
    step = round_step(high - low, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    decimals = max(0, -math.floor(math.log10(step)) + 1)
    return [round(k * step, decimals) + 0.0 for k in range(first, last + 1)]


def axis_ticks(low: float, high: float, count: float, end: float) -> list[float]:
    """Ticks as of `linear_ticks`, and more of them until two have figures.

    Args:
        low, high, count: of the axis, as for `linear_ticks`.
        end: ticks from here on have no figure.
    """
    found = linear_ticks(low, high, count)
    for finer in (2, 4):
        if sum(tick < end for tick in found) >= 2:
            break
        found = linear_ticks(low, high, finer * count)
    return found


def spread_ticks(
    low: float, high: float, position: Callable[[float], float], gap: float
) -> list[float]:
    """Round values within [low, high], the roundest first, that keep apart on a scale.

    Args:
        low, high: ends, in the values' unit; low > 0 for a geometric ladder, else linear steps.
        position: where a value lies on the scale, monotone.
        gap: the least distance between two positions.

    Returns:
        Ascending values, none closer than `gap` to another.
    """
    kept: list[tuple[float, float]] = []
    for value in _candidates(low, high):
        at = position(value)
        if all(abs(at - other) >= gap for _, other in kept):
            kept.append((value, at))
    return sorted(value for value, _ in kept)


def _candidates(low: float, high: float) -> Iterator[float]:
    if low > 0 and high / low > 4:
        decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        for mantissas in _LADDER:
            for mantissa in mantissas:
                for k in decades:
                    value = float(f"{mantissa}e{k}")
                    if low <= value <= high:
                        yield value
        return
    for count in (2, 5, 10, 20, 40):
        yield from linear_ticks(low, high, count)


def short(value: float) -> str:
    """Any value to three significant digits, as people write it."""
    return label(float(f"{value:.3g}"))


def label(value: float) -> str:
    """A round value as people write it: `0.05`, `1,000`, `3×10⁶`, `5e−6`; a real minus sign."""
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e5:
        text = f"{value:,.6f}".rstrip("0").rstrip(".")
    else:
        k = math.floor(math.log10(abs(value)) + 1e-12)
        mantissa = f"{value / 10.0**k:.6g}"
        # The typeface has raised figures but no raised minus.
        power = "10" + str(k).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
        large = power if mantissa == "1" else f"{mantissa}×{power}"
        text = large if k > 0 else f"{mantissa}e{k}"
    return text.replace("-", "−")
