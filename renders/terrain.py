"""The terrain: a surface as a solid model in the round, lit once, whoever looks at it later.

World coordinates: x and y as in the plane, centred, the longer side 1; z upwards. A model is cut
like a cake: the surface above, four walls down to a plinth, the strata of equal value visible on
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.bake import Sun, irradiance
from renders.colour import FloatArray, rgb, to_linear
from renders.contour import Contours
from renders.fill import FINITE, INF, NAN, UNFINISHED
from renders.layout import map_aspect
from renders.resample import field_of
from renders.spline import basis, coefficients
from renders.surface import Surface
from renders.theme import Theme
from renders.tone import LUT_SIZE, Tone

PLINTH = 0.055
"""How far the walls go below the lowest end of the tone, in world units."""
KNEE = 0.22
"""Above the tone's end heights level off within this share of its span: cliffs, not spikes."""
_BAKED = 640
_STRATA = 28


@dataclass(frozen=True, eq=False)
class Patch:
    """A sheet of quads: float64 (rows, columns, 3) `points`, float32 lit linear `colours` of the
    same shape, and float64 (rows, columns) `levels`, the value in the tone's space, for contours.
    """

    points: FloatArray
    colours: npt.NDArray[np.float32]
    levels: FloatArray


@dataclass(frozen=True, eq=False)
class Terrain:
    """A lit model.

    Attributes:
        patches: the surface first, then the walls.
        contours, tone: what the lines are.
        extent: of the plane; `half` is half the model's x and y size, world units.
        sun: the light it was lit by.
    """

    patches: tuple[Patch, ...]
    contours: Contours | None
    tone: Tone
    extent: tuple[float, float, float, float]
    half: tuple[float, float]
    sun: Sun

    @property
    def heights(self) -> FloatArray:
        """z of the surface, float64 (rows, columns), row 0 at the lowest y."""
        return np.asarray(self.patches[0].points[..., 2])

    def place(self, x: npt.ArrayLike, y: npt.ArrayLike) -> FloatArray:
        """Plane coordinates as world points on the surface, float64 (n, 3); NaN off the model."""
        x0, x1, y0, y1 = self.extent
        across = (np.asarray(x, dtype=np.float64) - x0) / (x1 - x0)
        up = (np.asarray(y, dtype=np.float64) - y0) / (y1 - y0)
        z = bilinear(self.heights, across, up)
        inside = (across >= 0) & (across <= 1) & (up >= 0) & (up <= 1)
        wide, high = self.half
        points = np.stack([(2 * across - 1) * wide, (2 * up - 1) * high, z], axis=-1)
        return np.where(inside[..., None], points, np.nan)


def bilinear(grid: FloatArray, across: npt.ArrayLike, up: npt.ArrayLike) -> FloatArray:
    """`grid` (rows, columns) at fractions in [0, 1] of its two axes; clamped outside."""
    rows, columns = grid.shape[:2]
    u = np.clip(np.asarray(across) * (columns - 1), 0, columns - 1)
    v = np.clip(np.asarray(up) * (rows - 1), 0, rows - 1)
    i = np.minimum(u.astype(np.int64), columns - 2)
    j = np.minimum(v.astype(np.int64), rows - 2)
    fu, fv = u - i, v - j
    if grid.ndim == 3:
        fu, fv = fu[..., None], fv[..., None]
    low = grid[j, i] * (1 - fu) + grid[j, i + 1] * fu
    high = grid[j + 1, i] * (1 - fu) + grid[j + 1, i + 1] * fu
    return np.asarray(low * (1 - fv) + high * fv)


def build_terrain(
    surface: Surface,
    tone: Tone,
    theme: Theme,
    contours: Contours | None,
    *,
    rise: float = 0.30,
    detail: int = 900,
    sun: Sun | None = None,
) -> Terrain:
    """Make and light a model of `surface`.

    Args:
        surface, tone: what it is of; heights are in the tone's space, so log by default.
        theme: the colours of what is no value.
        contours: None leaves the lines out.
        rise: height of the tone's whole span, in world units.
        detail: quads along the longer side.
        sun: where the light comes from.
    """
    sun = sun or Sun()
    aspect = map_aspect(surface.extent)[0]
    longer = max(1.0, aspect)
    half = (0.5 / longer, 0.5 * aspect / longer)
    columns = max(8, round(detail * 2 * half[0])) + 1
    rows = max(8, round(detail * 2 * half[1])) + 1
    s, kinds = _sampled(surface, tone, columns, rows)
    lo, hi = tone.span
    z = rise * _levelled((s - lo) / (hi - lo))
    albedo = _albedo(s, kinds, tone, theme)
    light = _lit(z, albedo, half, sun)
    x = np.linspace(-half[0], half[0], columns)
    y = np.linspace(-half[1], half[1], rows)
    points = np.empty((rows, columns, 3))
    points[..., 0], points[..., 1], points[..., 2] = x, y[:, None], z
    top = Patch(points, (albedo * light).astype(np.float32), np.where(kinds == FINITE, s, np.nan))
    walls = tuple(_walls(points, tone, theme, rise, sun))
    return Terrain((top, *walls), contours, tone, surface.extent, half, sun)


def _sampled(
    surface: Surface, tone: Tone, columns: int, rows: int
) -> tuple[FloatArray, npt.NDArray[np.uint8]]:
    """The field and the kinds at every vertex, row 0 at the lowest y."""
    f = field_of(surface, tone, columns, rows)
    # Vertices reach the outermost points; pixels of a picture are half a pixel inside.
    u = f.u0 + f.du * (np.linspace(0, columns, columns) - 0.5)
    v = (f.v0 + f.dv * (np.linspace(0, rows, rows) - 0.5))[::-1]
    s = basis(v, f.coef.shape[0]) @ f.coef @ basis(u, f.coef.shape[1]).T
    i = np.clip(np.rint(u), 0, f.kinds.shape[1] - 1).astype(np.int64)
    j = np.clip(np.rint(v), 0, f.kinds.shape[0] - 1).astype(np.int64)
    return np.asarray(s), f.kinds[np.ix_(j, i)]


def _levelled(t: FloatArray) -> FloatArray:
    over = np.maximum(t - 1, 0)
    under = np.maximum(-t, 0)
    inside = np.clip(t, 0, 1)
    return np.asarray(
        inside + KNEE * (1 - np.exp(-over / KNEE)) - KNEE * (1 - np.exp(-under / KNEE)) / 4
    )


def _coloured(s: FloatArray, tone: Tone) -> FloatArray:
    lo, hi = tone.span
    lut = to_linear(tone.lut())
    at = np.clip((s - lo) / (hi - lo), 0, 1) * (LUT_SIZE - 1)
    return np.asarray(lut[np.rint(at).astype(np.int64)])


def _albedo(s: FloatArray, kinds: npt.NDArray[np.uint8], tone: Tone, theme: Theme) -> FloatArray:
    albedo = _coloured(s, tone)
    for kind, colour in ((NAN, tone.nan), (INF, tone.inf), (UNFINISHED, theme.hatch_line)):
        albedo[kinds == kind] = to_linear(rgb(colour))
    hatch = np.add.outer(np.arange(s.shape[0]), np.arange(s.shape[1])) % 12 < 6
    albedo[(kinds == UNFINISHED) & hatch] = to_linear(rgb(theme.hatch_ground))
    return albedo


def _lit(z: FloatArray, albedo: FloatArray, half: tuple[float, float], sun: Sun) -> FloatArray:
    """Light falling on every vertex, linear; baked on a coarser grid, for it is smooth."""
    rows, columns = z.shape
    step = max(1, -(-max(rows, columns) // _BAKED))
    high, wide = max(2, -(-rows // step)), max(2, -(-columns // step))
    across, up = np.meshgrid(np.linspace(0, 1, wide), np.linspace(0, 1, high))
    coarse = bilinear(z, across, up)
    tint = bilinear(albedo, across, up)
    cell = 2 * half[0] / (wide - 1), 2 * half[1] / (high - 1)
    light = irradiance(coarse, tint, cell, sun)
    coef = [coefficients(light[..., c]) for c in range(3)]
    u, v = np.linspace(0, wide - 1, columns), np.linspace(0, high - 1, rows)
    left, right = basis(v, high + 2), basis(u, wide + 2).T
    return np.maximum(np.stack([left @ c @ right for c in coef], axis=-1), 0.0)


def _walls(points: FloatArray, tone: Tone, theme: Theme, rise: float, sun: Sun) -> list[Patch]:
    lo, hi = tone.span
    walls = []
    for edge, normal in (
        (points[0], (0.0, -1.0, 0.0)),
        (points[-1], (0.0, 1.0, 0.0)),
        (points[:, 0], (-1.0, 0.0, 0.0)),
        (points[:, -1], (1.0, 0.0, 0.0)),
    ):
        part = np.linspace(0, 1, _STRATA)[:, None]
        sheet = np.repeat(edge[None], _STRATA, axis=0).copy()
        sheet[..., 2] = -PLINTH + part * (edge[:, 2] + PLINTH)
        s = lo + sheet[..., 2] / rise * (hi - lo)
        below = np.clip(-sheet[..., 2] / PLINTH, 0, 1)[..., None]
        stone = to_linear(rgb(theme.pen_dark))
        strata = _coloured(s, tone)
        body = strata + (stone - strata) * (0.30 + 0.45 * below)
        facing = max(0.0, float(np.dot(normal, sun.direction))) / sun.direction[2]
        # Open to half the sky, and darkest where it meets the ground.
        depth = np.clip((sheet[..., 2] + PLINTH) / 0.25, 0, 1)[..., None]
        light = sun.share * facing * sun.key + (1 - sun.share) * 0.62 * sun.sky
        colours = body * light * (0.62 + 0.38 * np.sqrt(depth)) * 1.15
        # No strata where the wall shows no value of its own.
        levels = np.where(sheet[..., 2] > 0, s, np.nan)
        walls.append(Patch(np.ascontiguousarray(sheet), colours.astype(np.float32), levels))
    return walls
