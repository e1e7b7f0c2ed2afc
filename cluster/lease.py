"""One driver a store: a note that says who, kept fresh by a heartbeat.

Who takes or renews it changes the note only if it still is what they read (`pipeline.store.swap`),
so of several takers one has it. Nobody's clock is held against another machine's: a driver
elsewhere is dead when its note has not changed for a while of our own time.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.errors import ClusterError
from pipeline.store.notes import Amount, Count
from pipeline.store.store import Store
from pipeline.store.swap import Seen, Swap
from pipeline.url import UnreachableError

NOTE = "lease.json"
BEAT_SECONDS = 5.0
DEAD_SECONDS = 30.0
# Clocks of two machines are that close: a beat older than this needs no look.
_CLOCKS_SECONDS = 3600.0


@dataclass(frozen=True)
class Holder:
    """Who drives a store: `start` is the process's start (clock ticks since boot)."""

    id: str
    host: str
    machine: str
    pid: Count
    start: int
    beat: Amount
    workers: Count

    @classmethod
    def read(cls, store: Store) -> Holder | None:
        """The holder the store names, alive or not; None where nobody holds it."""
        return store.read_note_as(NOTE, _SHAPE)

    @classmethod
    def living(cls, store: Store, now: float) -> Holder | None:
        """The holder, if it is alive."""
        holder = cls.read(store)
        return holder if holder is not None and holder.alive(now) else None

    def alive(self, now: float) -> bool:
        """Whether it beat recently and, on this machine, its process still runs.

        By this machine's clock `now`, in seconds since the epoch: for telling, not for deciding.
        """
        if now - self.beat > DEAD_SECONDS:
            return False
        return self.machine != _machine() or _start_of(self.pid) == self.start

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


_SHAPE = TypeAdapter(Holder)


@contextlib.contextmanager
def held(store: Store) -> Iterator[None]:
    """Keep other drivers off a store for a moment.

    Raises:
        ClusterError: a living driver holds it, or the store cannot be written.
    """
    lease = Lease(store, workers=0)
    try:
        lease.take()
        yield
    finally:
        lease.release()


class Lease:
    """The right to drive one store; taken, kept by a thread, released.

    Args:
        store: to be driven.
        workers: how many, for others to read.
        beat_seconds: between two heartbeats.
        dead_seconds: without one, until a driver on another machine counts as dead.
        clock: seconds since the epoch, for people, and for drivers on this machine.
        warn: takes a line where taking it lasts longer.
    """

    def __init__(
        self,
        store: Store,
        workers: int,
        beat_seconds: float = BEAT_SECONDS,
        dead_seconds: float = DEAD_SECONDS,
        clock: Callable[[], float] = time.time,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._workers = workers
        self._beat_seconds = beat_seconds
        self._dead_seconds = dead_seconds
        self._clock = clock
        self._warn = warn
        self._id = secrets.token_hex(8)
        self._note = Swap(store, NOTE)
        self._seen: Seen | None = None
        self._end = threading.Event()
        self._taken_away = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> bool:
        """Whether another driver has taken the store over."""
        return self._taken_away.is_set()

    def take(self) -> None:
        """Take the lease, and sweep what a dead driver left half-written.

        Raises:
            ClusterError: a living driver holds it, or the store cannot be written.
        """
        before = self._free()
        try:
            self._seen = self._note.change(before, self._content())
        except UnreachableError:
            raise
        except OSError as error:
            raise ClusterError(
                f"{self._store.url} cannot be written ({error.strerror or error}); wanted a place "
                "with room and write permission. Mend that, then lossatlas resume"
            ) from None
        if self._seen is None:
            raise ClusterError(
                f"{self._store.url} was taken by another driver at the same moment; wanted a "
                "store nobody works on. Wait for it or stop it"
            )
        # Sweeping a large store may take longer than a lease lasts without a beat.
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        self._store.sweep()

    def release(self) -> None:
        """Stop the heartbeat and give the store free, unless somebody else has it.

        Also after a `take` that failed or was interrupted, wherever it was.
        """
        self._end.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=10)
        self._thread = None
        try:
            now = self._note.read()
            if _holder(now, self._id):
                self._note.change(now, None)
        except OSError:
            pass  # an unreachable store: the lease dies by itself

    def _free(self) -> Seen:
        """What the note says, once nobody alive holds the store.

        Raises:
            ClusterError: somebody does.
        """
        now = self._note.read()
        holder = _holder(now)
        if holder is None or not self._lives(holder, now):
            return now
        now = self._note.read()
        if _holder(now) is None:  # given free meanwhile
            return now
        raise ClusterError(
            f"{self._store.url} is being rendered by {holder}; wanted a store nobody works on. "
            "Wait for it or stop it, then lossatlas resume"
        )

    def _lives(self, holder: Holder, before: Seen) -> bool:
        """Whether a driver does; one of another machine is looked at for as long as that takes."""
        if holder.machine == _machine():
            return holder.alive(self._clock())
        if self._clock() - holder.beat > _CLOCKS_SECONDS:
            return False
        self._warn(
            f"{holder} holds {self._store.url}; looking for up to {self._dead_seconds:.0f} s "
            "whether it is alive"
        )
        limit = time.monotonic() + self._dead_seconds
        while time.monotonic() < limit:
            time.sleep(min(self._beat_seconds / 2, self._dead_seconds))
            if self._note.read().content != before.content:
                return True
        return False

    def _keep(self) -> None:
        while not self._end.wait(self._beat_seconds):
            try:
                self._beat()
            except OSError:
                continue  # the next beat may get through; if none does, the lease is dead
            if self.lost:
                return

    def _beat(self) -> None:
        assert self._seen is not None
        changed = self._note.change(self._seen, self._content())
        if changed is None:
            # A note that is gone or half-written is no claim, and our own may have been written by
            # a request that seemed to fail.
            changed = self._note.read()
            holder = _holder(changed)
            if holder is not None and holder.id != self._id:
                self._taken_away.set()
        self._seen = changed

    def _content(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "host": platform.node(),
            "machine": _machine(),
            "pid": os.getpid(),
            "start": _start_of(os.getpid()),
            "beat": self._clock(),
            "workers": self._workers,
        }


def _holder(seen: Seen, id_: str | None = None) -> Holder | None:
    """Whom a note names, if it does; with `id_`, only if that is who."""
    try:
        holder = _SHAPE.validate_python(seen.note)
    except ValidationError:
        return None
    return holder if id_ in (None, holder.id) else None


def _machine() -> str:
    """This boot and process-id space: where a pid means the same process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return platform.node()


def _start_of(pid: int) -> int:
    """When process `pid` started, in clock ticks since boot; -1 where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    # The command, in parentheses, may itself hold spaces and parentheses.
    state, *rest = stat.rpartition(")")[2].split()
    return -1 if state == "Z" else int(rest[18])
