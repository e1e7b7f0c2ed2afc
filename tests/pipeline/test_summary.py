"""What is said of a refined render, word by word."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.audit import Certificate, quantiles
from pipeline.geometry.grid import Grid
from pipeline.refine_spec import RefineSpec
from pipeline.refinement.schedule import Pass, Schedule
from pipeline.refinement.summary import Summary, at_most, percent, sentences


def certificate(beyond: int = 0, bound: float = 0.000998, error: bool = False) -> Certificate:
    off = quantiles(np.array([0.0001, 0.0002, 0.00112]))
    tolerance = {"loss": 0.002} | ({"error": 0.02} if error else {})
    found = {name: {"train": off} for name in tolerance}
    return Certificate(60_000, 3000, beyond, bound, 0.001, 0.95, tolerance, found)


def account(found: Certificate | None, final: bool = True, **asked: float) -> Summary:
    return Summary(66_049, 4029, RefineSpec(**asked), found, final, "nats per example")


def test_a_render_whose_audit_passed() -> None:
    made = account(certificate())
    assert made.rows() == [
        ("points", "4,029 of 66,049 evaluated, 6.1 %; the rest is predicted"),
        (
            "audit",
            "passed; at 95 % confidence at most 0.10 % of the predicted points are off by more "
            "than 0.2 % of the colour range; worst of 3,000 audited 0.12 %",
        ),
    ]
    assert made.small_print() == (
        "6.1 % of points evaluated, the rest predicted: 99.9 % of them within 0.2 % of the colour "
        "range (audited, 95 % confidence)"
    )


def test_a_tolerance_in_nats_and_an_error_rate() -> None:
    made = account(certificate(error=True), nats=0.01)
    _, (_, said) = made.rows()
    assert "more than 0.01 nats (error: 0.02); worst of 3,000 audited 0.0011 nats" in said
    assert said.endswith("(error: 0.0011)")
    assert "of them within 0.01 nats (error: 0.02) (audited" in made.small_print()
    only = Certificate(9, 3, 0, 0.01, 0.1, 0.9, {"error": 0.02}, {"error": {"a": {"1": 0.5}}})
    assert "off by more than 0.02; worst of 3 audited 0.5" in account(only).rows()[1][1]


def test_a_loss_without_a_unit_has_no_nats() -> None:
    for unit, said in (("", "0.01;"), ("mm", "0.01 mm;")):
        made = replace(account(certificate(), nats=0.01), unit=unit)
        (_, (_, told)) = made.rows()
        assert f"off by more than {said}" in told
        assert told.endswith(f"audited {f'0.0011 {unit}'.rstrip()}")
        assert "nats" not in made.small_print()


def test_a_failed_audit_says_what_follows() -> None:
    made = account(certificate(beyond=9, bound=0.0053), final=False)
    (_, points), (_, audit) = made.rows()
    assert points == "4,029 of 66,049 evaluated, 6.1 % so far"
    assert audit.startswith("failed; at 95 % confidence at most 0.53 % of the predicted points ")
    assert audit.endswith("0.12 %. At most 0.1 % was asked for: refined further")
    assert made.small_print().startswith("preview: 6.1 % of points evaluated so far")


def test_nothing_is_said_that_was_not_measured() -> None:
    assert account(None).small_print().endswith("the rest predicted and not audited")
    full = Summary(100, 100, None, None, True, "")
    assert full.rows() == [("points", "all 100 evaluated, none predicted")]
    assert full.small_print() == ""


def test_an_audit_counts_for_what_it_was_made_for() -> None:
    grid, asked = Grid(100, 100, 50), RefineSpec(tolerance=0.01)
    schedule = Schedule.begin(grid, asked).after_audit(certificate(), 0)
    assert Summary.of(schedule, 9, 3, True, "").certificate == certificate()
    tighter = schedule.with_request(RefineSpec(tolerance=0.001))
    assert tighter.passes[-1] == Pass("audit", 1)
    assert Summary.of(tighter, 9, 3, False, "").certificate is None
    done = tighter.after_audit(certificate(bound=0.0005), 0)
    assert Summary.of(done, 9, 3, True, "").certificate == certificate(bound=0.0005)
    assert [told.split("than ")[1][:5] for told in sentences(done, "")] == ["1 % o", "0.1 %"]
    # Something tighter was asked for before the first audit was through.
    early = Schedule.begin(grid, asked).with_request(RefineSpec(tolerance=0.001))
    done = early.after_audit(certificate(), 0)
    assert Summary.of(done, 9, 3, True, "").certificate == certificate()
    assert [told.split("than ")[1][:5] for told in sentences(done, "")] == ["0.1 %"]
    assert Summary.of(None, 9, 0, False, "").as_dict()["asked"] is None


@pytest.mark.parametrize(
    ("share", "nearest", "above"),
    [
        (0.0, "0 %", "0 %"),
        (0.061, "6.1 %", "6.1 %"),
        (0.00099807, "0.10 %", "0.10 %"),
        (0.00111, "0.11 %", "0.12 %"),
        (0.0999, "10 %", "10 %"),
        (0.123, "12 %", "13 %"),
        (0.9999, "99.9 %", "100 %"),
        (1.0, "100 %", "100 %"),
    ],
)
def test_shares_have_two_digits(share: float, nearest: str, above: str) -> None:
    assert (percent(share), at_most(share)) == (nearest, above)
    assert at_most(math.inf) == "infinitely far"
