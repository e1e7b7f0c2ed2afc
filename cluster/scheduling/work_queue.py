"""What there is to do in a store, in the order it can be taken up."""

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
        """Looks at the store where it is refined, and has read what this here has."""

    @property
    def total(self) -> int:
        """How many there are, as far as that is known."""

    @property
    def done(self) -> int:
        """How many of them were committed at the first look."""

    @property
    def points(self) -> int:
        """How many grid points were left at the first look; 0 where that is not known."""

    @property
    def elsewhere(self) -> int:
        """How many tiles are not done and not asked for."""

    @property
    def complete(self) -> bool:
        """Whether there is nothing to do, by the first look."""

    @property
    def phase(self) -> str:
        """What is being done now, in words; empty where there is one thing to do alone."""

    @property
    def remark(self) -> str:
        """What its user should know beforehand; empty as a rule."""

    @property
    def expected_seconds(self) -> float | None:
        """How long one may take, from what was measured so far; None where nothing was."""

    def begin(self) -> list[Work]:
        """Take charge, under the lease; what can be rendered at once."""

    def after(self, work: Work, done: Done) -> list[Work]:
        """What can be rendered now that `work` is committed."""

    def missing(self) -> list[Work]:
        """What can be rendered by a fresh listing of the store."""

    def cancel(self) -> None:
        """Stop waiting for a store that does not answer; may be called from another thread."""

    def waiting(self, given_up: Collection[Work]) -> int:
        """How many are not done besides `given_up`, though nothing can be rendered."""


class TileQueue:
    """Every tile once, in the grid's order."""

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
        self.elsewhere = store.grid.tile_count - len(committed) - len(self._pending)
        self._sample = sample(committed, _SAMPLE_TILES)

    @property
    def complete(self) -> bool:
        return not self._pending

    @functools.cached_property
    def expected_seconds(self) -> float | None:
        """The longest of a sample of tiles committed before."""
        return max(seconds_of(self._store, self._sample).values(), default=None)

    def begin(self) -> list[Work]:
        return [*self._pending]

    def after(self, work: Work, done: Done) -> list[Work]:
        return []

    def missing(self) -> list[Work]:
        return [*self._selection.of(patiently(self._store.pending))]

    def cancel(self) -> None: ...

    def waiting(self, given_up: Collection[Work]) -> int:
        return 0


def sample(committed: Collection[Tile], about: int) -> list[Tile]:
    """So many of the committed tiles or up to twice as many, evenly apart."""
    return sorted(committed)[:: max(1, len(committed) // about)]


def seconds_of(store: Store, tiles: Iterable[Tile]) -> dict[Tile, float]:
    """What committed tiles took, as far as the store says: an estimate is worth no waiting.

    Tiles whose facts are damaged are left out, and all that follow where it cannot be reached.
    """
    found: dict[Tile, float] = {}
    for tile in tiles:
        try:
            found[tile] = store.tile_facts(tile)[0]
        except StoreError:
            continue  # damaged: verify's business
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
