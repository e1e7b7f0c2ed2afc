"""The scale of a quantity: colour range, linear or logarithmic space, and tolerance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.quantities import COMPANIONS

# `clamped`: logarithms, none below that of `floor`; only in rounds that earlier versions began.
Space = Literal["linear", "log", "clamped"]

# What only says how good other quantities are is never a reason to evaluate a point.
_ANY = 1e30

# The percentiles at the ends of a palette, by default.
CLIP = 0.0, 99.0


@dataclass(frozen=True)
class Range:
    """The colour range of one quantity of one split, from its values on the coarsest lattices.

    Attributes:
        quantity, split: of what.
        space: linear, log or clamped: the space that values are predicted in.
        low, high: the ends, as values.
        floor: the smallest value above zero.
    """

    quantity: str
    split: str
    space: Space
    low: float
    high: float
    floor: float

    @classmethod
    def of(
        cls, quantity: str, split: str, space: Space, values: NDArray[np.floating[Any]]
    ) -> Range:
        """The range of `values`, of any shape; values that are not finite are ignored."""
        finite = np.asarray(values, "f8")[np.isfinite(values)]
        floor = float(finite[finite > 0].min(initial=math.inf))
        floor = floor if math.isfinite(floor) else 1.0
        if not finite.size:
            return cls(quantity, split, space, floor, floor, floor)
        low, high = (float(end) for end in np.percentile(finite, CLIP))
        return cls(quantity, split, space, low, high, floor)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Range:
        return cls(**plain)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def width(self) -> float:
        """The width of the range in its space: nats, or the logarithm of a ratio."""
        low, high = self.to_space(np.array([self.low, self.high]))
        return float(high - low)

    def to_space(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Values as float64 in the range's space.

        They are NaN where they are not finite, and where they have no logarithm on a log range.
        """
        finite = np.isfinite(values)
        wide: NDArray[np.float64] = np.where(finite, np.asarray(values, "f8"), np.nan)
        if self.space == "linear":
            return wide
        if self.space == "clamped":
            wide = np.maximum(wide, self.floor)
        return np.asarray(np.log(np.where(wide > 0, wide, np.nan)))

    def from_space(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values if self.space == "linear" else np.exp(values)

    def apart(
        self, values: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]
    ) -> NDArray[np.float64]:
        """How far apart values are, in the unit of `width`; float64 of their common shape.

        Nothing is clamped, in any space. On a linear range the result is their difference. On a
        logarithmic one it is the logarithm of their ratio, if both are above zero; otherwise it is
        their difference as a share of high − low, times `width`. It is inf if one of them is not
        finite.
        """
        one, other = (np.asarray(each, "f8") for each in (values, others))
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.abs(one - other)
            if self.space != "linear":
                share = np.where(found == 0, 0, found / (self.high - self.low))
                ratio = np.abs(np.log(one) - np.log(other))
                found = np.where((one > 0) & (other > 0), ratio, share * self.width)
        return np.where(np.isnan(found) | ~np.isfinite(one) | ~np.isfinite(other), np.inf, found)


@dataclass(frozen=True)
class Scale:
    """A range with its tolerance, which is in the range's space."""

    range: Range
    tolerance: float

    def units(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Values in units of the tolerance, float64 of the same shape, NaN where not finite."""
        return self.range.to_space(values) / self.tolerance

    def values(self, units: NDArray[np.float64]) -> NDArray[np.float32]:
        """The inverse of `units`."""
        return self.range.from_space(units * self.tolerance).astype("f4")

    def errors(
        self, values: NDArray[np.floating[Any]], units: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Errors `units` of `values`, from units of the tolerance to the quantity's own unit."""
        spaced = units * self.tolerance
        if self.range.space != "linear":
            spaced = np.asarray(values, "f8") * np.expm1(spaced)
        return np.asarray(spaced, "f4")

    def off(
        self, predicted: NDArray[np.floating[Any]], values: NDArray[np.floating[Any]]
    ) -> NDArray[np.float64]:
        """How far predicted values are from evaluated ones, in units of the tolerance.

        See `Range.apart`; inf where a value is not finite, or was not predicted.
        """
        return self.range.apart(predicted, values) / self.tolerance


def scales(
    ranges: Sequence[Range], tolerance: float | None, nats: float | None, error: float
) -> tuple[Scale, ...]:
    """The scale of each range.

    Args:
        ranges: of all quantities and splits.
        tolerance: a share of the width of each range, or None for `nats`.
        nats: tolerated in loss and in its standard error.
        error: tolerated in the fraction misclassified.
    """
    made = []
    for each in ranges:
        if each.quantity in COMPANIONS:
            allowed = _ANY
        elif each.quantity == "error":
            allowed = error
        elif nats is not None:
            allowed = nats
        else:
            allowed = (tolerance or 0.0) * each.width
        # If all values are equal, rounding must not count as an error.
        smallest = 1e-6 * max(1e-30, float(np.abs(each.to_space(np.array(each.low)))))
        made.append(Scale(each, max(allowed, smallest)))
    return tuple(made)
