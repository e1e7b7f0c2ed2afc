"""What a picture must say of itself so that nobody believes more of it than is so."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pipeline import format
from pipeline.geometry.grid import Tile
from pipeline.refinement.lattice import is_coarse
from renders.source.missing import cure, lost

if TYPE_CHECKING:
    from renders.map.tone import Tone
    from renders.source.surface import Surface


def coarse(height: int, width: int) -> str:
    """For the small print of a grid of so few points that its shape is the interpolation's."""
    if not is_coarse(height, width):
        return ""
    points = f"{width:,} × {height:,}" if min(height, width) > 1 else f"{max(height, width):,}"
    return f"{points} points: smooth between them by interpolation alone"


def clipped(tone: Tone) -> str:
    """For the small print where values have no logarithm that a logarithmic tone shows."""
    if not tone.clipped:
        return ""
    count = format.plural(tone.clipped, "value")
    return f"{count} of 0 or less drawn as the lowest"


def unconverged(surface: Surface, tolerance: float | None) -> str:
    """For the small print where eigenvalues are not as exact as asked."""
    count = 0 if surface.unsure is None else int(surface.unsure.sum())
    if not count or tolerance is None:
        return ""
    return (
        f"{format.plural(count, 'value')} of {surface.values.size:,} not converged to "
        f"{tolerance:g} (hatched)"
    )


def remarks(url: str, tones: Collection[Tone], absent: Collection[Tile]) -> tuple[str, ...]:
    """What whoever makes a picture should hear besides.

    Args:
        url: of the store.
        tones: of what is shown.
        absent: finished tiles of it whose chunks are gone.
    """
    found = []
    for tone in tones:
        if tone.clipped:
            are = f"{format.plural(tone.clipped, 'value')} {'is' if tone.clipped == 1 else 'are'}"
            found.append(
                f"{are} 0 or less and {'has' if tone.clipped == 1 else 'have'} no logarithm: drawn "
                "as the lowest. A linear tone shows them: --tone linear"
            )
    if absent:
        found.append(f"{lost(absent)}: drawn as not computed. {cure(url)}")
    return tuple(found)
