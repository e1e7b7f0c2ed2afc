"""How far a refinement is, read from its store alone."""

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
from pipeline.store.store import Store


@dataclass(frozen=True)
class RefinementProgress:
    """One look at it.

    Attributes:
        passes, number: how many there are as far as that is decided, and which one is the first
            that is not through; `passes` where all are.
        now: that one in words, as `phase`.
        steps, steps_done: of all passes.
        pass_steps_left: of the present pass.
        seconds_a_step: of its steps that are done; NaN without any.
        seconds_per_point: of one worker, of everything evaluated so far; NaN where nothing is.
        shown: whether exports have something to show.
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
    """Looks again and again at a refinement; what a committed step cost is read once.

    `done` are the committed steps that the last look has found.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.refinement = Refinement(store)
        self.done: set[Step] = set()

    def read(self, composed: Iterable[Tile]) -> RefinementProgress:
        """How far it is; `composed` are the store's committed tiles."""
        store, tiles = self._store, set(composed)
        # The schedule first: passes that are decided on later have no steps in this listing.
        schedule = Schedule.read(store)
        passes = schedule.last + 1 if schedule else 1
        done = self.refinement.done(schedule, lambda: tiles)
        self.done = done = {step for step in done if step.number < passes}
        facts = self.refinement.records.costs(done)  # what is damaged is verify's business
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
    """What was evaluated and what the audit found, a line each."""
    return [f"{name}: {line}" for name, line in summary.rows()]


def done_text(store: Store, done: Collection[Tile] | None = None) -> str:
    """How much of a render is kept: `3 of 25 tiles`, or steps until tiles are composed.

    Args:
        store: of the render.
        done: its committed tiles, where they are known.
    """
    done = store.committed() if done is None else done
    if store.refined and len(done) < store.grid.tile_count:
        now = RefinementReader(store).read(done)
        return f"{now.steps_done:,} of {format.plural(now.steps, 'step')}"
    return f"{len(done):,} of {format.plural(store.grid.tile_count, 'tile')}"


def phase(schedule: Schedule | None, number: int) -> str:
    """A pass in words: `level 3 of 5`, `audit`; empty where all are through."""
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
