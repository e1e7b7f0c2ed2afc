"""A sheet as a layer of a picture: matplotlib draws the part of it that is asked for.

A page of gigapixels does not fit into memory, so it is never drawn whole. It is drawn in cells that
begin at the same pixels whatever box is asked for, so any boxes put together give the same bytes.
See docs/decisions/024-sheets.md.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from renders.box import Box
from renders.page.sheet import Sheet, house, know_fonts

_LEAN = 0.7
"""How far letters may lean out of their widths on both sides together, in ems."""
_NUDGE = 1 / 512 / math.sqrt(2)
_WIDE, _HIGH = 1_024, 256
"""Pixels of a cell: as large as the boxes that files are painted in."""
_CELL = 128
"""Pixels along the side of what is kept of a page that is drawn once."""


@dataclass(frozen=True, eq=False)
class Printed:
    """Everything on a sheet but its paper: a layer of a picture."""

    sheet: Sheet

    @property
    def covers(self) -> Box:
        return Box(0, 0, self.sheet.width, self.sheet.height)

    @cached_property
    def _pieces(self) -> list[tuple[Artist, Box]]:
        """What is drawn, the lowest first, and where it may leave ink."""
        with house(self.sheet.theme):
            know_fonts(self.sheet.figure)
            renderer = _renderer(1, 1, self.sheet.dpi)
            return [(a, self._reach(a, renderer)) for a in _parts(self.sheet.figure)]

    def _reach(self, artist: Artist, renderer: Any) -> Box:
        found = [artist.get_tightbbox(renderer)]
        if isinstance(artist, Axis):  # its own extent is that of its figures alone
            for tick in artist.get_major_ticks():
                lines = (tick.tick1line, tick.tick2line, tick.gridline)
                found += [a.get_window_extent(renderer) for a in lines if a.get_visible()]
        known = [b for b in found if b is not None and np.isfinite(b.extents).all()]
        if not known:
            return Box(0, 0, 0, 0)
        x0, y0, x1, y1 = Bbox.union(known).extents
        left, top = math.floor(x0), math.floor(self.sheet.height - y1)
        box = Box(left, top, math.ceil(x1) - left, math.ceil(self.sheet.height - y0) - top)
        return box.grown(self._rim(artist))

    def _rim(self, artist: Artist) -> int:
        """How far ink may lie from an artist's extent, pixels: half its widest line, and more."""
        lines: list[float] = [1.0]
        if isinstance(artist, Text):  # slanted letters lean out of their widths
            lines.append(_LEAN * float(artist.get_fontsize()))
        else:
            width: Any = getattr(artist, "get_linewidth", lambda: 1.0)()
            lines.append(float(np.max(width)))
        effects: Any = artist.get_path_effects() or ()  # a collection without any has None
        lines += [effect._gc.get("linewidth", 1.0) for effect in effects if hasattr(effect, "_gc")]
        return math.ceil(max(lines) * self.sheet.dpi / 72 / 2) + 2

    @cached_property
    def _beyond(self) -> int:
        """How much more than a box is drawn on each side."""
        return max((self._rim(artist) for artist, _ in self._pieces), default=2)

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None:
        """Blend what lies inside `box` over `out`, uint8 (height, width, 3)."""
        ink = self.ink(box)
        if ink is not None:
            blend(out, ink)

    def ink(self, box: Box) -> npt.NDArray[np.uint8] | None:
        """What is drawn inside `box`, uint8 (height, width, 4), straight alpha; None if nothing."""
        found = None
        left, top = box.x - box.x % _WIDE, box.y - box.y % _HIGH
        for cell in Box(left, top, box.right - left, box.bottom - top).tiles(_WIDE, _HIGH):
            cell = Box(cell.x, cell.y, _WIDE, _HIGH)
            part = cell.meet(box)
            if all(at.meet(part).empty for _, at in self._pieces):
                continue
            if found is None:
                found = np.zeros((box.height, box.width, 4), dtype=np.uint8)
            found[part.rows(box), part.columns(box)] = self._drawn(cell)[
                part.rows(cell), part.columns(cell)
            ]
        return found

    def _drawn(self, box: Box) -> npt.NDArray[np.uint8]:
        """The pieces that reach into `box`, drawn on a canvas a little larger than it."""
        more = self._beyond  # Agg ends lines where its canvas ends
        wide = box.grown(more)
        with house(self.sheet.theme), self._moved(wide):
            know_fonts(self.sheet.figure)
            renderer = _renderer(wide.width, wide.height, self.sheet.dpi)
            for artist, at in self._pieces:
                if not at.meet(box).empty:
                    artist.draw(renderer)
            whole = np.asarray(renderer.buffer_rgba())
        return whole[more : more + box.height, more : more + box.width]

    @contextlib.contextmanager
    def _moved(self, box: Box) -> Iterator[None]:
        """The figure moved so that its canvas begins where `box` does."""
        at, sheet = self.sheet.figure.bbox_inches, self.sheet
        before = at.get_points().copy()
        # By a little more than whole pixels: what lies at half a pixel is rounded the same way
        # wherever the canvas begins.
        left, below = _NUDGE - box.x, _NUDGE + box.bottom - sheet.height
        corners = [[left, below], [left + sheet.width, below + sheet.height]]
        at.set_points(np.array(corners) / sheet.dpi)
        try:
            yield
        finally:
            at.set_points(before)

    def whole(self) -> npt.NDArray[np.uint8]:
        """All of it, uint8 (height, width, 4): for pages that fit into memory."""
        return self._drawn(self.covers)

    def kept(self) -> Kept:
        """The same, drawn once and whole: for pages that fit into memory, dashed lines included."""
        whole = self.whole()
        cells = self.covers.tiles(_CELL, _CELL)
        inked = ((c, whole[c.rows(self.covers), c.columns(self.covers)]) for c in cells)
        return Kept(self.covers, tuple((c, ink.copy()) for c, ink in inked if ink[..., 3].any()))


@dataclass(frozen=True, eq=False)
class Kept:
    """Ink that is drawn already, uint8 (height, width, 4) a cell: a layer of a picture."""

    covers: Box
    cells: tuple[tuple[Box, npt.NDArray[np.uint8]], ...]

    def draw(self, out: npt.NDArray[np.uint8], box: Box) -> None:
        """Blend what lies inside `box` over `out`, uint8 (height, width, 3)."""
        for cell, ink in self.cells:
            part = cell.meet(box)
            if not part.empty:
                blend(
                    out[part.rows(box), part.columns(box)], ink[part.rows(cell), part.columns(cell)]
                )


def over(under: npt.NDArray[np.uint8], ink: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """`ink` over `under`, both uint8 (height, width, 4) with straight alpha."""
    top, below = (each.astype(np.float32) / np.float32(255) for each in (ink, under))
    alpha = top[..., 3:] + below[..., 3:] * (1 - top[..., 3:])
    colour = top[..., :3] * top[..., 3:] + below[..., :3] * below[..., 3:] * (1 - top[..., 3:])
    colour = np.where(alpha > 0, colour / np.maximum(alpha, np.float32(1e-6)), below[..., :3])
    whole = np.concatenate([colour, alpha], axis=-1)
    return np.asarray(np.rint(255 * whole), dtype=np.uint8)


def blend(out: npt.NDArray[np.uint8], ink: npt.NDArray[np.uint8]) -> None:
    """Lay ink, uint8 (height, width, 4) with straight alpha, over `out`, uint8 (…, 3)."""
    rows = np.flatnonzero(ink[..., 3].any(axis=1))
    if not len(rows):
        return
    part = slice(rows[0], rows[-1] + 1)
    cover = ink[part, :, 3:].astype(np.float32) / np.float32(255)
    under = out[part].astype(np.float32)
    under += (ink[part, :, :3] - under) * cover
    out[part] = np.rint(under)


_renderer: Any = RendererAgg  # its types are not declared


def _parts(figure: Any) -> list[Artist]:
    """A figure's artists as far as they are seen, the lowest first; axes in their parts."""
    found: list[Artist] = []
    for artist in sorted(figure.get_children(), key=Artist.get_zorder):
        if artist is figure.patch or not artist.get_visible():
            continue
        if not isinstance(artist, Axes):
            found.append(artist)
            continue
        hidden: list[Artist] = [artist.patch]
        hidden += () if artist.axison else (artist.xaxis, artist.yaxis)
        hidden += () if artist.axison and artist.get_frame_on() else artist.spines.values()
        parts = [a for a in artist.get_children() if a.get_visible() and a not in hidden]
        found += sorted(parts, key=Artist.get_zorder)
    return found
