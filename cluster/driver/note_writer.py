"""Writes a driver's notes to the store in a thread, so that the event loop does not wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class NoteWriter:
    """Runs writes in one thread, in order."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="notes")
        self._writes: deque[tuple[Future[None], str]] = deque()

    def submit(self, write: Callable[[], None], warning: str = "") -> None:
        """Run `write`; if it fails and there is a `warning`, `warnings` returns it."""
        self._writes.append((self._thread.submit(write), warning))

    def warnings(self) -> list[str]:
        """The warnings of writes that failed since the last call.

        Raises:
            Exception: a write failed for another reason than the store.
        """
        found = []
        while self._writes and self._writes[0][0].done():
            write, warning = self._writes.popleft()
            try:
                write.result()
            except OSError as error:
                if warning:
                    found.append(f"{warning}: {error}")
        return found

    def close(self) -> list[str]:
        """Wait for all writes; returns the warnings that are left."""
        self._thread.shutdown(wait=True)
        return self.warnings()
