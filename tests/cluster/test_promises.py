"""The promises of explanation/faults.md, each in a quick form: no Ray, no second machine.

Writers die at single writes, drivers are interrupted by real signals, disks fail by an exception,
and clusters are simulated. The slow tests beside this file do the same with processes that are
killed, real disks, and real clusters.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cluster.cli import main
from cluster.driver.session import Session
from cluster.lease import NOTE, Lease
from cluster.options import Options
from cluster.scheduling.actions import Start
from cluster.scheduling.event_loop import run
from cluster.scheduling.events import Done, Joined
from cluster.scheduling.scheduler import Rules, Scheduler
from cluster.scheduling.selection import Selection
from cluster.scheduling.step_queue import StepQueue
from cluster.scheduling.work_queue import TileQueue
from cluster.workers import devices, interrupts, processes
from cluster.workers.devices import WorkerPlan
from cluster.workers.interrupts import EXIT_CODE, Interrupts
from cluster.workers.workers import Device
from pipeline import opening, prepare
from pipeline.geometry.grid import Grid, Step, Tile
from pipeline.refinement.schedule import Schedule
from pipeline.spec import read
from pipeline.store.store import Store
from pipeline.task import StepRenderer, TileFacts, TileRenderer
from pipeline.verify import verify
from tests.cluster import hills, landscape
from tests.cluster.hills import ASKED, AUDIT, HillRenderer, HillWorkers, content, refine
from tests.cluster.test_event_loop import SimulatedWorkers
from tests.cluster.test_lease import claim
from tests.cluster.watcher import Watcher
from tests.deaths import Killed, dying
from tests.refining import spec_in

SERIAL = ("--executor", "serial")
REFINED = {"tolerance": 0.01, "audit": 60, "beyond": 0.1}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny landscape's folder, rendered in one go."""
    folder = tmp_path_factory.mktemp("rendered")
    spec = landscape.lay_out(folder, width=8, tile=4)
    assert main.run(["render", str(spec), *SERIAL, "--quiet"]) == 0
    return folder


@pytest.fixture
def folder(rendered: Path, tmp_path: Path) -> Path:
    """The same landscape, not yet rendered."""
    place = tmp_path / "landscape"
    shutil.copytree(rendered, place, ignore=shutil.ignore_patterns("*.zarr"))
    return place


@pytest.fixture
def undisturbed(rendered: Path) -> dict[str, bytes]:
    return landscape.numbers(rendered / "tiny.zarr")


def at_tile(
    monkeypatch: pytest.MonkeyPatch, number: int, what: Callable[[Store], object]
) -> list[Tile]:
    """Do something once, while tile `number` is rendered; grows by the tiles that were rendered."""
    render, begun = TileRenderer.__call__, list[Tile]()

    def rendering(self: TileRenderer, tile: Tile) -> TileFacts:
        begun.append(tile)
        if len(begun) == number + 1:
            what(self._store)
        return render(self, tile)

    monkeypatch.setattr(TileRenderer, "__call__", rendering)
    return begun


# Who writes may die


def test_whichever_write_workers_die_at_the_render_is_the_undisturbed_one(
    folder: Path, undisturbed: dict[str, bytes]
) -> None:
    """One after another; each finds what is pending, and dies a few writes later."""
    prepared = prepare.prepare(read(folder / "spec.yaml"))
    store, _ = opening.create(prepared, Grid(8, 8, 4))
    committed: list[set[Tile]] = [set()]
    for writes in itertools.cycle((0, 3, 7, 1, 12, 5)):
        renderer = TileRenderer(prepared.inputs, store.url)
        with contextlib.suppress(Killed), dying(writes):
            for tile in store.pending():
                renderer(tile)
        committed.append(store.committed())
        assert committed[-1] >= committed[-2]
        if not store.pending():
            break
    assert len(committed) > 5
    assert verify(store) == []
    assert landscape.numbers(Path(store.url)) == undisturbed


def test_whichever_write_workers_die_at_a_refinement_is_the_undisturbed_one(
    tmp_path: Path,
) -> None:
    alone, store = (hills.create(tmp_path / f"{name}.zarr") for name in "ab")
    refine(alone, HillWorkers(alone), workers=1)
    dice, deaths = random.Random(0), 0
    steps, renderer = StepQueue(store, ASKED, keep_schedule=False), HillRenderer(store)
    waiting = deque(steps.begin())
    while waiting:
        step: Any = waiting.popleft()
        facts = None
        with contextlib.suppress(Killed), dying(dice.choice((0, 1, 2, 4, 99, 99))):
            facts = renderer(step)
        if facts is None:
            deaths, renderer = deaths + 1, HillRenderer(store)
            waiting.append(step)
        else:
            waiting.extend(steps.after(step, Done(0, facts.points, 1.0)))
    assert deaths > 5
    assert verify(store) == []
    assert content(store) == content(alone)


def test_composing_that_dies_at_any_write_is_done_again(tmp_path: Path) -> None:
    store = hills.create(tmp_path / "a.zarr")
    refine(store, HillWorkers(store), workers=1, stop=lambda _: len(store.committed()) == 1)
    schedule = Schedule.read(store)
    assert schedule is not None
    assert schedule.passes[-1].kind == "compose"
    tile = max(set(store.grid.tiles()) - store.committed())
    step = Step(schedule.last, *tile)
    for writes in itertools.count():
        with contextlib.suppress(Killed), dying(writes):
            HillRenderer(store)(step)
        if step in StepQueue(store, None, keep_schedule=True)._committed:
            break
        assert step in StepQueue(store, None, keep_schedule=True).begin()
    assert writes > 5
    assert tile in store.committed()
    assert verify(store) == []


def test_a_step_without_its_composed_tile_is_not_done(tmp_path: Path) -> None:
    store = hills.create(tmp_path / "a.zarr")
    refine(store, HillWorkers(store))
    before = content(store)
    lost = Tile(0, 1, 0)
    store.withdraw(lost)
    steps = StepQueue(store, None, keep_schedule=True)
    assert not steps.complete
    (step,) = steps.begin()
    assert isinstance(step, Step)
    assert step.tile == lost
    HillRenderer(store)(step)
    assert content(store) == before


def test_a_composed_tile_that_is_sound_and_of_another_render_is_found(tmp_path: Path) -> None:
    """Its checksums are right; one evaluated value is not what its steps evaluated."""
    store = hills.create(tmp_path / "a.zarr")
    refine(store, HillWorkers(store))
    level = store.group["level"][0]
    y, x = np.argwhere(level >= 0)[-1]
    for quantity in store.quantities:
        array = store.group[quantity]
        value = array[0, 0, y, x]
        array[0, 0, y, x] = value + 1
        (damage,) = verify(store)
        assert f"{quantity}/c/*/0/1/1 is not what its steps evaluated" in damage.reason
        array[0, 0, y, x] = value
        assert verify(store) == []


# Drivers are stopped


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_stopped_driver_says_how_to_go_on_and_nothing_is_done_twice(
    folder: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    store = folder / "tiny.zarr"
    with monkeypatch.context() as patch:
        at_tile(patch, 2, lambda _: os.kill(os.getpid(), number))
        assert main.run(["render", str(folder / "spec.yaml"), *SERIAL]) == EXIT_CODE
    assert "stopped; 2 of 4 tiles are done and kept. Go on with: lossatlas resume" in (
        capsys.readouterr().out
    )
    assert not (store / ".lossatlas" / NOTE).exists()
    before = landscape.commits(store)
    then = landscape.ages(store, before)
    assert main.run(["resume", str(store), *SERIAL]) == 0
    assert landscape.ages(store, before) == then
    assert landscape.numbers(store) == undisturbed


def test_a_second_signal_ends_at_once_and_the_same_key_press_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, ended = [100.0], list[object]()

    def leave(code: int) -> None:
        ended.append(code)
        raise SystemExit

    monkeypatch.setattr(interrupts, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(interrupts.os, "_exit", leave)
    monkeypatch.setattr(processes, "end", lambda: ended.append("Ray"))
    with Interrupts() as held:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert held.requested
        now[0] += 0.1
        signal.raise_signal(signal.SIGTERM)
        assert ended == []
        held.raising = False
        now[0] += 0.5
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        assert ended == ["Ray", EXIT_CODE]
    with Interrupts() as held:
        held.raising = False
        signal.raise_signal(signal.SIGTERM)
        assert held.requested


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The process ids of a process, started in `tmp_path` by its arguments, and of its child.

    The Ray that the tests share is not among those that may be ended meanwhile.
    """
    monkeypatch.setattr(processes, "_folders", [])
    code = (
        "import subprocess, time; child = subprocess.Popen(['sleep', '300']); "
        "print(child.pid, flush=True); time.sleep(300)"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code, f"--session-dir={tmp_path}/ray"], stdout=subprocess.PIPE
    )
    assert started.stdout is not None
    pids = [started.pid, int(started.stdout.readline())]
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    started.communicate()


def gone(pids: list[int]) -> bool:
    limit = time.monotonic() + 20
    while landscape.running(set(pids)) and time.monotonic() < limit:
        time.sleep(0.01)
    return not landscape.running(set(pids))


def test_nothing_of_rays_is_left_behind_and_nothing_else_is_touched(
    family: list[int], tmp_path: Path
) -> None:
    import ray as _  # noqa: F401  it brings psutil

    other = subprocess.Popen(["sleep", "300"])
    try:
        processes.end()  # no Ray of ours runs
        with processes.started_in(tmp_path / "elsewhere"):
            processes.end()
        assert landscape.running({*family, other.pid}) == {*family, other.pid}
        with processes.started_in(tmp_path / "ray"):
            processes.end()
        assert gone(family)
        assert landscape.running({other.pid}) == {other.pid}
    finally:
        other.kill()
        other.communicate()


def test_what_outlives_a_raylet_is_ended_with_it(family: list[int], tmp_path: Path) -> None:
    """As Ray's agents do: their parent is killed, and they are nobody's children any more."""
    import ray as _  # noqa: F401

    def shutdown() -> None:
        os.kill(family[0], signal.SIGKILL)
        assert gone(family[:1])
        assert landscape.running({family[1]})

    with processes.started_in(tmp_path / "ray"):
        processes.shut_down(SimpleNamespace(shutdown=shutdown))
    assert gone(family)


# Drivers are replaced


@pytest.fixture
def quick_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease whose holder looks every few milliseconds whether it still has it."""
    monkeypatch.setattr("cluster.driver.session.Lease", functools.partial(Lease, beat_seconds=0.01))


@pytest.mark.usefixtures("quick_lease")
def test_a_driver_that_was_replaced_stops_and_touches_nothing_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = folder / "tiny.zarr" / "loss" / "c" / "9.partial"

    def replace(store: Store) -> None:
        # Over and over: the beat of the old one may be on its way.
        for _ in range(20):
            claim(store)
            time.sleep(0.01)
        stale.parent.mkdir(parents=True, exist_ok=True)
        stale.touch()  # the new one is writing

    begun = at_tile(monkeypatch, 1, replace)
    assert main.run(["render", str(folder / "spec.yaml"), *SERIAL]) == 2
    assert "another driver took over" in capsys.readouterr().err
    assert len(begun) == 2
    assert stale.exists()
    store = Store.open(str(folder / "tiny.zarr"))
    assert store.read_note(NOTE)["id"] == "somebody"  # type: ignore[index]


def test_what_is_not_in_the_listing_at_the_end_is_rendered_once_more(
    folder: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun = at_tile(monkeypatch, 3, lambda store: store.withdraw(Tile(0, 0, 1)))
    assert main.run(["render", str(folder / "spec.yaml"), *SERIAL]) == 0
    assert begun[-1] == Tile(0, 0, 1)
    assert len(begun) == 5
    assert "1 tile not in the store; once more" in capsys.readouterr().err
    assert landscape.numbers(folder / "tiny.zarr") == undisturbed


# Disks


def test_a_disk_that_fails_stops_the_render_and_room_lets_it_go_on(
    folder: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("cluster.driver.session.Rules", lambda: Rules(write_first=0.001))
    store, told = folder / "tiny.zarr", "No space left on device"
    with contextlib.ExitStack() as stack:
        full = OSError(28, told)
        at_tile(monkeypatch, 2, lambda _: stack.enter_context(dying(3, full)))
        assert main.run(["render", str(folder / "spec.yaml"), *SERIAL]) == 2
    *tries, last = [line for line in capsys.readouterr().err.splitlines() if told in line]
    assert len(tries) == 6
    assert all("trying again in" in line for line in tries)
    assert last.startswith(f"lossatlas: the store cannot be read or written: {told}")
    assert last.endswith("goes on")
    before = landscape.commits(store)
    assert len(before) == 2
    assert not list((store / ".lossatlas").glob("quarantine/*"))
    then = landscape.ages(store, before)
    (store / ".lossatlas" / NOTE).unlink()  # which names this process; a driver's own is gone
    assert main.run(["resume", str(store), *SERIAL]) == 0
    assert landscape.ages(store, before) == then
    assert landscape.numbers(store) == undisturbed


def test_a_disk_that_fails_stops_a_refinement_that_then_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cluster.driver.session.Rules", lambda: Rules(write_first=0.001))
    specs = [spec_in(tmp_path / name, {"width": 33, "height": 33, "tile": 17}) for name in "ab"]
    calm, store = (tmp_path / name / "bowl.zarr" for name in "ab")
    assert main.run(["render", str(specs[0]), *SERIAL, "--quiet"]) == 0
    render, begun = StepRenderer.__call__, itertools.count()
    with contextlib.ExitStack() as stack:

        def rendering(self: StepRenderer, step: Step) -> TileFacts:
            if next(begun) == 6:
                stack.enter_context(dying(1, OSError(30, "Read-only file system")))
            return render(self, step)

        monkeypatch.setattr(StepRenderer, "__call__", rendering)
        assert main.run(["render", str(specs[1]), *SERIAL, "--quiet"]) == 2
    assert "Read-only file system" in capsys.readouterr().err
    (store / ".lossatlas" / NOTE).unlink()
    assert main.run(["resume", str(store), *SERIAL, "--quiet"]) == 0
    assert content(Store.open(str(store))) == content(Store.open(str(calm)))


# Notes


def test_lost_notes_of_an_audit_are_made_again_from_the_records(tmp_path: Path) -> None:
    """The sample, and how far predictions were off, before that is certified."""
    alone, store = (hills.create(tmp_path / f"{name}.zarr") for name in "ab")
    refine(alone, HillWorkers(alone), workers=1)
    audited: list[Any] = []

    def half_audited(observer: hills.Observer) -> bool:
        audited[:] = [s for s in observer.tiles if s.number == AUDIT]  # type: ignore[attr-defined]
        return len(audited) == 2

    refine(store, HillWorkers(store), workers=1, stop=half_audited)
    notes = Path(store.url, ".lossatlas", "refine")
    (notes / f"audit-{AUDIT}.json").write_text("[")
    first, second, *_ = sorted((notes / f"audit-{AUDIT}").iterdir())
    first.write_text("{}")
    second.unlink()
    refine(store, HillWorkers(store), keep_schedule=True)
    found, expected = content(store), content(alone)
    kept = found.keys() - {str(note.relative_to(store.url)) for note in (first, second)}
    assert {key: found[key] for key in kept} == {key: expected[key] for key in kept}


# Clusters


class _Waiting(SimulatedWorkers):
    """A cluster that has no room until a node joins."""

    def __init__(self, joins_at: float) -> None:
        super().__init__([])
        self._joins_at = joins_at

    def start(self, worker: int) -> None:
        self._alive.add(worker)
        self._at(max(5.0, self._joins_at - self.now), Joined(worker))

    def obstacle(self) -> str:
        return ". A worker wants 1 GPU, and the cluster has 0"


def test_a_render_without_a_machine_waits_says_so_and_goes_on_with_the_next() -> None:
    tiles = [Tile(0, row, 0) for row in range(6)]
    simulated, watcher = _Waiting(joins_at=1500.0), Watcher()
    scheduler = Scheduler(tiles, 2, Rules(start_deadline=1800.0))
    run(scheduler, simulated, watcher, lambda: simulated.now > 10_000, simulated.clock)
    assert scheduler.stopped is None
    assert sorted(watcher.tiles) == tiles
    assert len(watcher.warnings) > 5
    assert all("wants 1 GPU, and the cluster has 0" in told for told in watcher.warnings)


def test_a_node_that_joins_is_used_and_one_that_leaves_is_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the number of workers is left open, they follow the cluster, within ten seconds."""
    prepared = prepare.prepare(read(folder / "spec.yaml"))
    store, _ = opening.create(prepared, Grid(8, 8, 1))
    now = [1000.0]
    monkeypatch.setattr("cluster.driver.session.time", SimpleNamespace(monotonic=lambda: now[0]))
    driver = Session(store, TileQueue(store, Selection()), False, Options(quiet=True), Interrupts())
    driver._ray, driver._device = object(), "cpu"
    scheduler = Scheduler(store.pending(), 2)
    assert [type(each) for each in scheduler.decide(0.0)] == [Start] * 2
    for cores, expected, started in ((5, 5, 3), (1, 1, 0)):
        found = WorkerPlan(cores, Device("cpu"))
        monkeypatch.setattr(devices, "plan_workers", lambda *_, found=found: found)
        now[0] += 9.0
        driver._follow_cluster(scheduler)
        assert scheduler.wanted != expected
        now[0] += 1.1
        driver._follow_cluster(scheduler)
        assert scheduler.wanted == expected
        assert [type(each) for each in scheduler.decide(1.0)] == [Start] * started


def test_a_machine_that_leaves_costs_one_tile_a_worker_and_a_preempted_one_no_strike() -> None:
    tiles = [Tile(0, row, 0) for row in range(20)]
    for fate, strikes in (("die", 1), ("preempt", 0)):
        simulated, watcher = SimulatedWorkers([fate] * 4), Watcher()
        scheduler = Scheduler(tiles, 4)
        run(
            scheduler,
            simulated,
            watcher,
            lambda simulated=simulated: simulated.now > 20,
            simulated.clock,
        )  # type: ignore[misc]
        assert scheduler.lost_count == 4
        assert [len(each) for each in scheduler._strikes.values()] == [1] * (4 * strikes)
        run(scheduler, simulated, watcher, lambda: False, simulated.clock)
        assert sorted(watcher.tiles) == tiles
        assert scheduler.retries == 4


# Anywhere


@pytest.mark.filterwarnings("ignore:.*onsolidated")
def test_a_store_behind_a_url_holds_what_a_local_one_does(tmp_path: Path) -> None:
    """Records, commits and notes go by keys, whatever keeps them; here, this process's memory."""
    import fsspec

    local = hills.create(tmp_path / "a.zarr")
    refine(local, HillWorkers(local), workers=1)
    memory = fsspec.filesystem("memory")
    store = Store.create(
        "memory://promises.zarr",
        hills.GRID,
        ["train"],
        ["loss", "loss_stderr"],
        [hills.FRAME],
        {},
        True,
    )
    try:
        refine(store, HillWorkers(store), workers=1)
        assert verify(store) == []
        for quantity in store.quantities:
            found = store.read(quantity, "train")
            np.testing.assert_array_equal(found, local.read(quantity, "train"))
        expected = content(local)
        for key in (k for k in expected if "/" in k and not k.startswith(".lossatlas")):
            assert memory.cat_file(f"/promises.zarr/{key}") == expected[key]
    finally:
        memory.rm("/promises.zarr", recursive=True)
