"""Progress on stderr: of a render, of a training, and of anything that is counted.

On a terminal the progress is shown in place; elsewhere it is a line now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from cluster.monitor.log import RenderLog
from pipeline import format
from pipeline.geometry.grid import Step, Work, work_named
from pipeline.naming import shown

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from cluster.scheduling.events import Done
    from cluster.scheduling.scheduler import Scheduler
    from pipeline.training.session import Progress

_LINE_SECONDS = 10.0
_LINE_FRACTION = 0.1
_LINE_AT_LEAST_SECONDS = 1.0
_TRAINING_LINES = 20


class CountProgress:
    """`film: 12/240 pictures 5 %`, called with the count so far and the total.

    Args:
        what: is being made.
        things: are counted.
        quiet: count, but print nothing.
    """

    def __init__(self, what: str, things: str, quiet: bool = False) -> None:
        self._what, self._things, self._quiet = what, things, quiet
        self._printed_at = time.monotonic()
        self.done = 0

    def __call__(self, done: int, of: int) -> None:
        self.done = done
        if self._quiet:
            return
        text = f"{self._what}: {done:,}/{of:,} {self._things} {100 * done // of} %"
        now = time.monotonic()
        if _in_place(text, is_last=done == of) or now - self._printed_at < _LINE_SECONDS:
            return
        self._printed_at = now
        print(text, file=sys.stderr, flush=True)


class TrainingProgress:
    """`fit: epoch 1.2/3 · loss 0.5 · lr 0.1 · ETA 3 s`, called with a training's progress."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = 0.0
        self._first: int | None = None

    def __call__(self, progress: Progress) -> None:
        if self._first is None:
            self._first = progress.step
        text = (
            f"{self._what}: epoch {progress.epoch:.1f}/{progress.epochs} · "
            f"loss {progress.loss:.4f} · lr {progress.lr:.2g}{self._eta(progress)}"
        )
        share, is_last = progress.step / progress.steps, progress.step == progress.steps
        if _in_place(text, is_last) or (share < self._next and not is_last):
            return
        self._next = share + 1 / _TRAINING_LINES
        print(text, file=sys.stderr, flush=True)

    def _eta(self, progress: Progress) -> str:
        made = progress.step - (self._first or 0)
        if made <= 0 or progress.step == progress.steps:
            return ""
        seconds = progress.seconds / made * (progress.steps - progress.step)
        return f" · ETA {format.duration(seconds)}"


def clear_line() -> None:
    """Remove a line that was written in place."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")


def _in_place(text: str, is_last: bool) -> bool:
    """Write over the current line of a terminal; False if stderr is no terminal."""
    if not sys.stderr.isatty():
        return False
    print(f"\r\x1b[K{text}", end="\n" if is_last else "", file=sys.stderr, flush=True)
    return True


@dataclass(frozen=True)
class PassProgress:
    """The progress of a refinement: its present pass, and how many points are evaluated."""

    phase: str
    evaluated: int
    points: int

    def __str__(self) -> str:
        from pipeline.refinement.summary import percent

        share = f"{percent(self.evaluated / self.points)} evaluated"
        return f"{self.phase}, {share}" if self.phase else share


class ProgressView:
    """Counts what a render does and shows it; receives the events of the event loop."""

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
        self._log = RenderLog(name, as_json, self._stream)
        self._clock = clock
        self._working_since: float | None = None
        self._printed_at = clock()
        self._printed_fraction = tiles_done / max(1, tiles_total)
        self.points = 0
        self.tiles = 0
        self._retries = self._quarantined = self._workers = self._starting = 0
        self._pass: PassProgress | None = None
        self._bar: Bar | None = None

    def __enter__(self) -> ProgressView:
        if not self._quiet and not self._as_json and self._stream.isatty():
            self._bar = _bar(self._stream)
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

    # Events

    def rendered(self, work: Work, done: Done) -> None:
        self._tiles_done += 1
        self.tiles += 1
        self.points += done.points
        self._points_left -= done.points

    def quarantined(self, work: Work, reasons: tuple[str, ...]) -> None:
        self._quarantined += 1
        noun = "step" if isinstance(work, Step) else "tile"
        text = f"{work_named(work, noun)} given up after {len(reasons)} tries: {reasons[-1]}"
        self._warn(text, "quarantined", {"tile": str(work), "reasons": list(reasons)})

    def total(self, tiles: int) -> None:
        """Correct the number of all tiles."""
        if tiles != self._tiles_total:
            self._tiles_total = tiles
            if self._bar is not None:
                self._bar.update(self._task, total=tiles)

    def show_pass(self, now: PassProgress) -> None:
        """Show the progress of a refinement."""
        self._pass = now

    def warn(self, text: str) -> None:
        """Print one line that a user should read, above the bar; also when quiet."""
        self._warn(text, "warning", {"text": text})

    def ticked(self, scheduler: Scheduler) -> None:
        now = self._clock()
        if self._working_since is None and scheduler.alive:
            self._working_since = now
        self._retries = scheduler.retries
        self._workers, self._starting = scheduler.alive, scheduler.starting
        if self._bar is not None:
            self._bar.update(self._task, completed=self._tiles_done, facts=self._facts())
        elif not self._quiet:
            self._log_progress(now)

    def reported(self, facts: dict[str, Any]) -> None:
        """Log what the render cost, as a JSON event."""
        self._log.progress("", "report", facts)

    def refined(self, facts: dict[str, Any]) -> None:
        """Log what was evaluated and what the audit found, as a JSON event."""
        self._log.progress("", "refined", facts)

    def stopping(self) -> None:
        """Show that ^C was received; ending the workers takes a moment."""
        if self._bar is not None:
            self._bar.update(self._task, facts="stopping")

    # Inside

    @property
    def _fraction(self) -> float:
        return self._tiles_done / max(1, self._tiles_total)

    def seconds(self) -> float:
        """Seconds since the first worker was ready."""
        return 0.0 if self._working_since is None else self._clock() - self._working_since

    def points_per_second(self) -> float:
        """The speed over the time with workers; 0 before the first tile."""
        seconds = self.seconds()
        return self.points / seconds if self.points and seconds > 0 else 0.0

    def _facts(self) -> str:
        count = f"{self._tiles_done:,}/{self._tiles_total:,} {self._noun}s"
        parts = [f"{count} {format.percent(self._fraction)}"]
        if self._pass is not None:
            parts.append(str(self._pass))
        speed = self.points_per_second()
        if speed:
            parts.append(format.rate(speed))
            if self._points_left > 0:
                parts.append(f"ETA {format.duration(self._points_left / speed)}")
        parts.append(
            format.plural(self._workers, "worker") if self._workers else "starting workers"
        )
        if self._retries:
            parts.append(format.plural(self._retries, "retry", "retries"))
        if self._quarantined:
            parts.append(f"{self._quarantined:,} quarantined")
        return " · ".join(parts)

    def _log_progress(self, now: float) -> None:
        waited = now - self._printed_at
        moved = self._fraction - self._printed_fraction
        if waited < _LINE_SECONDS and not (
            moved >= _LINE_FRACTION and waited >= _LINE_AT_LEAST_SECONDS
        ):
            return
        self._printed_at, self._printed_fraction = now, self._fraction
        speed, at = self.points_per_second(), self._pass
        has_eta = at is None and speed > 0
        facts: dict[str, Any] = {
            "tiles_done": self._tiles_done,
            "tiles": self._tiles_total,
            "points_per_second": round(speed, 3),
            "eta_seconds": round(self._points_left / speed, 1) if has_eta else None,
            "workers": self._workers,
            "workers_starting": self._starting,
            "retries": self._retries,
            "quarantined": self._quarantined,
        }
        if at is not None:
            facts |= {"phase": at.phase, "points_evaluated": at.evaluated}
        self._log.progress(self._facts(), "progress", facts)

    def _warn(self, text: str, event: str, facts: dict[str, Any]) -> None:
        if self._bar is not None:
            self._bar.console.print(f"lossatlas: {shown(text)}", markup=False, soft_wrap=True)
        else:
            self._log.warn(text, event, facts)


def _bar(stream: TextIO) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24, complete_style="cyan", finished_style="green"),
        TextColumn("{task.fields[facts]}", markup=False),
        console=Console(file=stream, highlight=False),
        refresh_per_second=4,
        transient=True,
    )
