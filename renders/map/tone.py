"""The tone: the one fixed map from a value to a colour, for every tile and every frame.

It is fitted once over a whole store and then never looks at data again. A tone that ranges itself
per tile makes seams, and per frame makes a film flicker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import LossatlasError
from pipeline.refinement.scale import CLIP
from renders.colour import FloatArray, palette_colours, rgb

How = Literal["linear", "log", "equalised"]
Space = Literal["linear", "log"]

LUT_SIZE = 65_536
CDF_KNOTS = 1_025


class ToneError(LossatlasError):
    """A tone that cannot be fitted, or limits that make no sense."""


@dataclass(frozen=True)
class Tone:
    """From values to colours, fixed.

    Attributes:
        how: linear, log, or equalised (by the distribution of values over the whole store).
        space: where values are interpolated and lit: log for log tones (and for equalised ones of
            positive values), so that resampling a loss never makes it negative.
        low, high: the values at the two ends of the palette; beyond them colour stays.
        floor: the smallest value the log is taken of; smaller ones, zero included, count as it.
        cdf: equalised only: palette position at `CDF_KNOTS` equal steps across the span.
        palette: the colours, `#rrggbb`, low to high.
        nan, inf: the colours of NaN and of +inf, both results and never on the palette.
        clipped: how many of the values it was fitted over are 0 or less, where the tone is
            logarithmic: they have no logarithm, and the lowest colour.
    """

    how: How
    space: Space
    low: float
    high: float
    floor: float
    cdf: tuple[float, ...]
    palette: tuple[str, ...]
    nan: str = "#9a9a9a"
    inf: str = "#5c5c5c"
    clipped: int = 0

    @property
    def span(self) -> tuple[float, float]:
        """The two ends of the palette in the tone's space."""
        if self.space == "log":
            return math.log(self.low), math.log(self.high)
        return self.low, self.high

    def to_space(self, values: npt.ArrayLike) -> FloatArray:
        """Values as float64 of the same shape in the tone's space; non-finite values stay so."""
        z = np.asarray(values, dtype=np.float64)
        if self.space == "linear":
            return z
        return np.log(np.maximum(z, self.floor))

    def from_space(self, s: npt.ArrayLike) -> FloatArray:
        """Values, float64 of the same shape, from the tone's space: the inverse of `to_space`."""
        z = np.asarray(s, dtype=np.float64)
        return z if self.space == "linear" else np.exp(z)

    def position(self, values: npt.ArrayLike) -> FloatArray:
        """Where on the palette values lie: float64 in [0, 1], same shape, NaN where NaN."""
        lo, hi = self.span
        part = np.clip((self.to_space(values) - lo) / (hi - lo), 0, 1)
        if not self.cdf:
            return part
        return np.interp(part, np.linspace(0, 1, len(self.cdf)), self.cdf)

    def value_at(self, position: float) -> float:
        """The value whose palette position is `position` in [0, 1]."""
        lo, hi = self.span
        part = position
        if self.cdf:
            part = float(np.interp(position, self.cdf, np.linspace(0, 1, len(self.cdf))))
        s = lo + part * (hi - lo)
        return math.exp(s) if self.space == "log" else s

    def lut(self) -> FloatArray:
        """Encoded colours, float64 (65536, 3), 0…255, equally spaced across the span."""
        part = np.linspace(0, 1, LUT_SIZE)
        if self.cdf:
            part = np.interp(part, np.linspace(0, 1, len(self.cdf)), self.cdf)
        colours = np.stack([rgb(c) for c in self.palette])
        knots = np.linspace(0, 1, len(colours))
        return np.stack([np.interp(part, knots, colours[:, i]) for i in range(3)], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON keeps; `from_dict` gives back an equal tone."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if not self.clipped:  # as in what earlier versions wrote
            del plain["clipped"]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Tone:
        """The tone that `to_dict` wrote.

        Raises:
            ToneError: a key is missing or unknown.
        """
        names = {f.name for f in fields(cls)}
        if set(plain) not in (names, names - {"clipped"}):
            odd = sorted(names ^ set(plain))
            raise ToneError(f"tone differs in keys {odd}: wanted {sorted(names)}; fit it again")
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()
        }
        return cls(**values)


def fit_tone(
    slabs: Iterable[npt.NDArray[np.floating[Any]]],
    *,
    how: How | None = None,
    clip: tuple[float, float] = CLIP,
    limits: tuple[float | None, float | None] = (None, None),
    palette: str | Sequence[str] = "dusk",
    nan: str = "#9a9a9a",
    inf: str = "#5c5c5c",
    stride: int = 1,
) -> Tone:
    """Fit one tone over all slabs.

    Args:
        slabs: the finished values, one array of any shape a frame; non-finite ones are passed over.
        how: linear, log or equalised; None is log, and linear where any value is 0 or less.
        clip: the percentiles, in percent, that the two ends of the palette are set to.
        limits: explicit ends in the values' own unit; each one given overrides its percentile.
        palette: see `renders.colour.palette_colours`.
        nan, inf: the colours of NaN and +inf, `#rrggbb`.
        stride: keep every n-th value, to bound memory on long films.

    Raises:
        ToneError: nothing finite to fit, nothing positive for a log, or limits out of order.
    """
    if how not in (None, "linear", "log", "equalised"):
        raise ToneError(f"tone is {how!r}: wanted linear, log or equalised")
    if not 0 <= clip[0] < clip[1] <= 100:
        raise ToneError(
            f"clip is {clip[0]:g}, {clip[1]:g}: wanted 0 ≤ first < second ≤ 100 percent"
        )
    colours = palette_colours(palette)
    values, below = _finite(slabs, stride)
    positive = values[values > 0]
    how = how or ("linear" if below else "log")
    space: Space = "linear"
    if how == "log" or (how == "equalised" and not below):
        space = "log"
    if space == "log" and not len(positive):
        raise ToneError("no value is above zero: a log tone wants some; choose tone linear")
    floor = float(positive.min()) if len(positive) else 0.0
    low, high = _limits(positive if space == "log" else values, space, clip, limits)
    floor = min(floor, low) if space == "log" else floor
    clipped = below if space == "log" else 0
    tone = Tone(how, space, low, high, floor, (), colours, nan, inf, clipped)
    if how != "equalised":
        return tone
    lo, hi = tone.span
    cdf = _smooth_cdf((tone.to_space(values) - lo) / (hi - lo))
    return Tone(how, space, low, high, floor, cdf, colours, nan, inf)


def _finite(slabs: Iterable[npt.NDArray[np.floating[Any]]], stride: int) -> tuple[FloatArray, int]:
    """Every n-th finite value, and how many of all are 0 or less."""
    kept, seen, below = [], 0, 0
    for slab in slabs:
        flat = np.asarray(slab, dtype=np.float64).ravel()
        seen += flat.size
        finite = flat[np.isfinite(flat)]
        below += int((finite <= 0).sum())
        kept.append(finite[::stride])
    values = np.concatenate(kept) if kept else np.empty(0)
    if not values.size:
        raise ToneError(
            f"none of {seen:,} finished values is finite: wanted at least one to fit colours to; "
            "the network diverged everywhere in this plane, check its weights and normalisation"
            if seen
            else "no tile is finished: wanted at least one; run `lossatlas resume` first"
        )
    return values, below


def _limits(
    values: FloatArray,
    space: Space,
    clip: tuple[float, float],
    limits: tuple[float | None, float | None],
) -> tuple[float, float]:
    low = float(np.percentile(values, clip[0])) if limits[0] is None else float(limits[0])
    high = float(np.percentile(values, clip[1])) if limits[1] is None else float(limits[1])
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ToneError(f"limits are {low:g}, {high:g}: wanted finite numbers")
    if space == "log" and low <= 0:
        raise ToneError(f"lower limit is {low:g}: a log tone wants one above zero, or tone linear")
    if limits != (None, None) and low >= high:
        raise ToneError(f"limits are {low:g}, {high:g}: wanted the first below the second")
    # A constant surface still has a colour: the middle of the palette.
    if high - low <= 1e-6 * abs(low):
        low, high = (low / 1.1, high * 1.1) if space == "log" else (low - 0.5, high + 0.5)
    return low, high


def _smooth_cdf(parts: FloatArray) -> tuple[float, ...]:
    # A raw CDF has corners wherever many values coincide, and corners show as bands.
    counts, _ = np.histogram(np.clip(parts, 0, 1), bins=CDF_KNOTS - 1, range=(0, 1))
    sigma = 0.015 * (CDF_KNOTS - 1)
    reach = int(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(counts.astype(np.float64), reach, mode="reflect")
    density = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    # A share of even spacing keeps rare values apart from one another.
    density = density / density.sum() + 0.25 / len(density)
    cdf = np.concatenate([[0.0], np.cumsum(density)])
    return tuple(float(v) for v in cdf / cdf[-1])
