"""Nothing that a store, a note or an error holds steers the terminal of who looks at it."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from cluster import shell
from cluster.cli import main
from cluster.monitor.progress import ProgressView
from pipeline.geometry.grid import Extent, Grid, Tile
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.store import Store

ROOT = Path(__file__).parents[2]
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b2J\u202egone\nlossatlas: all is well\r"
SHOWN = "\\u001b]0;owned\\u0007\\u001b[2J\\u009b2J\\u202egone\\u000alossatlas: all is well\\u000d"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One that holds escapes wherever it holds text that is no name."""
    frame = FrameFacts(Extent(0, 1, 0, 1), (Anchor("θ", 0, 0, 0),), None)
    facts = {
        "spec": {
            "name": "tiny",
            "plane": {"kind": "random", "weights": [EVIL]},
            "data": {"source": EVIL, "select": EVIL},
            "evaluate": {"loss": EVIL, "precision": EVIL},
        },
        "network": {"factory": EVIL, "parameters": 1, "batch_norm": EVIL},
        "plane": {"kind": EVIL, "units": EVIL},
        "data": {EVIL: {"examples": 1, "digest": EVIL}},
        "versions": {EVIL: EVIL},
        "created": EVIL,
        "fingerprint": EVIL,
        "code": {EVIL: {"entry": EVIL, "digest": EVIL}},
    }
    made = Store.create(
        str(tmp_path / "x.zarr"), Grid(2, 1, 1), ["train"], ["loss"], [frame], facts
    )
    made.write_note("quarantine/0.0.0.json", {"reasons": [EVIL]})
    made.write_note("job.json", {"id": EVIL, "address": EVIL, "submitted": 0})
    return made


@pytest.mark.parametrize("command", ["status", "info", "logs", "stop", "resume"])
def test_a_store_steers_no_terminal(
    command: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    main.run([command, store.url])
    told = "".join(capsys.readouterr())
    assert "owned" in told or command == "resume"
    assert all(line.isprintable() for line in told.split("\n"))
    assert not any(line.startswith("lossatlas: all is well") for line in told.split("\n"))
    if command == "status":
        assert f"tile 0/0/0: {SHOWN}\n" in told


@pytest.mark.parametrize("command", ["status", "info"])
def test_json_says_what_is_there(
    command: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([command, store.url, "--json"]) == 0
    told = capsys.readouterr().out
    assert all(line.isprintable() for line in told.split("\n"))
    assert repr(EVIL) in repr(json.loads(told))


def test_an_error_is_one_harmless_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["status", f"{EVIL}.zarr"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told[:-1].isprintable()


def test_a_workers_warning_is_one_harmless_line(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressView("tiny", 0, 1, 1, quiet=False) as view:
        view.warn(EVIL)
        view.quarantined(Tile(0, 0, 0), (EVIL,))
    told = capsys.readouterr().err
    assert told.startswith(f"lossatlas: {SHOWN}\n")
    assert all(line.isprintable() for line in told.split("\n"))


def test_text_leaves_through_one_module() -> None:
    allowed = {"terminal.py", "progress.py"}
    for path in sorted((ROOT / "cluster").rglob("*.py")):
        if path.name in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "click.echo", "click.secho"), path


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("/x/a;b.zarr", "'/x/a;b.zarr' 'a;b.png'"),
        ("/x/it's $(id).zarr", "'/x/it'\"'\"'s $(id).zarr' 'it'\"'\"'s $(id).png'"),
        ("/x/-rf.zarr", "/x/-rf.zarr ./-rf.png"),
        ("s3://b/a b.zarr", "'s3://b/a b.zarr' 'a b.png'"),
        ("/x/plain.zarr", "/x/plain.zarr plain.png"),
    ],
)
def test_what_is_suggested_for_copying_is_quoted(
    url: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell.next_step(url, Grid(3, 3, 3)) == f"next: lossatlas export poster {told}"


def test_a_path_that_looks_like_an_option_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell.place(str(tmp_path / "-x.zarr")) == "./-x.zarr"
