"""A sheet as a layer of a picture: matplotlib draws whatever box of it is asked for.

A page of gigapixels has no room in memory, so none is ever drawn whole. A box of it equals the same
box of the whole, byte for byte, for two reasons: paths are not simplified, and more than the box is
drawn and cut off, because Agg ends lines where its canvas ends. See docs/decisions/024-sheets.md.
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
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.text import Text

from renders.box import Box
from renders.page.sheet import Sheet, house

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
            renderer = _renderer(1, 1, self.sheet.dpi)
            return [(a, self._reach(a, renderer)) for a in _drawn(self.sheet.figure)]

    def _reach(self, artist: Artist, renderer: Any) -> Box:
        found = artist.get_tightbbox(renderer)
        if found is None or not np.isfinite(found.extents).all():
            return Box(0, 0, 0, 0)
        x0, y0, x1, y1 = found.extents
        left, top = math.floor(x0), math.floor(self.sheet.height - y1)
        box = Box(left, top, math.ceil(x1) - left, math.ceil(self.sheet.height - y0) - top)
        return box.grown(self._rim(artist))

    def _rim(self, artist: Artist) -> int:
        """How far ink may lie from an artist's extent, pixels: half its widest line, and more."""
        lines: list[float] = [1.0]
        if not isinstance(artist, Text):
            width: Any = getattr(artist, "get_linewidth", lambda: 1.0)()
            lines.append(float(np.max(width)))
        effects: Any = artist.get_path_effects()
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
        here = [artist for artist, at in self._pieces if not at.meet(box).empty]
        if not here:
            return None
        more = self._beyond
        wide = box.grown(more)
        with house(self.sheet.theme), self._moved(wide):
            renderer = _renderer(wide.width, wide.height, self.sheet.dpi)
            for artist in here:
                artist.draw(renderer)
            whole = np.asarray(renderer.buffer_rgba())
        return whole[more : more + box.height, more : more + box.width]

    @contextlib.contextmanager
    def _moved(self, box: Box) -> Iterator[None]:
        """The figure moved so that its canvas begins where `box` does."""
        at, sheet = self.sheet.figure.bbox_inches, self.sheet
        before = at.get_points().copy()
        left, below = -box.x, box.bottom - sheet.height
        corners = [[left, below], [left + sheet.width, below + sheet.height]]
        at.set_points(np.array(corners) / sheet.dpi)
        try:
            yield
        finally:
            at.set_points(before)

    def kept(self) -> Kept:
        """The same, drawn once: for small pages that are painted again and again."""
        cells = [(cell, self.ink(cell)) for cell in self.covers.tiles(_CELL, _CELL)]
        return Kept(
            self.covers,
            tuple((c, ink.copy()) for c, ink in cells if ink is not None and ink[..., 3].any()),
        )


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


def _drawn(figure: Any) -> list[Artist]:
    """A figure's artists as far as they are seen, the lowest first; axes in their parts."""
    found: list[Artist] = []
    for artist in sorted(figure.get_children(), key=Artist.get_zorder):
        if artist is figure.patch or not artist.get_visible():
            continue
        if not isinstance(artist, Axes):
            found.append(artist)
            continue
        hidden = (artist.patch, *(() if artist.axison else (artist.xaxis, artist.yaxis)))
        parts = [a for a in artist.get_children() if a.get_visible() and a not in hidden]
        found += sorted(parts, key=Artist.get_zorder)
    return found
