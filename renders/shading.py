"""Shading values for other people's pictures: a labelled array in, Datashader's image out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pipeline.errors import LossatlasError
from renders.map.tone import Tone, fit_tone
from renders.page.layout import map_aspect
from renders.page.theme import theme_named
from renders.source.surface import Surface
from renders.web.levels import Look, level_map

if TYPE_CHECKING:
    import datashader.transfer_functions as tf


class ShadingError(LossatlasError):
    """Values that cannot be shaded as asked."""


def shade(
    data: xr.DataArray,
    tone: Tone | None = None,
    *,
    width: int = 1200,
    height: int | None = None,
    theme: str = "light",
    light: bool = True,
    contours: bool = True,
) -> tf.Image:
    """Shade one surface as lossatlas shades its maps.

    Args:
        data: (y, x) on an even grid, such as one frame and split of `lossatlas.open`. Where it has
            a coordinate `finished`, bool, the rest is hatched.
        tone: from values to colours; None fits one to these values. Give several pictures one tone,
            or they cannot be compared.
        width, height: of the image, pixels; height None follows from the coordinates.
        theme: light or dark: the colours of hatches and isolines.
        light, contours: False leaves it out.

    Returns:
        Datashader's image: uint32 RGBA (y, x) with the coordinates of the pixels' centres, the
        lowest y first. It goes on in `datashader.transfer_functions`, HoloViews and matplotlib, and
        `to_pil` makes a picture of it.

    Raises:
        LossatlasError: the array has other axes, or no value to fit a tone to.
    """
    surface = _surface(data)
    values = surface.values[surface.finished]
    tone = tone or fit_tone([values], how="linear" if data.name == "error" else None)
    if height is None:
        height = round(width * map_aspect(surface.extent)[0])
    if width < 1 or height < 1:
        raise ShadingError(f"the image would be {width} × {height} pixels: wanted one at least")
    look = Look(theme_named(theme), light, contours)
    layer = level_map(surface, tone, look, width, height)
    ((_, image),) = layer.images(layer.at, height)
    shown: tf.Image = image.isel(y=slice(None, None, -1)).drop_indexes([])
    return shown.assign_coords(x=shown.x.values, y=shown.y.values).rename(data.name)


def _surface(data: xr.DataArray) -> Surface:
    if data.dims not in (("y", "x"), ("x", "y")):
        chosen = "choose one, as in .sel(split='train').isel(frame=0)"
        raise ShadingError(f"the values have axes {data.dims}: wanted ('y', 'x'); {chosen}")
    data = data.transpose("y", "x").sortby(["y", "x"])
    x, y = np.asarray(data["x"], dtype=float), np.asarray(data["y"], dtype=float)
    for name, at in (("x", x), ("y", y)):
        if not np.allclose(np.diff(at, 2), 0, atol=1e-6 * (at[-1] - at[0])):
            raise ShadingError(f"{name} is not evenly spaced: wanted a grid; interpolate first")
    finished = np.ones(data.shape, dtype=bool)
    if "finished" in data.coords:
        finished = np.asarray(data["finished"].transpose("y", "x"), dtype=bool)
    extent = float(x[0]), float(x[-1]), float(y[0]), float(y[-1])
    return Surface(data.astype(np.float32), finished, extent)
