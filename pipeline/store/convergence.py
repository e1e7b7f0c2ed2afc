"""Which eigenvalues of a store are not as good as its render asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.quantities import RESIDUALS
from pipeline.store.reader import StoreReader


def unconverged(store: StoreReader, quantity: str, frame: int) -> NDArray[np.bool_] | None:
    """Where the residual of a quantity is above the tolerance, bool (height, width).

    None of a quantity that has no residuals. Values that are not finite are not counted, and a
    predicted value is as good as the values around it.

    Raises:
        StoreError: a damaged chunk.
    """
    tolerance = (store.attrs.get("curvature") or {}).get("tolerance")
    if tolerance is None or quantity not in RESIDUALS:
        return None
    found = np.zeros((store.height, store.width), dtype=bool)
    for name in RESIDUALS[quantity]:
        (split,) = store.fields.splits_of(name)
        found |= store.read(name, split, frame) > tolerance
    return found & store.finished(frame)


def counts(store: StoreReader) -> dict[str, int]:
    """How many values of each quantity with residuals are above the tolerance, over all frames."""
    asked = [name for name in store.quantities if name in RESIDUALS]
    found = dict.fromkeys(asked, 0)
    for frame in range(store.frames):
        for name in asked:
            mask = unconverged(store, name, frame)
            found[name] += 0 if mask is None else int(mask.sum())
    return found


def phrases(store: StoreReader) -> list[str]:
    """A phrase on each quantity that has values above the tolerance."""
    if "curvature" not in store.attrs:
        return []
    tolerance = store.attrs["curvature"]["tolerance"]
    return [
        f"{count:,} of {store.grid.points:,} values of {name} not converged to {tolerance:g}"
        for name, count in counts(store).items()
        if count
    ]
