"""One driver a store: a note that says who, kept fresh by a heartbeat.

The store has no locks, and needs none: two drivers would write identical bytes. The lease only
keeps them from doing the work twice, so last writer wins and a reading back is good enough.
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

from cluster.errors import ClusterError
from pipeline.place import UnreachableError
from pipeline.store import Store

NOTE = "lease.json"
BEAT_SECONDS = 5.0
DEAD_SECONDS = 30.0
_SETTLE_SECONDS = 0.1


@dataclass(frozen=True)
class Holder:
    """Who drives a store: `start` is the process's start (clock ticks since boot)."""

    id: str
    host: str
    machine: str
    pid: int
    start: int
    beat: float
    workers: int

    @classmethod
    def read(cls, store: Store) -> Holder | None:
        """The holder the store names, alive or not; None where nobody holds it."""
        note = store.read_note(NOTE)
        try:
            return None if note is None else cls(**note)
        except TypeError:
            return None

    @classmethod
    def living(cls, store: Store, now: float) -> Holder | None:
        """The holder, if it is alive."""
        holder = cls.read(store)
        return holder if holder is not None and holder.alive(now) else None

    def alive(self, now: float) -> bool:
        """Whether it beat recently and, on this machine, its process still runs."""
        if now - self.beat > DEAD_SECONDS:
            return False
        return self.machine != _machine() or _start_of(self.pid) == self.start

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


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
    """The right to drive one store; taken, kept by a thread, released."""

    def __init__(
        self,
        store: Store,
        workers: int,
        beat_seconds: float = BEAT_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._workers = workers
        self._beat_seconds = beat_seconds
        self._clock = clock
        self._id = secrets.token_hex(8)
        self._claimed = False
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
        holder = Holder.living(self._store, self._clock())
        if holder is not None:
            raise ClusterError(
                f"{self._store.url} is being rendered by {holder} (seen "
                f"{max(0.0, self._clock() - holder.beat):.0f} s ago); wanted a store nobody "
                "works on. Wait for it or stop it, then lossatlas resume"
            )
        self._claimed = True
        try:
            self._write()
        except UnreachableError:
            raise
        except OSError as error:
            raise ClusterError(
                f"{self._store.url} cannot be written ({error.strerror or error}); wanted a place "
                "with room and write permission. Mend that, then lossatlas resume"
            ) from None
        time.sleep(_SETTLE_SECONDS)
        if not self._still_ours():
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
            if self._claimed and self._still_ours():
                self._store.delete_note(NOTE)
        except OSError:
            pass  # an unreachable store: the lease dies by itself

    def _keep(self) -> None:
        while not self._end.wait(self._beat_seconds):
            try:
                if not self._still_ours():
                    self._taken_away.set()
                    return
                self._write()
            except OSError:
                continue  # the next beat may get through; if none does, the lease is dead

    def _still_ours(self) -> bool:
        """Nobody else's name is in the note. A note that is gone or half-written is no claim."""
        holder = Holder.read(self._store)
        return holder is None or holder.id == self._id

    def _write(self) -> None:
        note: dict[str, Any] = {
            "id": self._id,
            "host": platform.node(),
            "machine": _machine(),
            "pid": os.getpid(),
            "start": _start_of(os.getpid()),
            "beat": self._clock(),
            "workers": self._workers,
        }
        self._store.write_note(NOTE, note)


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
