"""Who renders what next: every decision of the loop, without Ray, clocks or files.

The scheduler is told what happened (`joined`, `done`, `failed`, `unwritable`, `lost`) and asked
what to do (`decide`). Each event costs O(log n) at most in workers and tiles. A tile is always in
exactly one place: fresh, waiting for another try, in the hands of one or more workers, or settled
(done or quarantined). In a render that is refined, what is called a tile here is a step.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.scheduling.pace import Pace
from pipeline.geometry.grid import Work


@dataclass(frozen=True)
class Rules:
    """How patient the scheduler is; all times in seconds."""

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


@dataclass(frozen=True)
class Start:
    """Bring up a worker under this new number."""

    worker: int


@dataclass(frozen=True)
class Render:
    """Hand `tile` to an idle worker."""

    worker: int
    tile: Work


@dataclass(frozen=True)
class Kill:
    """End a worker that took too long; the scheduler has already written it off."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Quarantine:
    """Note that `tile` is given up for this run."""

    tile: Work
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Warn:
    """Tell the user, once."""

    text: str


@dataclass(frozen=True)
class Stalled:
    """Tell the user that nothing moves; whoever knows the workers may add why."""

    text: str


Action = Start | Render | Kill | Quarantine | Warn | Stalled


@dataclass
class _Attempt:
    tile: Work
    started: float
    redundant: bool = False


class Scheduler:
    """Decides which worker renders which tile, and when to give up on either."""

    def __init__(
        self,
        tiles: Iterable[Work],
        workers: int,
        rules: Rules | None = None,
        expected_seconds: float | None = None,
    ) -> None:
        """Take charge of `tiles`.

        Args:
            tiles: the pending tiles, each once.
            workers: how many workers to keep alive.
            rules: patience; the defaults suit real renders.
            expected_seconds: measured time a tile, where there is a measurement.
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
        self._hands: dict[Work, set[int]] = {}
        self._single: dict[Work, float] = {}
        self._strikes: dict[Work, list[str]] = {}
        self._starting: dict[int, float] = {}
        self._idle: dict[int, None] = {}
        self._busy: dict[int, _Attempt] = {}
        self._checks: list[tuple[float, int]] = []
        self._checked: set[int] = set()
        self._announced: list[Action] = []
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
        self._moved = -math.inf

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
        """A worker is up and idle: one that was started here, or one that came by itself."""
        if worker in self._idle or worker in self._busy:
            return
        self._starting.pop(worker, None)
        self._next_worker = max(self._next_worker, worker + 1)
        self._start_rounds = 0
        self._idle[worker] = None
        self._moved = now

    def done(self, worker: int, now: float, points: int = 1) -> Work | None:
        """A worker committed its tile, `points` of it evaluated; returns it the first time only."""
        attempt = self._release(worker)
        if attempt is None:
            return None
        self._moved = now
        self._loss_rounds = self._write_rounds = 0
        if attempt.redundant:
            return None
        tile = attempt.tile
        for other in self._hands.pop(tile) - {worker}:
            self._busy[other].redundant = True
        self._single.pop(tile, None)
        self._strikes.pop(tile, None)
        self.done_count += 1
        self._pace.add(now - attempt.started, points)
        return tile

    def failed(self, worker: int, reason: str, now: float) -> None:
        """The evaluation of a worker's tile raised; the worker itself is well."""
        attempt = self._release(worker)
        if attempt is not None:
            self._give_back(attempt, worker, now, reason)
            self._count_failure(reason)

    def unwritable(self, worker: int, reason: str, now: float) -> None:
        """The store failed a worker with its tile: not the tile's fault, so everybody pauses."""
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
                self._announced.append(
                    Warn(
                        f"the store cannot be read or written ({reason}); "
                        f"trying again in {pause:g} s"
                    )
                )
        self._give_back(attempt, worker, now, None)

    def lost(self, worker: int, reason: str, now: float, preempted: bool = False) -> None:
        """A worker is gone, with the tile it had.

        Args:
            worker: whose number; an unknown one was written off before.
            reason: what is known about its end, in a few words.
            now: seconds on the caller's clock.
            preempted: its machine was taken away, so nothing counts against tile or start-up.
        """
        if worker in self._starting:
            del self._starting[worker]
            if not preempted and now >= self._spawn_at:
                self._start_rounds += 1
                if self._start_rounds >= self.rules.respawn_tries:
                    self.stopped = f"no worker comes up: {reason}"
        elif worker in self._busy:
            attempt = self._busy.pop(worker)
            self._give_back(attempt, worker, now, None if preempted else reason)
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
        """Take charge of more tiles, or again of tiles that turned out not to be done."""
        before = len(self._fresh)
        self._fresh.extend(tiles)
        self.total += len(self._fresh) - before

    def expect(self, seconds: float | None) -> None:
        """Be told how long a tile may take, where that is known better than from those before."""
        self._expected = seconds if seconds is not None else self._expected

    # Decisions

    def decide(self, now: float) -> list[Action]:
        """What to do now; every action returned counts as done."""
        if self._moved == -math.inf:
            self._moved = now
        self._check_deadlines(now)
        if not self.finished and self.stopped is None:
            self._start_workers(now)
            if now >= self._paused_until:
                self._hand_out(now)
                self._duplicate(now)
            self._notice_stall(now)
        actions, self._announced = self._announced, []
        return actions

    def deadline_seconds(self, tile: Work) -> float:
        """How long one try of `tile` may take, from what tiles took so far."""
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

    def _give_back(self, attempt: _Attempt, worker: int, now: float, reason: str | None) -> None:
        """Take a tile out of a worker's hands unfinished, with a strike where there is a reason."""
        if attempt.redundant:
            return
        tile = attempt.tile
        if reason is not None:
            self._strikes.setdefault(tile, []).append(reason)
        strikes = self._strikes.get(tile, [])
        hands = self._hands[tile]
        hands.discard(worker)
        if hands:
            # Where it has had its tries, the one that is under way is the last.
            if len(strikes) < self.rules.strikes:
                self._single[tile] = min(self._busy[other].started for other in hands)
            return
        del self._hands[tile]
        self._single.pop(tile, None)
        if len(strikes) >= self.rules.strikes:
            self.quarantined[tile] = tuple(strikes)
            self._announced.append(Quarantine(tile, tuple(strikes)))
            self._moved = now
            return
        self.retries += 1
        wait = self._retry_delay(len(strikes)) if reason is not None else 0.0
        self._order += 1
        heapq.heappush(self._waiting, (now + wait, self._order, tile))

    def _count_failure(self, reason: str) -> None:
        """Stop early where everything fails on every tile: the cause is not in the tiles."""
        self._failures += 1
        if (
            self.done_count == 0
            and self._failures >= self.rules.hopeless_tries
            and len(self._strikes) > self.rules.strikes
        ):
            self.stopped = f"every try so far failed ({self._failures}); the last one: {reason}"

    def _check_deadlines(self, now: float) -> None:
        while self._checks and self._checks[0][0] <= now:
            _, worker = heapq.heappop(self._checks)
            self._checked.discard(worker)
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
            self._announced.append(Kill(worker, reason))

    def _due(self, worker: int) -> float | None:
        if worker in self._starting:
            return self._starting[worker] + self.rules.start_deadline
        if worker in self._busy:
            attempt = self._busy[worker]
            return attempt.started + self.deadline_seconds(attempt.tile)
        return None

    def _check_later(self, worker: int, due: float, now: float) -> None:
        """Look at a worker again when it is due, or sooner: estimates may shrink meanwhile."""
        if worker not in self._checked:
            self._checked.add(worker)
            heapq.heappush(self._checks, (min(due, now + self.rules.deadline_floor), worker))

    def _start_workers(self, now: float) -> None:
        if now < self._spawn_at:
            return
        missing = min(self.wanted, self.left) - self.alive - len(self._starting)
        for _ in range(missing):
            worker = self._next_worker
            self._next_worker += 1
            self._starting[worker] = now
            self._check_later(worker, now + self.rules.start_deadline, now)
            self._announced.append(Start(worker))

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
        """Near the end, race the slowest tiles: identical bytes twice do no harm."""
        typical = self._pace.fullest
        while self._idle and self._single and not self._fresh and typical > 0:
            tile, started = next(iter(self._single.items()))
            if now - started <= self.rules.duplicate_factor * typical:
                return
            del self._single[tile]
            self._hand(tile, now)

    def _hand(self, tile: Work, now: float) -> None:
        worker = next(iter(self._idle))
        del self._idle[worker]
        self._busy[worker] = _Attempt(tile, now)
        hands = self._hands.setdefault(tile, set())
        hands.add(worker)
        if len(hands) == 1:
            self._single[tile] = now
        self._check_later(worker, now + self.deadline_seconds(tile), now)
        self._announced.append(Render(worker, tile))

    def _notice_stall(self, now: float) -> None:
        quiet = now - self._moved
        if quiet < max(self.rules.stall, 3 * self._pace.longest, 3 * (self._expected or 0.0)):
            return
        self._moved = now
        self._announced.append(
            Stalled(
                f"no tile finished for {quiet:.0f} s: {len(self._busy)} workers busy, "
                f"{len(self._idle)} idle, {len(self._starting)} starting, of {self.wanted} wanted"
            )
        )

    def _respawn_delay(self) -> float:
        """Doubles with each round of losses: a crash loop must not burn the machine."""
        return _doubled(self.rules.respawn_first, self._loss_rounds, self.rules.respawn_longest)

    def _retry_delay(self, strikes: int) -> float:
        return _doubled(self.rules.retry_first, strikes, self.rules.retry_longest)


def _doubled(first: float, times: int, longest: float) -> float:
    return float(min(longest, first * 2 ** min(times - 1, 30)))
