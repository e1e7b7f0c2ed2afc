"""The passes of a refinement over all tiles, as far as each can be taken up.

Between the passes that refine, a tile waits for the tiles around it alone. Before the first of
them the colour range has to be known, before an audit everything that is predicted, and before
what follows an audit its outcome: there all tiles wait for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from cluster.errors import ClusterError
from cluster.loop import Done
from cluster.refinement import phase
from cluster.todo import patiently
from pipeline.course import Course
from pipeline.grid import Step, Tile, Work
from pipeline.refined import Refined
from pipeline.spec import RefineSpec
from pipeline.store import Store

# A step evaluates some of its tile's points, at worst three of four. A third of what all of them
# take, times the scheduler's patience, is patience enough for those.
_TYPICAL_SHARE = 0.3


class Steps:
    """What there is to do in a store that is refined; see `cluster.todo.Todo`."""

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
        self._refined = Refined(store)
        self._tiles = list(store.grid.tiles())
        self._asked = asked
        self._course = Course.read(store)
        self._asks = bool(self._course and not going_on and not self._course.satisfies(asked))
        self._committed = self._list()
        self._count()
        self.done = len(self._committed)
        self._open: set[Step] = set()
        self._seconds_a_point = 0.0

    @property
    def total(self) -> int:
        return len(self._tiles) * (self._course.last + 1 if self._course else 1)

    @property
    def complete(self) -> bool:
        course = self._course
        return (
            course is not None
            and not self._asks
            and course.passes[-1].kind == "compose"
            and len(self._committed) == self.total
        )

    @property
    def phase(self) -> str:
        """The first pass that is not through."""
        passes = self._course.last + 1 if self._course else 1
        number = next((n for n in range(passes) if self._left[n]), passes)
        return phase(self._course, number)

    @property
    def expected_seconds(self) -> float | None:
        whole = self._store.grid.tile**2
        return self._seconds_a_point * whole * _TYPICAL_SHARE or None

    def begin(self) -> list[Work]:
        """Decide what is not decided yet, and go on where the store says.

        Raises:
            ClusterError: the store was never begun, and the spec does not say how to refine.
        """
        if self._course is None:
            if self._asked is None:
                raise ClusterError(
                    f"{self._store.url} is to be refined and was not begun; wanted the spec with "
                    "evaluate.refine, to begin it: lossatlas render"
                )
            self._decide(Course.begin(self._store.grid, self._asked))
        elif self._asks:
            for tile in sorted(self._store.committed()):
                self._store.withdraw(tile)
            self._decide(self._course.asking(self._asked))
        self._lookers = _Lookers(self._refined, self._now)
        for number in range(self._now.last + 1):
            self._settle(number)
        return [step for number in range(self._now.last + 1) for step in self._ready_of(number)]

    def after(self, work: Work, done: Done) -> list[Work]:
        assert isinstance(work, Step)
        if done.points:
            self._seconds_a_point = max(self._seconds_a_point, done.seconds / done.points)
        if work not in self._committed:
            self._committed.add(work)
            self._left[work.number] -= 1
        following = work.number + 1
        if following <= self._now.last and self._is_local(following):
            lookers = (Step(following, *tile) for tile in self._lookers.at(work.tile))
            return self._opened(step for step in lookers if self._may(step))
        self._settle(work.number)
        return self._ready_of(following) if not self._left[work.number] else []

    def missing(self) -> list[Work]:
        self._committed = patiently(self._list)
        self._count()
        return [step for step in sorted(self._open) if step not in self._committed]

    # Inside

    @property
    def _now(self) -> Course:
        assert self._course is not None
        return self._course

    def _decide(self, course: Course) -> None:
        patiently(lambda: course.write(self._store))
        self._course = course
        self._count()

    def _settle(self, number: int) -> None:
        """Decide what follows a pass, where all of it is committed and it is not decided yet."""
        if self._left[number]:
            return
        course, following = self._now, number + 1
        kind = course.passes[number].kind
        if kind == "lattice" and not course.ranges:
            ranges = patiently(lambda: self._refined.ranges(course, self._tiles))
            self._decide(course.with_ranges(ranges))
        elif kind == "audit" and number == course.last:
            self._decide(patiently(lambda: self._refined.certify(course, number)))
        if following > self._now.last or self._now.passes[following].kind != "audit":
            return
        if patiently(lambda: self._refined.drawn(following)) is None:
            patiently(lambda: self._refined.draw(self._now, following))

    def _ready_of(self, number: int) -> list[Work]:
        if number > self._now.last or not self._left[number]:
            return []
        return self._opened(step for step in self._steps(number) if self._may(step))

    def _opened(self, steps: Iterable[Step]) -> list[Work]:
        fresh = [step for step in steps if step not in self._open]
        self._open.update(fresh)
        return [*fresh]

    def _may(self, step: Step) -> bool:
        """Whether a step is not done and has all it needs."""
        before = step.number - 1
        if step in self._committed:
            return False
        if before < 0 or not self._left[before]:
            return True
        if not self._is_local(step.number):
            return False
        return all(Step(before, *tile) in self._committed for tile in self._lookers.seen(step.tile))

    def _is_local(self, number: int) -> bool:
        """Whether the steps of a pass wait for those around them alone."""
        passes = self._now.passes
        return number > 0 and passes[number].kind == passes[number - 1].kind == "refine"

    def _steps(self, number: int) -> Iterator[Step]:
        return (Step(number, *tile) for tile in self._tiles)

    def _count(self) -> None:
        """How many steps of each pass are left."""
        done = Counter(step.number for step in self._committed)
        last = self._course.last if self._course else 0
        self._left = {n: len(self._tiles) - done[n] for n in range(last + 1)}

    def _list(self) -> set[Step]:
        """The committed steps; one that composes counts only with its tile."""
        found = self._refined.evaluations.committed()
        course = self._course
        if course is None or course.passes[-1].kind != "compose":
            return found
        tiles = self._store.committed()
        return {s for s in found if s.number != course.last or s.tile in tiles}


class _Lookers:
    """Which tiles look at which: rows and columns apart, as a lattice's reach is."""

    def __init__(self, refined: Refined, course: Course) -> None:
        grid = refined.grid
        self._rows = [
            _cut(refined.needed(course, Tile(0, row, 0))[0], grid.tile)
            for row in range(grid.tile_rows)
        ]
        self._columns = [
            _cut(refined.needed(course, Tile(0, 0, column))[1], grid.tile)
            for column in range(grid.tile_columns)
        ]

    def seen(self, tile: Tile) -> Iterator[Tile]:
        """The tiles that a step over `tile` looks at."""
        for row in self._rows[tile.row]:
            for column in self._columns[tile.column]:
                yield Tile(tile.frame, row, column)

    def at(self, tile: Tile) -> Iterator[Tile]:
        """The tiles whose steps look at `tile`."""
        rows = [row for row, seen in enumerate(self._rows) if tile.row in seen]
        columns = [column for column, seen in enumerate(self._columns) if tile.column in seen]
        for row in rows:
            for column in columns:
                yield Tile(tile.frame, row, column)


def _cut(points: slice, tile: int) -> range:
    """The rows (or columns) of tiles that rows of points touch."""
    return range(points.start // tile, (points.stop - 1) // tile + 1)
