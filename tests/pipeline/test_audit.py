"""The sample of an audit, and what it proves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit import Certificate, bound, draw, least_sample, quantiles


def test_the_sample_is_seeded_and_drawn_without_replacement() -> None:
    left = [3, 0, 500, 20]
    ranks = draw(left, 100, (0, 6))
    assert sum(map(len, ranks)) == 100
    for own, count in zip(ranks, left, strict=True):
        assert len(set(own.tolist())) == len(own)
        assert ((own >= 0) & (own < count)).all()
    again, other = draw(left, 100, (0, 6)), draw(left, 100, (0, 13))
    assert all((a == b).all() for a, b in zip(ranks, again, strict=True))
    assert not np.array_equal(np.concatenate(ranks), np.concatenate(other))


def test_every_point_has_the_same_chance() -> None:
    left = [2, 6, 2]
    counts = np.zeros(10)
    for seed in range(4000):
        for start, own in zip((0, 2, 8), draw(left, 3, (seed,)), strict=True):
            counts[start + own] += 1
    # Each of ten points is drawn in three of ten samples: 1200 ± 29.
    assert np.abs(counts - 1200).max() < 5 * 29


def test_where_there_are_fewer_all_are_drawn() -> None:
    assert [own.tolist() for own in draw([2, 3], 3000, (0,))] == [[0, 1], [0, 1, 2]]


@pytest.mark.parametrize(
    ("beyond", "confidence", "least"),
    [
        (0.002, 0.95, 1497),
        (0.1, 0.95, 29),
        (0.5, 0.5, 1),
        (1e-4, 0.99, 46050),
        (5e-324, 0.9, 10**18),
    ],
)
def test_the_least_sample_that_can_pass(beyond: float, confidence: float, least: int) -> None:
    assert least_sample(beyond, confidence) == least
    if least < 10**18:
        assert bound(0, least, 10**9, confidence) <= beyond
    if 1 < least < 10**18:
        assert bound(0, least - 1, 10**9, confidence) > beyond


@pytest.mark.parametrize(("audited", "rule"), [(3000, 3.0), (300, 3.0)])
def test_none_beyond_is_the_rule_of_three(audited: int, rule: float) -> None:
    assert bound(0, audited, 10**6, 0.95) == pytest.approx(rule / audited, rel=0.01)
    assert bound(0, audited, 10**6, 0.95) == pytest.approx(1 - 0.05 ** (1 / audited), rel=1e-9)


@given(st.integers(1, 200), st.data(), st.sampled_from([0.8, 0.95, 0.999]))
def test_the_bound_is_where_so_few_become_that_rare(
    audited: int, data: st.DataObject, confidence: float
) -> None:
    beyond = data.draw(st.integers(0, audited - 1))
    share = bound(beyond, audited, 10**6, confidence)
    chance = sum(
        math.comb(audited, k) * share**k * (1 - share) ** (audited - k) for k in range(beyond + 1)
    )
    assert chance == pytest.approx(1 - confidence, rel=1e-6)
    assert share > beyond / audited


def test_the_bound_covers_at_its_confidence() -> None:
    """Of many audits of surfaces where one point in fifty is beyond, 95 % say so or more."""
    generator = np.random.default_rng(0)
    found = generator.binomial(200, 0.02, 4000)
    bounds = {int(k): bound(int(k), 200, 10**6, 0.95) for k in np.unique(found)}
    covered = np.mean([bounds[int(k)] >= 0.02 for k in found])
    assert covered >= 0.95 - 0.01


def test_an_audit_of_everything_is_the_truth() -> None:
    assert bound(3, 30, 30, 0.95) == 0.1
    assert bound(0, 0, 0, 0.95) == 0.0
    assert bound(5, 5, 9, 0.95) == 1.0


def test_quantiles_are_errors_that_occurred() -> None:
    errors = np.arange(1000.0)
    assert quantiles(errors) == {"0.5": 499, "0.9": 899, "0.99": 989, "0.999": 998, "1": 999}
    assert quantiles(np.array([0.0, np.inf]))["1"] == np.inf
    assert quantiles(np.empty(0)) == {}


def test_a_certificate_passes_by_its_bound_and_survives_json() -> None:
    made = Certificate(
        9000, 3000, 0, bound(0, 3000, 9000, 0.95), 0.001, 0.95, {"loss": 0.002}, {"loss": {}}
    )
    assert made.passed
    assert made.as_dict()["passed"]
    assert Certificate.from_dict(made.as_dict()) == made
    assert not Certificate(9000, 3000, 1, 0.0016, 0.001, 0.95, {}, {}).passed
