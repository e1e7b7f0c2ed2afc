"""What is decided of a refinement, and how it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.audit import Certificate
from pipeline.course import Course, Pass
from pipeline.grid import Extent, Grid
from pipeline.plane import Anchor, FrameFacts
from pipeline.scale import Range
from pipeline.spec import RefineSpec
from pipeline.store import Store

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


def kinds(course: Course, since: int = 0) -> list[tuple[str, int, int, float]]:
    return [(p.kind, p.level, p.base, p.strict) for p in course.passes[since:]]


def test_it_begins_with_the_coarsest_lattice_and_ends_with_an_audit() -> None:
    course = Course.begin(GRID, ASKED)
    assert kinds(course) == [
        ("lattice", 0, 0, 1.0),
        ("refine", 1, 0, 1.0),
        ("refine", 2, 0, 1.0),
        ("refine", 2, 0, 1.0),
        ("audit", 0, 0, 1.0),
    ]
    assert (course.step, course.last) == (4, 4)


def test_its_lattice_is_no_wider_than_steps_can_look() -> None:
    assert Course.begin(Grid(20_000, 20_000, 64), ASKED).step == 64


def test_what_an_audit_found_decides_what_follows() -> None:
    course = Course.begin(GRID, ASKED)
    assert kinds(course.audited(certificate(0, 0.0009), 0), 5) == [("compose", 0, 0, 1.0)]
    # A few that are far off: predictions are trusted less.
    stricter = course.audited(certificate(3, 0.002), 1)
    assert [p[:1] + p[3:] for p in kinds(stricter, 5)] == [("refine", 2.0)] * 3 + [("audit", 1.0)]
    # Many: something lies between the points of the lattice.
    finer = course.audited(certificate(900, 0.4), 600)
    assert kinds(finer, 5) == [
        ("refine", 1, 1, 1.0),
        *[("refine", 2, 1, 1.0)] * 2,
        ("audit", 0, 0, 1.0),
    ]
    last = finer.audited(certificate(900, 0.4), 600)
    assert kinds(last, 9)[0] == ("refine", 2, 2, 1.0)


@pytest.mark.parametrize(
    ("changes", "has_it"),
    [
        ({}, True),
        ({"tolerance": 0.02}, True),
        ({"tolerance": 0.009}, False),
        ({"tolerance": None, "nats": 0.5}, False),
        ({"scale": "linear"}, False),
        ({"error": 0.01}, False),
        ({"audit": 100}, True),
        ({"audit": 10_000}, False),
        ({"beyond": 1e-4}, False),
        ({"confidence": 0.99}, False),
        ({"confidence": 0.9, "seed": 3}, True),
    ],
)
def test_whether_something_tighter_is_asked_for(changes: dict[str, object], has_it: bool) -> None:
    course = Course.begin(GRID, ASKED)
    asked = RefineSpec.model_validate(ASKED.model_dump() | changes)
    assert course.satisfies(asked) == has_it
    if not has_it:
        again = course.asking(asked)
        assert again.satisfies(asked)
        assert again.passes[: len(course.passes)] == course.passes
        assert [p.asked for p in again.passes[5:]] == [1] * 4


def test_everything_satisfies_whatever_is_asked_for() -> None:
    course = Course.begin(GRID, ASKED)
    assert not course.satisfies(None)
    everything = course.asking(None)
    assert kinds(everything, 5) == [("refine", 2, 2, 1.0), ("compose", 0, 0, 1.0)]
    assert everything.satisfies(None)
    assert everything.satisfies(RefineSpec(tolerance=1e-9))


def test_a_course_reads_back_exactly(store: Store) -> None:
    assert Course.read(store) is None
    course = Course.begin(GRID, ASKED).with_ranges(RANGES)
    for each in (course, course.audited(certificate(0, 0.0), 0), course.asking(None)):
        each.write(store)
        assert Course.read(store) == each
    one, other = (json.loads(note.read_text()) for note in notes(store))
    assert one == other


@pytest.mark.parametrize("harm", ["cut", "change", "empty", "remove"])
def test_one_of_its_two_notes_is_enough(store: Store, harm: str) -> None:
    course = Course.begin(GRID, ASKED).with_ranges(RANGES)
    for victim in (0, 1):
        course.write(store)
        path = notes(store)[victim]
        text = path.read_text()
        match harm:
            case "cut":
                path.write_text(text[: len(text) // 2])
            case "change":
                path.write_text(text.replace("0.333", "0.334"))
                assert path.read_text() != text
            case "empty":
                path.write_text("")
            case "remove":
                path.unlink()
        assert Course.read(store) == course
    for path in notes(store):
        path.write_text("{")
    assert Course.read(store) is None


def test_a_pass_knows_for_whom_it_works() -> None:
    course = Course.begin(GRID, ASKED).with_ranges(RANGES).asking(RefineSpec(tolerance=0.001))
    assert course.passes[5] == Pass("refine", asked=1, level=1)
    early, late = (course.scales(number)[0].tolerance for number in (1, 5))
    assert early == pytest.approx(10 * late)
