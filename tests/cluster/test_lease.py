from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import cli
from cluster import lease as leases
from cluster.errors import ClusterError
from cluster.lease import DEAD_SECONDS, Holder, Lease
from cluster.steps import decide
from pipeline.grid import Extent, Grid
from pipeline.plane import Anchor, FrameFacts
from pipeline.store import Store
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


def test_of_two_that_take_it_at_once_the_one_that_wrote_last_has_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked before either wrote; the first one reads the other's name back."""
    monkeypatch.setattr(leases.time, "sleep", lambda _: claim(store))
    lease = Lease(store, workers=1)
    with pytest.raises(ClusterError, match="taken by another driver at the same moment"):
        lease.take()
    lease.release()
    holder = Holder.read(store)
    assert holder is not None
    assert holder.id == "somebody"


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


def test_elsewhere_only_the_heartbeat_counts(store: Store) -> None:
    claim(store, machine="elsewhere", pid=1, start=0)
    with pytest.raises(ClusterError):
        Lease(store, workers=1).take()
    claim(store, machine="elsewhere", pid=1, start=0, beat=time.time() - DEAD_SECONDS - 1)
    lease = Lease(store, workers=1)
    lease.take()
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
    assert cli.run(["render", str(spec), "--executor", "serial"]) == 130
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
