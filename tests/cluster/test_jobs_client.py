"""Jobs without a cluster: a Jobs API that answers as told, what is asked of it, and the words."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.cli import find_job, main
from cluster.errors import ClusterError
from cluster.jobs import client as jobs
from cluster.jobs.client import ID_VARIABLE, Job, Jobs, Note, entrypoint
from cluster.lease import Lease
from cluster.monitor.status import lines, read_status
from cluster.options import from_command_line
from pipeline import opening, prepare, spec
from pipeline.geometry.grid import Extent, Grid
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.store import Store
from tests.bowl import write_bowl

JOB = Job("tiny-1", "tiny", "/runs/tiny.zarr", "RUNNING", None, 0.0)


def details(id_: str, status: str = "RUNNING", code: int | None = None, **more: Any) -> Any:
    facts = {
        "submission_id": id_,
        "job_id": None,
        "metadata": {"lossatlas_run": "tiny", "lossatlas_store": "/runs/tiny.zarr"},
        "status": SimpleNamespace(value=status),
        "driver_exit_code": code,
        "start_time": 5000,
        "message": "Job is\n there",
    }
    return SimpleNamespace(**{**facts, **more})


class Client:
    """The Jobs API of a cluster with the jobs `known`."""

    def __init__(self, *known: Any) -> None:
        self.known = list(known)
        self.refusals: list[str] = []
        self.submitted: list[dict[str, Any]] = []

    def list_jobs(self) -> list[Any]:
        return self.known

    def get_job_info(self, id_: str) -> Any:
        found = [job for job in self.known if job.submission_id == id_]
        if not found:
            raise RuntimeError(f"status code 404: Job {id_} does not exist")
        return found[0]

    def submit_job(self, **asked: Any) -> str:
        if self.refusals:
            raise RuntimeError(self.refusals.pop(0))
        self.submitted.append(asked)
        return str(asked["submission_id"])

    def stop_job(self, id_: str) -> bool:
        self.get_job_info(id_).status = SimpleNamespace(value="STOPPED")
        return True


def connected(monkeypatch: pytest.MonkeyPatch, client: Client) -> Jobs:
    monkeypatch.setattr(jobs, "connect", lambda address: (address, client))
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)
    return Jobs("http://h:8265")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    frame = FrameFacts(Extent(0, 1, 0, 1), (Anchor("θ", 0, 0, 0),), None)
    return Store.create(
        str(tmp_path / "tiny.zarr"),
        Grid(2, 1, 1),
        ["train"],
        ["loss"],
        [frame],
        {"spec": {"name": "tiny"}},
    )


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "state"),
    [
        ("SUCCEEDED", 0, 0, "done"),
        ("FAILED", 3, 3, "done but for quarantined tiles (exit code 3)"),
        ("FAILED", 2, 2, "failed (exit code 2)"),
        ("FAILED", 1, 1, "failed (exit code 1)"),
        ("FAILED", 130, 130, "stopped (exit code 130)"),
        ("FAILED", -9, 137, "killed (signal 9)"),
        ("FAILED", None, 1, "failed"),
        ("FAILED", 127, 127, "failed (exit code 127): the head has no such --python"),
        ("STOPPED", None, 130, "stopped"),
        ("STOPPED", 1, 130, "stopped"),
    ],
)
def test_how_a_job_ended(status: str, code: int | None, exit_code: int, state: str) -> None:
    job = replace(JOB, status=status, code=code)
    assert (job.alive, job.exit_code, job.state) == (False, exit_code, state)


def test_a_job_that_has_not_ended() -> None:
    assert [
        (replace(JOB, status=s).alive, replace(JOB, status=s).state) for s in ("PENDING", "RUNNING")
    ] == [(True, "pending"), (True, "running")]


def test_only_jobs_that_drive_renders_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(
        details("tiny-2", "SUCCEEDED", 0, start_time=9000),
        details("tiny-1", "FAILED", 2, start_time=None),
        details("theirs", metadata={"owner": "them"}),
        details("nobodys", metadata=None),
    )
    found = connected(monkeypatch, client).list()
    assert [(job.id, job.status, job.code, job.started) for job in found] == [
        ("tiny-1", "FAILED", 2, 0.0),
        ("tiny-2", "SUCCEEDED", 0, 9.0),
    ]
    assert found[0].message == "Job is there"
    with pytest.raises(ClusterError, match="the job theirs was not started by lossatlas"):
        connected(monkeypatch, client).find("theirs")


def test_a_store_is_driven_by_a_job_that_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(details("tiny-1", "STOPPED"), details("tiny-2", "PENDING"))
    found = connected(monkeypatch, client)
    alive = found.alive_on("/runs/tiny.zarr")
    assert alive is not None
    assert alive.id == "tiny-2"
    assert found.alive_on("/runs/other.zarr") is None
    assert found.stop("tiny-2", 1.0).status == "STOPPED"
    assert found.alive_on("/runs/tiny.zarr") is None


@pytest.mark.parametrize(
    ("known", "after", "id_"),
    [
        ((), "", "tiny-1"),
        (("tiny-1", "tiny-9", "tiny-x", "tiny-2-3"), "", "tiny-10"),
        (("tiny-1",), "tiny-4", "tiny-5"),
        ((), "other-4", "tiny-1"),
    ],
)
def test_numbers_go_up_also_from_cluster_to_cluster(
    monkeypatch: pytest.MonkeyPatch, known: tuple[str, ...], after: str, id_: str
) -> None:
    client = Client(*(details(name) for name in known))
    assert connected(monkeypatch, client).submit("tiny", "/x.zarr", "cmd", after) == id_
    (asked,) = client.submitted
    assert asked["metadata"] == {"lossatlas_run": "tiny", "lossatlas_store": "/x.zarr"}
    # Nothing of this machine's environment or folder goes along.
    assert asked["runtime_env"] == {
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60", ID_VARIABLE: id_}
    }


def test_an_id_that_was_taken_meanwhile_and_a_head_that_comes_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Client()
    client.refusals = ["No available agent to submit job", "Job tiny-1 already exists"]
    assert connected(monkeypatch, client).submit("tiny", "/x.zarr", "cmd") == "tiny-2"
    client.refusals = ["500 oops"]
    with pytest.raises(ClusterError, match="does not do that: 500 oops"):
        connected(monkeypatch, client).submit("tiny", "/x.zarr", "cmd")


def test_the_command_of_a_job_is_one_line_that_any_shell_reads() -> None:
    options = {
        "workers": None,
        "device": "auto",
        "frames": "3:9",
        "every": 2,
        "other_versions": True,
        "y": False,
    }
    line = entrypoint("s3://b/a run's.zarr", options, "/opt/my env/bin/python")
    assert "\n" not in line
    exec_, python, safe, _, code, *rest = shlex.split(line)
    assert (exec_, python, safe) == ("exec", "/opt/my env/bin/python", "-P")
    compile(code, "entrypoint", "exec")
    assert rest == [
        *("drive", "s3://b/a run's.zarr", "--device", "auto", "--frames", "3:9"),
        *("--every", "2", "--other-versions"),
    ]


def test_the_note_of_the_last_job(store: Store) -> None:
    assert Note.read(store) is None
    Note("tiny-1", "http://h:8265", 12.5).write(store)
    assert Note.read(store) == Note("tiny-1", "http://h:8265", 12.5)
    for wrong in ({"id": "tiny-1"}, {"id": "a", "address": "b", "colour": "red"}):
        store.write_note(jobs.NOTE, wrong)
        assert Note.read(store) is None


def test_a_job_whose_driver_is_not_up_yet_is_waited_for(store: Store) -> None:
    now = time.time()
    Note("tiny-1", "http://h:8265", now - 20).write(store)
    status = read_status(store, now)
    assert status.state == "submitted"
    assert "  waiting  the job was submitted 20 s ago; its driver is not up yet" in lines(status)
    assert any("tiny-1 of http://h:8265; its log: lossatlas logs" in li for li in lines(status))
    lease = Lease(store, 1)
    lease.take()
    assert read_status(store).state == "running"
    lease.release()
    store.write_note("report.json", {"sessions": [{"job": "tiny-0"}]})
    assert read_status(store, now).state == "submitted"
    store.write_note("report.json", {"sessions": [{"job": "tiny-0"}, {"job": "tiny-1"}]})
    assert read_status(store, now).state == "stopped"
    store.delete_note("report.json")
    assert read_status(store, now + 3600).state == "stopped"


def test_drive_is_for_jobs(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main.run(["drive", store.url]) == 2
    assert "RAY_ADDRESS is not set" in capsys.readouterr().err
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert main.run(["drive", "/elsewhere/x.zarr"]) == 2
    assert "where this job runs; wanted a place that all machines share" in capsys.readouterr().err


def test_choices_that_exclude_each_other() -> None:
    how: dict[str, Any] = {"executor": "serial", "workers": 1, "address": None}
    how |= {"device": "auto", "frames": "2:5", "every": 3, "log": "json", "quiet": True}
    chosen = from_command_line(how)
    assert (chosen.selection.first, chosen.selection.last, chosen.selection.every) == (2, 5, 3)
    assert (chosen.executor, chosen.log, chosen.quiet) == ("serial", "json", True)
    for wrong in ({"address": "h:1"}, {"workers": 4}):
        with pytest.raises(ClusterError, match=f"Leave out --{next(iter(wrong))}"):
            from_command_line(how | wrong)
    with pytest.raises(ClusterError, match="--frames 5:2: wanted A:B"):
        from_command_line(how | {"frames": "5:2"})


@pytest.mark.parametrize("run", ["a b", "x?y", "#", "x/../y", "..", "x" * 300])
def test_a_run_whose_name_can_be_none_of_a_job(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    with pytest.raises(ClusterError, match="the run's name is .*; wanted letters, digits"):
        connected(monkeypatch, client).submit(run, "/x.zarr", "cmd")
    assert client.submitted == []


def test_a_job_is_given_the_digest_of_the_code_that_was_seen_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = prepare.prepare(spec.read(write_bowl(tmp_path / "bowl")))
    made, _ = opening.create(prepared, Grid(7, 5, 3))
    client, digest = Client(), prepare.code_in(made).digest
    there = connected(monkeypatch, client)
    monkeypatch.setattr(find_job, "jobs_at", lambda address: there)
    resume = ["resume", made.url, "--address", "http://h:8265"]
    assert main.run(resume) == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    assert main.run(resume) == 2
    assert f"then add --trust {digest}\n" in capsys.readouterr().err
    assert main.run([*resume, "--trust", digest]) == 0
    commands = [shlex.split(asked["entrypoint"]) for asked in client.submitted]
    assert [command[-2:] for command in commands] == [["--trust", digest]] * 2
    # What the job runs is held to the same.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "head"))
    assert main.run(["drive", made.url]) == 2
    assert "names code that no spec of yours here named" in capsys.readouterr().err
    assert main.run(["drive", made.url, "--trust", digest]) == 2
    told = capsys.readouterr()
    assert told.out.startswith(f"runs the code in {made.url}: network bowl.py:Bowl (sha256 ")
    assert "127.0.0.1:1 cannot be reached" in told.err
