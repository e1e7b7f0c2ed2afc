"""The work of a render with marks: blocks of marks first, and then the queue of its plane."""

from __future__ import annotations

from collections.abc import Collection

from cluster.scheduling.events import Done
from cluster.scheduling.refinement_progress import RefinementReader
from cluster.scheduling.work_queue import WorkQueue, patiently
from pipeline.geometry.grid import MarkBlock, Work
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store


class MarkQueue:
    """Blocks of marks, then the work of another queue; see `cluster.scheduling.work_queue`.

    Marks come first, so that a file that is gone or was replaced is known before the long work.
    """

    noun = "task"

    def __init__(self, store: Store, plane: WorkQueue) -> None:
        """Read the store; nothing is written.

        Args:
            store: of a render with marks.
            plane: the queue of its tiles or steps.
        """
        self._marks = StoredMarks(store)
        self._plane = plane
        self._pending = self._marks.pending()
        self._blocks = len(list(self._marks.blocks()))
        self.done = plane.done + self._blocks - len(self._pending)
        own = sum(block.stop - block.start for block in self._pending)
        # A refinement does not know how many points are left, nor does it with marks.
        self.points = plane.points + own if not store.refined else 0

    @property
    def refinement_reader(self) -> RefinementReader | None:
        return self._plane.refinement_reader

    @property
    def total(self) -> int:
        return self._plane.total + self._blocks

    @property
    def not_selected(self) -> int:
        return self._plane.not_selected

    @property
    def complete(self) -> bool:
        return not self._pending and self._plane.complete

    @property
    def phase(self) -> str:
        return self._plane.phase

    @property
    def remark(self) -> str:
        return self._plane.remark

    @property
    def expected_seconds(self) -> float | None:
        return self._plane.expected_seconds

    def begin(self) -> list[Work]:
        return [*self._pending, *self._plane.begin()]

    def after(self, work: Work, done: Done) -> list[Work]:
        return [] if isinstance(work, MarkBlock) else self._plane.after(work, done)

    def missing(self) -> list[Work]:
        return [*patiently(self._marks.pending), *self._plane.missing()]

    def cancel(self) -> None:
        self._plane.cancel()

    def blocked(self, given_up: Collection[Work]) -> int:
        return self._plane.blocked([work for work in given_up if not isinstance(work, MarkBlock)])
