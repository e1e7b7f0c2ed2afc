"""Surfaces whose every value is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.geometry.plane import Anchor
from renders.source.surface import Surface, labelled

Values = npt.NDArray[np.float32]


def landscape(height: int, width: int) -> Values:
    """Two wells and a ridge, 0.1 to about 30, as real losses are."""
    x, y = np.meshgrid(np.linspace(-1.4, 1.4, width), np.linspace(-1, 1, height))
    wells = np.exp(-3 * ((x + 0.7) ** 2 + y**2)) + np.exp(-3 * ((x - 0.7) ** 2 + y**2))
    return np.exp(3.2 - 5 * wells + 0.3 * np.sin(4 * x * y)).astype(np.float32)


def surface_of(values: npt.ArrayLike, finished: npt.ArrayLike | None = None) -> Surface:
    """A surface with two anchors and a curve over an extent of 4 × 3."""
    array = np.asarray(values, dtype=np.float32)
    done = np.ones(array.shape, bool) if finished is None else np.asarray(finished, bool)
    t = np.linspace(0, 1, 21)
    curve = np.stack([-1 + 2 * t, 1.6 * t * (1 - t), 0 * t], axis=1)
    anchors = (Anchor("w0", -1, 0, 0), Anchor("w1", 1, 0, 0))
    extent = -2.0, 2.0, -1.5, 1.5
    return Surface(labelled(array, extent), done, extent, anchors, curve)
