from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster import lease as leases
from cluster.cli import main
from cluster.errors import ClusterError
from cluster.lease import Holder, Lease
from cluster.scheduling.step_queue import decide
from pipeline.geometry.grid import Extent, Grid
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.store import Store
from tests.cluster.landscape import lay_out


@pytest.fixture
def store(tmp_path: Path) -> Store:
    frame = FrameFacts(Extent(0, 1, 0, 1), (Anchor("θ", 0, 0, 0),), None)
    return Store.create(
        str(tmp_path / "s.zarr"), Grid(2, 2, 1), ["train"], ["loss"], [frame], {"spec": {}}
    )


def claim(store: Store, **changes: object) -> None:
    """Put somebody else's lease into the store."""
    note = {
        "id": "somebody",
        "host": "here",
        "machine": leases._machine(),
        "pid": os.getpid(),
        "start": leases._start_of(os.getpid()),
        "beat": time.time(),
        "workers": 2,
    }
    store.write_note(leases.NOTE, {**note, **changes})


def test_taken_named_and_released(store: Store) -> None:
    lease = Lease(store, workers=3)
    lease.take()
    holder = Holder.read(store)
    assert holder is not None
    assert holder.alive(time.time())
    assert (holder.pid, holder.workers) == (os.getpid(), 3)
    lease.release()
    assert Holder.read(store) is None


def test_a_second_driver_is_refused_while_the_first_lives(store: Store) -> None:
    first = Lease(store, workers=1)
    first.take()
    with pytest.raises(ClusterError, match=r"is being rendered by process \d+ on .* resume"):
        Lease(store, workers=1).take()
    first.release()
    second = Lease(store, workers=1)
    second.take()
    second.release()


def test_a_killed_driver_on_this_machine_is_replaced_at_once(store: Store) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    claim(store, pid=child.pid, start=leases._start_of(child.pid))
    with pytest.raises(ClusterError):
        Lease(store, workers=1).take()
    child.kill()
    child.wait()
    lease = Lease(store, workers=1)
    lease.take()
    lease.release()


def test_a_pid_used_again_by_another_process_is_no_life(store: Store) -> None:
    claim(store, start=leases._start_of(os.getpid()) - 1)
    lease = Lease(store, workers=1)
    lease.take()
    lease.release()


def test_a_process_that_runs_and_does_not_beat_is_dead(store: Store) -> None:
    """It sleeps, or hangs; should it wake, it finds that it was replaced."""
    claim(store, beat=time.time() - leases.DEAD_SECONDS - 1)
    lease = Lease(store, workers=1)
    lease.take()
    lease.release()


@contextlib.contextmanager
def beating_elsewhere(store: Store, skew: float) -> Iterator[None]:
    """A driver on another machine, whose clock is off by `skew` seconds."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(0.05):
            claim(store, machine="elsewhere", pid=1, start=0, beat=time.time() + skew)

    claim(store, machine="elsewhere", pid=1, start=0, beat=time.time() + skew)
    thread = threading.Thread(target=beat)
    thread.start()
    yield
    end.set()
    thread.join()


def impatient(store: Store) -> Lease:
    return Lease(store, workers=1, beat_seconds=0.1, dead_seconds=0.5)


@pytest.mark.parametrize("skew", [0.0, -600.0, 600.0])
def test_elsewhere_the_heartbeat_counts_whatever_the_clocks_say(store: Store, skew: float) -> None:
    with beating_elsewhere(store, skew), pytest.raises(ClusterError, match="is being rendered by"):
        impatient(store).take()
    told: list[str] = []
    lease = Lease(store, workers=1, beat_seconds=0.1, dead_seconds=0.3, warn=told.append)
    lease.take()  # nobody beats any more
    lease.release()
    assert told == [
        f"process 1 on here holds {store.url}; looking for up to 0 s whether it is alive"
    ]


def test_who_gives_it_free_while_it_is_looked_at_is_followed(store: Store) -> None:
    claim(store, machine="elsewhere", pid=1, start=0)
    threading.Timer(0.2, store.delete_note, [leases.NOTE]).start()
    lease = Lease(store, workers=1, beat_seconds=0.1, dead_seconds=30)
    lease.take()
    lease.release()


def test_a_beat_of_hours_ago_needs_no_look(store: Store) -> None:
    claim(store, machine="elsewhere", pid=1, start=0, beat=time.time() - 2 * 3600)
    lease = Lease(store, workers=1, dead_seconds=1e9)
    lease.take()
    lease.release()


@pytest.mark.parametrize("before", [None, "dead"])
@pytest.mark.parametrize("locks", [True, False])
def test_of_several_takers_one_has_it_though_writes_are_slow(
    store: Store, monkeypatch: pytest.MonkeyPatch, before: str | None, locks: bool
) -> None:
    if before:
        claim(store, start=leases._start_of(os.getpid()) - 1)
    if not locks:
        monkeypatch.setattr(fcntl, "flock", without_locks)
    takers = [Lease(Store.open(store.url, writable=True), workers=1) for _ in range(4)]
    read = threading.Barrier(len(takers))
    write, free = Store.write_note, Lease._wait_until_free

    def slow(self: Store, name: str, content: dict[str, object]) -> None:
        time.sleep(0.3)
        write(self, name, content)

    def together(self: Lease) -> object:
        found = free(self)
        read.wait(10)
        return found

    def take(lease: Lease) -> bool:
        with contextlib.suppress(ClusterError):
            lease.take()
            return True
        return False

    monkeypatch.setattr(Store, "write_note", slow)
    monkeypatch.setattr(Lease, "_wait_until_free", together)
    with ThreadPoolExecutor(len(takers)) as threads:
        assert sum(threads.map(take, takers)) == 1
    for lease in takers:
        lease.release()
    assert Holder.read(store) is None


def test_without_locks_a_quick_writer_waits_for_a_slow_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found it free; the slow one's name comes half a second after the quick one's."""
    monkeypatch.setattr(fcntl, "flock", without_locks)
    quick, slow = (Lease(Store.open(store.url, writable=True), workers=1) for _ in range(2))
    read, write, free = threading.Barrier(2), Store.write_note, Lease._wait_until_free

    def late(self: Store, name: str, content: dict[str, object]) -> None:
        if content.get("id") == slow._id:
            time.sleep(0.5)
        write(self, name, content)

    def together(self: Lease) -> object:
        found = free(self)
        read.wait(10)
        return found

    monkeypatch.setattr(Store, "write_note", late)
    monkeypatch.setattr(Lease, "_wait_until_free", together)
    with ThreadPoolExecutor(2) as threads:
        taking = threads.submit(slow.take)
        with pytest.raises(ClusterError, match="taken by another driver at the same moment"):
            quick.take()
        taking.result(20)
    quick.release()
    holder = Holder.read(store)
    assert holder is not None
    assert holder.id == slow._id
    slow.release()


def without_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_a_driver_that_slept_does_not_write_over_who_took_over(store: Store) -> None:
    lease = Lease(store, workers=1, beat_seconds=1e9)
    lease.take()
    claim(store)
    lease._renew()
    assert lease.lost
    holder = Holder.read(store)
    assert holder is not None
    assert holder.id == "somebody"
    lease.release()


def test_a_driver_notices_that_it_was_replaced_and_leaves_the_lease_alone(store: Store) -> None:
    lease = Lease(store, workers=1, beat_seconds=0.02)
    lease.take()
    claim(store)
    limit = time.monotonic() + 10
    while not lease.lost and time.monotonic() < limit:
        claim(store)
        time.sleep(0.01)
    assert lease.lost
    lease.release()
    holder = Holder.read(store)
    assert holder is not None
    assert holder.id == "somebody"


def test_the_heart_beats(store: Store) -> None:
    lease = Lease(store, workers=1, beat_seconds=0.02)
    lease.take()
    first = Holder.read(store)
    limit = time.monotonic() + 10
    while Holder.read(store) == first and time.monotonic() < limit:
        time.sleep(0.02)
    assert Holder.read(store) != first
    assert not lease.lost
    lease.release()


def test_taking_it_sweeps_what_a_dead_driver_left(store: Store) -> None:
    stale = Path(store.url) / "loss" / "c" / "0" / "0" / "0" / "0.abc.partial"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half")
    lease = Lease(store, workers=1)
    lease.take()
    lease.release()
    assert not stale.exists()


def test_it_beats_while_it_sweeps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    beaten: list[bool] = []

    def sweep(store: Store) -> int:
        first, limit = Holder.read(store), time.monotonic() + 2
        while Holder.read(store) == first and time.monotonic() < limit:
            time.sleep(0.02)
        beaten.append(Holder.read(store) != first)
        return 0

    monkeypatch.setattr(Store, "sweep", sweep)
    lease = Lease(store, workers=1, beat_seconds=0.02)
    lease.take()
    lease.release()
    assert beaten == [True]


def test_an_interrupt_while_it_is_taken_leaves_nothing(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(store: Store) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "sweep", interrupted)
    spec = lay_out(tmp_path)
    assert main.run(["render", str(spec), "--executor", "serial"]) == 130
    assert "stopped; 0 of 16 tiles are done" in capsys.readouterr().out
    assert Holder.read(Store.open(str(tmp_path / "tiny.zarr"))) is None
    with pytest.raises(KeyboardInterrupt):
        decide(store, None)
    assert Holder.read(store) is None


def test_who_was_refused_leaves_the_note_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(store)
    lease = Lease(store, workers=1)
    with pytest.raises(ClusterError):
        lease.take()
    store.write_note(leases.NOTE, {"of": "another version"})
    lease.release()
    assert store.read_note(leases.NOTE) is not None


@pytest.mark.parametrize("note", [{}, {"id": "x"}, {"id": "x", "surprise": 1}])
def test_a_note_that_says_nothing_is_no_claim(store: Store, note: dict[str, object]) -> None:
    store.write_note(leases.NOTE, note)
    lease = Lease(store, workers=1)
    lease.take()
    lease.release()
