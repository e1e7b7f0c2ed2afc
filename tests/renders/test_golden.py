"""Landscapes look as they did when our own kernels drew them, before Datashader did.

The pictures were made on 2026-11-28 by the code of commit ada4315, and reviewed by eye.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from renders.box import Box
from renders.map.tone import fit_tone
from renders.page.landscape import landscape_page
from renders.page.theme import theme_named
from renders.page.words import Style
from renders.picture import Picture, paint
from renders.source.provenance import Provenance
from renders.source.surface import Surface
from renders.web.levels import Look, level_picture
from tests.renders.sheets import inked
from tests.renders.surfaces import landscape, surface_of

GOLDEN = Path(__file__).parent / "golden"


def holed() -> Surface:
    """NaN, +inf and an unfinished corner."""
    values = landscape(24, 32)
    values[3:6, 4:9], values[12:15, 25:], values[20, 12] = np.nan, np.inf, np.nan
    finished = np.ones(values.shape, bool)
    finished[16:, :10] = False
    return surface_of(values, finished)


def bare(surface: Surface, theme: str = "light", light: bool = True) -> Picture:
    style = Style(
        theme_named(theme), "bare", light=light, curve=False, anchors=False, figures=False,
        scale_bar=False,
    )  # fmt: skip
    tone = fit_tone([surface.values[surface.finished]])
    page = landscape_page(surface, tone, Provenance(), style, 128)
    assert not inked(page.sheet)
    return page.picture


def zoomed() -> tuple[Picture, Box]:
    surface = holed()
    tone = fit_tone([surface.values[surface.finished]])
    picture = level_picture(surface, tone, Look(theme_named("dark")), 16_384, 12_288)
    return picture, Box(3_500, 4_150, 128, 96)


PICTURES: dict[str, Callable[[], tuple[Picture, Box | None]]] = {
    "lit": lambda: (bare(surface_of(landscape(24, 32))), None),
    "holed": lambda: (bare(holed(), "dark", light=False), None),
    "reduced": lambda: (bare(surface_of(landscape(450, 603))), None),
    "zoomed": zoomed,
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_landscape_is_as_it_was(name: str) -> None:
    picture, box = PICTURES[name]()
    expected = np.asarray(Image.open(GOLDEN / f"{name}.png").convert("RGB")).astype(float)
    off = paint(picture, box or picture.box) - expected
    assert np.sqrt((off**2).mean()) < 0.5
    assert np.abs(off).max() <= 4
