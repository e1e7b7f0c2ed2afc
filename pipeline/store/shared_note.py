"""A note that several processes change: a change succeeds only if nobody else changed it before.

On a local disk a lock on a second file keeps other processes out while the note is compared and
written. On S3 the server compares, by the tag of the version that was read. A disk without locks
or a server without conditions cannot do that. There the note is read again some time after it was
written, and the last writer has it, as long as no write takes longer than that time.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from pipeline.store import notes
from pipeline.store.keys import RemoteStore
from pipeline.store.store import Store
from pipeline.url import is_url

# How long to wait before a note is read again, where nothing else helps: at least so many seconds,
# and so many times as long as the write took.
_SETTLE_SECONDS, _SETTLE_WRITES = 1.0, 3.0
_LOCK_SECONDS, _LOOK_SECONDS = 20.0, 0.02


@dataclass(frozen=True)
class NoteVersion:
    """What a note held: its bytes, None if there was none, and the server's tag of them."""

    content: bytes | None
    tag: str | None = None

    @property
    def note(self) -> dict[str, Any] | None:
        """The JSON object in it; None if it is none."""
        return None if self.content is None else notes.parse(self.content)


class SharedNote:
    """Reads and changes the note `name` of a store."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        remote = store.group.store
        self._server = remote if isinstance(remote, RemoteStore) and remote.compares else None
        self._is_tried = False

    def read(self) -> NoteVersion:
        """The present version.

        Raises:
            OSError: the store cannot be read.
        """
        key = self._store.note_key(self._name)
        if self._server is not None:
            return NoteVersion(*sync(self._server.get_tagged(key)))
        found = sync(self._store.group.store.get(key, default_buffer_prototype()))
        return NoteVersion(None if found is None else found.to_bytes())

    def change(self, seen: NoteVersion, note: Mapping[str, Any] | None) -> NoteVersion | None:
        """Write `note`, or delete the note if it is None, as long as `seen` is its present version.

        Returns:
            The new version; None if another process changed the note since it was `seen`.

        Raises:
            OSError: the store cannot be written.
        """
        if self._server is not None and note is not None:
            return self._change_on_server(self._server, seen, note)
        with self._locked() as is_locked:
            if self.read().content != seen.content:
                return None
            if note is None:
                self._store.delete_note(self._name)
                return NoteVersion(None)
            began, content = time.monotonic(), notes.to_bytes(note)
            self._store.write_note(self._name, note)
            took = time.monotonic() - began
            return NoteVersion(content) if is_locked else self._read_again(content, took)

    # Inside

    def _read_again(self, content: bytes, took: float) -> NoteVersion | None:
        """The version with our `content`, if no other writer replaced it meanwhile."""
        time.sleep(max(_SETTLE_SECONDS, _SETTLE_WRITES * took))
        found = self.read()
        return found if found.content == content else None

    def _change_on_server(
        self, server: RemoteStore, seen: NoteVersion, note: Mapping[str, Any]
    ) -> NoteVersion | None:
        key, content = self._store.note_key(self._name), notes.to_bytes(note)
        began = time.monotonic()
        tag = sync(server.set_if(key, content, seen.tag))
        took = time.monotonic() - began
        if tag is None:
            found = self.read()  # the client may have repeated a request that had succeeded
            return found if found.content == content else None
        if self._is_tried:
            return NoteVersion(content, tag)
        # Try once whether the server knows conditions: this write has to be refused.
        self._is_tried = True
        if sync(server.set_if(key, content, None)) is None:
            return NoteVersion(content, tag)
        self._server = None
        return self._read_again(content, took)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Keep other processes out; gives False where no lock is possible.

        Raises:
            TimeoutError: another process keeps the lock.
        """
        if is_url(self._store.url):
            yield False
            return
        path = Path(self._store.url) / self._store.note_key(f"{self._name}.lock")
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:  # the lock ends with the process
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
