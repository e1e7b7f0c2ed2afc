"""How many workers one driver keeps busy, and what a render of a million tiles costs it.

    python -m benchmarks.scheduler [--workers 1000] [--tiles 1000000] [--json]

The driver is the real one (`cluster.driver.session.Session`: lease, event loop, scheduler,
`RayWorkers`, report, metrics, the listing at the end) on a private Ray. Only the workers are
simulated: a few actor processes stand for all of them, with the calls of
`cluster.workers.actor.TileWorker` and a timed sleep in place of the evaluation, after which they
write the tile's commit. Driver, Ray and workers share this machine, so a driver with a machine of
its own does better.

- dispatch: tiles of 30 s, all workers in step, which is the worst case: they all come at once.
- rush: tiles of 3 s, ten times as many events a second.
- flood: tiles that take no time: how many tiles a second the driver can hand out at all.
- plan: make a store with a million tiles, and get to the first tile handed out.
- resume: the same where all but a thousand are committed, from opening the store on.
- bucket: list the commits of a fifth as many tiles from a stand-in for S3, `benchmarks.bucket`.

Busy is the sleeping of all workers over their time from the start of their own first tile to the
end of their last: all that the driver lets them wait in between counts as idle. Overall counts the
start too, while not all of them have a tile yet. Each case runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import host
from cluster.driver.session import Session
from cluster.options import Options
from cluster.scheduling.events import Event, Joined
from cluster.scheduling.selection import Selection
from cluster.scheduling.work_queue import TileQueue
from cluster.workers import local, packages
from cluster.workers.devices import WorkerPlan
from cluster.workers.interrupts import Interrupts
from cluster.workers.workers import Device, RayWorkers
from pipeline.geometry.grid import Extent, Grid, Tile
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.keys import RemoteStore, folders
from pipeline.store.store import Store

PROCESSES = 4  # that stand for all workers
LEFT = 1_000  # tiles without a commit in the case `resume`
Result = dict[str, Any]


class Sleepers:
    """The calls of `cluster.workers.actor.TileWorker`, for many workers at once."""

    def __init__(self, root: str, store: str, mark: bytes, seconds: float) -> None:
        packages.pin(root)
        self._commits = os.path.join(store, "done", "c")
        self._running = vars(packages.running())
        self._mark = mark
        self._seconds = seconds
        self._times: dict[Tile, tuple[float, float]] = {}

    async def report(self) -> dict[str, Any]:
        return self._running

    async def load(self, *_: Any) -> None:
        pass

    async def render(self, tile: Tile) -> tuple[int, float, float]:
        began = time.monotonic()
        await asyncio.sleep(self._seconds)
        folder = os.path.join(self._commits, str(tile.frame), str(tile.row))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, str(tile.column)), "wb") as file:
            file.write(self._mark)
        self._times[tile] = began, time.monotonic()
        return 1, self._seconds, 0.0

    async def times(self) -> dict[Tile, tuple[float, float]]:
        """When each tile began and ended, on this machine's clock."""
        return self._times


class SharedWorkers(RayWorkers):
    """Ray's workers, spread over a few actors instead of one each."""

    def __init__(self, ray: Any, store: Store, mark: bytes, seconds: float, workers: int) -> None:
        super().__init__(ray, Sleepers, None, store.url, Device("cpu"))
        remote = ray.remote(num_cpus=0, max_concurrency=workers)(Sleepers)
        self._pool = [
            remote.remote(packages.ROOT, store.url, mark, seconds) for _ in range(PROCESSES)
        ]
        self._tiles: dict[int, list[Tile]] = {}

    def start(self, worker: int) -> None:
        handle = self._pool[worker % PROCESSES]
        self._actors[worker] = handle
        self._watch(handle.report.remote(), worker, "report")

    def render(self, worker: int, tile: Tile) -> None:
        self._tiles.setdefault(worker, []).append(tile)
        super().render(worker, tile)

    def spans(self) -> list[tuple[float, float]]:
        """From when to when each worker was at work, gaps included."""
        times = {
            k: v for sleeper in self._pool for k, v in self._ray.get(sleeper.times.remote()).items()
        }
        return [
            (times[tiles[0]][0], max(times[tile][1] for tile in tiles))
            for tiles in self._tiles.values()
        ]

    def kill(self, worker: int) -> None:
        self._actors.pop(worker, None)


class FirstTileWorkers:
    """Has its workers at once, and ends the render with the first tile it is given."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._events: list[Event] = []
        self.at = 0.0

    def start(self, worker: int) -> None:
        self._events.append(Joined(worker))

    def render(self, worker: int, tile: Tile) -> None:
        self.at = self.at or time.perf_counter()
        self._interrupts.requested = True

    def wait(self, seconds: float) -> list[Event]:
        events, self._events = self._events, []
        return events

    def kill(self, worker: int) -> None: ...

    def obstacle(self) -> str:
        return ""

    def close(self) -> None: ...


# All that a driver asks of a render's inputs.
_INPUTS = SimpleNamespace(compiled=False)


class SimulatedSession(Session):
    """The real driver, with other workers."""

    def __init__(self, store: Store, workers: int, interrupts: Interrupts, simulated: Any) -> None:
        queue = TileQueue(store, Selection())
        super().__init__(store, queue, True, Options(workers=workers, quiet=True), interrupts)
        self._simulated = simulated
        self.pending = queue.total - queue.done

    @contextlib.contextmanager
    def _start_workers(self, inputs: Any, plan: WorkerPlan, ray: Any) -> Iterator[Any]:
        yield self._simulated


def new_store(folder: Path, columns: int, rows: int) -> tuple[Store, bytes]:
    """An empty store of `columns` × `rows` tiles of one point, and the bytes of a commit."""
    facts = [FrameFacts(Extent(-1, 1, -1, 1), (Anchor("w0", 0, 0, 0),), None)]
    attrs: Result = {"spec": {"name": "scheduler"}}
    grid = Grid(columns, rows, 1)
    store = Store.create(str(folder / "run.zarr"), grid, ["train"], ["loss"], facts, attrs)
    store.commit(Tile(0, 0, 0), {"loss": np.zeros((1, 1, 1), "f4")}, 0.0, 0)
    mark = (folder / "run.zarr/done/c/0/0/0").read_bytes()
    store.withdraw(Tile(0, 0, 0))
    return store, mark


def dispatch(ray: Any, folder: Path, workers: int, rounds: int, seconds: float) -> Result:
    """Every worker renders `rounds` tiles of `seconds`."""
    store, mark = new_store(folder, workers, rounds)
    with Interrupts() as interrupts:
        simulated = SharedWorkers(ray, store, mark, seconds, workers)
        session = SimulatedSession(store, workers, interrupts, simulated)
        cpu = host.cpu_seconds()
        session.run(_INPUTS, WorkerPlan(workers, Device("cpu")), ray)
        cpu = host.cpu_seconds() - cpu
        spans = simulated.spans()
    tiles = workers * rounds
    if not session.complete or len(store.committed()) != tiles:
        raise RuntimeError(f"{len(store.committed())} of {tiles} tiles are committed")
    wall = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return {
        "workers": workers,
        "tile_seconds": seconds,
        "tiles": tiles,
        "wall": wall,
        "busy": tiles * seconds / sum(end - begin for begin, end in spans),
        "busy_overall": tiles * seconds / (workers * wall),
        "tiles_a_second": tiles / wall,
        "driver_cpu_share": cpu / wall,
    }


def first_tile(store_of: Callable[[], Store], workers: int) -> Result:
    """From `store_of()` to the first tile in the hands of a worker."""
    wall, cpu = time.perf_counter(), host.cpu_seconds()
    store = store_of()
    with Interrupts() as interrupts:
        simulated = FirstTileWorkers(interrupts)
        session = SimulatedSession(store, workers, interrupts, simulated)
        pending = session.pending
        session.run(_INPUTS, WorkerPlan(workers, Device("cpu")), None)
    if not simulated.at:
        raise RuntimeError("no tile was handed out")
    return {
        "tiles": store.grid.tile_count,
        "pending": pending,
        "wall": simulated.at - wall,
        "cpu": host.cpu_seconds() - cpu,
        "peak_gb": host.peak_gb(),
    }


def plan(folder: Path, workers: int, tiles: int) -> Result:
    columns = int(tiles**0.5)
    return first_tile(lambda: new_store(folder, columns, tiles // columns)[0], workers)


def resume(folder: Path, workers: int, tiles: int) -> Result:
    columns = int(tiles**0.5)
    store, mark = new_store(folder, columns, tiles // columns)
    for tile in itertools.islice(store.grid.tiles(), store.grid.tile_count - LEFT):
        folder_of_row = os.path.join(store.url, "done", "c", str(tile.frame), str(tile.row))
        if tile.column == 0:
            os.makedirs(folder_of_row, exist_ok=True)
        with open(os.path.join(folder_of_row, str(tile.column)), "wb", 0) as file:
            file.write(mark)
    return first_tile(lambda: Store.open(store.url, writable=True), workers)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def bucket(tiles: int) -> Result:
    """List the commits of `tiles` tiles over S3's protocol; `cpu` is this side's alone."""
    side = int(tiles**0.5)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "benchmarks.bucket", str(port), str(side)]
    server = subprocess.Popen(command)
    try:
        while not _listens(port):
            time.sleep(0.1)
        store = RemoteStore.at("s3://atlas/run.zarr", read_only=True)
        rows = [f"done/c/0/{row}/" for row in range(side)]
        wall, cpu = time.perf_counter(), time.process_time()
        found = sum(len(names) for _, names in folders(store, rows))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    finally:
        server.kill()
        server.wait()
    if found != side * side:
        raise RuntimeError(f"{found} of {side * side} commits are listed")
    return {"tiles": found, "wall": wall, "cpu": cpu, "peak_gb": host.peak_gb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--tiles", type=int, default=1_000_000, help="of plan and resume")
    parser.add_argument("--json", action="store_true", help="print the line of JSON only")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    asked = parser.parse_args()

    def dispatched(rounds: int, seconds: float) -> Callable[[Path], Result]:
        def case(folder: Path) -> Result:
            with local.private(PROCESSES, 0, 0) as ray:
                return dispatch(ray, folder, asked.workers, rounds, seconds)

        return case

    cases: dict[str, Callable[[Path], Result]] = {
        "dispatch": dispatched(6, 30),
        "rush": dispatched(12, 3),
        "flood": dispatched(10, 0),
        "plan": lambda f: plan(f, asked.workers, asked.tiles),
        "resume": lambda f: resume(f, asked.workers, asked.tiles),
        "bucket": lambda _: bucket(asked.tiles // 5),
    }
    if asked.case:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(cases[asked.case](Path(folder))))
        return
    result: Result = {
        "benchmark": "scheduler",
        "date": date.today().isoformat(),
        "machine": host.name(),
        "cases": {case: _alone(case) for case in cases},
    }
    if not asked.json:
        show(result)
    print(json.dumps(result))


def _alone(case: str) -> Result:
    command = [sys.executable, "-m", "benchmarks.scheduler", *sys.argv[1:], "--case", case]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: Result = json.loads(done.stdout.splitlines()[-1])
    return found


def show(result: Result) -> None:
    print(f"{result['machine']}, {result['date']}\n")
    print(f"{'':10}{'workers':>8}{'tile s':>8}{'busy':>8}{'overall':>9}{'tiles/s':>9}{'driver':>8}")
    for name in ("dispatch", "rush", "flood"):
        case = result["cases"][name]
        print(
            f"{name:10}{case['workers']:8,}{case['tile_seconds']:8g}{case['busy']:8.1%}"
            f"{case['busy_overall']:9.1%}{case['tiles_a_second']:9.0f}{case['driver_cpu_share']:8.0%}"
        )
    print(f"\n{'':10}{'tiles':>10}{'pending':>10}{'wall s':>8}{'cpu s':>8}{'peak GB':>9}")
    for name in ("plan", "resume", "bucket"):
        case = result["cases"][name]
        pending = f"{case['pending']:,}" if "pending" in case else ""
        print(
            f"{name:10}{case['tiles']:10,}{pending:>10}{case['wall']:8.1f}"
            f"{case['cpu']:8.1f}{case['peak_gb']:9.2f}"
        )


if __name__ == "__main__":
    main()
