"""A session: the time that one driver works on one store, from its lease to its report."""

from __future__ import annotations

import contextlib
import functools
import pickle
import time
from collections.abc import Callable
from typing import Any

from cluster import shell
from cluster.driver.note_writer import NoteWriter
from cluster.errors import ClusterError
from cluster.lease import Lease
from cluster.monitor import report
from cluster.monitor.metrics import Metrics
from cluster.monitor.progress import PassProgress, ProgressView
from cluster.monitor.report import Report
from cluster.options import Options
from cluster.scheduling import event_loop, quarantine
from cluster.scheduling.events import Done
from cluster.scheduling.refinement_progress import all_text, done_text, summary_lines
from cluster.scheduling.scheduler import Rules, Scheduler
from cluster.scheduling.successors import BackgroundSuccessors, NoSuccessors, Ready, Successors
from cluster.scheduling.work_queue import WorkQueue
from cluster.workers import devices, local
from cluster.workers.devices import WorkerPlan
from cluster.workers.interrupts import Interrupts
from cluster.workers.serial import SerialWorkers
from cluster.workers.workers import RayWorkers
from pipeline import format, versions
from pipeline.geometry.grid import MarkBlock, Work, work_named
from pipeline.store.store import Store

_RELISTINGS = 3
_RESIZE_SECONDS = 10.0
_REPORT_SECONDS = 60.0
# Nodes of an autoscaling cluster may take many minutes to come, and large networks to be compiled.
_SLOW_START = Rules(start_deadline=1800.0)


class Session:
    """One driver's time on one store."""

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        was_there: bool,
        options: Options,
        interrupts: Interrupts,
    ) -> None:
        self._store = store
        self._options = options
        self._interrupts = interrupts
        self._queue = queue
        self._refinement_reader = queue.refinement_reader
        self.complete = False
        self._name: str = store.attrs.get("spec", {}).get("name", shell.place(store.url))
        self._view = ProgressView(
            self._name,
            queue.done,
            queue.total,
            queue.points,
            options.quiet,
            options.log == "json",
            noun=queue.noun,
        )
        if was_there and not options.quiet and not queue.complete:
            self._view.warn(
                f"going on with {shell.place(store.url)}: {queue.done:,} of "
                f"{format.plural(queue.total, queue.noun)} are done"
            )
        if queue.remark:
            self._view.warn(queue.remark)
        self._noted = set(quarantine.listed(store))
        self._given_up: dict[Work, tuple[str, ...]] = {}
        self._evaluated = 0
        self._notes = NoteWriter()
        self._speed = 0.0
        self._seconds = 0.0
        self._stopped: str | None = None
        self._watchers: list[Report | Metrics] = []
        self._ray: Any = None
        self._resized_at = self._report_at = time.monotonic()

    def run(self, inputs: Any, plan: WorkerPlan, ray: Any) -> None:
        """Hold the lease, bring up the workers, render, and take everything down again."""
        with contextlib.ExitStack() as stack:
            lease = Lease(self._store, plan.count, warn=self._view.warn)
            stack.callback(lease.release)  # first: ^C may come while it is taken
            lease.take()
            stack.callback(self._sweep, lease)
            versions.note(self._store)
            self._report = Report(plan.device.gpus)
            stack.callback(self._write_report)
            stack.callback(self._close_notes)
            self._count_evaluated()
            self._ray = ray
            self._device: devices.DeviceChoice = "cpu" if plan.device.name == "cpu" else "cuda"
            self._watchers = [self._report, *([Metrics(self._name)] if ray else [])]
            stack.enter_context(self._view)
            workers = stack.enter_context(self._start_workers(inputs, plan, ray))
            # Ray's own calls must not be cut in half; the loop looks at `requested` instead.
            self._interrupts.raising = self._options.executor == "serial"
            if self._interrupts.requested:
                return
            scheduler = Scheduler(
                self._queue.begin(),
                plan.count,
                _SLOW_START if ray or inputs.compiled else Rules(),
                expected_seconds=self._queue.expected_seconds,
            )
            self._show_queue(self._queue.total, self._queue.phase)
            successors = self._start_successors(stack)
            try:
                self._run_event_loop(scheduler, workers, lease, successors)
            finally:
                if self._interrupts.requested:
                    self._view.stopping()

    def _run_event_loop(
        self,
        scheduler: Scheduler,
        workers: event_loop.Workers,
        lease: Lease,
        successors: Successors,
    ) -> None:
        def stop() -> bool:
            return self._interrupts.requested or lease.lost

        for _ in range(_RELISTINGS):
            event_loop.run(scheduler, workers, self, stop, successors=successors)
            if lease.lost:
                raise ClusterError(
                    f"another driver took over {self._store.url}; this one stops. Everything "
                    "committed is kept"
                )
            self._stopped = scheduler.stopped
            if not scheduler.finished or successors.pending:
                return
            # The store is the truth: what is not listed there is not done.
            missing = [work for work in self._queue.missing() if work not in self._given_up]
            if not missing:
                self._conclude_queue()
                return
            noun = self._queue.noun
            self.warn(f"{format.plural(len(missing), noun)} not in the store; once more")
            scheduler.add(missing)
        self._stopped = "tiles that were committed are not in the store's listing"

    def _conclude_queue(self) -> None:
        """Nothing more can be rendered: all is complete, unless steps wait for failed ones."""
        self.complete = True
        waiting = self._queue.blocked(self._given_up)
        if not waiting:
            return
        left = format.plural(waiting, self._queue.noun)
        if self._given_up:
            self.warn(f"{left} more, as far as is known, wait for what was given up")
        else:
            self._stopped = f"{left} are left, and the store does not say which can be rendered"

    def conclude(self, place: str, print_line: Callable[[str], None]) -> int:
        """Print how the session ended; returns the exit code.

        Raises:
            ClusterError: the render stopped short.
        """
        if self._stopped is not None:
            raise ClusterError(
                f"{self._stopped}. Everything committed is kept; lossatlas resume {place} goes on"
            )
        rendered = (
            f"{self._view.points:,} points in {format.duration(self._seconds)}, "
            f"{format.rate(self._speed)}"
        )
        total, left = self._store.grid.tile_count, self._queue.not_selected
        if self._given_up:
            print_line(f"{place}: {done_text(self._store)} done ({rendered})")
            print_line(f"{format.plural(len(self._given_up), self._queue.noun)} quarantined:")
            for work, reasons in sorted(self._given_up.items()):
                print_line(f"  {work}: {reasons[-1]}")
            print_line(f"try them again: lossatlas resume {place}")
            self._print_cost(print_line)
            return 3
        if not self._options.quiet and left:
            print_line(f"{place}: {total - left:,} of {total:,} tiles done ({rendered})")
            print_line(f"the frames asked for are finished; the rest: lossatlas resume {place}")
        elif not self._options.quiet:
            print_line(f"{place}: {all_text(self._store)} done ({rendered})")
            self._print_summary(print_line)
            self._print_cost(print_line)
            print_line(shell.next_step(self._store.url, self._store.grid))
        return 0

    def _print_summary(self, print_line: Callable[[str], None]) -> None:
        """If points were predicted: print how many, and what the audit found."""
        if self._refinement_reader is None:
            return
        try:
            summary = self._refinement_reader.read(self._store.committed()).summary
        except OSError:  # all is done; what there is to say of it, status says
            return
        if self._options.log == "json":
            self._view.refined(summary.as_dict())
            return
        for line in summary_lines(summary):
            print_line(line)

    def _print_cost(self, print_line: Callable[[str], None]) -> None:
        """The final report if machines are shared; otherwise only `status` shows it."""
        if self._ray is None or self._options.quiet:
            return
        if self._options.log == "json":
            self._view.reported(self._report.as_dict())
            return
        for number, line in enumerate(report.lines(self._report.sessions())):
            print_line(f"{'cost:' if number == 0 else '     '} {line}")

    # Observer

    def rendered(self, work: Work, done: Done) -> None:
        self._view.rendered(work, done)
        for watcher in self._watchers:
            watcher.rendered(work, done)
        self._evaluated += 0 if isinstance(work, MarkBlock) else done.points
        if work in self._noted:
            # No warning if it fails: status ignores the notes of committed tiles.
            self._notes.submit(functools.partial(quarantine.lift, self._store, work))

    def advanced(self, ready: Ready) -> None:
        self._show_queue(ready.total, ready.phase)

    def quarantined(self, work: Work, reasons: tuple[str, ...]) -> None:
        self._given_up[work] = reasons
        self._view.quarantined(work, reasons)
        self._notes.submit(
            functools.partial(quarantine.put, self._store, work, reasons),
            f"the quarantine of {work_named(work, self._queue.noun)} could not be noted",
        )

    def warn(self, text: str) -> None:
        self._view.warn(text)

    def ticked(self, scheduler: Scheduler) -> None:
        self._view.ticked(scheduler)
        for watcher in self._watchers:
            watcher.ticked(scheduler)
        self._follow_cluster(scheduler)
        if time.monotonic() - self._report_at > _REPORT_SECONDS:
            self._report_at = time.monotonic()
            entry = self._report.as_dict()
            self._notes.submit(functools.partial(self._report.write, self._store, entry))
        self._warn_of_notes(self._notes.warnings())
        self._speed, self._seconds = self._view.points_per_second(), self._view.seconds()

    # Inside

    def _count_evaluated(self) -> None:
        """Count what earlier drivers evaluated, to show it to the user."""
        if self._refinement_reader is not None:
            with contextlib.suppress(OSError):
                found = self._refinement_reader.read(self._store.committed())
                self._evaluated = found.summary.evaluated

    def _show_queue(self, total: int, phase: str) -> None:
        """Show how much work there is, and the present pass of a refinement."""
        self._view.total(total)
        if self._store.refined:
            self._view.show_pass(PassProgress(phase, self._evaluated, self._store.grid.points))

    def _follow_cluster(self, scheduler: Scheduler) -> None:
        """If the user gave no number, have as many workers as the cluster has room for."""
        now = time.monotonic()
        if self._ray is None or self._options.workers or now - self._resized_at < _RESIZE_SECONDS:
            return
        self._resized_at = now
        # A cluster that has lost its last GPU waits for others; it does not turn to its CPUs.
        with contextlib.suppress(ClusterError):
            found = devices.plan_workers(None, self._device, self._ray)
            scheduler.wanted = found.count

    def _write_report(self) -> None:
        with contextlib.suppress(OSError):
            self._report.write(self._store)

    def _close_notes(self) -> None:
        self._warn_of_notes(self._notes.close())

    def _warn_of_notes(self, warnings: list[str]) -> None:
        for warning in warnings:
            self.warn(warning)

    def _start_successors(self, stack: contextlib.ExitStack) -> Successors:
        """Only the steps of a refinement make other work ready."""
        if not self._store.refined:
            return NoSuccessors()
        return stack.enter_context(BackgroundSuccessors(self._queue))

    @contextlib.contextmanager
    def _start_workers(self, inputs: Any, plan: WorkerPlan, ray: Any) -> Any:
        from pipeline.task import StepRenderer, TileRenderer

        workers: event_loop.Workers
        renderer = StepRenderer if self._store.refined else TileRenderer
        with contextlib.ExitStack() as stack:
            url = self._store.url
            if self._options.executor == "serial":
                workers = SerialWorkers(renderer, inputs, url, plan.device.name)
            else:
                if ray is None:
                    ray = stack.enter_context(local.private(plan.count, plan.gpus, _bytes(inputs)))
                workers = RayWorkers(ray, renderer, inputs, url, plan.device)
            stack.callback(workers.close)
            yield workers

    def _sweep(self, lease: Lease) -> None:
        """Delete the half-written files of workers that were stopped."""
        if not lease.lost:
            with contextlib.suppress(OSError):
                self._store.sweep()


def _bytes(inputs: Any) -> int:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(inputs, protocol=5, buffer_callback=buffers.append)
    return len(head) + sum(buffer.raw().nbytes for buffer in buffers)
