"""The arrays of a store, with their chunks, codecs and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ZstdCodec

from pipeline.geometry.grid import Extent, Grid, Tile
from pipeline.geometry.plane import FrameFacts

_PACKED = [BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"), Crc32cCodec()]
_LONG_NAMES = {
    "loss": "mean loss per example",
    "loss_stderr": "standard error of the mean loss over the subsample",
    "error": "fraction of examples misclassified",
    "lambda_max": "largest eigenvalue of the Hessian of the mean loss by all weights",
    "lambda_min": "smallest eigenvalue of the Hessian of the mean loss by all weights",
    "negative": "size of the smallest eigenvalue of the Hessian as a share of the largest",
    "trace": "trace of the Hessian of the mean loss by all weights",
    "gradient_norm": "norm of the gradient of the mean loss by all weights",
    "lambda_max_residual": "residual of lambda_max as a share of the largest eigenvalue in size",
    "lambda_min_residual": "residual of lambda_min as a share of the largest eigenvalue in size",
    "lanczos_steps": "products of the Hessian that its eigenvalues took; 0 where they are exact",
    "trace_stderr": "standard error of the estimated trace; 0 where it is exact",
}
_WITHOUT_UNIT = ("error", "negative", "lambda_max_residual", "lambda_min_residual", "lanczos_steps")


def create_arrays(
    group: zarr.Group, grid: Grid, splits: Sequence[str], quantities: Sequence[str], unit: str
) -> None:
    """Create the quantities, one chunk a tile and split, and the facts about tiles.

    `unit` is the unit of the loss; empty if it has none.
    """
    for quantity in quantities:
        group.create_array(
            quantity,
            shape=(len(splits), grid.frames, grid.height, grid.width),
            chunks=(1, 1, grid.tile, grid.tile),
            dtype="float32",
            fill_value=float("nan"),
            serializer=BytesCodec(),
            compressors=_PACKED,
            dimension_names=("split", "frame", "y", "x"),
            attributes={"long_name": _long_name(quantity), **_units(quantity, unit)},
        )
    tiles = (grid.frames, grid.tile_rows, grid.tile_columns)
    facts: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("done", "uint8", {"long_name": "1 where the tile is committed"}),
        ("seconds", "float32", {"long_name": "time the tile took", "units": "s"}),
        ("worker", "uint32", {"long_name": "id of the worker that made the tile"}),
    )
    for name, dtype, about in facts:
        group.create_array(
            name,
            shape=tiles,
            chunks=(1, 1, 1),
            dtype=dtype,
            fill_value=0,
            compressors=[Crc32cCodec()],
            dimension_names=("frame", "tile_y", "tile_x"),
            attributes=about,
        )


def _long_name(quantity: str) -> str:
    return _LONG_NAMES.get(quantity, f"mean of {quantity} over the examples")


def _units(quantity: str, unit: str) -> dict[str, str]:
    """The attribute `units` of a quantity; empty if it is not known."""
    if quantity in _WITHOUT_UNIT:
        return {"units": "1"}
    if quantity not in _LONG_NAMES:  # of a user's own function
        return {}
    # The store's own `unit` says per what the nats are.
    own = "nat" if unit.startswith("nats") else unit
    return {"units": own} if own else {}


PREDICTED, UNFINISHED = -1, -2
"""The levels of points that no pass evaluated."""
PASSES = 256
"""The most passes that a refined render may have; no render that ends needs so many."""


def create_refined_arrays(
    group: zarr.Group, grid: Grid, splits: Sequence[str], quantities: Sequence[str], fields: int
) -> None:
    """Create the arrays of a refined render: which points are predicted, and its records.

    `fields` is how many pairs of a quantity and one of its splits there are.
    """
    tile = grid.tile
    group.create_array(
        "level",
        shape=(grid.frames, grid.height, grid.width),
        chunks=(1, tile, tile),
        dtype="int16",
        fill_value=UNFINISHED,
        serializer=BytesCodec(),
        compressors=_PACKED,
        dimension_names=("frame", "y", "x"),
        attributes={
            "long_name": "pass of the refinement that evaluated the point",
            "flag_values": [UNFINISHED, PREDICTED],
            "flag_meanings": "unfinished predicted",
        },
    )
    group.create_array(
        "predicted_error",
        shape=(len(quantities), len(splits), grid.frames, grid.height, grid.width),
        chunks=(len(quantities), len(splits), 1, tile, tile),
        dtype="float32",
        fill_value=float("nan"),
        serializer=BytesCodec(),
        compressors=_PACKED,
        dimension_names=("quantity", "split", "frame", "y", "x"),
        attributes={
            "long_name": "error to expect where a quantity is predicted, in its unit; 0 elsewhere"
        },
    )
    group.create_array(
        "quantity",
        data=np.array(quantities, dtype=np.dtypes.StringDType()),
        compressors=[ZstdCodec(), Crc32cCodec()],
        dimension_names=("quantity",),
        attributes={"long_name": "quantity that the predicted error is of"},
    )
    records: tuple[tuple[str, str, tuple[int, ...], tuple[int, ...], float], ...] = (
        ("points", "uint8", (PASSES, grid.frames, grid.height, grid.width), (1, 1, tile, tile), 0),
        (
            "values",
            "float32",
            (PASSES, grid.frames, fields, grid.height, grid.width),
            (1, 1, fields, tile, tile),
            float("nan"),
        ),
        (
            "steps",
            "float64",
            (3, PASSES, grid.frames, grid.tile_rows, grid.tile_columns),
            (3, 1, 1, 1, 1),
            float("nan"),
        ),
    )
    for name, dtype, shape, chunks, fill in records:
        group.create_array(
            f"evaluated/{name}",
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            fill_value=fill,
            serializer=BytesCodec(),
            compressors=_PACKED,
        )


_MOST_MARKS_A_BLOCK = 8


def marks_a_block(grid: Grid, marks: int) -> int:
    """How many marks one task evaluates, of so many: eight, or as many as a tile has points.

    A commit takes some milliseconds, as eight marks of a small network do. Of a large network a
    block takes no longer than a tile, so that the deadline of tiles suits it.
    """
    return min(_MOST_MARKS_A_BLOCK, grid.size(Tile(0, 0, 0)), marks)


def create_mark_arrays(
    group: zarr.Group, grid: Grid, splits: int, quantities: Sequence[str], marks: int, unit: str
) -> None:
    """Create the marks' own quantities, one chunk a block, and their commits.

    Args:
        group: of the store.
        grid: of the render.
        splits, quantities: how many splits, and which quantities.
        marks: how many, at least one.
        unit: of the loss; empty if it has none.
    """
    block = marks_a_block(grid, marks)
    for quantity in quantities:
        group.create_array(
            f"mark_{quantity}",
            shape=(splits, marks),
            chunks=(splits, block),
            dtype="float32",
            fill_value=float("nan"),
            serializer=BytesCodec(),
            compressors=_PACKED,
            dimension_names=("split", "mark_index"),
            attributes={
                "long_name": f"{_long_name(quantity)}, at each mark's own weights",
                **_units(quantity, unit),
            },
        )
    group.create_array(
        "mark_done",
        shape=(marks,),
        chunks=(block,),
        dtype="uint8",
        fill_value=0,
        compressors=[Crc32cCodec()],
        dimension_names=("mark_index",),
        attributes={"long_name": "1 where the mark is committed"},
    )


COORDINATES = (
    *("x", "y", "frame", "split", "quantity"),
    *("extent", "anchor", "curve", "mark", "direction"),
)
"""The arrays that label the quantities; a store has some of them, written when it is made."""


def create_coordinates(
    group: zarr.Group,
    grid: Grid,
    splits: Sequence[str],
    frames: Sequence[FrameFacts],
    calibrate: str | None = None,
) -> None:
    """Create the arrays that label the quantities: axes, names and geometry.

    `calibrate` is the split that calibrates batch norm; None if none does.
    """
    extents = np.array(
        [(f.extent.x0, f.extent.x1, f.extent.y0, f.extent.y1) for f in frames], float
    )
    common = bool((extents == extents[0]).all())
    extent, unit = (frames[0].extent, "1") if common else (Extent(0, 1, 0, 1), "extent")
    about = "plane coordinate" if common else "fraction of the frame's extent"
    x, y = grid.axes(extent)
    arrays: list[tuple[str, NDArray[Any], tuple[str, ...], dict[str, Any]]] = [
        ("x", x, ("x",), {"long_name": f"{about} along u", "units": unit, "axis": "X"}),
        ("y", y, ("y",), {"long_name": f"{about} along v", "units": unit, "axis": "Y"}),
        ("frame", np.arange(grid.frames), ("frame",), {"long_name": "frame"}),
        (
            "split",
            np.array(splits, dtype=np.dtypes.StringDType()),
            ("split",),
            {"long_name": "data split"} | ({"calibrates": calibrate} if calibrate else {}),
        ),
        ("extent", extents, ("frame", "bound"), {"long_name": "x0, x1, y0, y1 of the frame"}),
        (
            "anchor",
            np.array([[(a.x, a.y, a.off_plane) for a in f.anchors] for f in frames], float).reshape(
                len(frames), -1, 3
            ),
            ("frame", "anchor_index", "component"),
            {"long_name": "x, y and distance off the plane of each anchor"},
        ),
    ]
    for name, index, places, of in (
        ("curve", "curve_point", [f.curve for f in frames], "along the curve"),
        ("mark", "mark_index", [f.marks for f in frames], "of each mark"),
    ):
        if places[0] is not None:
            told = {"long_name": f"x, y and distance off the plane {of}"}
            arrays.append((name, np.array(places), ("frame", index, "component"), told))
    if frames[0].directions is not None:
        arrays.append(
            (
                "direction",
                frames[0].directions,
                ("direction_index", "weight"),
                {"long_name": "directions of the plane, where they were computed"},
            )
        )
    for name, data, dimensions, attributes in arrays:
        group.create_array(
            name,
            data=data,
            compressors=[ZstdCodec(), Crc32cCodec()],
            dimension_names=dimensions,
            attributes=attributes,
        )
