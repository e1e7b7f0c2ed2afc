"""The keys of a store: Zarr groups at a path or a URL, and listings of many keys."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

import zarr
from zarr.core.sync import collect_aiterator, sync
from zarr.storage import FsspecStore, LocalStore

from pipeline.errors import one_line
from pipeline.geometry.grid import Grid
from pipeline.url import PlaceError, check, is_url, reached

_LISTINGS_AT_ONCE = 32
_FOLDER_TILES = 250  # with fewer tiles, a listing of its own costs more than it saves
# A server may accept a request and never answer, and not every library notices: aiohttp waits
# forever for the "100 Continue" of a PUT to S3. This limit is below the shortest deadline of a
# tile, so that a tile is not blamed for its store.
ANSWER_SECONDS = 60.0
# Error codes of servers: an object does not fulfil a condition, or is changing just now.
_REFUSED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404"}

T = TypeVar("T")


class RemoteStore(FsspecStore):
    """A Zarr store over fsspec: it never lists from a cache, and has one error for all clouds."""

    @classmethod
    def at(cls, url: str, read_only: bool) -> RemoteStore:
        """The store at `url`.

        Raises:
            PlaceError: no file system for such a URL is known or installed.
            UnreachableError: the file system refuses.
        """
        try:
            with reached(url):
                # Other processes write the keys that this one lists, so no listing is cached.
                options = {"use_listings_cache": False, **_quick_listings(url)}
                return cls.from_url(check(url), options, read_only)  # type: ignore[return-value]
        except (ImportError, ValueError) as error:
            raise PlaceError(
                f"{url}: {one_line(error)}; wanted a local path or a URL that fsspec "
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

    @property
    def compares(self) -> bool:
        """Whether the server can write on the condition that an object is unchanged."""
        return "s3" in self.fs.protocol

    async def get_tagged(self, key: str) -> tuple[bytes | None, str | None]:
        """An object's content and the server's tag of it; None and None if there is no object."""
        place = self._place(key)
        try:
            answer = await self._answered(self.fs._call_s3("get_object", **place))
            async with answer["Body"] as body:
                return await self._answered(body.read()), answer["ETag"]
        except FileNotFoundError:
            return None, None

    async def set_if(self, key: str, content: bytes, tag: str | None) -> str | None:
        """Write an object if its tag still is `tag`; if `tag` is None, only if there is no object.

        Returns:
            The new tag; None if the condition does not hold and nothing was written.
        """
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        asked = self._place(key) | {"Body": content} | condition
        try:
            answer = await self._answered(self.fs._call_s3("put_object", **asked))
        except OSError as error:
            if _server_codes(error) & _REFUSED:
                return None
            raise
        return cast("str", answer["ETag"])

    def _place(self, key: str) -> dict[str, str]:
        bucket, path, _ = self.fs.split_path(f"{self.path}/{key}")
        return {"Bucket": bucket, "Key": path}

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
                text = str(error) or f"no answer within {ANSWER_SECONDS:g} s"
                raise TimeoutError(text) from None

    def _reached(self) -> contextlib.AbstractContextManager[None]:
        protocol = self.fs.protocol
        scheme = protocol if isinstance(protocol, str) else protocol[0]
        return reached(f"{scheme}://{self.path}")


def _server_codes(error: BaseException | None) -> set[str]:
    """The error codes that a server answered with, from an error and its causes."""
    codes = set()
    while error is not None:
        response: Any = getattr(error, "response", None)
        if isinstance(response, dict):
            codes.add(str(response.get("Error", {}).get("Code")))
        error = error.__cause__
    return codes


def _quick_listings(url: str) -> dict[str, Any]:
    """Options for fast listings on S3: parsing dates took four fifths of their time."""
    if not url.startswith(("s3://", "s3a://")) or find_spec("aiobotocore") is None:
        return {}
    return {"session": _session()}


@functools.cache
def _session() -> Any:
    """One session for the process, so that file systems of the same URL are shared."""
    from aiobotocore.session import AioSession

    session = AioSession()
    parsers = session.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=_timestamp)
    return session


def _timestamp(value: Any) -> datetime:
    """The date that botocore would read; the usual form is read a hundred times faster."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return cast("datetime", parse_timestamp(value))


def open_group(url: str, mode: Any, **options: Any) -> zarr.Group:
    """The Zarr group at a path or URL; `mode` as zarr has it.

    Raises:
        OSError, ValueError, KeyError: as zarr does; `UnreachableError` of a remote place.
    """
    store = RemoteStore.at(url, read_only=mode == "r") if is_url(url) else url
    # Only format 3. If zarr also looks for format 2, it asks for four objects at once; when one
    # request fails, the errors of the others are printed at the end of the process.
    return zarr.open_group(store, mode=mode, zarr_format=3, **options)


def is_empty(url: str) -> bool:
    """Whether there is no file at `url`, and no key under it."""
    if not is_url(url):
        path = Path(url)
        return not path.exists() or (path.is_dir() and not any(path.iterdir()))
    return not collect_aiterator(RemoteStore.at(url, read_only=True).list_dir(""))


def keys(store: Any, prefix: str) -> Iterator[str]:
    """Every key of a Zarr store under `prefix` (a folder, with its slash)."""
    for folder, names in folders(store, [prefix]):
        yield from (folder + name for name in names)


def folders(store: Any, prefixes: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The folders of a Zarr store under `prefixes`, each with the names of the keys in it.

    A folder may come more than once; folders and prefixes end with a slash. Object stores are
    asked for several prefixes at once, because they return a thousand keys a request.
    """
    if isinstance(store, LocalStore):
        # Zarr looks at each file twice, through pathlib: a minute for a million tiles.
        for prefix in prefixes:
            yield from _walk(os.path.join(str(store.root), prefix.rstrip("/")), prefix)
        return
    for found in sync(_listings(store, prefixes)):
        for folder, group in itertools.groupby(found, lambda key: key[: key.rindex("/") + 1]):
            yield folder, [key[len(folder) :] for key in group]


def tile_folders(path: str, grid: Grid) -> list[str]:
    """The folders to list for all tiles under `path`: one, or many if each has many keys."""
    paths = [path]
    if grid.tile_rows * grid.tile_columns >= _FOLDER_TILES:
        paths = [f"{path}{frame}/" for frame in range(grid.frames)]
    if grid.tile_columns >= _FOLDER_TILES:
        paths = [f"{each}{row}/" for each in paths for row in range(grid.tile_rows)]
    return paths


async def _listings(store: Any, prefixes: Sequence[str]) -> list[list[str]]:
    gate = asyncio.Semaphore(_LISTINGS_AT_ONCE)

    async def listing(prefix: str) -> list[str]:
        async with gate:
            return [key async for key in store.list_prefix(prefix)]

    return await asyncio.gather(*map(listing, prefixes))


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, list[str]]]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    names = []
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry.path, f"{prefix}{entry.name}/")
        else:
            names.append(entry.name)
    if names:
        yield prefix, names
