"""Datashader's points and lines, over a canvas of whole pixels. It takes a second to import."""

from __future__ import annotations

import datashader as ds
import numpy as np
import numpy.typing as npt
import pandas as pd

from renders.colour import FloatArray


def points(
    column: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
    key: npt.NDArray[np.int64],
    size: tuple[int, int],
) -> FloatArray:
    """The greatest key of the points on each pixel, float64 (height, width); NaN where none is.

    Args:
        column, row, key: int (n,).
        size: width and height, pixels.
    """
    # In the middle of its pixel a point is on it, however its place is rounded.
    frame = pd.DataFrame({"x": column + 0.5, "y": row + 0.5, "key": key.astype(np.float64)})
    return np.asarray(_canvas(size).points(frame, "x", "y", agg=ds.max("key")).values)


def lines(
    x: FloatArray, y: FloatArray, opacity: FloatArray, width_px: float, size: tuple[int, int]
) -> FloatArray:
    """How opaque lines are on each pixel, float64 (height, width), 0 where none is.

    Args:
        x, y: places, pixels, float64 (n,); NaN between two lines.
        opacity: of the way from each place to the next, float64 (n,).
        width_px: of all lines.
        size: width and height, pixels.
    """
    frame = pd.DataFrame({"x": x, "y": y, "opacity": opacity})
    drawn = _canvas(size).line(frame, "x", "y", agg=ds.max("opacity"), line_width=width_px)
    return np.asarray(np.nan_to_num(drawn.values))


def _canvas(size: tuple[int, int]) -> ds.Canvas:
    return ds.Canvas(*size, (0, size[0]), (0, size[1]))
