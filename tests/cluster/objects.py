"""An S3 server of our own on loopback: moto's, in a process that a test may also end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
BUCKET = "atlas"
SECRET = "s3cr3t-that-nobody-may-ever-write-down"


class Door:
    """Forwards connections to a server, or refuses them as if it were gone."""

    def __init__(self) -> None:
        self.behind = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.port = 0
        self.open()

    def open(self) -> None:
        self._server = self._do(asyncio.start_server(self._enter, "127.0.0.1", self.port))
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Refuse whoever comes, and cut off whoever is inside."""
        self._do(self._shut())

    async def _shut(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        inside = None
        try:
            inside_reader, inside = await asyncio.open_connection("127.0.0.1", self.behind)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pour(reader, inside))
                both.create_task(_pour(inside_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in filter(None, (writer, inside)):
                end.transport.abort()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


async def _pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(1 << 16):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


@functools.cache
def _door() -> Door:
    """The one of this process: file systems that fsspec keeps know no other address."""
    return Door()


class ObjectServer:
    """moto's S3 on a port of its own, behind the door; what it holds is lost when it stops."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.door = _door()
        self.endpoint = f"http://127.0.0.1:{self.door.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What finds it, as any S3 client reads it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "AKIALOSSATLAS",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        self.door.behind = self._port
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
        )
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            time.sleep(0.1)
        raise TimeoutError("moto's S3 server does not come up")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Accept everybody and answer nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def client(self) -> Any:
        """boto3's S3 client."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="AKIALOSSATLAS",
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Everything in the bucket under `prefix`."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {
            key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in sorted(keys)
        }

    def modified(self, prefix: str) -> dict[str, object]:
        """When everything under `prefix` was last written."""
        pages = (
            self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        )
        return {
            item["Key"]: item["LastModified"] for page in pages for item in page.get("Contents", ())
        }

    def upload(self, folder: Path, prefix: str) -> None:
        client = self.client()
        for path in folder.rglob("*"):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())


@contextlib.contextmanager
def serving() -> Iterator[ObjectServer]:
    """A running server with an empty bucket."""
    server = ObjectServer()
    server.start()
    try:
        server.client().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        server.stop()


def remote_numbers(objects: ObjectServer, prefix: str) -> dict[str, bytes]:
    """As `landscape.numbers`, of a store in the bucket."""
    found = {key.removeprefix(f"{prefix}/"): data for key, data in objects.objects(prefix).items()}
    kept = ("loss/c", "error/c", "loss_stderr/c", "done/c")
    return {key: data for key, data in found.items() if key.startswith(kept)}
