"""The work queue of a render: what is left to do in its store, in the order it can be done."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Protocol, TypeVar

from cluster.errors import ClusterError
from cluster.scheduling.events import Done
from cluster.scheduling.refinement_progress import RefinementReader
from cluster.scheduling.selection import Selection
from pipeline.geometry.grid import Tile, Work
from pipeline.store.errors import StoreError
from pipeline.store.store import Store

_PATIENCE = (1.0, 2.0, 4.0, 8.0, 16.0)
_SAMPLE_TILES = 20
NOT_REFINED = (
    "the spec asks to refine, and this store was begun with every point evaluated, which is "
    "finished all the same. To refine, render it to another store"
)

T = TypeVar("T")


class WorkQueue(Protocol):
    """The work of one render: tiles (`TileQueue`), or the steps of a refinement (`StepQueue`)."""

    noun: str

    @property
    def refinement_reader(self) -> RefinementReader | None:
        """Reads the progress of a refinement and shares what this queue has read; else None."""

    @property
    def total(self) -> int:
        """The number of tiles or steps, as far as that is known."""

    @property
    def done(self) -> int:
        """How many of them were committed when the queue was made."""

    @property
    def points(self) -> int:
        """How many grid points were left when the queue was made; 0 if that is not known."""

    @property
    def not_selected(self) -> int:
        """How many pending tiles are in frames that the user did not select."""

    @property
    def complete(self) -> bool:
        """Whether there is nothing to do."""

    @property
    def phase(self) -> str:
        """What is being done now, for people; empty for a render of tiles."""

    @property
    def remark(self) -> str:
        """A warning to print before the work begins; usually empty."""

    @property
    def expected_seconds(self) -> float | None:
        """How long a tile or step may take, from measurements; None if there are none."""

    def begin(self) -> list[Work]:
        """The work that can be rendered at once. Call it while holding the lease."""

    def after(self, work: Work, done: Done) -> list[Work]:
        """The work that can be rendered because `work` is committed."""

    def missing(self) -> list[Work]:
        """The work that can be rendered according to a new listing of the store."""

    def cancel(self) -> None:
        """Stop waiting for a store that does not answer; may be called from another thread."""

    def blocked(self, given_up: Collection[Work]) -> int:
        """How much work is left besides `given_up`, when nothing can be rendered."""


class TileQueue:
    """All pending tiles, in the grid's order or in that of the selection."""

    noun = "tile"
    refinement_reader = None
    phase = ""

    def __init__(self, store: Store, selection: Selection, remark: str = "") -> None:
        self.remark = remark
        self._store = store
        self._selection = selection
        committed = store.committed()
        selected = selection.of(store.grid.tiles())
        self._pending = [tile for tile in selected if tile not in committed]
        self.total = len(selected)
        self.done = self.total - len(self._pending)
        self.points = sum(store.grid.size(tile) for tile in self._pending)
        self.not_selected = store.grid.tile_count - len(committed) - len(self._pending)
        self._sample = sample(committed, _SAMPLE_TILES)

    @property
    def complete(self) -> bool:
        return not self._pending

    @functools.cached_property
    def expected_seconds(self) -> float | None:
        """The longest time in a sample of the tiles committed before."""
        return max(seconds_of(self._store, self._sample).values(), default=None)

    def begin(self) -> list[Work]:
        return [*self._pending]

    def after(self, work: Work, done: Done) -> list[Work]:
        return []

    def missing(self) -> list[Work]:
        return [*self._selection.of(patiently(self._store.pending))]

    def cancel(self) -> None: ...

    def blocked(self, given_up: Collection[Work]) -> int:
        return 0


def sample(committed: Collection[Tile], about: int) -> list[Tile]:
    """At least `about` of the committed tiles, at most twice as many, evenly spaced."""
    return sorted(committed)[:: max(1, len(committed) // about)]


def seconds_of(store: Store, tiles: Iterable[Tile]) -> dict[Tile, float]:
    """How long committed tiles took, for an estimate, so nothing is tried twice.

    Tiles with damaged facts are left out. If the store cannot be reached, the rest is left out.
    """
    found: dict[Tile, float] = {}
    for tile in tiles:
        try:
            found[tile] = store.tile_facts(tile)[0]
        except StoreError:
            continue  # damaged: `verify` reports it
        except OSError:
            break
    return found


def patiently(ask: Callable[[], T], cancelled: threading.Event | None = None) -> T:
    """What `ask` returns, after a few more tries if the store cannot be reached.

    Args:
        ask: reads or writes the store.
        cancelled: ends the waiting between two tries.

    Raises:
        ClusterError: the store cannot be reached for half a minute, or `cancelled` is set.
    """
    cancelled = cancelled or threading.Event()
    for seconds in _PATIENCE:
        with contextlib.suppress(OSError):
            return ask()
        if cancelled.wait(seconds):
            break
    try:
        return ask()
    except OSError as error:
        raise ClusterError(
            f"the store cannot be reached: {error.strerror or error}. Everything committed is "
            "kept; lossatlas resume goes on"
        ) from None
