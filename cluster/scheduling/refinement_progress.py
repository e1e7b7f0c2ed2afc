"""The progress of a refinement, read from its store alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from cluster import format
from pipeline.geometry.grid import Step, Tile
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.step import Refinement
from pipeline.refinement.summary import Summary
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store


@dataclass(frozen=True)
class RefinementProgress:
    """The progress at one time.

    Attributes:
        passes: how many there are, as far as that is decided.
        number: the first pass that is not finished; equals `passes` if all are.
        now: that pass for people, as `phase` names it.
        steps, steps_done: of all passes.
        pass_steps_left: of the present pass.
        seconds_a_step: mean time of the present pass's finished steps; NaN if there are none.
        seconds_per_point: mean time of all evaluated points, on one worker; NaN if there are none.
        shown: whether exports can show a preview.
        summary: what is evaluated, and what the audit found.
    """

    passes: int
    number: int
    now: str
    steps: int
    steps_done: int
    pass_steps_left: int
    seconds_a_step: float
    seconds_per_point: float
    shown: bool
    summary: Summary

    @property
    def done(self) -> bool:
        return self.summary.final

    def as_dict(self) -> dict[str, Any]:
        return {
            "pass": min(self.number + 1, self.passes),
            "passes": self.passes,
            "phase": self.now,
            "steps": self.steps,
            "steps_done": self.steps_done,
            "preview": self.shown and not self.done,
        } | self.summary.as_dict()


class RefinementReader:
    """Reads the progress of a refinement repeatedly; the cost of a step is read only once.

    `done` are the committed steps that the last `read` found.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.refinement = Refinement(store)
        self.done: set[Step] = set()

    def read(self, composed: Iterable[Tile]) -> RefinementProgress:
        """The progress now; `composed` are the store's committed tiles."""
        store, tiles = self._store, set(composed)
        # Read the schedule first: passes that are added later have no steps in this listing.
        schedule = Schedule.read(store)
        passes = schedule.last + 1 if schedule else 1
        done = self.refinement.done(schedule, lambda: tiles)
        self.done = done = {step for step in done if step.number < passes}
        facts = self.refinement.records.costs(done)  # without damaged ones: `verify` reports them
        count = store.grid.tile_count
        per_pass = Counter(step.number for step in done)
        number = next((n for n in range(passes) if per_pass[n] < count), passes)
        is_final = bool(schedule and schedule.passes[-1].kind == "compose" and number == passes)
        here = [each.seconds for step, each in facts.items() if step.number == number]
        evaluated = sum(each.points for each in facts.values())
        seconds = sum(each.seconds for each in facts.values() if each.points)
        return RefinementProgress(
            passes=passes,
            number=number,
            now=phase(schedule, number),
            steps=count * passes,
            steps_done=len(done),
            pass_steps_left=count - per_pass[number] if number < passes else 0,
            seconds_a_step=sum(here) / len(here) if here else math.nan,
            seconds_per_point=seconds / evaluated if evaluated else math.nan,
            shown=bool(schedule and schedule.ranges),
            summary=Summary.of(
                schedule, store.grid.points, evaluated, is_final, store.words["unit"]
            ),
        )


def summary_lines(summary: Summary) -> list[str]:
    """What was evaluated, and what the audit found, as lines."""
    return [f"{name}: {line}" for name, line in summary.rows()]


def done_text(store: Store, done: Collection[Tile] | None = None) -> str:
    """How much of a render is done: `3 of 25 tiles`, or its steps while no tile is composed.

    With marks: `3 of 25 tiles and 8 of 10 marks`.

    Args:
        store: of the render.
        done: its committed tiles, if the caller knows them.
    """
    done = store.committed() if done is None else done
    count, marks = store.grid.tile_count, StoredMarks(store)
    told = f"{len(done):,} of {format.plural(count, 'tile')}"
    if store.refined and len(done) < count:
        now = RefinementReader(store).read(done)
        told = f"{now.steps_done:,} of {format.plural(now.steps, 'step')}"
    if not marks.count:
        return told
    return f"{told} and {marks.finished().sum():,} of {format.plural(marks.count, 'mark')}"


def all_text(store: Store) -> str:
    """What a finished render has: `25 tiles`, `25 tiles and 10 marks`."""
    tiles, marks = format.plural(store.grid.tile_count, "tile"), StoredMarks(store).count
    return f"{tiles} and {format.plural(marks, 'mark')}" if marks else tiles


def phase(schedule: Schedule | None, number: int) -> str:
    """The name of a pass for people: `level 3 of 5`, `audit`; empty after the last pass."""
    if schedule is None:
        return "coarsest points"
    if number > schedule.last:
        return ""
    now = schedule.passes[number]
    again = sum(each.kind == "audit" for each in schedule.passes[:number])
    round_ = f", round {again + 1}" if again and now.kind != "compose" else ""
    match now.kind:
        case "lattice":
            return "coarsest points"
        case "refine" if schedule.asked[now.asked] is None:
            part = f", part {now.part + 1} of {now.parts}" if now.parts > 1 else ""
            return f"every point{part}"
        case "refine":
            return f"level {now.level} of {schedule.step.bit_length() - 1}{round_}"
        case "audit":
            return f"audit{round_}"
        case "compose":
            return "composing"
