"""Spreading: in order, bounded, and done with when nobody asks for more."""

from __future__ import annotations

import time

import pytest

from renders.spread import over_threads


def test_results_come_in_order_whoever_is_slow() -> None:
    def slow_at_first(k: int) -> int:
        time.sleep(0.02 if k == 0 else 0)
        return k

    assert list(over_threads(4)(slow_at_first, range(50))) == list(range(50))


def test_few_results_wait() -> None:
    """What keeps the memory of a film of any length that of a few pictures."""
    made: list[int] = []
    for taken, _ in enumerate(over_threads(3)(lambda k: made.append(k), range(100))):
        time.sleep(0.001)
        assert len(made) <= taken + 2 * 3


def test_nothing_more_is_done_once_nobody_asks() -> None:
    made: list[int] = []
    results = over_threads(1)(lambda k: made.append(k), range(1000))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(made) <= 2


def test_what_a_worker_raises_is_raised_here() -> None:
    def fail(k: int) -> int:
        raise ValueError(f"number {k}")

    with pytest.raises(ValueError, match="number 0"):
        list(over_threads(2)(fail, range(3)))
