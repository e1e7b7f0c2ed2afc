"""Ray jobs that drive renders: one job a driver, named `<run>-<n>`.

Progress is read from the store. The Jobs API only says whether a job is running. A note in the
store names its last job.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cluster.errors import ClusterError
from cluster.jobs import log
from cluster.jobs.dashboard import DashboardError, asking, connect
from cluster.workers.interrupts import EXIT_CODE
from pipeline.store.store import Store

NOTE = "job.json"
ID_VARIABLE = "LOSSATLAS_JOB"
_RUN, _STORE = "lossatlas_run", "lossatlas_store"
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_ID = re.compile(r"[\w-][\w.-]{0,250}")
_POLL_SECONDS = 0.5
_AGENT_SECONDS = 60.0
# By default Ray kills a job three seconds after the request to stop. A driver needs longer to end
# its workers and to give back its lease.
_STOP_SECONDS = 60

# The interpreter of this name on the head may be one without lossatlas. It is one line because Ray
# repeats it in the log.
_START = (
    "import sys; from importlib import import_module, util; "
    "sys.exit(import_module('cluster.cli.main').main() if util.find_spec('cluster') else "
    "print(f'lossatlas: {sys.executable} on the head has no lossatlas; wanted the interpreter that "
    "has. Name it with --python PATH', file=sys.stderr) or 2)"
)


@dataclass(frozen=True)
class Job:
    """One job of the Jobs API: `status` is Ray's word, `code` the exit code of the driver."""

    id: str
    run: str
    store: str
    status: str
    code: int | None
    started: float
    message: str = ""

    @property
    def alive(self) -> bool:
        return self.status not in _ENDED

    @property
    def exit_code(self) -> int:
        """The exit code for a shell.

        It is the driver's own, 130 if the job was stopped, 128 + the signal that killed it, or 1 if
        the driver has no exit code.
        """
        if self.status == "STOPPED":
            return EXIT_CODE
        if self.status == "SUCCEEDED":
            return 0
        if self.code is None:
            return 1
        return self.code if self.code >= 0 else 128 - self.code

    @property
    def state(self) -> str:
        """The state of the job for people: what it does, or how it ended."""
        if self.status != "FAILED":
            return {"SUCCEEDED": "done"}.get(self.status, self.status.lower())
        match self.code:
            case None:
                return "failed"
            case 3:
                return "done but for quarantined tiles (exit code 3)"
            case 130:
                return "stopped (exit code 130)"
            case 126 | 127 as code:
                return f"failed (exit code {code}): the head has no such --python"
            case code if code < 0:
                return f"killed (signal {-code})"
            case code:
                return f"failed (exit code {code})"


@dataclass(frozen=True)
class Note:
    """The store's note on its last job; `submitted` is in seconds since the epoch."""

    id: str
    address: str
    submitted: float = 0.0

    @classmethod
    def read(cls, store: Store) -> Note | None:
        try:
            note = cls(**(store.read_note(NOTE) or {}))
        except TypeError:
            return None
        told = isinstance(note.id, str) and isinstance(note.address, str)
        return note if told and isinstance(note.submitted, int | float) else None

    def write(self, store: Store) -> None:
        store.write_note(NOTE, asdict(self))


class Jobs:
    """The renders on one cluster, through its Jobs API."""

    def __init__(self, address: str) -> None:
        """Connect to `address` (`http://HOST:8265`).

        Raises:
            DashboardError: nothing is there, it is no Ray cluster, or it refuses the token.
        """
        self.address, self._client = connect(address)

    def list(self) -> list[Job]:
        """Every job that drives a render, the oldest first."""
        with asking(self.address):
            found = [_job(details) for details in self._client.list_jobs()]
        return sorted((job for job in found if job is not None), key=lambda job: job.started)

    def find(self, id_: str) -> Job:
        """The job `id_`.

        Raises:
            ClusterError: there is none, or it drives no render.
        """
        if not _ID.fullmatch(id_):  # a part of URLs, perhaps from a store's note
            raise ClusterError(
                f"{id_!r} is no job's id; wanted letters, digits, dots, dashes and underscores, "
                "such as bowl-2"
            )
        with asking(self.address, id_):
            job = _job(self._client.get_job_info(id_))
        if job is None:
            raise ClusterError(
                f"the job {id_} was not started by lossatlas; wanted one that was. See lossatlas "
                f"list --address {shlex.quote(self.address)}"
            )
        return job

    def alive_on(self, store: str) -> Job | None:
        """The job that drives the store now; None if there is none."""
        return next((job for job in self.list() if job.store == store and job.alive), None)

    def submit(self, run: str, store: str, entrypoint: str, after: str = "") -> str:
        """Start a job that drives `store`; returns its id.

        Args:
            run: the run's name, which the id begins with.
            store: its URL, or its path on the head and on every worker.
            entrypoint: the command.
            after: the id of the run's last job, perhaps of another cluster.

        Raises:
            ClusterError: the run's name cannot be that of a job.
            DashboardError: the cluster refuses.
        """
        if not _ID.fullmatch(run):  # it becomes a log file's name on the head
            raise ClusterError(
                f"the run's name is {run!r}; wanted letters, digits, dots, dashes and underscores. "
                "Render its spec to a new store"
            )
        number = _next_number(run, [*(job.id for job in self.list()), after])
        limit = time.monotonic() + _AGENT_SECONDS
        while True:
            id_ = f"{run}-{number}"
            try:
                with asking(self.address):
                    self._client.submit_job(
                        entrypoint=entrypoint,
                        submission_id=id_,
                        metadata={_RUN: run, _STORE: store},
                        runtime_env={
                            "env_vars": {
                                "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS),
                                ID_VARIABLE: id_,
                            }
                        },
                    )
                return id_
            except DashboardError as error:
                if error.found == "taken":
                    number += 1  # another submit took this id at the same moment
                elif error.found == "no agent" and time.monotonic() < limit:
                    time.sleep(1.0)  # the head has just started
                else:
                    raise

    def stop(self, id_: str, seconds: float) -> Job:
        """Request a job to stop, and wait at most `seconds`; returns the job as it is then."""
        with asking(self.address, id_):
            self._client.stop_job(id_)
        limit = time.monotonic() + seconds
        job = self.find(id_)
        while job.alive and time.monotonic() < limit:
            time.sleep(_POLL_SECONDS)
            with contextlib.suppress(DashboardError):
                job = self.find(id_)
        return job

    def logs(self, id_: str) -> str:
        """The text that the driver has printed so far."""
        return log.plain(self._whole(id_))

    def follow(
        self, id_: str, print_text: Callable[[str], None], warn: Callable[[str], None]
    ) -> Job:
        """Print what the driver prints until it ends; returns the job.

        Raises:
            ClusterError: the cluster does not answer for minutes, or does not know the job.
        """
        job = self.find(id_)

        def alive() -> bool:
            nonlocal job
            job = self.find(id_)
            return job.alive

        log.follow(
            alive,
            lambda: self._client.tail_job_logs(id_),
            lambda: self._whole(id_),
            print_text,
            warn,
        )
        return job

    def _whole(self, id_: str) -> str:
        with asking(self.address, id_):
            return str(self._client.get_job_logs(id_))


def entrypoint(store: str, options: Mapping[str, object], python: str = "python") -> str:
    """The shell command that drives `store` on the cluster.

    `-P` keeps the folder in which Ray starts it off the path. With `exec`, the driver itself
    receives Ray's signals.
    """
    words = [python, "-P", "-c", _START, "drive", store]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value not in (None, False):
            words += [option, str(value)]
    return f"exec {shlex.join(words)}"


def _next_number(run: str, ids: list[str]) -> int:
    pattern = re.compile(rf"{re.escape(run)}-([0-9]{{1,9}})")
    numbers = (pattern.fullmatch(id_) for id_ in ids)
    return 1 + max((int(found[1]) for found in numbers if found), default=0)


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
        message=" ".join((details.message or "").split()),
    )
