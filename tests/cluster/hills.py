"""Hills to refine: stores without a network behind them, and simulated workers that render."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster.scheduling.event_loop import run
from cluster.scheduling.events import Done, Event, Failed, Lost
from cluster.scheduling.scheduler import Rules, Scheduler
from cluster.scheduling.step_queue import StepQueue
from cluster.scheduling.successors import Ready
from pipeline.geometry.grid import Extent, Grid, Step, Work
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.refine_spec import RefineSpec
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.step import Refinement
from pipeline.store.store import Store
from pipeline.task import StepRenderer
from tests.cluster.test_event_loop import SimulatedWorkers
from tests.cluster.watcher import Watcher

GRID = Grid(width=65, height=65, tile=33)
FRAME = FrameFacts(Extent(-1.0, 1.0, -1.0, 1.0), (Anchor("θ", 0, 0, 0),), None)
ASKED = RefineSpec(tolerance=0.01, audit=60, beyond=0.1)
# The numbers of the first audit, and of composing after it, on such a grid.
AUDIT = Schedule.begin(GRID, ASKED).last
COMPOSE = AUDIT + 1


def create(path: Path, grid: Grid = GRID) -> Store:
    """An empty store to refine in, with losses and their standard errors."""
    frames = [FRAME] * grid.frames
    return Store.create(str(path), grid, ["train"], ["loss", "loss_stderr"], frames, {}, True)


def hills(frame: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """A loss with smooth slopes and one kink, so that some points can be predicted and some not."""
    return 1.5 + np.sin(4 * x + 0.3 * frame) * np.cos(3 * y) + np.abs(x - y)


class HillRenderer(StepRenderer):
    """Renders steps as workers do, with a formula in place of a network."""

    def __init__(self, store: Store) -> None:
        self._store = Store.open(store.url, writable=True)
        self._worker = 0
        self._evaluate = _evaluated  # type: ignore[assignment]


def _evaluated(frame: int, coordinates: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    loss = hills(frame, *coordinates.T).astype("f4")[None]
    return {"loss": loss, "loss_stderr": loss / 10}


class HillWorkers(SimulatedWorkers):
    """Workers that do render, in an order and with accidents that the seed decides."""

    def __init__(self, store: Store, seed: int = 0, accidents: float = 0.0) -> None:
        super().__init__([])
        self._random = random.Random(seed)
        self._accidents = accidents
        self._renderer = HillRenderer(store)
        self.rendered: list[tuple[float, Step]] = []

    def render(self, worker: int, step: Step) -> None:  # type: ignore[override]
        dice = self._random
        seconds = self.seconds_of(step)
        if dice.random() < self._accidents:
            # Killed before it did anything, or between its commit and its report.
            if dice.random() < 0.5:
                self._renderer(step)
            self._at(seconds, Lost(worker, "died"))
        elif dice.random() < 0.5:
            self._at(seconds, self._event(worker, step))
        else:
            self._count += 1
            heapq.heappush(
                self._events,
                (self.now + seconds, self._count, _Later(worker, step)),  # type: ignore[arg-type]
            )
        self._busy_with(step)

    def seconds_of(self, step: Step) -> float:
        return self._random.choice([1.0, 1.0, 2.0, 40.0]) if self._accidents else 1.0

    def wait(self, seconds: float) -> list[Event]:
        events = super().wait(seconds)
        return [
            self._event(each.worker, each.step) if isinstance(each, _Later) else each
            for each in events
        ]

    def _event(self, worker: int, step: Step) -> Event:
        try:
            facts = self._renderer(step)
        except Exception as error:
            return Failed(worker, str(error))
        return Done(worker, facts.points, 1.0)

    def _busy_with(self, step: Step) -> None:
        self.rendered.append((self.now, step))


class _Later:
    """Work that a worker does when its time is over, as a straggler does."""

    def __init__(self, worker: int, step: Step) -> None:
        self.worker = worker
        self.step = step


class Observer(Watcher):
    """Remembers the queue and the scheduler, too."""

    def __init__(self, steps: StepQueue, scheduler: Scheduler) -> None:
        super().__init__()
        self.steps = steps
        self.scheduler = scheduler


class ImmediateSuccessors:
    """Asks the queue at once, without a thread: simulated time does not pass meanwhile."""

    def __init__(self, steps: StepQueue) -> None:
        self._steps = steps
        self._ready: list[Ready] = []

    @property
    def pending(self) -> bool:
        return bool(self._ready)

    def completed(self, work: Work, done: Done) -> None:
        self._ready.append(Ready(self._steps.after(work, done), self._steps.total, "", None))

    def collect(self, seconds: float) -> list[Ready]:
        ready, self._ready = self._ready, []
        return ready


def refine(
    store: Store,
    simulated: SimulatedWorkers,
    asked: RefineSpec | None = ASKED,
    workers: int = 3,
    keep_schedule: bool = False,
    stop: Callable[[Observer], bool] = lambda observer: False,
) -> Observer:
    """Drive a refinement with simulated workers, to its end or until `stop`."""
    steps = StepQueue(store, asked, keep_schedule)
    scheduler = Scheduler(steps.begin(), workers, Rules(hopeless_tries=10**6))
    observer, successors = Observer(steps, scheduler), ImmediateSuccessors(steps)
    run(scheduler, simulated, observer, lambda: stop(observer), simulated.clock, successors)
    return observer


def evaluated_points(store: Store) -> int:
    """How many points of all frames were evaluated, by what is committed."""
    records = Refinement(store).records
    return sum(records.counts(records.committed()))


def content(store: Store) -> dict[str, bytes]:
    """Everything in a local store that a refined render determines, by key."""
    root = Path(store.url)
    arrays = ("loss", "loss_stderr", "error", "level", "predicted_error", "done")
    folders = [f"{name}/c" for name in (*arrays, "evaluated/points", "evaluated/values")]
    found = {
        str(path.relative_to(root)): path.read_bytes()
        for folder in (*folders, ".lossatlas/refine")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }
    found["schedule"] = (root / ".lossatlas" / "refine.json").read_bytes()
    records = Refinement(store).records
    counts = {str(s): records.facts(s).points for s in sorted(records.committed())}
    return found | {"counts": repr(counts).encode()}
