"""What a user sees while a render runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cluster import format
from cluster.scheduling.event_loop import Done
from cluster.scheduling.scheduler import Scheduler
from pipeline.geometry.grid import Work
from pipeline.naming import shown
from pipeline.refinement.summary import percent

_LINE_SECONDS = 10.0
_LINE_FRACTION = 0.1
_LINE_AT_LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class PassProgress:
    """How far a refinement is: the pass it is at, and points evaluated, of all."""

    phase: str
    evaluated: int
    points: int

    def __str__(self) -> str:
        share = f"{percent(self.evaluated / self.points)} evaluated"
        return f"{self.phase}, {share}" if self.phase else share


class ProgressView:
    """Counts what a render does and shows it on stderr: an `Observer` of the event loop."""

    def __init__(
        self,
        name: str,
        tiles_done: int,
        tiles_total: int,
        points_left: int,
        quiet: bool,
        as_json: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        noun: str = "tile",
    ) -> None:
        self._name = name
        self._tiles_done = tiles_done
        self._tiles_total = tiles_total
        self._points_left = points_left
        self._quiet = quiet
        self._as_json = as_json
        self._noun = noun
        self._stream = stream or sys.stderr
        self._clock = clock
        self._working_since: float | None = None
        self._printed_at = clock()
        self._printed_fraction = tiles_done / max(1, tiles_total)
        self.points = 0
        self.tiles = 0
        self._retries = self._quarantined = self._workers = self._starting = 0
        self._refining: PassProgress | None = None
        self._bar: Progress | None = None

    def __enter__(self) -> ProgressView:
        if not self._quiet and not self._as_json and self._stream.isatty():
            console = Console(file=self._stream, highlight=False)
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24, complete_style="cyan", finished_style="green"),
                TextColumn("{task.fields[facts]}", markup=False),
                console=console,
                refresh_per_second=4,
                transient=True,
            )
            self._task = self._bar.add_task(
                self._name,
                total=self._tiles_total,
                completed=self._tiles_done,
                facts="starting workers",
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    # Observer

    def rendered(self, work: Work, done: Done) -> None:
        self._tiles_done += 1
        self.tiles += 1
        self.points += done.points
        self._points_left -= done.points

    def quarantined(self, work: Work, reasons: tuple[str, ...]) -> None:
        self._quarantined += 1
        if self._as_json:
            self._event("quarantined", tile=str(work), reasons=list(reasons))
            return
        self.warn(f"{self._noun} {work} given up after {len(reasons)} tries: {reasons[-1]}")

    def total(self, tiles: int) -> None:
        """How many there are in all, where that turned out to be another number."""
        if tiles != self._tiles_total:
            self._tiles_total = tiles
            if self._bar is not None:
                self._bar.update(self._task, total=tiles)

    def show_pass(self, now: PassProgress) -> None:
        """How far a refinement is."""
        self._refining = now

    def warn(self, text: str) -> None:
        """One line a user should read, above the bar; also when quiet."""
        if self._as_json:
            self._event("warning", text=text)
            return
        line = f"lossatlas: {shown(text)}"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)

    def ticked(self, scheduler: Scheduler) -> None:
        now = self._clock()
        if self._working_since is None and scheduler.alive:
            self._working_since = now
        self._retries = scheduler.retries
        self._workers, self._starting = scheduler.alive, scheduler.starting
        if self._bar is not None:
            self._bar.update(self._task, completed=self._tiles_done, facts=self._facts())
        elif not self._quiet:
            self._print_progress(now)

    def reported(self, facts: dict[str, Any]) -> None:
        """What the render cost in the end, for who reads the log by machine."""
        self._event("report", **facts)

    def refined(self, facts: dict[str, Any]) -> None:
        """What was evaluated and what the audit found, for who reads the log by machine."""
        self._event("refined", **facts)

    def stopping(self) -> None:
        """Answer the user's ^C at once; taking the workers down takes a moment."""
        if self._bar is not None:
            self._bar.update(self._task, facts="stopping")

    # Inside

    @property
    def _fraction(self) -> float:
        return self._tiles_done / max(1, self._tiles_total)

    def seconds(self) -> float:
        """Since the first worker was ready."""
        return 0.0 if self._working_since is None else self._clock() - self._working_since

    def points_per_second(self) -> float:
        """Over the time there were workers; 0 before the first tile."""
        seconds = self.seconds()
        return self.points / seconds if self.points and seconds > 0 else 0.0

    def _facts(self) -> str:
        count = f"{self._tiles_done:,}/{self._tiles_total:,} {self._noun}s"
        parts = [f"{count} {format.percent(self._fraction)}"]
        if self._refining is not None:
            parts.append(str(self._refining))
        speed = self.points_per_second()
        if speed:
            parts.append(format.rate(speed))
            if self._points_left > 0:
                parts.append(f"ETA {format.duration(self._points_left / speed)}")
        parts.append(
            format.plural(self._workers, "worker") if self._workers else "starting workers"
        )
        if self._retries:
            parts.append("1 retry" if self._retries == 1 else f"{self._retries:,} retries")
        if self._quarantined:
            parts.append(f"{self._quarantined:,} quarantined")
        return " · ".join(parts)

    def _print_progress(self, now: float) -> None:
        waited = now - self._printed_at
        moved = self._fraction - self._printed_fraction
        if waited < _LINE_SECONDS and not (
            moved >= _LINE_FRACTION and waited >= _LINE_AT_LEAST_SECONDS
        ):
            return
        self._printed_at, self._printed_fraction = now, self._fraction
        if self._as_json:
            speed = self.points_per_second()
            at = self._refining
            known = at is None and speed > 0
            refining = {} if at is None else {"phase": at.phase, "points_evaluated": at.evaluated}
            self._event(
                "progress",
                tiles_done=self._tiles_done,
                tiles=self._tiles_total,
                points_per_second=round(speed, 3),
                eta_seconds=round(self._points_left / speed, 1) if known else None,
                workers=self._workers,
                workers_starting=self._starting,
                retries=self._retries,
                quarantined=self._quarantined,
                **refining,
            )
            return
        print(f"{self._name}: {self._facts()}", file=self._stream, flush=True)

    def _event(self, event: str, **facts: Any) -> None:
        print(event_line(self._name, event, **facts), file=self._stream, flush=True)


def event_line(run: str, event: str, **facts: Any) -> str:
    """One JSON object: time in seconds since the epoch, run, event and its facts."""
    return json.dumps({"time": round(time.time(), 3), "run": run, "event": event} | facts)


def line_printer(
    print_line: Callable[[str], None], run: str, as_json: bool
) -> Callable[[str], None]:
    """`print_line`, or a function that prints each line as a JSON event of `run`."""
    if not as_json:
        return print_line
    return lambda text: print_line(event_line(run, "message", text=text))
