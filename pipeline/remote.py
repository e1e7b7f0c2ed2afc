"""Reaching a store's keys: Zarr groups at a path or a URL, and listings that hold at scale."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import zarr
from zarr.core.sync import collect_aiterator
from zarr.storage import FsspecStore, LocalStore

from pipeline.place import PlaceError, check, is_url, reached

# A server may accept a request and never answer. Libraries do not all notice: aiohttp waits without
# end for the "100 Continue" of a PUT to S3. Under the least deadline of a tile, which would
# otherwise be charged with what the store did.
ANSWER_SECONDS = 60.0

T = TypeVar("T")


class RemoteStore(FsspecStore):
    """A Zarr store over fsspec that lists what is there now and has one error for all clouds."""

    @classmethod
    def at(cls, url: str, read_only: bool) -> RemoteStore:
        """The store at `url`.

        Raises:
            PlaceError: no file system is known, or installed, for such a URL.
            UnreachableError: there is one, and it refuses.
        """
        try:
            with reached(url):
                # Other processes write what this one lists: nothing may come from a cache.
                options = {"use_listings_cache": False}
                return cls.from_url(check(url), options, read_only)  # type: ignore[return-value]
        except (ImportError, ValueError) as error:
            raise PlaceError(
                f"{url}: {' '.join(str(error).split())}; wanted a local path or a URL that fsspec "
                "knows, such as s3://bucket/run.zarr"
            ) from None

    async def get(self, key: str, *rest: Any, **named: Any) -> Any:
        return await self._answered(super().get(key, *rest, **named))

    async def set(self, key: str, *rest: Any, **named: Any) -> None:
        await self._answered(super().set(key, *rest, **named))

    async def delete(self, key: str) -> None:
        await self._answered(super().delete(key))

    async def exists(self, key: str) -> bool:
        return await self._answered(super().exists(key))

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        with self._reached():
            async for key in super().list_prefix(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        with self._reached():
            async for key in super().list_dir(prefix):
                yield key

    async def _answered(self, request: Awaitable[T]) -> T:
        with self._reached():
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await request
            except TimeoutError as error:
                told = str(error) or f"no answer within {ANSWER_SECONDS:g} s"
                raise TimeoutError(told) from None

    def _reached(self) -> contextlib.AbstractContextManager[None]:
        protocol = self.fs.protocol
        scheme = protocol if isinstance(protocol, str) else protocol[0]
        return reached(f"{scheme}://{self.path}")


def open_group(url: str, mode: Any, **options: Any) -> zarr.Group:
    """The Zarr group at a path or URL; `mode` as zarr has it.

    Raises:
        OSError, ValueError, KeyError: as zarr does; `UnreachableError` of a remote place.
    """
    store = RemoteStore.at(url, read_only=mode == "r") if is_url(url) else url
    # Format 3 alone: looking for format 2 as well asks for four objects at once, and where one of
    # them fails the others are heard of when the process ends.
    return zarr.open_group(store, mode=mode, zarr_format=3, **options)


def is_empty(url: str) -> bool:
    """Whether nothing is at `url`: no file, no key under it."""
    if not is_url(url):
        path = Path(url)
        return not path.exists() or (path.is_dir() and not any(path.iterdir()))
    return not collect_aiterator(RemoteStore.at(url, read_only=True).list_dir(""))


def keys(store: Any, prefix: str) -> Iterable[str]:
    """Every key of a Zarr store under `prefix` (a folder, with its slash)."""
    if isinstance(store, LocalStore):
        # Zarr asks about each file twice, through pathlib: a minute for a million tiles.
        return _walk(os.path.join(str(store.root), prefix.rstrip("/")), prefix)
    return collect_aiterator(store.list_prefix(prefix))


def _walk(folder: str, prefix: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry.path, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}"
