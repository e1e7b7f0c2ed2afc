"""Jobs on a real head with token authentication: submitted, watched, stopped, resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.cli import main
from cluster.jobs.client import Note
from cluster.lease import Holder
from pipeline.store.store import Store
from tests.cluster import head as heads
from tests.cluster import landscape
from tests.cluster.head import Head
from tests.cluster.landscape import lay_out, numbers, wait_for_tiles
from tests.cluster.objects import BUCKET, SECRET, ObjectServer

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    # Ray's own call, of an aiohttp that is newer.
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated"),
]

SHADOW = "raise RuntimeError('shadowed')"
NETWORK = """
from torch import nn
from . import cluster

def build():
    return cluster.Net()
"""
SIBLING = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 16), nn.Linear(16, 3)])

    def forward(self, x):
        return self.layers[1](self.layers[0](x).relu())
"""
# In a tile alone: submit, driver and workers try the loss before they begin.
POISON = """
from pathlib import Path
from torch.nn import functional as F

def poison(outputs, targets):
    if "TileWorker.render" in Path("/proc/self/cmdline").read_text():
        raise ArithmeticError("no loss today")
    return F.cross_entropy(outputs, targets.long(), reduction="none")
"""


@pytest.fixture(scope="module")
def objects() -> ObjectServer:
    """Where the head looks for S3; the one test that needs it starts it."""
    return ObjectServer()


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, objects: ObjectServer) -> Iterator[Head]:
    """One head for all of these tests, started in a folder whose files would shadow ours."""
    here = tmp_path_factory.mktemp("here")
    for name in ("pipeline", "cluster", "renders"):
        (here / f"{name}.py").write_text(SHADOW)
    with heads.running(here, objects.environment) as running:
        yield running


@pytest.fixture
def token(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lossatlas(
    head: Head, token: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run one command against the head; returns its exit code and what it printed."""

    def run(*arguments: object, at: str = head.address) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.run([*map(str, arguments), "--address", at])
        return code, *capsys.readouterr()

    return run


def submitted(lossatlas: Command, *arguments: object) -> str:
    """The id of a new job, which is all that stands on stdout."""
    code, out, err = lossatlas(*arguments, "--python", landscape.command()[0])
    assert code == 0, err
    assert out.count("\n") == 1
    return out.strip()


def job_of(lossatlas: Command, id_: str) -> dict[str, Any]:
    _, out, _ = lossatlas("list", "--json")
    return next(job for job in json.loads(out) if job["id"] == id_)


def test_a_job_renders_what_its_spec_says_and_runs_the_users_own_files(
    lossatlas: Command, head: Head, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its network is in a pipeline.py, which imports a cluster.py; both are gone by then."""
    spec = lay_out(tmp_path)
    content = yaml.safe_load(spec.read_text()) | {"name": "own"}
    (tmp_path / "pipeline.py").write_text(NETWORK)
    (tmp_path / "cluster.py").write_text(SIBLING)
    content["network"] = {"factory": "pipeline.py:build"}
    spec.write_text(yaml.safe_dump(content))
    local = tmp_path / "local.zarr"
    assert main.run(["render", str(spec), "--executor", "serial", "--store", str(local)]) == 0
    store = tmp_path / "tiny.zarr"

    id_ = submitted(lossatlas, "submit", spec, "--workers", 2)
    for name in ("pipeline", "cluster"):
        (tmp_path / f"{name}.py").write_text(SHADOW)
    assert id_ == "own-1"
    assert main.run(["status", str(store), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["state"] in ("submitted", "running")
    assert status["job"]["id"] == id_

    code, log, err = lossatlas("logs", store, "--follow")
    assert (code, err) == (0, ""), log
    assert f"{store}: 16 tiles done (144 points in " in log
    assert "cost: 1 driver, " in log
    assert "slowest tiles: " in log
    assert not {"job_manager", "entrypoint", "WebSocket", "Traceback"} & set(log.split())
    assert lossatlas("logs", id_) == (0, log, "")
    assert numbers(store) == numbers(local)
    assert not (store / ".lossatlas" / "lease.json").exists()

    job = job_of(lossatlas, id_)
    assert (job["status"], job["exit_code"], job["store"]) == ("SUCCEEDED", 0, str(store))
    _, out, _ = lossatlas("list")
    assert f"  done  {store}" in out
    assert main.run(["status", str(store), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["report"][0]["job"]) == ("done", id_)
    assert main.run(["info", str(store)]) == 0
    assert "cost         1 driver" in capsys.readouterr().out
    code, out, err = lossatlas("submit", spec)
    assert (code, out) == (2, ""), "the files have changed"
    (tmp_path / "pipeline.py").write_text(NETWORK)
    (tmp_path / "cluster.py").write_text(SIBLING)
    for again in (("submit", spec), ("resume", store)):
        code, out, err = lossatlas(*again)
        assert (code, out) == (0, "")
        assert "all 16 tiles are done; nothing to do" in err
    assert lossatlas("stop", id_)[:2] == (
        0,
        f"{id_} is not running: done; 16 of 16 tiles are done and kept\n",
    )
    assert head.token not in "".join(p.read_text("latin1") for p in files(store)) + log


@pytest.mark.slow
def test_a_job_is_stopped_cleanly_and_a_new_one_goes_on(
    lossatlas: Command,
    head: Head,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    spec = lay_out(tmp_path, call_seconds=0.4)
    store = tmp_path / "tiny.zarr"
    follower = subprocess.Popen(
        landscape.command(
            *("submit", "spec.yaml", "--follow", "--workers", 2, "--address", head.address),
            *("--python", landscape.command()[0]),
        ),
        cwd=tmp_path,
        env={**landscape.environment(), **head.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    request.addfinalizer(follower.kill)
    before = wait_for_tiles(store, 2, seconds=240)
    note = Note.read(Store.open(str(store)))
    assert note is not None
    for again in (("submit", spec), ("resume", store)):
        code, out, err = lossatlas(*again)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"is being rendered by the job {note.id} (running)" in err
    code, out, err = lossatlas("stop", store)
    assert code == 0, err
    assert f"{note.id} is stopped; " in out
    assert "of 16 tiles are done and kept. Go on with: lossatlas resume" in out
    log, err = follower.communicate(timeout=240)
    assert follower.returncode == 130
    assert log.startswith(f"{note.id}\n")
    assert "Go on with: lossatlas resume" in log
    assert err.endswith(f"lossatlas: {note.id} is stopped\n")
    assert not (store / ".lossatlas" / "lease.json").exists()
    assert list(store.rglob("*.partial")) == []
    assert main.run(["status", str(store)]) == 0
    assert "not running; go on with: lossatlas resume" in capsys.readouterr().out
    assert job_of(lossatlas, note.id)["exit_code"] == 130

    number = int(note.id.removeprefix("tiny-"))
    assert submitted(lossatlas, "resume", store, "--workers", 3) == f"tiny-{number + 1}"
    code, log, _ = lossatlas("logs", store, "-f")
    assert code == 0, log
    assert "16 tiles done" in log
    assert before <= landscape.commits(store)
    # The same loss, but for its slowness.
    quick = lay_out(tmp_path / "quick", call_seconds=1e-6)
    assert main.run(["render", str(quick), "--executor", "serial"]) == 0
    assert numbers(store) == numbers(tmp_path / "quick" / "tiny.zarr")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("logs", "tiny-99"), "knows no job tiny-99; wanted the id of one of its jobs"),
        (("stop", "tiny-99"), "knows no job tiny-99; wanted the id of one of its jobs"),
        (("logs", "none.zarr"), "none.zarr: no such store"),
        (("stop", "./none"), "none: no such store"),
        (("resume", "none.zarr"), "none.zarr: no such store"),
        (("submit", "none.yaml"), "none.yaml: no such file"),
        (("logs", "local.zarr"), "local.zarr was never a job; wanted a run that lossatlas submit"),
        (("submit", "spec.yaml", "--frames", "3:"), "--frames 3: selects none of this render's"),
        (("submit", "spec.yaml", "--frames", "x"), "--frames x: wanted A:B"),
        (("resume", "local.zarr", "--executor", "serial"), "Leave out --address"),
        (("render", "spec.yaml"), "is a Jobs API; wanted the HOST:PORT of a Ray head"),
    ],
)
def test_what_is_not_there_is_one_line(
    lossatlas: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, width=2, tile=2)
    if "local.zarr" in arguments:
        local = ("--store", "local.zarr", "--executor", "serial", "--quiet")
        assert main.run(["render", "spec.yaml", *local]) == 0
    code, out, err = lossatlas(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("lossatlas: ")
    assert message in err


def test_the_token_is_asked_for_and_checked(
    lossatlas: Command, head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for mode in ("token", None):
        if mode is None:
            monkeypatch.delenv("RAY_AUTH_MODE")
        else:
            monkeypatch.setenv("RAY_AUTH_MODE", mode)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "")
        code, _, err = lossatlas("list")
        assert code == 2
        assert f"lossatlas: {head.address} wants a token and got none" in err
        monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong-" + "0" * 58)
        code, _, err = lossatlas("list")
        assert code == 2
        assert err.startswith(f"lossatlas: {head.address} refuses the token it got")
        assert "wrong-0" not in err
    (tmp_path / "token").write_text(f"{head.token}\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert lossatlas("list")[0] == 0


def test_a_job_of_somebody_else_is_left_alone(lossatlas: Command, head: Head) -> None:
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(head.address, headers={"Authorization": f"Bearer {head.token}"})
    theirs = client.submit_job(entrypoint="sleep 600")
    for command in ("logs", "stop"):
        code, _, err = lossatlas(command, theirs)
        assert code == 2
        assert f"the job {theirs} was not started by lossatlas" in err
    assert theirs not in lossatlas("list")[1]
    assert client.get_job_status(theirs) in ("PENDING", "RUNNING")
    client.stop_job(theirs)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# The slow ones


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        ("poison", 3, "is done but for quarantined tiles (exit code 3)"),
        ("inputs gone", 2, "is failed (exit code 2)"),
        ("store gone", 2, "is failed (exit code 2)"),
        ("killed", 137, "is killed (signal 9)"),
        ("no python", 127, "the head has no such --python"),
        ("no lossatlas", 2, "is failed (exit code 2)"),
    ],
)
def test_exit_codes_are_the_drivers(
    lossatlas: Command, tmp_path: Path, fault: str, code: int, told: str
) -> None:
    spec = lay_out(tmp_path, width=4, tile=2, call_seconds=1.0 if fault == "killed" else 0.0)
    store, python = tmp_path / "tiny.zarr", landscape.command()[0]
    if fault == "poison":
        (tmp_path / "loss.py").write_text(POISON)
        content = yaml.safe_load(spec.read_text())
        content["grid"] = {"width": 2, "height": 1, "tile": 1}
        content["evaluate"] = {"loss": "loss.py:poison", "quantities": ["loss"]}
        spec.write_text(yaml.safe_dump(content))
    if fault == "no lossatlas":
        python = bare_python(tmp_path)
    if fault == "no python":
        python = "/none/python"
    code_, out, err = lossatlas("submit", spec, "--workers", 1, "--python", python)
    assert code_ == 0, err
    id_ = out.strip()
    if fault == "inputs gone":
        (tmp_path / "b.safetensors").unlink()
    if fault == "store gone":
        store.rename(tmp_path / "elsewhere.zarr")
    if fault == "killed":
        wait_for_tiles(store, 1, seconds=240)
        holder = Holder.read(Store.open(str(store)))
        assert holder is not None
        os.kill(holder.pid, signal.SIGKILL)
    found, log, err = lossatlas("logs", id_, "-f")
    assert found == code, log
    assert told in err
    assert "Traceback" not in log
    expected = {
        "poison": "ArithmeticError: no loss today",
        "inputs gone": "b.safetensors",
        "store gone": "where this job runs; wanted a place that all machines share",
        "no lossatlas": "has no lossatlas; wanted the interpreter that has. Name it with --python",
    }
    assert expected.get(fault, "") in log
    assert job_of(lossatlas, id_)["exit_code"] == code


def bare_python(folder: Path) -> str:
    """An interpreter without our packages: the one below the virtual environment."""
    script = folder / "bare-python"
    script.write_text(f'#!/bin/sh\nunset PYTHONPATH\nexec {sys._base_executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.slow
def test_a_job_that_does_not_stop_is_told_as_it_is(lossatlas: Command, tmp_path: Path) -> None:
    store = tmp_path / "tiny.zarr"
    id_ = submitted(lossatlas, "submit", lay_out(tmp_path, call_seconds=0.5), "--workers", 1)
    wait_for_tiles(store, 1, seconds=240)
    holder = Holder.read(Store.open(str(store)))
    assert holder is not None
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        code, out, _ = lossatlas("stop", store, "--timeout", 2)
        assert code == 1
        assert f"{id_} was told to stop and is still running after 2.0 s" in out
        code, out, _ = lossatlas("stop", store, "--timeout", 1, "--json")
        assert code == 1
        assert (json.loads(out)["status"], json.loads(out)["exit_code"]) == ("RUNNING", None)
    finally:
        os.kill(holder.pid, signal.SIGCONT)
    code, out, _ = lossatlas("stop", store)
    assert code == 0
    assert f"{id_} is stopped" in out or "is not running: stopped" in out


@pytest.mark.slow
def test_credentials_are_written_nowhere(
    lossatlas: Command,
    head: Head,
    objects: ObjectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store is S3, the key is in the environments, and neither it nor the token gets out."""
    for name, value in objects.environment.items():
        monkeypatch.setenv(name, value)
    objects.start()
    try:
        objects.client().create_bucket(Bucket=BUCKET)
        spec = lay_out(tmp_path)
        objects.upload(tmp_path, "inputs")
        content = yaml.safe_load(spec.read_text())
        content["plane"]["weights"] = [f"s3://{BUCKET}/inputs/{n}.safetensors" for n in "abc"]
        content["data"]["source"] = f"s3://{BUCKET}/inputs/data.npz"
        content |= {"name": "remote", "store": f"s3://{BUCKET}/runs/remote.zarr"}
        spec.write_text(yaml.safe_dump(content))
        id_ = submitted(lossatlas, "submit", spec, "--workers", 2)
        code, log, err = lossatlas("logs", content["store"], "-f")
        assert (code, err) == (0, ""), log
        stored = b"".join(objects.objects("runs/remote.zarr").values())
        assert b'"id": "remote-1"' in stored
    finally:
        objects.stop()
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(head.address, headers={"Authorization": f"Bearer {head.token}"})
    told = (client.get_job_info(id_).model_dump_json() + client.get_job_logs(id_)).encode()
    assert b"lossatlas_store" in told
    logs = {path: data for path, data in head.written() if "logs" in path.parts}
    assert any(b"remote-1" in data for data in logs.values())
    for secret in (SECRET.encode(), head.token.encode()):
        assert secret not in stored + told + log.encode()
        assert [path for path, data in logs.items() if secret in data] == []


@pytest.mark.slow
def test_a_head_that_goes_away_ends_following_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    spec = lay_out(tmp_path, width=8, tile=2, call_seconds=0.3)
    with heads.running(tmp_path, {}) as head:
        monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
        python = landscape.command()[0]
        arguments = ["--address", head.address, "--python", python]
        assert main.run(["submit", str(spec), *arguments]) == 0
        store = tmp_path / "tiny.zarr"
        follower = subprocess.Popen(
            [
                *(python, "-c"),
                "import sys; from cluster.cli import main; from cluster.jobs import log; "
                "log._PATIENCE_SECONDS = 3; "
                "sys.exit(main.run(sys.argv[1:]))",
                *("logs", str(store), "-f"),
            ],
            env={**landscape.environment(), **head.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for_tiles(store, 1, seconds=240)
        time.sleep(2)
    out, err = follower.communicate(timeout=240)
    assert follower.returncode == 2
    assert "tiny: " in out
    told = err.splitlines()
    assert len(told) == 2, err
    assert "Traceback" not in err
    assert told[0].endswith("; trying again")
    assert told[1].startswith(f"lossatlas: {head.address} cannot be reached")
    # What the head took down with it goes on from where it was.
    before = landscape.commits(store)
    wait_for_nobody(store)
    capsys.readouterr()
    assert main.run(["resume", str(store), "--executor", "serial", "--quiet"]) == 0
    assert before <= landscape.commits(store)


def wait_for_nobody(store: Path) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        holder = Holder.read(Store.open(str(store)))
        if holder is None or not holder.alive(time.time()):
            return
        time.sleep(0.5)
    raise TimeoutError("the lease of a driver that is gone")
