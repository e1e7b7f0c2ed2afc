"""Ray jobs that drive renders: one job a driver, named `<run>-<n>`.

The store is the truth about progress; the Jobs API only says whether somebody is at it, and is
asked for nothing else. A note in the store says which job was the last.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.errors import ClusterError
from pipeline.store import Store

NOTE = "job.json"
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_RUN, _STORE = "lossatlas_run", "lossatlas_store"
_CONNECT_SECONDS = 5.0
_POLL_SECONDS = 0.5
_AGENT_SECONDS = 60.0
_NO_AGENT = "no agent answers that could start a job"
_LONGEST_WAIT_SECONDS = 8.0
# Ray kills a job three seconds after it was asked to stop: too soon for a driver that gives its
# workers and its lease back.
_STOP_SECONDS = 60


@dataclass(frozen=True)
class Job:
    """One job as the Jobs API tells it: `status` is Ray's word, `code` the driver's exit code."""

    id: str
    run: str
    store: str
    status: str
    code: int | None
    started: float

    @property
    def alive(self) -> bool:
        return self.status not in ENDED

    @property
    def exit_code(self) -> int:
        """The driver's own, or 130 where it was stopped; 1 where it never came to one."""
        if self.status == "STOPPED":
            return 130
        return 0 if self.status == "SUCCEEDED" else 1 if self.code is None else self.code


@dataclass(frozen=True)
class Note:
    """What the store remembers of its last job."""

    id: str
    address: str

    @classmethod
    def read(cls, store: Store) -> Note | None:
        note = store.read_note(NOTE) or {}
        return cls(note["id"], note["address"]) if {"id", "address"} <= note.keys() else None

    def write(self, store: Store) -> None:
        store.write_note(NOTE, asdict(self))


class Jobs:
    """The renders on one cluster, through its Jobs API."""

    def __init__(self, address: str) -> None:
        """Connect to `address` (`http://HOST:8265`).

        Raises:
            ClusterError: nothing is there, it is no Ray cluster, or it does not let us in.
        """
        self.address = _checked(address)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # Both would silently take the place of the address that was asked for.
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            os.environ.pop(name, None)
        from ray.job_submission import JobSubmissionClient

        token = _token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with self._asking(bool(token)):
            self._client = JobSubmissionClient(self.address, headers=headers)

    def list(self) -> list[Job]:
        """Every job that drives a render, the oldest first."""
        with self._asking():
            found = [_job(details) for details in self._client.list_jobs()]
        return sorted((job for job in found if job is not None), key=lambda job: job.started)

    def find(self, id_: str) -> Job:
        """The job `id_`.

        Raises:
            ClusterError: there is none, or it drives no render.
        """
        with self._asking(job=id_):
            job = _job(self._client.get_job_info(id_))
        if job is None:
            raise ClusterError(f"the job {id_} is none of lossatlas; see lossatlas list")
        return job

    def alive_on(self, store: str) -> Job | None:
        """The job that drives the store now, if any."""
        return next((job for job in self.list() if job.store == store and job.alive), None)

    def submit(self, run: str, store: str, entrypoint: str) -> str:
        """Start a job that drives `store`; returns its id."""
        number = self._next_number(run)
        limit = time.monotonic() + _AGENT_SECONDS
        while True:
            id_ = f"{run}-{number}"
            try:
                with self._asking():
                    return str(
                        self._client.submit_job(
                            entrypoint=entrypoint,
                            submission_id=id_,
                            metadata={_RUN: run, _STORE: store},
                            runtime_env={
                                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)}
                            },
                        )
                    )
            except ClusterError as error:
                if "already exists" in str(error):
                    number += 1  # somebody else took it at the same moment
                elif _NO_AGENT in str(error) and time.monotonic() < limit:
                    time.sleep(1.0)  # a head that has only just come up
                else:
                    raise

    def stop(self, id_: str, seconds: float) -> Job:
        """Ask a job to stop, and wait for it at most `seconds`; returns it as it then is."""
        with self._asking(job=id_):
            self._client.stop_job(id_)
        limit = time.monotonic() + seconds
        job = self.find(id_)
        while job.alive and time.monotonic() < limit:
            time.sleep(_POLL_SECONDS)
            job = self.find(id_)
        return job

    def logs(self, id_: str) -> str:
        """What the driver printed so far."""
        with self._asking(job=id_):
            return str(self._client.get_job_logs(id_))

    def follow(self, id_: str, say: Callable[[str], None], patience_seconds: float = 120.0) -> Job:
        """Pass on what the driver prints until it has ended; returns the job.

        A connection that breaks, or a tail that ends while the job runs, is taken up again where
        it was.

        Raises:
            ClusterError: the cluster is out of reach for longer than `patience_seconds`.
        """
        told, wait, since = 0, _POLL_SECONDS, time.monotonic()
        while True:
            try:
                job = self.find(id_)
                told = self._tail(id_, told, say) if job.alive else self._rest(id_, told, say)
                if not job.alive:
                    return job
                wait, since = _POLL_SECONDS, time.monotonic()
            except ClusterError as error:
                if "cannot be reached" not in str(error):
                    raise
                if time.monotonic() - since > patience_seconds:
                    raise
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            time.sleep(wait)

    # Inside

    def _tail(self, id_: str, told: int, say: Callable[[str], None]) -> int:
        """Follow one connection to its end; returns how many characters were told in all."""

        async def follow() -> int:
            seen = 0
            nonlocal told
            async for text in self._client.tail_job_logs(id_):
                new = text[max(0, told - seen) :]
                seen += len(text)
                if new:
                    say(new)
                    told += len(new)
            return told

        # However it ends, what was told counts, and the next connection begins again.
        with contextlib.suppress(Exception):
            asyncio.run(follow())
        return told

    def _rest(self, id_: str, told: int, say: Callable[[str], None]) -> int:
        text = self.logs(id_)
        if len(text) > told:
            say(text[told:])
        return max(told, len(text))

    def _next_number(self, run: str) -> int:
        pattern = re.compile(rf"{re.escape(run)}-(\d+)")
        numbers = (pattern.fullmatch(job.id) for job in self.list())
        return 1 + max((int(found[1]) for found in numbers if found), default=0)

    @contextlib.contextmanager
    def _asking(self, token: bool = True, job: str = "") -> Iterator[None]:
        """Give every way in which the Jobs API fails one clear line."""
        import requests
        from ray.exceptions import AuthenticationError

        address = self.address
        try:
            yield
        except AuthenticationError as error:
            if "401" in str(error) or "Missing" in str(error):
                raise ClusterError(
                    f"{address} wants a token and got none; wanted the cluster's own. Set "
                    "RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds it"
                ) from None
            raise ClusterError(
                f"{address} refuses the token it got; wanted the cluster's own. Check "
                "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
            ) from None
        except (requests.exceptions.RequestException, ConnectionError) as error:
            raise ClusterError(
                f"{address} cannot be reached ({type(error).__name__}); wanted the dashboard of a "
                "running Ray head. Check the address, the tunnel and the head"
            ) from None
        except RuntimeError as error:
            text = " ".join(str(error).split())
            if job and ("404" in text or "does not exist" in text):
                raise ClusterError(
                    f"{address} knows no job {job}; wanted the id of one of its jobs. See "
                    f"lossatlas list --address {address}"
                ) from None
            if "No available agent" in text:
                raise ClusterError(
                    f"{address}: {_NO_AGENT}; wanted one on the head. Wait for the head to come "
                    "up, or see dashboard_agent.log there (its port may be taken)"
                ) from None
            if "Version check returned 404" in text:
                raise ClusterError(
                    f"{address} answers, but is no Ray dashboard; wanted http://HOST:8265"
                ) from None
            raise ClusterError(f"{address} does not do that: {text[:300]}") from None


def entrypoint(store: str, options: Mapping[str, object], python: str = "python") -> str:
    """The shell command that drives `store` on the cluster.

    `-P` keeps the folder that Ray starts it in off the path; `exec` lets Ray's signal reach the
    driver itself.
    """
    words = [python, "-P", "-m", "cluster.cli", "drive", store]
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value not in (None, False):
            words += [f"--{name}", str(value)]
    return f"exec {shlex.join(words)}"


def _checked(address: str) -> str:
    """The address without user information, where somebody listens."""
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClusterError(
            f"--address {address} is no Jobs API; wanted http://HOST:8265, the dashboard of a "
            "running Ray head"
        )
    if "@" in parts.netloc:
        raise ClusterError(
            f"--address {parts.scheme}://{parts.netloc.rpartition('@')[2]} was given with a "
            "password in it; wanted the plain address. Put the token into RAY_AUTH_TOKEN"
        )
    port = port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"{address} cannot be reached ({error.strerror or error}); wanted the dashboard of a "
            "running Ray head. Check the address, the tunnel and the head"
        ) from None
    return f"{parts.scheme}://{parts.netloc}"


def _token() -> str:
    """The user's token, from where Ray looks for it too; empty where there is none."""
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    if token:
        return token.strip()
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _job(details: Any) -> Job | None:
    metadata = details.metadata or {}
    if _STORE not in metadata:
        return None
    status = getattr(details.status, "value", str(details.status))
    return Job(
        id=details.submission_id or details.job_id or "",
        run=metadata.get(_RUN, ""),
        store=metadata[_STORE],
        status=status,
        code=details.driver_exit_code,
        started=(details.start_time or 0) / 1000,
    )
