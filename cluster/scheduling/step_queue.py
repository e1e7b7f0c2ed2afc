"""The work of a refined render: steps, which are passes over tiles.

A step of a pass that refines waits only for the steps of the tiles around its own. At three places
all tiles wait for all others: before the first pass that refines, because the colour range must be
known; before an audit, because everything must be predicted; and after an audit, because its
outcome decides what follows.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cluster.errors import ClusterError
from cluster.lease import held
from cluster.scheduling.decisions import first_schedule, less_than_begun, parts_a_tile, require_room
from cluster.scheduling.events import Done
from cluster.scheduling.neighbours import Neighbours
from cluster.scheduling.refinement_progress import RefinementReader, phase
from cluster.scheduling.selection import Selection
from cluster.scheduling.work_queue import patiently
from pipeline.geometry.grid import Step, Tile, Work
from pipeline.refine_spec import RefineSpec
from pipeline.refinement import sample
from pipeline.refinement.certification import certify
from pipeline.refinement.records import Points, StepFacts
from pipeline.refinement.schedule import Schedule
from pipeline.store.errors import StoreError
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store

# A step evaluates at most three quarters of its tile's points. A third of the time of all of them,
# times the scheduler's patience, is long enough for that.
_TYPICAL_SHARE = 0.3

T = TypeVar("T")


class StepQueue:
    """The steps of a refinement; see `cluster.scheduling.work_queue.WorkQueue`."""

    noun = "step"
    points = 0
    not_selected = 0

    def __init__(self, store: Store, requested: RefineSpec | None, keep_schedule: bool) -> None:
        """Read the store; nothing is written.

        Args:
            store: of a refined render.
            requested: what its spec says now.
            keep_schedule: follow the schedule in the store, whatever is `requested`.
        """
        self._store = store
        self.refinement_reader = RefinementReader(store)
        self._refinement = self.refinement_reader.refinement
        self._tiles = list(store.grid.tiles())
        self._requested = requested
        self._keep_schedule = keep_schedule
        self._must_extend = False
        self._cancelled = threading.Event()
        self._handed_out: set[Step] = set()
        self._evaluated, self._seconds = 0, 0.0
        self._read()
        self.done = len(self._committed)

    @property
    def total(self) -> int:
        return len(self._tiles) * (self._schedule.last + 1 if self._schedule else 1)

    @property
    def complete(self) -> bool:
        return self._is_final and not self._must_extend

    @property
    def phase(self) -> str:
        """The first pass that is not finished."""
        passes = self._schedule.last + 1 if self._schedule else 1
        number = next((n for n in range(passes) if self._tiles_left[n]), passes)
        return phase(self._schedule, number)

    @property
    def remark(self) -> str:
        """A warning if the spec now asks for less than was begun."""
        if self._schedule is None or self._keep_schedule or self._must_extend or self.complete:
            return ""
        return less_than_begun(self._store, self._schedule, self._requested)

    @property
    def expected_seconds(self) -> float | None:
        if not self._evaluated:
            return None
        points = self._store.grid.size(Tile(0, 0, 0))
        return self._seconds / self._evaluated * points * _TYPICAL_SHARE

    def begin(self) -> list[Work]:
        """Decide what can be decided, and return the steps that can be rendered.

        Raises:
            ClusterError: there is no schedule, and the spec does not say how to refine; or the
                schedule of committed steps is lost.
        """
        self.decide()
        return self._ready()

    def decide(self) -> None:
        """Write the schedule for what is requested; hand out no steps."""
        self._read()  # another driver may have worked here before the lease was taken
        if self._schedule is None:
            count, keep = len(self._committed), self._keep_schedule
            self._decide(first_schedule(self._store, self._requested, keep, count))
        else:
            # The schedule or its copy may be missing: write both.
            self._retry(functools.partial(self._current.write, self._store))
        if self._must_extend:
            self._extend()
        self._skip_composing()
        passes = range(self._current.last + 1)
        self._note_costs(number for number in passes if not self._tiles_left[number])
        self._neighbours = Neighbours(self._refinement, self._current)

    def after(self, work: Work, done: Done) -> list[Work]:
        assert isinstance(work, Step)
        self._evaluated += done.points
        self._seconds += done.seconds
        facts = StepFacts(done.points, done.seconds - done.write_seconds, done.worker)
        self._refinement.records.remember(work, facts)
        before = self._passes_done[work.tile]
        self._committed.add(work)
        now = before
        while now <= self._current.last and Step(now, *work.tile) in self._committed:
            now += 1
        self._passes_done[work.tile] = now
        for number in range(before, now):
            self._tiles_left[number] -= 1
        self._note_costs(number for number in range(before, now) if not self._tiles_left[number])
        ready: list[Work] = []
        for number in range(before, now):
            ready += self._after_pass(number, work.tile)
        return ready

    def missing(self) -> list[Work]:
        self._committed = patiently(self._list)
        self._count()
        self._handed_out.clear()
        return self._ready()

    def cancel(self) -> None:
        self._cancelled.set()

    def blocked(self, given_up: Collection[Work]) -> int:
        return self.total - len(self._committed.union(given_up))

    # Deciding

    @property
    def _current(self) -> Schedule:
        assert self._schedule is not None
        return self._schedule

    @property
    def _is_final(self) -> bool:
        """Whether every tile is composed."""
        schedule = self._schedule
        composes = schedule is not None and schedule.passes[-1].kind == "compose"
        return composes and not any(self._tiles_left)

    def _read(self) -> None:
        # Read the schedule first: the steps that it depends on are committed before it is written.
        schedule = self._schedule = Schedule.read(self._store)
        self._committed = self._list()
        self._count()
        wanted = schedule.asked[-1] if schedule and self._keep_schedule else self._requested
        self._must_extend = schedule is not None and (
            not schedule.satisfies(wanted) or bool(schedule.void(final=self._is_final))
        )
        self._wanted = wanted

    def _extend(self) -> None:
        """Add passes for a stricter request; composed tiles become pending again."""
        progress = self._retry(lambda: self.refinement_reader.read(self._store.committed()))
        parts = parts_a_tile(self._store, self._current, progress)
        more = self._current.with_request(self._wanted, parts)
        require_room(self._store, more)  # before composed tiles are withdrawn
        if self._current.stride > 1:
            # The steps left would evaluate too much: those before them left out what other frames
            # predicted. The new round evaluates it.
            for number in range(1, self._current.last + 1):
                if self._current.passes[number].kind in ("refine", "audit"):
                    self._skip(number)
        for tile in sorted(self._store.committed()):
            self._retry(functools.partial(self._store.withdraw, tile))
        self._decide(more)
        self._must_extend = False

    def _decide(self, schedule: Schedule) -> None:
        """Write a schedule, unless another driver wrote one meanwhile."""
        require_room(self._store, schedule)
        found = self._retry(lambda: Schedule.read(self._store))
        if found is not None and (self._schedule is None or found.passes != self._schedule.passes):
            raise ClusterError(
                f"another driver has gone on with {self._store.url} meanwhile; this one stops. "
                "Everything committed is kept"
            )
        self._retry(lambda: schedule.write(self._store))
        self._schedule = schedule
        self._count()

    def _skip_composing(self) -> None:
        """Skip the composing passes that a later request makes needless."""
        for number in range(self._current.last):
            if self._current.passes[number].kind == "compose" and self._tiles_left[number]:
                self._skip(number)
        self._count()

    def _skip(self, number: int) -> None:
        """Commit the steps of a pass without points, where they are not committed."""
        nothing = Points.none(len(self._refinement.fields))
        commit = self._refinement.records.commit
        for step in (Step(number, *tile) for tile in self._tiles):
            if step not in self._committed:
                self._retry(functools.partial(commit, step, nothing, 0.0, 0))
                self._committed.add(step)

    def _decide_after(self, number: int) -> None:
        """If pass `number` is finished, decide what its results decide."""
        if self._tiles_left[number]:
            return
        schedule, following = self._current, number + 1
        kind = schedule.passes[number].kind
        if kind == "lattice" and not schedule.ranges:
            ranges = self._retry(lambda: self._refinement.ranges(schedule, self._tiles))
            self._decide(schedule.with_ranges(ranges))
        elif kind == "audit" and number == schedule.last:
            self._draw_sample(number)
            self._decide(self._retry(lambda: certify(self._refinement, schedule, number)))
        if following <= self._current.last and self._current.passes[following].kind == "audit":
            self._draw_sample(following)

    def _note_costs(self, finished: Iterable[int]) -> None:
        """Write notes with the costs of finished passes, which saves reading many commits later.

        There is one try, because nothing depends on these notes.
        """
        records = self._refinement.records
        with contextlib.suppress(OSError, StoreError):
            for number in finished:
                if not records.is_noted(number):
                    records.note_pass(number)

    def _draw_sample(self, number: int) -> None:
        """Draw the sample of the audit in pass `number`, unless it is drawn already."""
        if self._retry(lambda: sample.read(self._store, number)) is None:
            records = self._refinement.records
            self._retry(lambda: sample.draw(self._store, records, self._current, number))

    def _retry(self, access: Callable[[], T]) -> T:
        """The result of an access to the store, tried again if the store does not answer.

        Raises:
            ClusterError: the store cannot be reached or written, or it holds damage.
        """
        try:
            return patiently(access, self._cancelled)
        except StoreError as error:
            raise ClusterError(
                f"{error}. Put it back to pending with lossatlas verify, then resume"
            ) from None

    # Steps that can be rendered

    def _ready(self) -> list[Work]:
        """All steps that can be rendered and are not handed out."""
        number = 0
        while number <= self._current.last:  # deciding may add passes
            self._decide_after(number)
            number += 1
        return [step for each in range(self._current.last + 1) for step in self._ready_of(each)]

    def _after_pass(self, number: int, tile: Tile) -> list[Work]:
        """The steps that can be rendered because `tile` has finished pass `number`."""
        following, found = number + 1, list[Work]()
        if not self._is_local(following):
            self._decide_after(number)
            if not self._tiles_left[number]:
                found += self._ready_of(following)
            return found
        at = self._neighbours.readers(tile)
        is_counted = following in self._unfinished
        unfinished = self._unfinished_neighbours(following)
        if is_counted:
            unfinished[at] -= 1
        return self._hand_out(following, at, unfinished[at] == 0)

    def _ready_of(self, number: int) -> list[Work]:
        if number > self._current.last or not self._tiles_left[number]:
            return []
        at = slice(None), slice(None), slice(None)
        if self._is_local(number):
            return self._hand_out(number, at, self._unfinished_neighbours(number) == 0)
        if number and self._tiles_left[number - 1]:
            return []
        return self._hand_out(number, at, np.ones_like(self._passes_done, dtype=bool))

    def _hand_out(
        self, number: int, at: tuple[slice, slice, slice], mask: NDArray[np.bool_]
    ) -> list[Work]:
        """The steps of a part where `mask` is true, without those done or handed out already."""
        corner = np.array([each.start or 0 for each in at])
        steps = [Step(number, *place) for place in (np.argwhere(mask) + corner).tolist()]
        fresh = [s for s in steps if s not in self._committed and s not in self._handed_out]
        self._handed_out.update(fresh)
        return [*fresh]

    def _is_local(self, number: int) -> bool:
        """Whether the steps of a pass wait only for the tiles around them."""
        if not 0 < number <= self._current.last:
            return False
        passes = self._current.passes
        return passes[number].kind == passes[number - 1].kind == "refine"

    def _unfinished_neighbours(self, number: int) -> NDArray[np.int64]:
        """How many neighbours of each tile have not finished the passes before `number`."""
        if number not in self._unfinished:
            self._unfinished[number] = self._neighbours.count(self._passes_done < number)
        return self._unfinished[number]

    # Counting

    def _count(self) -> None:
        """Count the passes that each tile has finished, and the tiles that each pass has left."""
        grid, last = self._store.grid, self._schedule.last if self._schedule else 0
        is_done = np.zeros((last + 1, grid.frames, grid.tile_rows, grid.tile_columns), dtype=bool)
        steps = [step for step in self._committed if step.number <= last]
        is_done[tuple(np.array(steps, np.intp).reshape(-1, 4).T)] = True
        self._passes_done = np.cumprod(is_done, axis=0).sum(axis=0)
        self._tiles_left = [int((self._passes_done <= n).sum()) for n in range(last + 1)]
        self._unfinished: dict[int, NDArray[np.int64]] = {}

    def _list(self) -> set[Step]:
        return self._refinement.done(self._schedule, self._store.committed)


def finished(store: Store) -> bool:
    """Whether nothing is left to do in a store, by its own schedule."""
    if StoredMarks(store).pending():
        return False
    if not store.refined:
        return not store.pending()
    return StepQueue(store, None, keep_schedule=True).complete


def decide(store: Store, requested: RefineSpec | None) -> str:
    """Write the schedule for what is requested now, so that a later `resume` follows it.

    Returns:
        A warning for the user, or an empty text: `StepQueue.remark`.

    Raises:
        ClusterError: a driver works on the store, or it cannot be written.
    """
    with held(store):
        queue = StepQueue(store, requested, keep_schedule=False)
        queue.decide()
        return queue.remark


def check(selection: Selection) -> None:
    """Refuse a selection of frames for a refined render.

    Raises:
        ClusterError: frames are selected.
    """
    if selection != Selection():
        raise ClusterError(
            "--frames or --every with evaluate.refine, which audits all frames together; wanted "
            "one of them. Leave the options out, or refine out of a spec of its own"
        )
