"""Holes are filled smoothly and never change what is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from renders.box import Box
from renders.map.canvas import Map
from renders.map.field import field_of
from renders.map.holes import FINITE, INF, NAN, UNFINISHED, Hatch, cell_kinds, fill
from renders.map.tone import fit_tone
from renders.page import caveats
from renders.page.lettering import swatches_of
from renders.page.theme import theme_named
from renders.source.surface import Surface
from tests.renders.surfaces import landscape, surface_of


def test_kinds_are_told_apart() -> None:
    values = np.array([[1, np.nan, np.inf, -np.inf, np.nan]], dtype=np.float32)
    finished = np.array([[True, True, True, True, False]])
    assert cell_kinds(values, finished).tolist() == [[FINITE, NAN, INF, NAN, UNFINISHED]]


def test_known_cells_keep_their_values_and_all_becomes_finite() -> None:
    rng = np.random.default_rng(0)
    field, known = rng.normal(size=(23, 37)), rng.random((23, 37)) > 0.6
    field[~known] = np.nan
    filled = fill(field, known)
    assert np.isfinite(filled).all()
    assert (filled[known] == field[known]).all()


def test_a_plane_continues_across_a_hole() -> None:
    v, u = np.mgrid[:30, :40].astype(float)
    plane = 3 + 0.2 * u - 0.1 * v
    known = np.ones_like(plane, dtype=bool)
    known[10:20, 12:24] = False
    filled = fill(np.where(known, plane, np.nan), known)
    rim = ~known.copy()
    rim[13:17, 15:21] = False
    np.testing.assert_allclose(filled[rim], plane[rim], atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3)])
def test_one_known_cell_is_enough_and_none_gives_zero(shape: tuple[int, int]) -> None:
    field, known = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    assert (fill(field, known) == 0).all()
    field[0, 0], known[0, 0] = 4.0, True
    assert (fill(field, known) == 4).all()


def drawn(surface: Surface, box: Box) -> npt.NDArray[np.uint8]:
    """The part `box` of a map of 120 × 90 pixels."""
    tone = fit_tone([surface.values])
    field = field_of(surface, tone, 120, 90)
    shown = Map(Box(0, 0, 120, 90), field, tone, Hatch("#eeeeee", "#cccccc", 9.0, 1.2))
    out = np.zeros((box.height, box.width, 3), dtype=np.uint8)
    shown.draw(out, box)
    return out


def test_values_that_are_not_exact_are_hatched_and_still_seen() -> None:
    sure = surface_of(landscape(13, 17))
    unsure = np.zeros((13, 17), dtype=bool)
    unsure[4:9, 6:12] = True
    whole = Box(0, 0, 120, 90)
    before, after = drawn(sure, whole), drawn(replace(sure, unsure=unsure), whole)
    changed = (before != after).any(-1)
    inside = np.zeros(changed.shape, dtype=bool)
    inside[25:66, 40:88] = True  # half a cell more on each side
    assert not changed[~inside].any()
    assert 0.15 < changed[36:54, 48:76].mean() < 0.6
    part = Box(31, 20, 70, 55)
    np.testing.assert_array_equal(
        drawn(replace(sure, unsure=unsure), part), after[part.rows(whole), part.columns(whole)]
    )


def test_a_picture_says_how_many_values_are_not_exact() -> None:
    unsure = np.zeros((13, 17), dtype=bool)
    unsure[0, :3] = True
    surface = replace(surface_of(landscape(13, 17)), unsure=unsure)
    told = caveats.unconverged(surface, 1e-3)
    assert told == "3 values of 221 not converged to 0.001 (hatched)"
    assert caveats.unconverged(surface_of(landscape(3, 3)), 1e-3) == ""
    tone = fit_tone([surface.values])
    words = [meaning for _, meaning in swatches_of(surface, tone, theme_named("light"))]
    assert words == ["not converged"]
