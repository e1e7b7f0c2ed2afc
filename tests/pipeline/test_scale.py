"""Colour ranges, and errors in units of a tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.refinement.scale import Range, Scale, scales
from renders.map.tone import fit_tone

LOSSES = np.random.default_rng(0).lognormal(0, 1, 5000).astype("f4")


@pytest.mark.parametrize("space", ["log", "linear"])
def test_the_range_is_that_of_the_tone(space: str) -> None:
    found = Range.of("loss", "train", space, np.append(LOSSES, [np.nan, np.inf]))  # type: ignore[arg-type]
    tone = fit_tone([LOSSES], how=space)  # type: ignore[arg-type]
    assert (found.low, found.high) == pytest.approx((tone.low, tone.high))
    assert found.width == pytest.approx(tone.span[1] - tone.span[0])
    np.testing.assert_allclose(found.to_space(LOSSES), tone.to_space(LOSSES))


def test_an_error_of_one_unit_is_the_tolerance() -> None:
    log = Range.of("loss", "train", "log", LOSSES)
    (scale,) = scales([log], 0.002, None, 0.02)
    off = np.array([2.0, 2.0 * np.exp(0.002 * log.width)])
    assert np.diff(scale.units(off)) == pytest.approx(1)
    assert scale.errors(np.array([2.0]), np.array([1.0])) == pytest.approx(
        off[1] - off[0], rel=1e-5
    )
    np.testing.assert_allclose(scale.values(scale.units(LOSSES)), LOSSES, rtol=1e-6)


def test_nats_are_absolute_and_error_has_its_own_tolerance() -> None:
    ranges = [Range.of(q, "train", "linear", LOSSES) for q in ("loss", "loss_stderr", "error")]
    found = scales(ranges, None, 0.01, 0.03)
    assert [scale.tolerance for scale in found] == [0.01, 0.01, 0.03]
    assert found[0].errors(np.array([5.0]), np.array([2.0])) == pytest.approx(0.02)


def test_what_is_not_finite_is_no_number_in_units() -> None:
    scale = Scale(Range.of("loss", "train", "log", LOSSES), 0.1)
    units = scale.units(np.array([np.nan, np.inf, -np.inf, 1.0, 0.0], "f4"))
    assert np.isnan(units).tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("values", [[0.7] * 9, [0.0] * 9, [np.nan] * 9])
def test_a_constant_or_nothing_has_a_scale_all_the_same(values: list[float]) -> None:
    # Of a log scale `Schedule.scales` asks only where all values are above zero.
    for space in ("linear", "clamped") if values[0] == 0 else ("linear", "log"):
        found = Range.of("loss", "train", space, np.array(values, "f4"))  # type: ignore[arg-type]
        (scale,) = scales([found], 0.002, None, 0.02)
        assert scale.tolerance > 0
        units = scale.units(np.array(values, "f4"))
        assert len(set(units[np.isfinite(units)])) <= 1


@pytest.mark.parametrize("space", ["linear", "log", "clamped"])
def test_errors_are_of_values_whatever_they_are_predicted_in(space: str) -> None:
    """Nothing is clamped: not below the range, not beyond it, and not at zero."""
    found = Range("loss", "train", space, 0.1, 10.1, 0.1)  # type: ignore[arg-type]
    (scale,) = scales([found], 0.002, None, 0.02)
    pairs = np.array([(-3.0, 0.2), (-3.0, -2.0), (0.0, 0.1), (0.01, 0.05), (200.0, 900.0)])
    off = scale.off(*pairs.T) * 0.002
    linear = np.abs(np.diff(pairs)[:, 0]) / 10
    ratio = np.log(5) / np.log(101), np.log(4.5) / np.log(101)
    expected = linear if space == "linear" else [*linear[:3], *ratio]
    np.testing.assert_allclose(off, expected)
    assert scale.off(np.array([1.0]), np.array([1.0])) == 0
    for one in ([np.nan, 1.0], [1.0, np.nan], [np.inf, np.inf]):
        assert np.isinf(scale.off(*np.array(one)[:, None]))
