"""The driver: from a spec or a store to a finished store, whatever happens in between.

It is disposable: everything it needs to go on is in the store, so it may be stopped or killed at
any moment and another one takes over.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from cluster import local, loop, phrases, quarantine, team
from cluster.crew import RayCrew
from cluster.errors import ClusterError
from cluster.interrupts import EXIT_CODE, Interrupts
from cluster.lease import Lease
from cluster.progress import ProgressView
from cluster.scheduler import Rules, Scheduler
from cluster.selection import Selection
from cluster.serial import SerialCrew
from cluster.team import DeviceChoice, Team
from pipeline.grid import Grid, Tile
from pipeline.spec import RenderSpec
from pipeline.store import Store

_RELISTINGS = 3
_SAMPLE_TILES = 20


@dataclass(frozen=True)
class Choices:
    """What the user chose for running, as against what is rendered."""

    executor: Literal["ray", "serial"] = "ray"
    workers: int | None = None
    device: DeviceChoice = "auto"
    address: str | None = None
    quiet: bool = False
    selection: Selection = field(default_factory=Selection)


@dataclass(frozen=True)
class _Job:
    """One render to drive: its inputs, and how to get at its store once the team is known."""

    inputs: Any
    store_of: Callable[[Team], tuple[Store, bool]]


def render(spec: RenderSpec, choices: Choices, say: Callable[[str], None]) -> int:
    """Render `spec`, or go on with it where its store exists; returns the exit code.

    Args:
        spec: what to render.
        choices: how to run it.
        say: takes the lines a user should read at the end.

    Raises:
        LossatlasError: the user's mistakes, a store in use, or one that cannot be written.
    """
    with Interrupts() as interrupts:
        try:
            from pipeline import plan, prepare

            prepared = prepare.prepare(spec)

            def store_of(workers: Team) -> tuple[Store, bool]:
                def make_grid() -> Grid:
                    device, count = workers.device.name, workers.workers
                    seconds = plan.measure(prepared, device)
                    grid = plan.resolve_grid(prepared, seconds, count)
                    plan.plan(prepared, grid, seconds, count, device)  # refuses what cannot be
                    return grid

                return prepare.create_or_match(prepared, make_grid)

            job = _Job(prepared.inputs, store_of)
            return _drive(job, choices, interrupts, say)
        except KeyboardInterrupt:
            written = Store.exists(spec.store)
            say(
                f"stopped; go on with: lossatlas resume {phrases.place(spec.store)}"
                if written
                else "stopped before anything was written"
            )
            return EXIT_CODE


def resume(url: str, choices: Choices, say: Callable[[str], None]) -> int:
    """Go on with the render whose store is at `url`; returns the exit code.

    Raises:
        LossatlasError: no such store, its inputs are gone or changed, or it is in use.
    """
    with Interrupts() as interrupts:
        try:
            store = Store.open(url, writable=True)
            if not store.pending():
                return _nothing_to_do(store, say)
            from pipeline import prepare

            prepared = prepare.prepare_resume(store)
            job = _Job(prepared.inputs, lambda _: (store, True))
            return _drive(job, choices, interrupts, say)
        except KeyboardInterrupt:
            say(f"stopped; go on with: lossatlas resume {phrases.place(url)}")
            return EXIT_CODE


def _drive(job: _Job, choices: Choices, interrupts: Interrupts, say: Callable[[str], None]) -> int:
    with contextlib.ExitStack() as stack:
        ray = stack.enter_context(local.joined(choices.address)) if choices.address else None
        workers = team.choose(choices.workers, choices.device, ray)
        if choices.executor == "serial":
            workers = Team(1, workers.device, workers.gpus)
        store, was_there = job.store_of(workers)
        place = phrases.place(store.url)
        run = _Run(store, was_there, choices, interrupts)
        if not run.pending:
            return _nothing_to_do(store, say)
        try:
            run.drive(job.inputs, workers, ray)
        except KeyboardInterrupt:
            interrupts.requested = True
    if interrupts.requested and not run.complete:
        done = len(store.committed())
        say(
            f"stopped; {done:,} of {phrases.plural(store.grid.tile_count, 'tile')} are done and "
            f"kept. Go on with: lossatlas resume {place}"
        )
        return EXIT_CODE
    return run.conclude(place, say)


class _Run:
    """One driver's time on one store."""

    def __init__(
        self, store: Store, was_there: bool, choices: Choices, interrupts: Interrupts
    ) -> None:
        self._store = store
        self._choices = choices
        self._interrupts = interrupts
        choices.selection.check(store.frames)
        self.pending = self._selected(store.pending())
        self.complete = False
        total = len(self._selected(store.grid.tiles()))
        self._view = ProgressView(
            store.attrs.get("spec", {}).get("name", phrases.place(store.url)),
            total - len(self.pending),
            total,
            sum(store.grid.size(tile) for tile in self.pending),
            choices.quiet,
        )
        if was_there and not choices.quiet and self.pending:
            self._view.warned(
                f"going on with {phrases.place(store.url)}: {total - len(self.pending):,} of "
                f"{phrases.plural(total, 'tile')} are done"
            )
        self._noted = set(quarantine.listed(store))
        self._given_up: dict[Tile, tuple[str, ...]] = {}
        self._speed = 0.0
        self._seconds = 0.0
        self._stopped: str | None = None

    def drive(self, inputs: Any, workers: Team, ray: Any) -> None:
        """Hold the lease, bring up the crew, render, and take everything down again."""
        with contextlib.ExitStack() as stack:
            lease = Lease(self._store, workers.workers)
            lease.take()
            stack.callback(lease.release)
            stack.callback(self._sweep, lease)
            stack.enter_context(self._view)
            crew = stack.enter_context(self._crew(inputs, workers, ray))
            # Ray's own calls must not be cut in half; the loop looks at `requested` instead.
            self._interrupts.raising = self._choices.executor == "serial"
            if self._interrupts.requested:
                return
            scheduler = Scheduler(
                self.pending,
                workers.workers,
                Rules(),
                expected_seconds=_measured_seconds(self._store),
            )
            try:
                self._loop(scheduler, crew, lease)
            finally:
                if self._interrupts.requested:
                    self._view.stopping()

    def _loop(self, scheduler: Scheduler, crew: loop.Crew, lease: Lease) -> None:
        def stop() -> bool:
            return self._interrupts.requested or lease.lost

        for _ in range(_RELISTINGS):
            loop.run(scheduler, crew, self, stop)
            if lease.lost:
                raise ClusterError(
                    f"another driver took over {self._store.url}; this one stops. Everything "
                    "committed is kept"
                )
            self._stopped = scheduler.stopped
            if not scheduler.finished:
                return
            # The store is the truth: what is not listed there is not done.
            pending = self._selected(self._store.pending())
            missing = [tile for tile in pending if tile not in self._given_up]
            self.complete = not missing
            if self.complete:
                return
            self.warned(f"{phrases.plural(len(missing), 'tile')} not in the store; once more")
            scheduler.add(missing)
        self._stopped = "tiles that were committed are not in the store's listing"

    def conclude(self, place: str, say: Callable[[str], None]) -> int:
        """Say how it ended; returns the exit code.

        Raises:
            ClusterError: the render stopped short.
        """
        if self._stopped is not None:
            raise ClusterError(
                f"{self._stopped}. Everything committed is kept; lossatlas resume {place} goes on"
            )
        rendered = (
            f"{self._view.points:,} points in {phrases.duration(self._seconds)}, "
            f"{phrases.rate(self._speed)}"
        )
        total = self._store.grid.tile_count
        left = len(self._store.pending()) - len(self._given_up)
        if self._given_up:
            say(f"{place}: {total - len(self._given_up):,} of {total:,} tiles done ({rendered})")
            say(f"{phrases.plural(len(self._given_up), 'tile')} quarantined:")
            for tile, reasons in sorted(self._given_up.items()):
                say(f"  {tile}: {reasons[-1]}")
            say(f"try them again: lossatlas resume {place}")
            return 3
        if not self._choices.quiet and left:
            say(f"{place}: {total - left:,} of {total:,} tiles done ({rendered})")
            say(f"the frames asked for are finished; the rest: lossatlas resume {place}")
        elif not self._choices.quiet:
            say(f"{place}: {phrases.plural(total, 'tile')} done ({rendered})")
            say(_next_step(place))
        return 0

    # Observer

    def rendered(self, tile: Tile, points: int, seconds: float) -> None:
        self._view.rendered(tile, points, seconds)
        if tile in self._noted:
            with contextlib.suppress(OSError):  # status ignores the notes of committed tiles
                quarantine.lift(self._store, tile)

    def quarantined(self, tile: Tile, reasons: tuple[str, ...]) -> None:
        self._given_up[tile] = reasons
        self._view.quarantined(tile, reasons)
        try:
            quarantine.put(self._store, tile, reasons)
        except OSError as error:
            self.warned(f"the quarantine of tile {tile} could not be noted: {error}")

    def warned(self, text: str) -> None:
        self._view.warned(text)

    def ticked(self, scheduler: Scheduler) -> None:
        self._view.ticked(scheduler)
        self._speed, self._seconds = self._view.points_per_second(), self._view.seconds()

    # Inside

    def _selected(self, tiles: Iterable[Tile]) -> list[Tile]:
        return self._choices.selection.of(tiles)

    @contextlib.contextmanager
    def _crew(self, inputs: Any, workers: Team, ray: Any) -> Any:
        from pipeline.task import TileRenderer

        crew: loop.Crew
        with contextlib.ExitStack() as stack:
            url = self._store.url
            if self._choices.executor == "serial":
                crew = SerialCrew(TileRenderer, inputs, url, workers.device.name)
            else:
                if ray is None:
                    ray = stack.enter_context(
                        local.private(workers.workers, workers.gpus, _bytes(inputs))
                    )
                crew = RayCrew(ray, TileRenderer, inputs, url, workers.device)
            stack.callback(crew.close)
            yield crew

    def _sweep(self, lease: Lease) -> None:
        """Leave nothing half-written by workers that were stopped in the middle."""
        if not lease.lost:
            with contextlib.suppress(OSError):
                self._store.sweep()


def _nothing_to_do(store: Store, say: Callable[[str], None]) -> int:
    place = phrases.place(store.url)
    if store.pending():
        say(f"{place}: the frames asked for are finished; the rest: lossatlas resume {place}")
        return 0
    say(f"{place}: all {phrases.plural(store.grid.tile_count, 'tile')} are done; nothing to do")
    say(_next_step(place))
    return 0


def _next_step(place: str) -> str:
    name = place.rstrip("'/").rpartition("/")[2].removesuffix(".zarr")
    return f"next: lossatlas export poster {place} {name.strip(chr(39))}.png"


def _measured_seconds(store: Store) -> float | None:
    """The longest of a sample of tiles committed before; None where there are none."""
    tiles = sorted(store.committed())
    sample = tiles[:: max(1, len(tiles) // _SAMPLE_TILES)]
    return max((store.tile_facts(tile)[0] for tile in sample), default=None)


def _bytes(inputs: Any) -> int:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(inputs, protocol=5, buffer_callback=buffers.append)
    return len(head) + sum(buffer.raw().nbytes for buffer in buffers)
