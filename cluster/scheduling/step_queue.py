"""The passes of a refinement over all tiles, as far as each can be taken up.

Between the passes that refine, a tile waits for the tiles around it alone; in a film, before the
first of them, for the frames that its own is predicted from. Before the first pass that refines
the colour range has to be known, before an audit everything that is predicted, and before what
follows an audit its outcome: there all tiles wait for all.
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
from cluster.scheduling.events import Done
from cluster.scheduling.refinement_progress import RefinementReader, phase
from cluster.scheduling.selection import Selection
from cluster.scheduling.work_queue import patiently
from pipeline.geometry.grid import Step, Tile, Work
from pipeline.refinement.records import Points, StepFacts
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.step import Refinement
from pipeline.refinement.summary import tolerated
from pipeline.spec import RefineSpec, stored_refine
from pipeline.store.errors import StoreError
from pipeline.store.layout import PASSES
from pipeline.store.store import Store

# A step evaluates some of its tile's points, at worst three of four. A third of what all of them
# take, times the scheduler's patience, is patience enough for those.
_TYPICAL_SHARE = 0.3
# What a step takes of a tile that is evaluated wholly, as long as that needs no more steps.
_PART_SECONDS, _MOST_PARTS = 15.0, 64

T = TypeVar("T")


class StepQueue:
    """The steps of a refinement; see `cluster.scheduling.work_queue.WorkQueue`."""

    noun = "step"
    points = 0
    elsewhere = 0

    def __init__(self, store: Store, asked: RefineSpec | None, going_on: bool) -> None:
        """Look at the store; nothing is written.

        Args:
            store: of a render that is refined.
            asked: what its spec says now.
            going_on: as it was decided, whatever `asked` says.
        """
        self._store = store
        self.refinement_reader = RefinementReader(store)
        self._refinement = self.refinement_reader.refinement
        self._tiles = list(store.grid.tiles())
        self._asked = asked
        self._going_on = going_on
        self._asks = False
        self._cancelled = threading.Event()
        self._open: set[Step] = set()
        self._evaluated, self._seconds = 0, 0.0
        self._look()
        self.done = len(self._committed)

    @property
    def total(self) -> int:
        return len(self._tiles) * (self._schedule.last + 1 if self._schedule else 1)

    @property
    def complete(self) -> bool:
        schedule = self._schedule
        return (
            schedule is not None
            and not self._asks
            and schedule.passes[-1].kind == "compose"
            and not any(self._left)
        )

    @property
    def phase(self) -> str:
        """The first pass that is not through."""
        passes = self._schedule.last + 1 if self._schedule else 1
        number = next((n for n in range(passes) if self._left[n]), passes)
        return phase(self._schedule, number)

    @property
    def remark(self) -> str:
        """Where the spec has come to ask for less: that more was begun, and will be finished.

        Passes that are decided on are not taken back; of what they evaluate nothing is lost.
        """
        schedule = self._schedule
        if schedule is None or self._going_on or self._asks or self.complete:
            return ""
        begun = schedule.asked[-1]
        if schedule.with_request(self._asked).satisfies(begun):
            return ""
        stricter = "every point evaluated"
        if begun:
            stricter = f"predictions within {tolerated(begun, self._store.words['unit'])}"
        return (
            f"the spec asks for less than was begun ({stricter}), which is finished all the same. "
            "For less, render it to another store"
        )

    @property
    def expected_seconds(self) -> float | None:
        if not self._evaluated:
            return None
        return self._seconds / self._evaluated * self._points_a_tile * _TYPICAL_SHARE

    def begin(self) -> list[Work]:
        """Decide what is not decided yet, and go on where the store says.

        Raises:
            ClusterError: the store was never begun, and the spec does not say how to refine; or
                what was decided is lost.
        """
        self.decide()
        return self._ready()

    def decide(self) -> None:
        """The part of `begin` that hands out nothing: decide what is asked for."""
        self._look()  # another driver may have been here before the lease was taken
        if self._schedule is None:
            self._decide(self._begun())
        else:
            self._ask(functools.partial(self._now.write, self._store))  # the copy, or its original
        if self._asks:
            more = self._now.with_request(self._wanted, self._parts())
            self._check_room(more)  # while what is composed is there
            for tile in sorted(self._store.committed()):
                self._ask(functools.partial(self._store.withdraw, tile))
            self._decide(more)
            self._asks = False
        self._skip_composing()
        self._note(number for number in range(self._now.last + 1) if not self._left[number])
        self._nearby = _Nearby(self._refinement, self._now)

    def after(self, work: Work, done: Done) -> list[Work]:
        assert isinstance(work, Step)
        self._evaluated += done.points
        self._seconds += done.seconds
        facts = StepFacts(done.points, done.seconds - done.write_seconds, done.worker)
        self._refinement.records.remember(work, facts)
        before = self._through[work.tile]
        self._committed.add(work)
        now = before
        while now <= self._now.last and Step(now, *work.tile) in self._committed:
            now += 1
        self._through[work.tile] = now
        for number in range(before, now):
            self._left[number] -= 1
        self._note(number for number in range(before, now) if not self._left[number])
        ready: list[Work] = []
        for number in range(before, now):
            ready += self._after_pass(number, work.tile)
        return ready

    def missing(self) -> list[Work]:
        self._committed = patiently(self._list)
        self._count()
        self._open.clear()
        return self._ready()

    def cancel(self) -> None:
        self._cancelled.set()

    def waiting(self, given_up: Collection[Work]) -> int:
        return self.total - len(self._committed.union(given_up))

    # Deciding

    @property
    def _now(self) -> Schedule:
        assert self._schedule is not None
        return self._schedule

    def _look(self) -> None:
        # The schedule first: what it speaks of is committed already.
        self._schedule = Schedule.read(self._store)
        schedule = self._schedule
        wanted = schedule.asked[-1] if schedule and self._going_on else self._asked
        self._asks = schedule is not None and not schedule.satisfies(wanted)
        self._wanted = wanted
        self._committed = self._list()
        self._count()

    def _begun(self) -> Schedule:
        if self._committed:
            raise ClusterError(
                f"{self._store.url} has {len(self._committed):,} steps of a refinement, and what "
                "was decided for them (.lossatlas/refine.json) is missing or damaged; wanted both. "
                "Put the steps back to pending: lossatlas verify, then resume"
            )
        own = self._store.attrs.get("spec", {}).get("evaluate", {}).get("refine")
        first = self._asked or (stored_refine(own) if own else None)
        if first is None:
            raise ClusterError(
                f"{self._store.url} is to be refined and was not begun; wanted the spec with "
                "evaluate.refine, to begin it: lossatlas render"
            )
        same = len({self._store.extent(frame) for frame in range(self._store.frames)}) == 1
        schedule = Schedule.begin(self._store.grid, first, same)
        is_all = self._going_on or schedule.satisfies(self._asked)
        return schedule if is_all else schedule.with_request(self._asked)

    def _parts(self) -> int:
        """In how many steps to evaluate all of a tile, which was cut for a few of its points."""
        now = self._ask(lambda: self.refinement_reader.read(self._store.committed()))
        seconds = now.seconds_per_point * self._points_a_tile
        room = PASSES - len(self._now.passes) - 1  # composing comes after them
        most = min(_MOST_PARTS, room)
        return max(1, min(most, round(seconds / _PART_SECONDS))) if seconds > 0 else 1

    @property
    def _points_a_tile(self) -> int:
        return self._store.grid.size(Tile(0, 0, 0))

    def _check_room(self, schedule: Schedule) -> None:
        if len(schedule.passes) > PASSES:
            raise ClusterError(
                f"the refinement of {self._store.url} would come to "
                f"{len(schedule.passes):,} passes; wanted at most {PASSES}, which is what a store "
                "has room for. Render it to "
                "another store"
            )

    def _decide(self, schedule: Schedule) -> None:
        """Write what is decided, as long as nobody else did meanwhile."""
        self._check_room(schedule)
        found = self._ask(lambda: Schedule.read(self._store))
        if found is not None and (self._schedule is None or found.passes != self._schedule.passes):
            raise ClusterError(
                f"another driver has gone on with {self._store.url} meanwhile; this one stops. "
                "Everything committed is kept"
            )
        self._ask(lambda: schedule.write(self._store))
        self._schedule = schedule
        self._count()

    def _skip_composing(self) -> None:
        """Count tiles as composed that something tighter makes it needless to compose."""
        nothing = Points.none(len(self._refinement.fields))
        for number in range(self._now.last):
            if self._now.passes[number].kind != "compose" or not self._left[number]:
                continue
            commit = self._refinement.records.commit
            for step in (Step(number, *tile) for tile in self._tiles):
                if step not in self._committed:
                    self._ask(functools.partial(commit, step, nothing, 0.0, 0))
                    self._committed.add(step)
            self._count()

    def _settle(self, number: int) -> None:
        """Decide what follows a pass, where all of it is committed and it is not decided yet."""
        if self._left[number]:
            return
        schedule, following = self._now, number + 1
        kind = schedule.passes[number].kind
        if kind == "lattice" and not schedule.ranges:
            ranges = self._ask(lambda: self._refinement.ranges(schedule, self._tiles))
            self._decide(schedule.with_ranges(ranges))
        elif kind == "audit" and number == schedule.last:
            self._draw(number)
            self._decide(self._ask(lambda: self._refinement.certify(schedule, number)))
        if following <= self._now.last and self._now.passes[following].kind == "audit":
            self._draw(following)

    def _note(self, through: Iterable[int]) -> None:
        """Note what passes that are through have cost, where they are not: it spares reading.

        One try: nothing depends on it.
        """
        records = self._refinement.records
        with contextlib.suppress(OSError, StoreError):
            for number in through:
                if not records.is_noted(number):
                    records.note_pass(number)

    def _draw(self, number: int) -> None:
        """Draw the sample of an audit, if it is not drawn."""
        if self._ask(lambda: self._refinement.sample(number)) is None:
            self._ask(lambda: self._refinement.draw_sample(self._now, number))

    def _ask(self, question: Callable[[], T]) -> T:
        """What the store says, with patience.

        Raises:
            ClusterError: it cannot be reached or written, or what it says is damaged.
        """
        try:
            return patiently(question, self._cancelled)
        except StoreError as error:
            raise ClusterError(
                f"{error}. Put it back to pending with lossatlas verify, then resume"
            ) from None

    # What can be rendered

    def _ready(self) -> list[Work]:
        """Everything that can be rendered and is not handed out."""
        number = 0
        while number <= self._now.last:  # which may grow on the way
            self._settle(number)
            number += 1
        return [step for each in range(self._now.last + 1) for step in self._ready_of(each)]

    def _after_pass(self, number: int, tile: Tile) -> list[Work]:
        """What can be rendered now that `tile` is through with pass `number`."""
        following, found = number + 1, list[Work]()
        if not self._is_local(following):
            self._settle(number)
            if not self._left[number]:
                found += self._ready_of(following)
            return found + self._ready_of_children(number, tile.frame)
        at = self._nearby.lookers(tile)
        known = following in self._lacking
        lacking = self._lacking_of(following)
        if known:
            lacking[at] -= 1
        return self._opened(following, at, lacking[at] == 0)

    def _ready_of(self, number: int, frames: slice = slice(None)) -> list[Work]:
        if number > self._now.last or not self._left[number]:
            return []
        at = frames, slice(None), slice(None)
        if self._is_local(number):
            return self._opened(number, at, self._lacking_of(number)[at] == 0)
        if number and self._left[number - 1]:
            return []
        return self._opened(number, at, np.ones_like(self._through[at], dtype=bool))

    def _opened(
        self, number: int, at: tuple[slice, slice, slice], mask: NDArray[np.bool_]
    ) -> list[Work]:
        """The steps of a part, where `mask` says so, that are neither done nor handed out."""
        corner = np.array([each.start or 0 for each in at])
        steps = [Step(number, *place) for place in (np.argwhere(mask) + corner).tolist()]
        steps = [s for s in steps if s not in self._committed and s not in self._open]
        frames = {f for f in {step.frame for step in steps} if self._may_begin(number, f)}
        fresh = [step for step in steps if step.frame in frames]
        self._open.update(fresh)
        return [*fresh]

    def _is_local(self, number: int) -> bool:
        """Whether the steps of a pass wait for those around them alone."""
        if not 0 < number <= self._now.last:
            return False
        passes = self._now.passes
        return passes[number].kind == passes[number - 1].kind == "refine"

    def _lacking_of(self, number: int) -> NDArray[np.int64]:
        """How many of the tiles each tile looks at are not through with what comes before."""
        if number not in self._lacking:
            self._lacking[number] = self._nearby.seen(self._through < number)
        return self._lacking[number]

    # Films that predict across frames

    def _may_begin(self, number: int, frame: int) -> bool:
        """Whether the frames that `frame` is predicted from are settled, as far as it takes."""
        if self._now.passes[number].kind != "refine":
            return True
        settled = self._now.round_end(number)
        parents = self._now.parents(frame, self._store.frames)
        return all(int(self._through[parent].min()) >= settled for parent in parents)

    def _ready_of_children(self, number: int, frame: int) -> list[Work]:
        """What a frame that may now be through with a round of refining, by `number`, allows."""
        passes, frames = self._now.passes, self._store.frames
        is_through = passes[number].kind == "refine" and self._through[frame].min() > number
        if self._now.stride == 1 or not is_through:
            return []
        first = number
        while passes[first - 1].kind == "refine":
            first -= 1
        return [
            step
            for child in range(frames)
            if frame in self._now.parents(child, frames)
            for each in range(first, number + 1)
            for step in self._ready_of(each, slice(child, child + 1))
        ]

    # What is done

    def _count(self) -> None:
        """Through how many passes in a row each tile is, and how many tiles each pass lacks."""
        grid, last = self._store.grid, self._schedule.last if self._schedule else 0
        has = np.zeros((last + 1, grid.frames, grid.tile_rows, grid.tile_columns), dtype=bool)
        steps = [step for step in self._committed if step.number <= last]
        has[tuple(np.array(steps, np.intp).reshape(-1, 4).T)] = True
        self._through = np.cumprod(has, axis=0).sum(axis=0)
        self._left = [int((self._through <= number).sum()) for number in range(last + 1)]
        self._lacking: dict[int, NDArray[np.int64]] = {}

    def _list(self) -> set[Step]:
        return self._refinement.done(self._schedule, self._store.committed)


class _Nearby:
    """Which tiles look at which: rows and columns apart, as a lattice's reach is."""

    def __init__(self, refinement: Refinement, schedule: Schedule) -> None:
        grid = refinement.grid
        region = refinement.required_region
        self._rows = [
            grid.touched(region(schedule, Tile(0, row, 0))[0]) for row in range(grid.tile_rows)
        ]
        self._columns = [
            grid.touched(region(schedule, Tile(0, 0, column))[1])
            for column in range(grid.tile_columns)
        ]

    def lookers(self, tile: Tile) -> tuple[slice, slice, slice]:
        """The tiles whose steps look at `tile`: frames, rows and columns."""
        frames = slice(tile.frame, tile.frame + 1)
        return frames, _lookers(self._rows, tile.row), _lookers(self._columns, tile.column)

    def seen(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of the tiles that each tile looks at `mask` has, (frames, rows, columns)."""
        counts = mask.astype("i8")
        for axis, seen in ((1, self._rows), (2, self._columns)):
            sums = np.cumsum(counts, axis=axis)
            sums = np.insert(sums, 0, 0, axis=axis)
            starts, stops = ([getattr(each, end) for each in seen] for end in ("start", "stop"))
            counts = sums.take(stops, axis=axis) - sums.take(starts, axis=axis)
        return counts


def _lookers(seen: list[range], place: int) -> slice:
    """The rows (or columns) of tiles that look at row `place`; they lie side by side."""
    found = [each for each, row in enumerate(seen) if place in row]
    return slice(found[0], found[-1] + 1)


def finished(store: Store) -> bool:
    """Whether nothing is left to do in a store, as it was decided."""
    return StepQueue(store, None, going_on=True).complete if store.refined else not store.pending()


def decide(store: Store, asked: RefineSpec | None) -> str:
    """Note in a store what is asked for now, so that whoever resumes it goes by that.

    Returns:
        What the user should know of it, or nothing: `StepQueue.remark`.

    Raises:
        ClusterError: somebody works on the store, or it cannot be written.
    """
    with held(store):
        queue = StepQueue(store, asked, going_on=False)
        queue.decide()
        return queue.remark


def check(selection: Selection) -> None:
    """Refuse a selection for a render that is refined.

    Raises:
        ClusterError: it selects something.
    """
    if selection != Selection():
        raise ClusterError(
            "--frames or --every with evaluate.refine, which audits all frames together; wanted "
            "one of them. Leave the options out, or refine out of a spec of its own"
        )
