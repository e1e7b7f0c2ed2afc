"""Enlarging follows the spline; shrinking averages and does not alias."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from renders.map.field import field_of, reduce
from renders.map.holes import FINITE, NAN
from renders.map.tone import fit_tone
from tests.renders.surfaces import landscape, surface_of


@pytest.mark.parametrize("size", [(400, 300), (37, 51), (8, 6), (5, 4)])
def test_a_plane_is_the_same_plane_at_any_size(size: tuple[int, int]) -> None:
    v, u = np.mgrid[:30, :40].astype(float)
    surface = surface_of(5 + 0.2 * u - 0.1 * v)
    tone = fit_tone([surface.values], how="linear", clip=(0, 100))
    field = field_of(surface, tone, *size)
    # Blocks at the end of a shrunk grid are smaller, so stay clear of the last ones.
    x, y = np.meshgrid(np.linspace(0.2, 0.8, 7) * size[0], np.linspace(0.2, 0.8, 5) * size[1])
    value, _, _ = field.at(x, y)
    expected = 5 + 0.2 * 39 * x / size[0] - 0.1 * 29 * (1 - y / size[1])
    slack = 1e-6 if min(size) > 50 else 0.35
    np.testing.assert_allclose(value, expected, atol=slack)


def test_reducing_is_the_mean_of_whole_blocks_without_the_holes() -> None:
    rng = np.random.default_rng(0)
    field = rng.normal(size=(11, 14))
    kinds = np.where(rng.random((11, 14)) < 0.2, NAN, FINITE).astype(np.uint8)
    kinds[0:3, 0:4] = NAN
    mean, majority = reduce(field, kinds, 4, 3)
    assert mean.shape == majority.shape == (4, 4)
    for j in range(4):
        for i in range(4):
            block = np.s_[3 * j : 3 * j + 3, 4 * i : 4 * i + 4]
            known = kinds[block] == FINITE
            if known.any():
                assert mean[j, i] == pytest.approx(field[block][known].mean(), abs=1e-12)
    assert majority[0, 0] == NAN
    assert majority[2, 2] == FINITE


def test_shrinking_a_fine_checkerboard_gives_its_mean() -> None:
    v, u = np.mgrid[:240, :320]
    surface = surface_of(2.0 + ((u + v) % 2))
    tone = fit_tone([surface.values], how="linear", clip=(0, 100))
    field = field_of(surface, tone, 80, 60)
    x, y = np.meshgrid(np.arange(80) + 0.5, np.arange(60) + 0.5)
    np.testing.assert_allclose(field.at(x, y)[0], 2.5, atol=1e-9)


def test_a_logarithmic_tone_never_makes_a_loss_negative() -> None:
    values = np.full((12, 12), 0.001)
    values[:, 6:] = 1e6
    surface = surface_of(values)
    tone = fit_tone([surface.values], how="log", clip=(0, 100))
    field = field_of(surface, tone, 240, 240)
    x, y = np.meshgrid(np.arange(240) + 0.5, np.arange(240) + 0.5)
    assert (np.exp(field.at(x, y)[0]) > 0).all()


def test_resampling_goes_through_the_grid_points() -> None:
    values = landscape(12, 16)
    surface = surface_of(values)
    tone = fit_tone([values], how="log", clip=(0, 100))
    field = field_of(surface, tone, 320, 240)
    v, u = np.mgrid[:12, :16]
    seen = field.at(u / 15 * 320, 240 - v / 11 * 240)[0]
    with warnings.catch_warnings():
        np.testing.assert_allclose(np.exp(seen), values, rtol=1e-6)
