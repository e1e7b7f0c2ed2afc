"""The scheduler: which worker renders which tile next. It uses no Ray, no clock and no file.

The event loop reports what happened (`joined`, `done`, `failed`, `unwritable`, `lost`) and asks
what to do (`decide`). An event costs at most O(log n) in workers and tiles. A tile is always in
exactly one state: fresh, waiting for another try, rendered by one or more workers, done, or
quarantined. In a refined render, what is called a tile here is a step.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.scheduling.actions import Action, Kill, Quarantine, Render, Stalled, Start, Warn
from cluster.scheduling.pace import Pace
from pipeline.geometry.grid import Work


@dataclass(frozen=True)
class Rules:
    """The limits of the scheduler; all times in seconds."""

    strikes: int = 3
    deadline_floor: float = 120.0
    deadline_unmeasured: float = 1800.0
    deadline_factor: float = 10.0
    duplicate_factor: float = 1.5
    start_deadline: float = 300.0
    respawn_first: float = 0.25
    respawn_longest: float = 60.0
    respawn_tries: int = 6
    retry_first: float = 1.0
    retry_longest: float = 60.0
    write_first: float = 1.0
    write_tries: int = 7
    hopeless_tries: int = 10
    stall: float = 120.0


@dataclass
class _Attempt:
    tile: Work
    started: float
    redundant: bool = False


class Scheduler:
    """Decides which worker renders which tile, and when to give up a worker or a tile."""

    def __init__(
        self,
        tiles: Iterable[Work],
        workers: int,
        rules: Rules | None = None,
        expected_seconds: float | None = None,
    ) -> None:
        """Schedule `tiles`.

        Args:
            tiles: the pending tiles, each once.
            workers: how many workers to keep alive.
            rules: the limits; the defaults suit real renders.
            expected_seconds: the measured time of a tile; None if there is no measurement.
        """
        self.rules = rules or Rules()
        self.wanted = workers
        self.done_count = 0
        self.retries = 0
        self.lost_count = 0
        self.stopped: str | None = None
        self.quarantined: dict[Work, tuple[str, ...]] = {}
        self._fresh = deque(tiles)
        self.total = len(self._fresh)
        self._waiting: list[tuple[float, int, Work]] = []
        self._workers_of: dict[Work, set[int]] = {}
        self._single_since: dict[Work, float] = {}
        self._strikes: dict[Work, list[str]] = {}
        self._starting: dict[int, float] = {}
        self._idle: dict[int, None] = {}
        self._busy: dict[int, _Attempt] = {}
        self._deadline_checks: list[tuple[float, int]] = []
        self._has_check: set[int] = set()
        self._actions: list[Action] = []
        self._next_worker = 0
        self._order = 0
        self._expected = expected_seconds
        self._pace = Pace()
        self._failures = 0
        self._loss_rounds = 0
        self._start_rounds = 0
        self._spawn_at = -math.inf
        self._write_rounds = 0
        self._paused_until = -math.inf
        self._progress_at = -math.inf

    @property
    def finished(self) -> bool:
        """Whether every tile is done or quarantined."""
        return self.left == 0

    @property
    def left(self) -> int:
        """How many tiles are neither done nor quarantined."""
        return self.total - self.done_count - len(self.quarantined)

    @property
    def alive(self) -> int:
        """How many workers are up, idle or busy."""
        return len(self._idle) + len(self._busy)

    @property
    def starting(self) -> int:
        return len(self._starting)

    # Events

    def joined(self, worker: int, now: float) -> None:
        """A worker is ready: one that the scheduler started, or one that joined by itself."""
        if worker in self._idle or worker in self._busy:
            return
        self._starting.pop(worker, None)
        self._next_worker = max(self._next_worker, worker + 1)
        self._start_rounds = 0
        self._idle[worker] = None
        self._progress_at = now

    def done(self, worker: int, now: float, points: int = 1) -> Work | None:
        """A worker committed its tile, with `points` evaluated.

        Returns:
            The tile; None if it was committed before, by another worker.
        """
        attempt = self._release(worker)
        if attempt is None:
            return None
        self._progress_at = now
        self._loss_rounds = self._write_rounds = 0
        if attempt.redundant:
            return None
        tile = attempt.tile
        for other in self._workers_of.pop(tile) - {worker}:
            self._busy[other].redundant = True
        self._single_since.pop(tile, None)
        self._strikes.pop(tile, None)
        self.done_count += 1
        self._pace.add(now - attempt.started, points)
        return tile

    def failed(self, worker: int, reason: str, now: float) -> None:
        """The evaluation of a worker's tile raised an exception; the worker can go on."""
        attempt = self._release(worker)
        if attempt is not None:
            self._take_back(attempt, worker, now, reason)
            self._count_failure(reason)

    def unwritable(self, worker: int, reason: str, now: float) -> None:
        """The store failed for a worker's tile. That is no strike: all workers pause."""
        attempt = self._release(worker)
        if attempt is None:
            return
        if now >= self._paused_until:
            self._write_rounds += 1
            pause = self.rules.write_first * 2 ** (self._write_rounds - 1)
            self._paused_until = now + pause
            if self._write_rounds >= self.rules.write_tries:
                self.stopped = f"the store cannot be read or written: {reason}"
            else:
                self._actions.append(
                    Warn(
                        f"the store cannot be read or written ({reason}); "
                        f"trying again in {pause:g} s"
                    )
                )
        self._take_back(attempt, worker, now, None)

    def lost(self, worker: int, reason: str, now: float, preempted: bool = False) -> None:
        """A worker is gone, with its tile.

        Args:
            worker: its number; an unknown one is ignored.
            reason: why, in a few words.
            now: seconds on the caller's clock.
            preempted: its machine was taken away, which is no strike and no failed start.
        """
        if worker in self._starting:
            del self._starting[worker]
            if not preempted and now >= self._spawn_at:
                self._start_rounds += 1
                if self._start_rounds >= self.rules.respawn_tries:
                    self.stopped = f"no worker comes up: {reason}"
        elif worker in self._busy:
            attempt = self._busy.pop(worker)
            self._take_back(attempt, worker, now, None if preempted else reason)
        elif worker in self._idle:
            del self._idle[worker]
        else:
            return
        self.lost_count += 1
        if not preempted and now >= self._spawn_at:
            self._loss_rounds += 1
            self._spawn_at = now + self._respawn_delay()
            self._count_failure(reason)

    def add(self, tiles: Iterable[Work]) -> None:
        """Schedule more tiles, or tiles again that turned out not to be done."""
        before = len(self._fresh)
        self._fresh.extend(tiles)
        self.total += len(self._fresh) - before

    def expect(self, seconds: float | None) -> None:
        """Set the time that a tile may take; None keeps the present one."""
        self._expected = seconds if seconds is not None else self._expected

    # Decisions

    def decide(self, now: float) -> list[Action]:
        """What to do now. The scheduler assumes that every returned action is done."""
        if self._progress_at == -math.inf:
            self._progress_at = now
        self._check_deadlines(now)
        if not self.finished and self.stopped is None:
            self._start_workers(now)
            if now >= self._paused_until:
                self._hand_out(now)
                self._duplicate(now)
            self._notice_stall(now)
        actions, self._actions = self._actions, []
        return actions

    def deadline_seconds(self, tile: Work) -> float:
        """How long one try of `tile` may take, from the times of other tiles."""
        rules = self.rules
        typical = max(self._expected or 0.0, self._pace.mean)
        if typical == 0.0:
            patience = rules.deadline_unmeasured
        else:
            patience = max(
                rules.deadline_floor, rules.deadline_factor * typical, 3 * self._pace.longest
            )
        return patience * float(2 ** len(self._strikes.get(tile, ())))

    # Inside

    def _release(self, worker: int) -> _Attempt | None:
        attempt = self._busy.pop(worker, None)
        if attempt is not None:
            self._idle[worker] = None
        return attempt

    def _take_back(self, attempt: _Attempt, worker: int, now: float, reason: str | None) -> None:
        """Take an unfinished tile from a worker; with a `reason`, that is a strike."""
        if attempt.redundant:
            return
        tile = attempt.tile
        if reason is not None:
            self._strikes.setdefault(tile, []).append(reason)
        strikes = self._strikes.get(tile, [])
        others = self._workers_of[tile]
        others.discard(worker)
        if others:
            # If it has no tries left, the one that is running is the last.
            if len(strikes) < self.rules.strikes:
                self._single_since[tile] = min(self._busy[other].started for other in others)
            return
        del self._workers_of[tile]
        self._single_since.pop(tile, None)
        if len(strikes) >= self.rules.strikes:
            self.quarantined[tile] = tuple(strikes)
            self._actions.append(Quarantine(tile, tuple(strikes)))
            self._progress_at = now
            return
        self.retries += 1
        wait = self._retry_delay(len(strikes)) if reason is not None else 0.0
        self._order += 1
        heapq.heappush(self._waiting, (now + wait, self._order, tile))

    def _count_failure(self, reason: str) -> None:
        """Stop early if every try on several tiles fails: then the tiles are not the cause."""
        self._failures += 1
        if (
            self.done_count == 0
            and self._failures >= self.rules.hopeless_tries
            and len(self._strikes) > self.rules.strikes
        ):
            self.stopped = f"every try so far failed ({self._failures}); the last one: {reason}"

    def _check_deadlines(self, now: float) -> None:
        while self._deadline_checks and self._deadline_checks[0][0] <= now:
            _, worker = heapq.heappop(self._deadline_checks)
            self._has_check.discard(worker)
            due = self._due(worker)
            if due is None:
                continue
            if due > now:
                self._check_later(worker, due, now)
                continue
            if worker in self._starting:
                reason = f"did not start within {self.rules.start_deadline:.0f} s"
            else:
                seconds = now - self._busy[worker].started
                reason = f"took longer than {seconds:.0f} s and was killed"
            self.lost(worker, reason, now)
            self._actions.append(Kill(worker, reason))

    def _due(self, worker: int) -> float | None:
        if worker in self._starting:
            return self._starting[worker] + self.rules.start_deadline
        if worker in self._busy:
            attempt = self._busy[worker]
            return attempt.started + self.deadline_seconds(attempt.tile)
        return None

    def _check_later(self, worker: int, due: float, now: float) -> None:
        """Check a worker's deadline when it is due, or sooner, since estimates may shrink."""
        if worker not in self._has_check:
            self._has_check.add(worker)
            heapq.heappush(
                self._deadline_checks, (min(due, now + self.rules.deadline_floor), worker)
            )

    def _start_workers(self, now: float) -> None:
        if now < self._spawn_at:
            return
        missing = min(self.wanted, self.left) - self.alive - len(self._starting)
        for _ in range(missing):
            worker = self._next_worker
            self._next_worker += 1
            self._starting[worker] = now
            self._check_later(worker, now + self.rules.start_deadline, now)
            self._actions.append(Start(worker))

    def _hand_out(self, now: float) -> None:
        while self._idle:
            if self._waiting and self._waiting[0][0] <= now:
                tile = heapq.heappop(self._waiting)[2]
            elif self._fresh:
                tile = self._fresh.popleft()
            else:
                return
            self._hand(tile, now)

    def _duplicate(self, now: float) -> None:
        """Near the end, render the slowest tiles twice; both workers write the same bytes."""
        typical = self._pace.fullest
        while self._idle and self._single_since and not self._fresh and typical > 0:
            tile, started = next(iter(self._single_since.items()))
            if now - started <= self.rules.duplicate_factor * typical:
                return
            del self._single_since[tile]
            self._hand(tile, now)

    def _hand(self, tile: Work, now: float) -> None:
        worker = next(iter(self._idle))
        del self._idle[worker]
        self._busy[worker] = _Attempt(tile, now)
        workers = self._workers_of.setdefault(tile, set())
        workers.add(worker)
        if len(workers) == 1:
            self._single_since[tile] = now
        self._check_later(worker, now + self.deadline_seconds(tile), now)
        self._actions.append(Render(worker, tile))

    def _notice_stall(self, now: float) -> None:
        quiet = now - self._progress_at
        if quiet < max(self.rules.stall, 3 * self._pace.longest, 3 * (self._expected or 0.0)):
            return
        self._progress_at = now
        self._actions.append(
            Stalled(
                f"no tile finished for {quiet:.0f} s: {len(self._busy)} workers busy, "
                f"{len(self._idle)} idle, {len(self._starting)} starting, of {self.wanted} wanted"
            )
        )

    def _respawn_delay(self) -> float:
        """Doubles with each round of losses, so that a crash loop does not load the machine."""
        return _doubled(self.rules.respawn_first, self._loss_rounds, self.rules.respawn_longest)

    def _retry_delay(self, strikes: int) -> float:
        return _doubled(self.rules.retry_first, strikes, self.rules.retry_longest)


def _doubled(first: float, times: int, longest: float) -> float:
    return float(min(longest, first * 2 ** min(times - 1, 30)))
