from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from cluster.scheduling.actions import Kill, Quarantine, Render, Stalled, Start
from cluster.scheduling.scheduler import Rules, Scheduler
from pipeline.geometry.grid import Tile

TILES = [Tile(0, 0, column) for column in range(40)]


def team(scheduler: Scheduler, now: float = 0.0) -> list[int]:
    """Start every worker the scheduler asks for, and let it join."""
    workers = [action.worker for action in scheduler.decide(now) if isinstance(action, Start)]
    for worker in workers:
        scheduler.joined(worker, now)
    return workers


def renders(scheduler: Scheduler, now: float) -> dict[int, Tile]:
    return {a.worker: a.tile for a in scheduler.decide(now) if isinstance(a, Render)}


def of(kind: type, actions: list[object]) -> list[object]:
    return [action for action in actions if isinstance(action, kind)]


def test_every_tile_is_rendered_once_in_order() -> None:
    scheduler = Scheduler(TILES[:5], workers=2)
    team(scheduler)
    seen, now = [], 0.0
    while not scheduler.finished:
        for worker, tile in renders(scheduler, now).items():
            seen.append(tile)
            now += 1
            assert scheduler.done(worker, now) == tile
    assert seen == TILES[:5]
    assert scheduler.decide(now) == []


def test_no_more_workers_than_tiles_are_started() -> None:
    scheduler = Scheduler(TILES[:2], workers=16)
    assert len(scheduler.decide(0.0)) == 2


def test_a_lost_worker_costs_its_tile_a_strike_and_is_replaced_under_a_new_number() -> None:
    scheduler = Scheduler(TILES[:4], workers=2)
    first, second = team(scheduler)
    tile = renders(scheduler, 0.0)[first]
    scheduler.lost(first, "died", 1.0)
    actions = scheduler.decide(2.5)
    assert of(Start, actions) == [Start(2)]
    assert scheduler.retries == 1
    scheduler.done(second, 3.0)
    assert renders(scheduler, 3.0) == {second: tile}


def test_three_strikes_quarantine_a_tile_and_the_render_goes_on() -> None:
    scheduler = Scheduler(TILES[:2], workers=1)
    (worker,) = team(scheduler)
    quarantines, now = [], 0.0
    while not scheduler.finished:
        now += 100
        for action in scheduler.decide(now):
            if isinstance(action, Quarantine):
                quarantines.append(action)
            if isinstance(action, Render) and action.tile == TILES[0]:
                scheduler.failed(worker, f"bad at {now:.0f}", now)
            elif isinstance(action, Render):
                scheduler.done(worker, now)
    quarantines += of(Quarantine, scheduler.decide(now))
    assert [action.tile for action in quarantines] == [TILES[0]]
    assert len(scheduler.quarantined[TILES[0]]) == 3
    assert scheduler.done_count == 1


def test_a_preempted_worker_charges_nobody() -> None:
    scheduler = Scheduler(TILES[:1], workers=1)
    for round_ in range(10):
        (worker,) = team(scheduler, float(round_))
        assert renders(scheduler, float(round_)) == {worker: TILES[0]}
        scheduler.lost(worker, "node went", float(round_), preempted=True)
    assert scheduler.quarantined == {}
    assert scheduler.stopped is None


def test_retries_wait_longer_each_time() -> None:
    scheduler = Scheduler(TILES[:1], workers=1, rules=Rules(strikes=9))
    (worker,) = team(scheduler)
    now, waits = 0.0, []
    renders(scheduler, now)
    for _ in range(8):
        scheduler.failed(worker, "bad", now)
        began = now
        while not renders(scheduler, now):
            now += 0.5
        waits.append(now - began)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_hung_tile_is_killed_at_its_deadline_and_charged() -> None:
    scheduler = Scheduler(TILES[:2], workers=1, expected_seconds=1.0)
    (worker,) = team(scheduler)
    tile = renders(scheduler, 0.0)[worker]
    assert of(Kill, scheduler.decide(119.0)) == []
    (kill,) = of(Kill, scheduler.decide(121.0))
    assert isinstance(kill, Kill)
    assert kill.worker == worker
    assert "killed" in kill.reason
    scheduler.lost(worker, "the same death, told again", 122.0)
    assert scheduler.retries == 1
    assert scheduler.deadline_seconds(tile) == 240.0


def test_deadlines_follow_what_tiles_take() -> None:
    scheduler = Scheduler(TILES, workers=1)
    (worker,) = team(scheduler)
    assert scheduler.deadline_seconds(TILES[0]) == 1800.0
    now = 0.0
    for _ in range(3):
        renders(scheduler, now)
        now += 100
        scheduler.done(worker, now)
    assert scheduler.deadline_seconds(TILES[5]) == 1000.0


def test_a_tile_may_take_three_times_as_long_as_the_longest() -> None:
    """Where most are quick, ten times the usual is less than some have taken."""
    scheduler = Scheduler(TILES, workers=1)
    (worker,) = team(scheduler)
    now = 0.0
    for seconds in (10, 10, 10, 10, 10, 400, 10, 10, 10, 10):
        renders(scheduler, now)
        now += seconds
        scheduler.done(worker, now)
    assert scheduler.deadline_seconds(TILES[-1]) == 1200.0


def test_a_deadline_that_shrank_is_noticed() -> None:
    scheduler = Scheduler(TILES, workers=2)
    first, second = team(scheduler)
    renders(scheduler, 0.0)
    now = 0.0
    kills: list[object] = []
    while now < 400 and not kills:
        now += 1.0
        scheduler.done(second, now)
        kills = of(Kill, scheduler.decide(now))
    assert [kill.worker for kill in kills] == [first]  # type: ignore[attr-defined]
    assert now <= 250


def test_the_slowest_tile_is_duplicated_at_the_end_and_counted_once() -> None:
    scheduler = Scheduler(TILES[:3], workers=2)
    first, second = team(scheduler)
    slow = renders(scheduler, 0.0)[first]
    scheduler.done(second, 1.0)
    renders(scheduler, 1.0)
    scheduler.done(second, 2.0)
    assert renders(scheduler, 1.4) == {}
    assert renders(scheduler, 2.0) == {second: slow}
    assert scheduler.done(second, 3.0) == slow
    assert scheduler.finished
    assert scheduler.done(first, 4.0) is None
    assert scheduler.done_count == 3


@pytest.mark.parametrize("points", [100, 0])
def test_a_step_that_is_only_full_of_points_is_not_raced(points: int) -> None:
    """Most steps of a refinement evaluate nothing, and say nothing about those that do."""
    scheduler = Scheduler(TILES[:12], workers=2)
    first, second = team(scheduler)
    renders(scheduler, 0.0)
    for worker in (first, second):
        scheduler.done(worker, 10.0, points)
    full = renders(scheduler, 10.0)[first]
    for tenths in range(1, 10):
        scheduler.done(second, 10 + tenths / 10, 0)
        renders(scheduler, 10 + tenths / 10)
    assert (renders(scheduler, 10 + 1.4 * 10) == {}) == (points > 0)
    if points:
        assert renders(scheduler, 10 + 1.6 * 10) == {second: full}


def test_a_tile_in_two_hands_is_quarantined_only_when_both_are_empty() -> None:
    scheduler = Scheduler(TILES[:2], workers=2, rules=Rules(strikes=1))
    first, second = team(scheduler)
    slow = renders(scheduler, 0.0)[first]
    scheduler.done(second, 1.0)
    assert renders(scheduler, 5.0) == {second: slow}
    scheduler.failed(second, "bad", 6.0)
    assert scheduler.quarantined == {}
    assert renders(scheduler, 60.0) == {}, "it has had its tries but for the one under way"
    assert scheduler.done(first, 61.0) == slow
    assert scheduler.quarantined == {}
    assert scheduler.finished


def test_crash_loops_back_off() -> None:
    scheduler = Scheduler(TILES, workers=1, rules=Rules(strikes=99, hopeless_tries=10**6))
    now, waits = 0.0, []
    for _ in range(12):
        began = now
        while not (workers := team(scheduler, now)):
            now += 0.25
        waits.append(now - began)
        renders(scheduler, now)
        scheduler.lost(workers[0], "died", now)
    assert waits == [0, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_machine_that_takes_all_its_workers_along_is_one_loss() -> None:
    scheduler = Scheduler(TILES, workers=16)
    workers = team(scheduler)
    renders(scheduler, 0.0)
    for worker in workers:
        scheduler.lost(worker, "died", 1.0)
    assert len(of(Start, scheduler.decide(1.25))) == 16


def test_workers_that_never_come_up_stop_the_render() -> None:
    scheduler = Scheduler(TILES, workers=2)
    now = 0.0
    while scheduler.stopped is None and now < 1000:
        for action in scheduler.decide(now):
            if isinstance(action, Start):
                scheduler.lost(action.worker, "no torch there", now)
        now += 1
    assert scheduler.stopped == "no worker comes up: no torch there"


def test_a_worker_that_does_not_start_in_time_is_replaced() -> None:
    scheduler = Scheduler(TILES, workers=1)
    assert scheduler.decide(0.0) == [Start(0)]
    now = 0.0
    actions: list[object] = []
    while not of(Kill, actions) and now < 1000:
        now += 1
        actions += scheduler.decide(now)
    assert now == 300
    assert Start(1) in actions + list(scheduler.decide(now + 1))


def test_an_unwritable_store_pauses_everybody_then_stops_the_render() -> None:
    scheduler = Scheduler(TILES, workers=4)
    team(scheduler)
    now, pauses = 0.0, []
    while scheduler.stopped is None:
        began = now
        while not (given := renders(scheduler, now)):
            now += 0.5
        pauses.append(now - began)
        for worker in given:
            scheduler.unwritable(worker, "No space left on device", now)
    assert pauses == [0, 1, 2, 4, 8, 16, 32]
    assert scheduler.stopped == "the store cannot be read or written: No space left on device"
    assert scheduler.quarantined == {}


def test_a_store_that_comes_back_is_forgiven() -> None:
    scheduler = Scheduler(TILES[:10], workers=1, rules=Rules(write_tries=2))
    (worker,) = team(scheduler)
    now = 0.0
    while not scheduler.finished:
        now += 2
        if renders(scheduler, now):
            scheduler.unwritable(worker, "busy", now)
        now += 2
        if renders(scheduler, now):
            scheduler.done(worker, now)
    assert scheduler.stopped is None


def test_a_render_in_which_everything_fails_is_stopped_early() -> None:
    scheduler = Scheduler(TILES, workers=1)
    (worker,) = team(scheduler)
    now, tries = 0.0, 0
    while scheduler.stopped is None:
        now += 1
        for _ in renders(scheduler, now):
            tries += 1
            scheduler.failed(worker, "NameError: lss", now)
    assert tries == 10
    assert "NameError: lss" in scheduler.stopped


def test_a_stall_is_said_plainly_and_not_all_the_time() -> None:
    scheduler = Scheduler(TILES, workers=1, rules=Rules(deadline_unmeasured=10**6))
    team(scheduler)
    renders(scheduler, 0.0)
    warnings = [a for now in range(500) for a in scheduler.decide(now) if isinstance(a, Stalled)]
    assert len(warnings) == 4
    assert "no tile finished for 120 s: 1 workers busy" in warnings[0].text


def test_tiles_missing_from_the_store_are_rendered_again() -> None:
    scheduler = Scheduler(TILES[:1], workers=1)
    (worker,) = team(scheduler)
    renders(scheduler, 0.0)
    scheduler.done(worker, 1.0)
    assert scheduler.finished
    scheduler.add(TILES[:1])
    assert not scheduler.finished
    assert renders(scheduler, 2.0) == {worker: TILES[0]}


def test_workers_are_used_fairly() -> None:
    scheduler = Scheduler([Tile(0, row, 0) for row in range(400)], workers=4)
    team(scheduler)
    count: Counter[int] = Counter()
    now = 0.0
    while not scheduler.finished:
        now += 1
        given = renders(scheduler, now)
        count.update(given.keys())
        for worker in given:
            scheduler.done(worker, now)
    assert set(count.values()) == {100}


@pytest.mark.timeout(60)
def test_events_stay_cheap_with_a_thousand_workers() -> None:
    import time

    scheduler = Scheduler((Tile(0, row, 0) for row in range(50_000)), workers=1000)
    team(scheduler)
    began, now = time.perf_counter(), 0.0
    while not scheduler.finished:
        now += 1
        for worker in renders(scheduler, now):
            scheduler.done(worker, now)
    assert (time.perf_counter() - began) / 50_000 < 200e-6


class Weather(RuleBasedStateMachine):
    """Anything may happen to anyone, in any order; no tile is lost or counted twice."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.tiles = TILES[:7]
        self.scheduler = Scheduler(
            self.tiles, workers=3, rules=Rules(hopeless_tries=10**6, write_tries=10**6)
        )
        self.starting: set[int] = set()
        self.idle: set[int] = set()
        self.busy: dict[int, Tile] = {}
        self.gone: set[int] = set()
        self.done: Counter[Tile] = Counter()
        self.strikes: Counter[Tile] = Counter()
        self.announced: set[Tile] = set()

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 10.0, 130.0, 2000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for action in self.scheduler.decide(self.now):
            match action:
                case Start(worker):
                    assert worker not in self.starting | self.idle | set(self.busy) | self.gone
                    self.starting.add(worker)
                case Render(worker, tile):
                    assert worker in self.idle
                    assert self.done[tile] == 0
                    assert tile not in self.announced
                    self.idle.remove(worker)
                    self.busy[worker] = tile
                case Kill(worker):
                    self._forget(worker)
                case Quarantine(tile, reasons):
                    assert tile not in self.announced
                    assert self.done[tile] == 0
                    assert len(reasons) >= 3
                    self.announced.add(tile)

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def joins(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.starting)))
        self.starting.remove(worker)
        self.idle.add(worker)
        self.scheduler.joined(worker, self.now)

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), how=st.sampled_from(["done", "failed", "unwritable"]))
    def ends(self, data: st.DataObject, how: str) -> None:
        worker = data.draw(st.sampled_from(sorted(self.busy)))
        tile = self.busy.pop(worker)
        self.idle.add(worker)
        match how:
            case "done":
                counted = self.scheduler.done(worker, self.now)
                assert counted in (tile, None)
                self.done[tile] += counted is not None
            case "failed":
                self.scheduler.failed(worker, "bad", self.now)
            case _:
                self.scheduler.unwritable(worker, "full", self.now)

    @precondition(lambda self: self.starting or self.idle or self.busy)
    @rule(data=st.data(), preempted=st.booleans())
    def dies(self, data: st.DataObject, preempted: bool) -> None:
        everyone = sorted(self.starting | self.idle | set(self.busy))
        worker = data.draw(st.sampled_from(everyone))
        self._forget(worker)
        self.scheduler.lost(worker, "died", self.now, preempted)

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def old_news_arrives(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.gone)))
        assert self.scheduler.done(worker, self.now) is None
        self.scheduler.failed(worker, "late", self.now)
        self.scheduler.lost(worker, "late", self.now)

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        scheduler = self.scheduler
        assert all(count <= 1 for count in self.done.values())
        assert sum(self.done.values()) == scheduler.done_count
        assert not set(+self.done) & set(scheduler.quarantined)
        places = [
            *scheduler._fresh,
            *(tile for _, _, tile in scheduler._waiting),
            *scheduler._workers_of,
            *(+self.done),
            *scheduler.quarantined,
        ]
        assert sorted(places) == self.tiles
        assert set(scheduler._single_since) <= set(scheduler._workers_of)
        assert scheduler.alive == len(self.idle) + len(self.busy)
        assert len(scheduler._deadline_checks) == len(scheduler._has_check)

    def teardown(self) -> None:
        """From any state, good weather finishes the render."""
        for _ in range(200):
            if self.scheduler.finished or self.scheduler.stopped:
                break
            self.time_passes(70.0)
            for worker in sorted(self.starting):
                self.starting.remove(worker)
                self.idle.add(worker)
                self.scheduler.joined(worker, self.now)
            for worker, tile in sorted(self.busy.items()):
                self.done[tile] += self.scheduler.done(worker, self.now) is not None
                self.idle.add(worker)
            self.busy.clear()
        assert self.scheduler.finished or self.scheduler.stopped
        self.nothing_is_lost_or_counted_twice()

    def _forget(self, worker: int) -> None:
        self.starting.discard(worker)
        self.idle.discard(worker)
        self.busy.pop(worker, None)
        self.gone.add(worker)


TestWeather = Weather.TestCase
TestWeather.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
