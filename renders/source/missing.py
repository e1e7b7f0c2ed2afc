"""Finished tiles whose chunks are gone: which, and what helps."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.geometry.grid import Tile

_NAMED = 5


def lost(absent: Collection[Tile]) -> str:
    """Which finished tiles have lost their chunks."""
    named = ", ".join(str(tile) for tile in sorted(absent)[:_NAMED])
    more = f" and {len(absent) - _NAMED:,} more" if len(absent) > _NAMED else ""
    if len(absent) == 1:
        return f"a chunk of finished tile {named} is missing"
    return f"chunks of {len(absent):,} finished tiles are missing ({named}{more})"


def cure(url: str) -> str:
    """Of missing chunks."""
    return f"Put them back to pending with lossatlas verify {url}, then lossatlas resume {url}"
