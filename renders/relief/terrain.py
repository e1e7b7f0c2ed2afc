"""The terrain: a surface as a solid model in the round, lit once, whoever looks at it later.

World coordinates: x and y as in the plane, centred, the longer side 1; z upwards. A model is cut
like a cake: the surface above, four walls down to a plinth, the strata of equal value visible on
them; it stands on a floor that takes its shadow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renders.colour import FloatArray, rgb, to_linear
from renders.map.field import field_of, on_grid, spline_of
from renders.map.holes import FINITE, INF, NAN, UNFINISHED, pull_push
from renders.map.tone import LUT_SIZE, Tone
from renders.page.layout import map_aspect
from renders.page.theme import Theme
from renders.relief.bake import Sun, irradiance
from renders.source.surface import Surface

RISE = 0.20
"""Height of the tone's whole span, in world units."""
PLINTH = 0.055
"""How far the walls go below the lowest end of the tone, in world units."""
APRON = 0.9
"""How far the floor is lit around the model, in world units."""
BAKED = 640
_FLOOR_STEP = 0.015
_BLUR = 2
_STRATA = 28


@dataclass(frozen=True, eq=False)
class Patch:
    """A sheet of quads: float64 (rows, columns, 3) `points`, float32 lit linear `colours` of the
    same shape, and float64 (rows, columns) `levels`, the value in the tone's space, for contours;
    NaN where there are none.
    """

    points: FloatArray
    colours: npt.NDArray[np.float32]
    levels: FloatArray


@dataclass(frozen=True, eq=False)
class Ground:
    """The shape of a model's surface.

    Attributes:
        points: its vertices, float64 (rows, columns, 3), row 0 at the lowest y.
        extent: of the plane.
        half: half the model's x and y size, world units.
    """

    points: FloatArray
    extent: tuple[float, float, float, float]
    half: tuple[float, float]

    @property
    def heights(self) -> FloatArray:
        """z of the vertices, float64 (rows, columns)."""
        return np.asarray(self.points[..., 2])

    def place(self, x: npt.ArrayLike, y: npt.ArrayLike) -> FloatArray:
        """Plane coordinates as world points on the surface, float64 (n, 3); NaN off the model."""
        x0, x1, y0, y1 = self.extent
        across = (np.asarray(x, dtype=np.float64) - x0) / (x1 - x0)
        up = (np.asarray(y, dtype=np.float64) - y0) / (y1 - y0)
        wide, high = self.half
        flat = np.stack([(2 * across - 1) * wide, (2 * up - 1) * high], axis=-1)
        inside = (across >= 0) & (across <= 1) & (up >= 0) & (up <= 1)
        points = np.concatenate([flat, self.height_at(flat)[..., None]], axis=-1)
        return np.where(inside[..., None], points, np.nan)

    def height_at(self, points: FloatArray) -> FloatArray:
        """z of the surface below or above world points (…, 2 or 3); that of the rim beyond it."""
        wide, high = self.half
        return bilinear(
            self.heights, (points[..., 0] / wide + 1) / 2, (points[..., 1] / high + 1) / 2
        )

    @property
    def hull(self) -> FloatArray:
        """World points, float64 (n, 3), whose convex hull holds the model."""
        points = self.points
        rows, columns = points.shape[:2]
        # Every vertex of the rim, and the highest of each block at all of the block's corners.
        rim = np.concatenate([points[0], points[-1], points[:, 0], points[:, -1]])
        plinth = rim.copy()
        plinth[:, 2] = -PLINTH
        found = [rim, plinth]
        for j in range(0, rows, 16):
            for i in range(0, columns, 16):
                block = points[j : j + 17, i : i + 17].reshape(-1, 3)
                corners = block[[0, -1]][:, :2]
                top = float(block[:, 2].max())
                found.append(np.array([(x, y, top) for x in corners[:, 0] for y in corners[:, 1]]))
        return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class Terrain:
    """A lit model.

    Attributes:
        ground: its shape.
        patches: the surface first, then the walls, then what lies on it.
        floor: float32 (rows, columns, 3): light on the floor, 1 where it is open, over `apron`.
        apron: half the lit floor's x and y size, world units.
        sun: the light it was lit by.
    """

    ground: Ground
    patches: tuple[Patch, ...]
    floor: npt.NDArray[np.float32]
    apron: tuple[float, float]
    sun: Sun


def tallest(half: tuple[float, float], rise: float = RISE) -> FloatArray:
    """The box that holds any model of these half sizes, as `Ground.hull`: for films, float64
    (8, 3)."""
    sides = [(-half[0], half[0]), (-half[1], half[1]), (-PLINTH, rise)]
    return np.array([(x, y, z) for x in sides[0] for y in sides[1] for z in sides[2]])


def half_sizes(extent: tuple[float, float, float, float]) -> tuple[float, float]:
    """Half the x and y size of a model of a plane's extent, in world units."""
    aspect = map_aspect(extent)[0]
    longer = max(1.0, aspect)
    return 0.5 / longer, 0.5 * aspect / longer


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
    *,
    rise: float = RISE,
    detail: int = 900,
    baked: int = BAKED,
    sun: Sun | None = None,
) -> Terrain:
    """Make and light a model of `surface`.

    Args:
        surface, tone: what it is of; heights are in the tone's space, so log by default.
        theme: the colours of what is no value.
        rise: height of the tone's whole span, in world units.
        detail: quads along the longer side.
        baked: points along it that light is worked out for; it is smooth between them.
        sun: where the light comes from.
    """
    sun = sun or Sun()
    ground, s, kinds = _shaped(surface, tone, rise, detail)
    z, half = ground.heights, ground.half
    albedo = _albedo(s, kinds, tone, theme)
    light = _lit(z, albedo, half, sun, baked)
    shown = np.where(kinds == FINITE, s, np.nan)
    top = Patch(ground.points, (albedo * light).astype(np.float32), shown)
    walls = tuple(_walls(top, tone, theme, rise, sun))
    floor, apron = _floor(z, half, sun)
    return Terrain(ground, (top, *walls), floor, apron, sun)


def ground_of(surface: Surface, tone: Tone, rise: float = RISE, detail: int = 120) -> Ground:
    """The shape alone, unlit; see `build_terrain`."""
    return _shaped(surface, tone, rise, detail)[0]


def _shaped(
    surface: Surface, tone: Tone, rise: float, detail: int
) -> tuple[Ground, FloatArray, npt.NDArray[np.uint8]]:
    """The ground, and at every vertex the value in the tone's space and its kind."""
    half = half_sizes(surface.extent)
    columns = max(8, round(detail * 2 * half[0])) + 1
    rows = max(8, round(detail * 2 * half[1])) + 1
    s, kinds = _sampled(surface, tone, columns, rows)
    lo, hi = tone.span
    points = np.empty((rows, columns, 3))
    points[..., 0] = np.linspace(-half[0], half[0], columns)
    points[..., 1] = np.linspace(-half[1], half[1], rows)[:, None]
    # Beyond the tone's ends values are not told apart: what is there is flat.
    points[..., 2] = rise * np.clip((s - lo) / (hi - lo), 0, 1)
    return Ground(points, surface.extent, half), s, kinds


def _sampled(
    surface: Surface, tone: Tone, columns: int, rows: int
) -> tuple[FloatArray, npt.NDArray[np.uint8]]:
    """The field and the kinds at every vertex, row 0 at the lowest y."""
    f = field_of(surface, tone, columns, rows)
    # Vertices reach the outermost points; pixels of a picture are half a pixel inside.
    u = f.u0 + f.du * (np.linspace(0, columns, columns) - 0.5)
    v = (f.v0 + f.dv * (np.linspace(0, rows, rows) - 0.5))[::-1]
    s = on_grid(f.spline, v, u)
    i = np.clip(np.rint(u), 0, f.kinds.shape[1] - 1).astype(np.int64)
    j = np.clip(np.rint(v), 0, f.kinds.shape[0] - 1).astype(np.int64)
    return s, f.kinds[np.ix_(j, i)]


def _coloured(s: FloatArray, tone: Tone) -> FloatArray:
    lo, hi = tone.span
    lut = to_linear(tone.lut())
    at = np.clip((s - lo) / (hi - lo), 0, 1) * (LUT_SIZE - 1)
    return np.asarray(lut[np.rint(at).astype(np.int64)])


def _albedo(s: FloatArray, kinds: npt.NDArray[np.uint8], tone: Tone, theme: Theme) -> FloatArray:
    albedo = _coloured(s, tone)
    for kind, colour in ((NAN, tone.nan), (INF, tone.inf), (UNFINISHED, theme.hatch_line)):
        albedo[kinds == kind] = to_linear(rgb(colour))
    period = max(4, round(max(s.shape) / 75))
    stripes = np.add.outer(np.arange(s.shape[0]), np.arange(s.shape[1])) % period < period / 2
    albedo[(kinds == UNFINISHED) & stripes] = to_linear(rgb(theme.hatch_ground))
    return albedo


def _lit(
    z: FloatArray, albedo: FloatArray, half: tuple[float, float], sun: Sun, baked: int
) -> FloatArray:
    """Light falling on every vertex, linear; baked on a coarser grid, for it is smooth."""
    rows, columns = z.shape
    step = max(1, -(-max(rows, columns) // baked))
    high, wide = max(2, -(-rows // step)), max(2, -(-columns // step))
    across, up = np.meshgrid(np.linspace(0, 1, wide), np.linspace(0, 1, high))
    coarse = bilinear(z, across, up)
    tint = bilinear(albedo, across, up)
    cell = 2 * half[0] / (wide - 1), 2 * half[1] / (high - 1)
    light = irradiance(coarse, tint, cell, sun)
    u, v = np.linspace(0, wide - 1, columns), np.linspace(0, high - 1, rows)
    shares = [on_grid(spline_of(light[..., c]), v, u) for c in range(3)]
    return np.maximum(np.stack(shares, axis=-1), 0.0)


def _floor(
    z: FloatArray, half: tuple[float, float], sun: Sun
) -> tuple[npt.NDArray[np.float32], tuple[float, float]]:
    """Light on the floor around the model, and half its size."""
    apron = half[0] + APRON, half[1] + APRON
    wide, high = (2 * round(side / _FLOOR_STEP) + 1 for side in apron)
    x, y = np.meshgrid(
        np.linspace(-apron[0], apron[0], wide), np.linspace(-apron[1], apron[1], high)
    )
    within = (np.abs(x) <= half[0]) & (np.abs(y) <= half[1])
    ground = np.where(within, bilinear(z, (x / half[0] + 1) / 2, (y / half[1] + 1) / 2), -PLINTH)
    cell = 2 * apron[0] / (wide - 1), 2 * apron[1] / (high - 1)
    light = irradiance(ground, np.full((high, wide, 3), 0.5), cell, sun)
    # Beneath the walls' feet the floor's own light goes on, not that of the surface above.
    around = np.abs(x) <= half[0] + cell[0]
    around &= np.abs(y) <= half[1] + cell[1]
    light = np.stack([pull_push(light[..., c], ~around) for c in range(3)], axis=-1)
    return _blurred(light).astype(np.float32), apron


def _blurred(light: FloatArray) -> FloatArray:
    """Three box blurs: a cut edge throws steps where the horizon's own steps pass over it."""
    for axis in (0, 1) * 3:
        padded = np.moveaxis(light, axis, 0)
        padded = np.concatenate([padded[:1]] * (_BLUR + 1) + [padded] + [padded[-1:]] * _BLUR)
        total = np.cumsum(padded, axis=0)
        width = 2 * _BLUR + 1
        light = np.moveaxis((total[width:] - total[:-width]) / width, 0, axis)
    return light


def _walls(top: Patch, tone: Tone, theme: Theme, rise: float, sun: Sun) -> list[Patch]:
    lo, hi = tone.span
    walls = []
    points = top.points
    for edge, shown, normal in (
        (points[0], top.levels[0], (0.0, -1.0, 0.0)),
        (points[-1], top.levels[-1], (0.0, 1.0, 0.0)),
        (points[:, 0], top.levels[:, 0], (-1.0, 0.0, 0.0)),
        (points[:, -1], top.levels[:, -1], (1.0, 0.0, 0.0)),
    ):
        part = np.linspace(0, 1, _STRATA)[:, None]
        sheet = np.repeat(edge[None], _STRATA, axis=0).copy()
        sheet[..., 2] = -PLINTH + part * (edge[:, 2] + PLINTH)
        s = lo + sheet[..., 2] / rise * (hi - lo)
        below = np.clip(-sheet[..., 2] / PLINTH, 0, 1)[..., None]
        stone = to_linear(rgb(theme.pen_dark))
        strata = _coloured(s, tone)
        body = strata + (stone - strata) * (0.30 + 0.45 * below)
        body = np.where(np.isnan(shown)[None, :, None], to_linear(rgb(theme.nan)) * 0.5, body)
        facing = max(0.0, float(np.dot(normal, sun.direction))) / sun.direction[2]
        # Open to half the sky, and darkest where it meets the ground.
        depth = np.clip((sheet[..., 2] + PLINTH) / 0.25, 0, 1)[..., None]
        bounce = 0.26 * to_linear(rgb(theme.paper))
        light = sun.share * facing * sun.key + (1 - sun.share) * 0.62 * sun.sky + bounce
        colours = body * light * (0.66 + 0.34 * np.sqrt(depth))
        # No strata where the wall shows no value of its own.
        levels = np.where((sheet[..., 2] > 0) & ~np.isnan(shown), s, np.nan)
        walls.append(Patch(np.ascontiguousarray(sheet), colours.astype(np.float32), levels))
    return walls
