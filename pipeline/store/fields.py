"""Which quantity of a store is of which splits: those of curvature are of one split alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from pipeline.quantities import OF_CURVATURE


class Fields:
    """The quantities of a store, with the splits of each.

    Args:
        attributes: of the store: `splits`, `quantities`, and `curvature` where it has that.
    """

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._quantities: tuple[str, ...] = tuple(attributes["quantities"])
        self._splits: tuple[str, ...] = tuple(attributes["splits"])
        only = (attributes.get("curvature") or {}).get("split")
        self._only = (only,) if only in self._splits else self._splits

    def splits_of(self, quantity: str) -> tuple[str, ...]:
        """The splits that a quantity is of, in the store's order."""
        return self._only if quantity in OF_CURVATURE else self._splits

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every quantity with each of its splits, in the order of a refinement's records."""
        return [(name, split) for name in self._quantities for split in self.splits_of(name)]

    def places(self, quantity: str) -> slice:
        """Where the splits of a quantity are among those of the store."""
        own = self.splits_of(quantity)
        first = self._splits.index(own[0])
        return slice(first, first + len(own))

    def apart(self, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Values (pairs, …) apart: quantity → (its splits, …)."""
        found, start = {}, 0
        for quantity in self._quantities:
            stop = start + len(self.splits_of(quantity))
            found[quantity] = values[start:stop]
            start = stop
        return found
