"""The lease: a note that names the one driver of a store, renewed by a heartbeat.

A driver takes or renews the lease only if the note is what the driver read before
(`pipeline.store.shared_note`), so of several drivers one gets it. Clocks of two machines are not
compared: a driver on another machine is dead when its note has not changed for some time of our own
clock.
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
from pipeline.store.shared_note import NoteVersion, SharedNote
from pipeline.store.store import Store
from pipeline.url import UnreachableError

NOTE = "lease.json"
BEAT_SECONDS = 5.0
DEAD_SECONDS = 30.0
# Clocks of two machines differ by less: a heartbeat older than this is dead without waiting.
_CLOCKS_SECONDS = 3600.0


@dataclass(frozen=True)
class Holder:
    """The driver that holds the lease; `start` is its process's start (clock ticks since boot)."""

    id: str
    host: str
    machine: str
    pid: Count
    start: int
    beat: Amount
    workers: Count

    @classmethod
    def read(cls, store: Store) -> Holder | None:
        """The holder, alive or not; None if there is none."""
        return store.read_note_as(NOTE, _SHAPE)

    @classmethod
    def read_alive(cls, store: Store, now: float) -> Holder | None:
        """The holder, if it is alive."""
        holder = cls.read(store)
        return holder if holder is not None and holder.alive(now) else None

    def alive(self, now: float) -> bool:
        """Whether it renewed the lease recently and, on this machine, its process still runs.

        Compares with this machine's clock `now`, in seconds since the epoch. That is good enough
        to print, but not to take a lease over.
        """
        if now - self.beat > DEAD_SECONDS:
            return False
        return self.machine != _machine() or _start_of(self.pid) == self.start

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


_SHAPE = TypeAdapter(Holder)


@contextlib.contextmanager
def held(store: Store) -> Iterator[None]:
    """Hold the lease of a store for a moment.

    Raises:
        ClusterError: another driver holds it, or the store cannot be written.
    """
    lease = Lease(store, workers=0)
    try:
        lease.take()
        yield
    finally:
        lease.release()


class Lease:
    """The right to drive one store: taken, renewed by a thread, released.

    Args:
        store: to be driven.
        workers: their number, for `status`.
        beat_seconds: time between two heartbeats.
        dead_seconds: time without a heartbeat after which a driver on another machine is dead.
        clock: seconds since the epoch; for people, and for drivers on this machine.
        warn: prints a line if taking the lease will take long.
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
        self._note = SharedNote(store, NOTE)
        self._seen: NoteVersion | None = None
        self._end = threading.Event()
        self._taken_away = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> bool:
        """Whether another driver took the lease over."""
        return self._taken_away.is_set()

    def take(self) -> None:
        """Take the lease, and delete the half-written files of a dead driver.

        Raises:
            ClusterError: another driver holds it, or the store cannot be written.
        """
        before = self._wait_until_free()
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
        # Sweeping a large store may take longer than a lease lasts without a heartbeat.
        self._thread = threading.Thread(target=self._renew_regularly, name="lease", daemon=True)
        self._thread.start()
        self._store.sweep()

    def release(self) -> None:
        """Stop the heartbeat and delete the note, unless another driver holds the lease.

        May be called after a `take` that failed or was interrupted at any point.
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
            pass  # an unreachable store: the lease expires by itself

    def _wait_until_free(self) -> NoteVersion:
        """The note's version, if no living driver holds the lease.

        Raises:
            ClusterError: a driver holds it.
        """
        now = self._note.read()
        holder = _holder(now)
        if holder is None or not self._is_alive(holder, now):
            return now
        now = self._note.read()
        if _holder(now) is None:  # released meanwhile
            return now
        raise ClusterError(
            f"{self._store.url} is being rendered by {holder}; wanted a store nobody works on. "
            "Wait for it or stop it, then lossatlas resume"
        )

    def _is_alive(self, holder: Holder, before: NoteVersion) -> bool:
        """Whether a driver is alive; for one on another machine, wait for a heartbeat."""
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

    def _renew_regularly(self) -> None:
        while not self._end.wait(self._beat_seconds):
            try:
                self._renew()
            except OSError:
                continue  # a later heartbeat may succeed; if none does, the lease expires
            if self.lost:
                return

    def _renew(self) -> None:
        assert self._seen is not None
        changed = self._note.change(self._seen, self._content())
        if changed is None:
            # A missing or half-written note does not name another driver. Our own note may be there
            # after a request that seemed to fail.
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


def _holder(seen: NoteVersion, id_: str | None = None) -> Holder | None:
    """The holder that a note names, or None; with `id_`, None if it is another one."""
    try:
        holder = _SHAPE.validate_python(seen.note)
    except ValidationError:
        return None
    return holder if id_ in (None, holder.id) else None


def _machine() -> str:
    """This boot and process-id namespace, in which a pid means one process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return platform.node()


def _start_of(pid: int) -> int:
    """When process `pid` started, in clock ticks since boot; -1 if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    # The command, in parentheses, may itself hold spaces and parentheses.
    state, *rest = stat.rpartition(")")[2].split()
    return -1 if state == "Z" else int(rest[18])
