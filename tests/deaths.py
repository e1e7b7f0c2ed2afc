"""Writers that die in the middle, and disks that fail: at one write to a local store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from zarr.storage import LocalStore


class Killed(Exception):  # noqa: N818
    """Where a process would be gone. No KeyboardInterrupt: zarr writes in a thread's event loop."""


@contextmanager
def dying(after: int, error: type[Exception] | Exception = Killed) -> Iterator[list[str]]:
    """Let so many writes and deletions of stores come to pass; all that follow raise `error`.

    Gives the keys of those that did, in order: `-key` for a deletion.
    """
    happened: list[str] = []

    def mortal(name: str, sign: str) -> Any:
        plain = getattr(LocalStore, name)

        async def change(store: LocalStore, key: str, *arguments: Any, **options: Any) -> Any:
            if len(happened) >= after:
                raise error
            happened.append(sign + key)
            return await plain(store, key, *arguments, **options)

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name, sign in (("set", ""), ("set_if_not_exists", ""), ("delete", "-")):
            patch.setattr(LocalStore, name, mortal(name, sign))
        yield happened
