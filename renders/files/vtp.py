"""One surface as a .vtp file, the XML PolyData that ParaView opens.

A writer of our own: VTK itself takes a gigabyte, and meshio has no PolyData.

Source: VTK file formats, docs.vtk.org, "XML file formats": PolyData, inline base64.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

_TYPES = {"f4": "Float32", "f8": "Float64", "i8": "Int64"}


def write(
    path: Path,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    height: npt.NDArray[np.float32],
    fields: Mapping[str, npt.NDArray[np.float32]],
) -> None:
    """Write a surface z = height(x, y), with `fields` at its points.

    Points whose height is not finite are left out, and so are the cells around them.

    Args:
        path: of the file.
        x, y: coordinates, (width,) and (height,).
        height: (height, width).
        fields: name → values (height, width).
    """
    here = np.isfinite(height)
    number = np.where(here.ravel(), np.cumsum(here.ravel()) - 1, -1).reshape(here.shape)
    across, up = np.meshgrid(x, y)
    points = np.stack([across[here], up[here], height[here].astype("f8")], axis=1)
    polygons = _cells(number)
    lines = number.reshape(1, -1) if 1 in number.shape and here.all() else number[:0]
    with path.open("w", encoding="ascii") as file:
        file.write(
            '<?xml version="1.0"?>\n'
            '<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" '
            'header_type="UInt64">\n<PolyData>\n'
            f'<Piece NumberOfPoints="{len(points)}" NumberOfVerts="0" '
            f'NumberOfLines="{len(lines)}" NumberOfStrips="0" NumberOfPolys="{len(polygons)}">\n'
        )
        file.write("<PointData>\n")
        file.writelines(_array(name, of[here].astype("f4")) for name, of in fields.items())
        file.write("</PointData>\n<Points>\n")
        file.write(_array("Points", points, 3))
        file.write("</Points>\n")
        for kind, cells in (("Lines", lines), ("Polys", polygons)):
            file.writelines((f"<{kind}>\n", *_connected(cells), f"</{kind}>\n"))
        file.write("</Piece>\n</PolyData>\n</VTKFile>\n")


def _cells(number: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The quadrilaterals between points that are all there, (cells, 4), counter-clockwise."""
    corners = [number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]]
    cells = np.stack([corner.ravel() for corner in corners], axis=1)
    return cells[(cells >= 0).all(axis=1)]


def _connected(cells: npt.NDArray[np.int64]) -> Iterator[str]:
    yield _array("connectivity", cells.ravel())
    yield _array("offsets", np.arange(1, len(cells) + 1) * cells.shape[1])


def _array(name: str, values: npt.NDArray[np.generic], components: int = 1) -> str:
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    size = np.array([len(data)], "<u8").tobytes()
    return (
        f'<DataArray type="{_TYPES[values.dtype.str[1:]]}" Name={quoteattr(name)} '
        f'NumberOfComponents="{components}" format="binary">\n'
        f"{base64.b64encode(size + data).decode()}\n</DataArray>\n"
    )
