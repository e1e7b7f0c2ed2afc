"""The loop on real actors: what is lost is replaced, what is poisonous is put aside."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import ClusterError
from cluster.scheduling.event_loop import run
from cluster.scheduling.scheduler import Rules, Scheduler
from cluster.workers import packages
from cluster.workers.workers import Device, RayWorkers, check_same
from pipeline.errors import InputsChangedError
from pipeline.evaluation.room import NoRoomError
from pipeline.geometry.grid import Tile
from pipeline.store.errors import StoreError
from tests.cluster import renderers
from tests.cluster.watcher import Watcher

pytestmark = pytest.mark.ray
TILES = [Tile(0, 0, column) for column in range(12)]
QUICK = Rules(retry_first=0.1, retry_longest=0.2, write_first=0.05)


@pytest.fixture
def make_workers(ray: Any, tmp_path: Path) -> Iterator[Any]:
    made = []
    ray.cloudpickle.register_pickle_by_value(renderers)

    def make(seconds: float = 0.0, **inputs: Any) -> RayWorkers:
        content = {"folder": str(tmp_path), "seconds": seconds, **inputs}
        made.append(
            RayWorkers(ray, renderers.FaultyRenderer, content, "", Device("cpu", threads=None))
        )
        return made[-1]

    yield make
    for workers in made:
        workers.close()


def never() -> bool:
    return False


def test_a_killed_worker_is_replaced_and_nothing_is_lost(
    make_workers: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    watcher, scheduler = Watcher(), Scheduler(TILES, 2, QUICK)
    killed: list[int] = []

    def kill_one() -> bool:
        mark = tmp_path / "worker-0"
        if not killed and watcher.tiles and mark.exists():
            killed.append(int(mark.read_text()))
            os.kill(killed[0], signal.SIGKILL)
        return False

    run(scheduler, make_workers(seconds=0.5), watcher, kill_one)
    assert killed
    assert watcher.warnings == ["worker 0 is lost: its process died"]
    assert capfd.readouterr() == ("", "")
    assert sorted(watcher.tiles) == TILES
    assert (tmp_path / "worker-2").exists()
    assert watcher.given_up == {}


def test_faults_of_tiles_are_survived_and_poison_is_put_aside(
    make_workers: Any, tmp_path: Path
) -> None:
    (tmp_path / "1.die").write_text("1")
    (tmp_path / "2.raise").write_text("2")
    (tmp_path / "3.raise").write_text("99")
    (tmp_path / "4.full").write_text("2")
    watcher, scheduler = Watcher(), Scheduler(TILES, 2, QUICK)
    run(scheduler, make_workers(), watcher, never)
    assert sorted(watcher.tiles) == [tile for tile in TILES if tile.column != 3]
    (reasons,) = watcher.given_up.values()
    assert len(reasons) in (3, 4)  # the last try may have been a race of two
    assert "ValueError: no loss for 0/0/3" in reasons[0]
    assert any("No space left on device" in text for text in watcher.warnings)


def test_inputs_that_have_changed_stop_the_render_at_once(
    make_workers: Any, tmp_path: Path
) -> None:
    for column in range(12):
        (tmp_path / f"{column}.changed").write_text("99")
    watcher = Watcher()
    with pytest.raises(InputsChangedError, match="frame 0 was replaced"):
        run(Scheduler(TILES, 2, QUICK), make_workers(), watcher, never)
    assert (watcher.tiles, watcher.given_up) == ([], {})


def test_a_store_that_stays_full_stops_the_render(make_workers: Any, tmp_path: Path) -> None:
    for column in range(12):
        (tmp_path / f"{column}.full").write_text("99")
    watcher, scheduler = Watcher(), Scheduler(TILES, 2, QUICK)
    run(scheduler, make_workers(), watcher, never)
    assert scheduler.stopped is not None
    assert "No space left on device" in scheduler.stopped
    assert watcher.given_up == {}


def test_a_hung_tile_is_killed_and_tried_again(make_workers: Any, tmp_path: Path) -> None:
    (tmp_path / "5.hang").write_text("1")
    rules = Rules(retry_first=0.1, deadline_floor=2.0, deadline_factor=1.0, duplicate_factor=1e9)
    watcher, scheduler = Watcher(), Scheduler(TILES, 2, rules, expected_seconds=0.1)
    run(scheduler, make_workers(), watcher, never)
    assert sorted(watcher.tiles) == TILES
    assert any("was killed" in text for text in watcher.warnings)


def test_the_last_tile_is_raced_when_it_hangs(make_workers: Any, tmp_path: Path) -> None:
    (tmp_path / "11.hang").write_text("1")
    watcher, scheduler = Watcher(), Scheduler(TILES, 2, QUICK)
    began = time.monotonic()
    run(scheduler, make_workers(seconds=0.05), watcher, never)
    assert sorted(watcher.tiles) == TILES
    assert time.monotonic() - began < 60


def test_what_the_user_gave_wrongly_is_refused_once(make_workers: Any) -> None:
    workers = make_workers(refuse=StoreError("x.zarr: no such store"))
    with pytest.raises(StoreError, match=r"x\.zarr: no such store"):
        run(Scheduler(TILES, 2, QUICK), workers, Watcher(), never)


@pytest.mark.slow
def test_a_gpu_without_room_is_no_mistake_of_the_users(make_workers: Any) -> None:
    workers = make_workers(refuse=NoRoomError("cuda has no room for the network and the data"))
    scheduler = Scheduler(TILES, 1, Rules(respawn_tries=2, respawn_first=0.01))
    watcher = Watcher()
    run(scheduler, workers, watcher, never)
    assert scheduler.stopped is not None
    assert "no worker comes up: NoRoomError: cuda has no room" in scheduler.stopped
    assert len(watcher.warnings) == 2


def test_why_no_worker_comes_up_is_known(ray: Any) -> None:
    def obstacle(**device: float) -> str:
        return RayWorkers(ray, renderers.FaultyRenderer, {}, "", Device("cpu", **device)).obstacle()

    assert obstacle(gpus=1) == (
        ". A worker wants 1 GPU, and the cluster (1 node) has 0: it waits for nodes that have them"
    )
    assert "A worker wants 4 CPU, and the cluster (1 node) has 3" in obstacle(cpus=4)
    assert obstacle() == ""


def test_another_pipeline_on_a_worker_is_refused(
    make_workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    for name in packages.NAMES:
        shutil.copytree(Path(packages.ROOT) / name, other / name)
    (other / "pipeline" / "grid.py").write_text("# an older one\n")
    workers = make_workers()
    monkeypatch.setattr(packages, "ROOT", str(other))
    with pytest.raises(ClusterError, match=r"runs another pipeline .* Install the same lossatlas"):
        run(Scheduler(TILES, 1, QUICK), workers, Watcher(), never)


def test_workers_see_no_folder_of_the_users(ray: Any, tmp_path: Path) -> None:
    @ray.remote(num_cpus=1)
    def path() -> tuple[list[str], str]:
        import os
        import sys

        return sys.path, os.getcwd()

    found, folder = ray.get(path.remote())
    here = os.getcwd()
    assert here not in found
    assert not os.path.realpath(folder).startswith(here)
    assert not any(name.startswith(here + "/tests") for name in found)
    assert os.listdir(folder) == [] or not os.path.exists(folder)


def test_versions_that_differ_are_refused_with_the_cure() -> None:
    ours = packages.running()
    check_same(replace(ours, host="elsewhere", pid=1, folder="/opt/pipeline"), ours)
    for name in ("python", "ray", "torch", "numpy"):
        with pytest.raises(ClusterError) as caught:
            check_same(replace(ours, host="node-7", pid=12, **{name: "0.1"}), ours)
        assert str(caught.value) == (
            f"the worker 12 on node-7 runs {name} 0.1 and this driver {getattr(ours, name)}; "
            "wanted one version on every machine, or numbers differ in their last bits. Install "
            "the same environment everywhere"
        )
    with pytest.raises(ClusterError, match=r"node-7 runs another pipeline \(/opt/p, 0a1b\)"):
        check_same(replace(ours, host="node-7", folder="/opt/p", digest="0a1b"), ours)
    with pytest.raises(ClusterError, match="has changed since this driver started"):
        check_same(replace(ours, digest="0a1b"), ours)
