"""Round numbers are round, inside, apart and written as people write them."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from renders.ticks import axis_ticks, label, linear_ticks, round_step, short, spread_ticks

ends = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6))


@given(ends, st.integers(3, 20))
@example((2048.0, 0.0001), 5)
def test_linear_ticks_are_multiples_of_one_round_step(pair: tuple[float, float], n: int) -> None:
    low, high = pair[0], sum(pair)
    span = high - low  # not pair[1]: the sum rounds, and the step follows what is left
    ticks = linear_ticks(low, high, n)
    step = round_step(span, n)
    slack = 1e-9 * max(abs(low), span) + 1e-6 * step
    assert all(low - slack <= t <= high + slack for t in ticks)
    assert all(abs(t / step - round(t / step)) < 1e-3 for t in ticks)
    assert len(ticks) <= n + 2
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-6


@given(ends)
@example((-0.499, 0.857))
def test_an_axis_has_two_figures(pair: tuple[float, float]) -> None:
    low, high = pair[0], sum(pair)
    end = low + 0.9 * (high - low)
    assert sum(tick < end for tick in axis_ticks(low, high, 3, end)) >= 2


def test_an_axis_with_figures_enough_has_no_more_of_them() -> None:
    assert len(linear_ticks(-0.499, 0.358, 3)) == 1
    assert axis_ticks(-1.5, 1.5, 3, 9) == linear_ticks(-1.5, 1.5, 3) == [-1, 0, 1]


@given(st.floats(1e-4, 1e2), st.floats(1.5, 1e5), st.floats(0.02, 0.4))
def test_spread_ticks_ascend_inside_and_apart(low: float, ratio: float, gap: float) -> None:
    high = low * ratio

    def place(value: float) -> float:
        return math.log(value / low) / math.log(ratio)

    ticks = spread_ticks(low, high, place, gap)
    assert ticks == sorted(ticks)
    assert all(low * (1 - 1e-9) <= t <= high * (1 + 1e-9) for t in ticks)
    places = [place(t) for t in ticks]
    assert all(b - a >= gap - 1e-12 for a, b in itertools.pairwise(places))


def test_a_loss_scale_gets_the_ticks_one_would_draw() -> None:
    ticks = spread_ticks(0.08, 30, lambda v: math.log(v / 0.08) / math.log(375), 0.09)
    assert ticks == [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]


def test_measured_values_are_cut_to_three_digits() -> None:
    assert [short(v) for v in (0.71702, 4987.3, 12.345)] == ["0.717", "4,990", "12.3"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.05, "0.05"),
        (2.5, "2.5"),
        (1000, "1,000"),
        (-15, "−15"),
        (3e6, "3×10⁶"),
        (5e-6, "5e−6"),
        (-0.0, "0"),
    ],
)
def test_labels_read_as_people_write(value: float, text: str) -> None:
    assert label(value) == text
