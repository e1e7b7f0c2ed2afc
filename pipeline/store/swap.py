"""One note of a store that several processes may want to change: only who knows what it says may.

On a disk a lock on a file beside it keeps others out while it is compared and written. On S3 the
server compares, by the tag of what was read. Where a disk or a server knows no such thing, the note
is read once more a while after it was written: then the last writer has it, as long as no write
takes longer than that while.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from pipeline.store.keys import RemoteStore
from pipeline.store.store import Store
from pipeline.url import is_url

# How long after a write it is read once more, where nothing else helps: at least, and in writes.
_SETTLE_SECONDS, _SETTLE_WRITES = 1.0, 3.0
_LOCK_SECONDS, _LOOK_SECONDS = 20.0, 0.02


@dataclass(frozen=True)
class Seen:
    """What a note said: its bytes, None where there was none, and a server's tag of them."""

    content: bytes | None
    tag: str | None = None

    @property
    def note(self) -> dict[str, Any] | None:
        """The JSON object in it, if it is one."""
        try:
            found = json.loads(self.content or b"")
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


class Swap:
    """The note `name` of a store, read and changed."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        remote = store.group.store
        self._server = remote if isinstance(remote, RemoteStore) and remote.compares else None
        self._is_tried = False

    def read(self) -> Seen:
        """What it says now.

        Raises:
            OSError: the store cannot be read.
        """
        key = self._store.note_key(self._name)
        if self._server is not None:
            return Seen(*sync(self._server.get_tagged(key)))
        found = sync(self._store.group.store.get(key, default_buffer_prototype()))
        return Seen(None if found is None else found.to_bytes())

    def change(self, seen: Seen, note: Mapping[str, Any] | None) -> Seen | None:
        """Write `note`, or delete what is there where it is None, if that still is as `seen`.

        Returns:
            What it says then; None where it is not, because somebody else has changed it.

        Raises:
            OSError: the store cannot be written.
        """
        if self._server is not None and note is not None:
            return self._change_on_server(self._server, seen, note)
        with self._alone() as is_alone:
            if self.read().content != seen.content:
                return None
            if note is None:
                self._store.delete_note(self._name)
                return Seen(None)
            began, content = time.monotonic(), self._store.note_bytes(note)
            self._store.write_note(self._name, note)
            took = time.monotonic() - began
            return Seen(content) if is_alone else self._settled(content, took)

    # Inside

    def _settled(self, content: bytes, took: float) -> Seen | None:
        time.sleep(max(_SETTLE_SECONDS, _SETTLE_WRITES * took))
        found = self.read()
        return found if found.content == content else None

    def _change_on_server(
        self, server: RemoteStore, seen: Seen, note: Mapping[str, Any]
    ) -> Seen | None:
        key, content = self._store.note_key(self._name), self._store.note_bytes(note)
        began = time.monotonic()
        tag = sync(server.set_if(key, content, seen.tag))
        took = time.monotonic() - began
        if tag is None:
            found = self.read()  # a request that was repeated finds what it wrote itself
            return found if found.content == content else None
        if self._is_tried:
            return Seen(content, tag)
        # A server that takes what is to be refused does not know conditions.
        self._is_tried = True
        if sync(server.set_if(key, content, None)) is None:
            return Seen(content, tag)
        self._server = None
        return self._settled(content, took)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Keep others out; gives whether that is possible here.

        Raises:
            TimeoutError: somebody else does not let go.
        """
        if is_url(self._store.url):
            yield False
            return
        path = Path(self._store.url) / self._store.note_key(f"{self._name}.lock")
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:  # the lock goes with the process, however it ends
            yield _lock(file.fileno(), path)


def _lock(descriptor: int, path: Path) -> bool:
    limit = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > limit:
                raise TimeoutError(f"{path} is held by another process") from None
            time.sleep(_LOOK_SECONDS)
        except OSError:  # a file system without locks
            return False
