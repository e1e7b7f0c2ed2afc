"""What is decided of a refinement, and how it is kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.audit import Certificate
from pipeline.geometry.grid import Extent, Grid
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.refine_spec import RefineSpec, stored_refine
from pipeline.refinement.scale import Range
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.summary import Summary
from pipeline.store.store import Store

GRID = Grid(width=70, height=66, tile=16)
ASKED = RefineSpec(tolerance=0.01)
RANGES = (Range("loss", "train", "log", 0.1, 1 / 3, 0.1),)


def certificate(beyond: int, bound: float) -> Certificate:
    quantiles = {"loss": {"train": {"0.5": 0.1, "1": float("inf")}}}
    return Certificate(4000, 3000, beyond, bound, 0.001, 0.95, {"loss": 0.01}, quantiles)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    frame = FrameFacts(Extent(-1, 1, -1, 1), (Anchor("θ", 0, 0, 0),), None)
    return Store.create(str(tmp_path / "a.zarr"), GRID, ["train"], ["loss"], [frame], {}, True)


def notes(store: Store) -> tuple[Path, Path]:
    folder = Path(store.url, ".lossatlas")
    return folder / "refine.json", folder / "refine" / "copy.json"


def kinds(schedule: Schedule, since: int = 0) -> list[tuple[str, int, int, float]]:
    return [(p.kind, p.level, p.base, p.strict) for p in schedule.passes[since:]]


def test_it_begins_with_the_coarsest_lattice_and_ends_with_an_audit() -> None:
    first, *levels, last = kinds(Schedule.begin(GRID, ASKED))
    assert (first, last) == (("lattice", 0, 0, 1.0), ("audit", 0, 0, 1.0))
    assert {each[0] for each in levels} == {"refine"}
    assert [each[1] for each in levels] == sorted(each[1] for each in levels)
    assert {each[1] for each in levels} == {1, 2}
    assert Schedule.begin(GRID, ASKED).step == 4


def test_its_lattice_is_no_wider_than_steps_can_look() -> None:
    assert Schedule.begin(Grid(20_000, 20_000, 64), ASKED).step == 64


def test_what_an_audit_found_decides_what_follows() -> None:
    schedule = Schedule.begin(GRID, ASKED)
    since = schedule.last + 1
    assert kinds(schedule.after_audit(certificate(0, 0.0009), 0), since) == [("compose", 0, 0, 1.0)]
    # A few that are far off: predictions are trusted less.
    *levels, audit = kinds(schedule.after_audit(certificate(3, 0.002), 1), since)
    assert {(kind, base, strict) for kind, _, base, strict in levels} == {("refine", 0, 2.0)}
    assert audit[0] == "audit"
    # Many: something lies between the points of the lattice.
    finer = schedule.after_audit(certificate(900, 0.4), 600)
    assert {each[2:] for each in kinds(finer, since)[:-1]} == {(1, 1.0)}
    last = finer.after_audit(certificate(900, 0.4), 600)
    assert {each[1:] for each in kinds(last, finer.last + 1)[:-1]} == {(2, 2, 1.0)}


@pytest.mark.parametrize(
    ("changes", "has_it"),
    [
        ({}, True),
        ({"tolerance": 0.02}, True),
        ({"tolerance": 0.009}, False),
        ({"tolerance": None, "nats": 0.5}, False),
        ({"scale": "linear"}, False),
        ({"error": 0.01}, False),
        ({"audit": 2000}, True),
        ({"audit": 10_000}, False),
        ({"beyond": 0.001}, False),
        ({"confidence": 0.99}, False),
        ({"confidence": 0.9, "seed": 3}, True),
    ],
)
def test_whether_something_tighter_is_asked_for(changes: dict[str, object], has_it: bool) -> None:
    schedule = Schedule.begin(GRID, ASKED)
    asked = RefineSpec.model_validate(ASKED.model_dump() | changes)
    assert schedule.satisfies(asked) == has_it
    if not has_it:
        again = schedule.with_request(asked)
        assert again.satisfies(asked)
        assert again.passes[: len(schedule.passes)] == schedule.passes
        assert {p.asked for p in again.passes[len(schedule.passes) :]} == {1}


def test_everything_satisfies_whatever_is_asked_for() -> None:
    schedule = Schedule.begin(GRID, ASKED)
    assert not schedule.satisfies(None)
    everything = schedule.with_request(None)
    assert kinds(everything, schedule.last + 1) == [("refine", 2, 2, 1.0), ("compose", 0, 0, 1.0)]
    assert everything.satisfies(None)
    assert everything.satisfies(RefineSpec(tolerance=1e-9))
    *parts, compose = schedule.with_request(None, parts=3).passes[schedule.last + 1 :]
    assert [(each.part, each.parts, each.base) for each in parts] == [(k, 3, 2) for k in range(3)]
    assert compose.kind == "compose"


def test_a_schedule_reads_back_exactly(store: Store) -> None:
    assert Schedule.read(store) is None
    schedule = Schedule.begin(GRID, ASKED).with_ranges(RANGES)
    for each in (
        schedule,
        schedule.after_audit(certificate(0, 0.0), 0),
        schedule.with_request(None),
    ):
        each.write(store)
        assert Schedule.read(store) == each
    one, other = (json.loads(note.read_text()) for note in notes(store))
    assert one == other


@pytest.mark.parametrize("harm", ["cut", "change", "bare", "empty", "remove"])
def test_one_of_its_two_notes_is_enough(store: Store, harm: str) -> None:
    schedule = Schedule.begin(GRID, ASKED).with_ranges(RANGES)
    for victim in (0, 1):
        schedule.write(store)
        path = notes(store)[victim]
        text = path.read_text()
        match harm:
            case "cut":
                path.write_text(text[: len(text) // 2])
            case "change":
                path.write_text(text.replace("0.333", "0.334"))
                assert path.read_text() != text
            case "bare":
                note = json.loads(text) | {"step": 32}
                del note["digest"]
                path.write_text(json.dumps(note))
            case "empty":
                path.write_text("")
            case "remove":
                path.unlink()
        assert Schedule.read(store) == schedule
    for path in notes(store):
        path.write_text("{")
    assert Schedule.read(store) is None


def as_main_wrote_it(store: Store, schedule: Schedule) -> Schedule:
    """Write a schedule as versions before 2026-11-28 did, and read it."""
    schedule.write(store)
    plain = json.loads(notes(store)[0].read_text())
    for each in plain["passes"]:
        del each["logs"]
    for each in plain["certificates"]:
        del each["of_values"]
    del plain["digest"]
    rest = json.dumps(plain, sort_keys=True).encode()
    plain["digest"] = hashlib.sha256(rest).hexdigest()
    for note in notes(store):
        note.write_text(json.dumps(plain))
    found = Schedule.read(store)
    assert found is not None
    return found


def spaces(schedule: Schedule, number: int) -> set[str]:
    return {each.range.space for each in schedule.scales(number)}


@pytest.mark.parametrize("low", [-1.0, 0.0, 0.1])
def test_a_log_scale_is_of_values_above_zero(low: float) -> None:
    schedule = Schedule.begin(GRID, ASKED).with_ranges([replace(RANGES[0], low=low)])
    assert spaces(schedule, schedule.last) == {"log" if low > 0 else "linear"}
    assert schedule.without_log == (() if low > 0 else (("loss", "train"),))
    # Values of 0 or less that the lattice does not have: again from the start, linear.
    failed, passed = certificate(3, 0.002), certificate(0, 0.0)
    for found in (failed, passed):
        left = schedule.after_audit(found, 0, leave_log=True)
        since = schedule.last + 1
        assert {each[2:] for each in kinds(left, since)} == {(0, 1.0)}
        assert spaces(left, left.last) == {"linear"}
        assert spaces(left, schedule.last) == spaces(schedule, schedule.last)
        done = left.after_audit(passed, 0, leave_log=True)
        assert (done.passes[-1].kind, spaces(done, done.last)) == ("compose", {"linear"})
        assert done.satisfies(ASKED)
        tighter = done.with_request(RefineSpec(tolerance=0.001))
        assert spaces(tighter, tighter.last) == {"linear"}
    linear = Schedule.begin(GRID, RefineSpec(scale="linear")).with_ranges(RANGES)
    assert linear.without_log == ()


@pytest.mark.parametrize("low", [-1.0, 0.1])
def test_what_an_earlier_version_decided_goes_on_as_it_was(store: Store, low: float) -> None:
    begun = Schedule.begin(GRID, ASKED).with_ranges([replace(RANGES[0], low=low)])
    old = as_main_wrote_it(store, begun)
    assert {each.logs for each in old.passes} == {"clamped"}
    assert spaces(old, old.last) == {"clamped"}
    assert not old.void(final=False)
    # A certificate of this version is of values, and what is composed is what it is of.
    sound = replace(certificate(0, 0.0), of_values=True)
    done = old.after_audit(sound, 0)
    assert spaces(done, done.last) == {"clamped"}
    assert not done.void(final=True)
    # One of theirs says nothing where values are zero or negative.
    composed = as_main_wrote_it(store, begun.after_audit(certificate(0, 0.0), 0))
    assert bool(composed.void(final=True)) == (low <= 0)
    assert (Summary.of(composed, 9, 3, True, "nats").certificate is None) == (low <= 0)
    assert ("void" in str(Summary.of(composed, 9, 3, True, "nats").rows())) == (low <= 0)
    again = composed.with_request(ASKED)
    assert not again.void(final=False)
    assert spaces(again, again.last) == {"linear" if low <= 0 else "log"}


def test_frames_predicted_from_other_frames_are_certified_once_all_are_composed() -> None:
    begun = Schedule.begin(GRID, ASKED).with_ranges(RANGES)
    composed = replace(begun.after_audit(certificate(0, 0.0), 0), stride=4)
    for schedule in (replace(begun, stride=4), composed):
        assert "from other frames" in schedule.void(final=False)
        assert not schedule.void(final=True)
        assert not schedule.with_request(None).void(final=False)
        assert not schedule.with_request(ASKED).void(final=False)
    assert Summary.of(composed, 9, 3, True, "nats").certificate is not None
    shown = Summary.of(composed, 9, 3, False, "nats")
    assert shown.certificate is None
    assert shown.as_dict()["void"]


def test_an_old_store_may_have_asked_for_an_audit_that_cannot_pass(store: Store) -> None:
    few = stored_refine({"audit": 300})
    schedule = Schedule.begin(GRID, few)
    schedule.write(store)
    assert Schedule.read(store) == schedule


def test_a_pass_knows_for_whom_it_works() -> None:
    schedule = Schedule.begin(GRID, ASKED).with_ranges(RANGES)
    again = schedule.with_request(RefineSpec(tolerance=0.001))
    assert again.passes[schedule.last + 1].asked == 1
    early, late = (again.scales(number)[0].tolerance for number in (1, schedule.last + 1))
    assert early == pytest.approx(10 * late)
