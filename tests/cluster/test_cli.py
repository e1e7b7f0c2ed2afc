"""The command line: answers, errors of one line, exit codes, and what is not imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import shell
from cluster.cli import main
from cluster.lease import Holder
from pipeline import opening, prepare, spec, versions
from pipeline.geometry.grid import Grid, Tile
from pipeline.store.store import Store
from tests.bowl import write_bowl
from tests.cluster.landscape import environment, lay_out, lossatlas

# A precision that every worker refuses, once the store is made.
TOO_COARSE = {"precision": "bf16", "tolerance": 1e-12}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished render."""
    folder = tmp_path_factory.mktemp("rendered")
    lay_out(folder)
    done = lossatlas("render", "spec.yaml", "--executor", "serial", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "tiny.zarr: 16 tiles done (144 points in " in done.stdout
    assert "next: lossatlas export poster tiny.zarr tiny.png" in done.stdout
    return folder


def damage(store: Path) -> None:
    chunk = store / "loss" / "c" / "0" / "0" / "1" / "2"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)


def test_status_info_and_verify_of_a_finished_render(
    rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(rendered / "tiny.zarr")
    assert main.run(["status", store]) == 0
    assert "100 %  16/16 tiles" in capsys.readouterr().out
    assert main.run(["status", store, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["tiles_done"], status["driver"]) == ("done", 16, None)
    assert main.run(["info", store]) == 0
    out = capsys.readouterr().out
    assert "MLP, 195 parameters" in out
    assert "batch norm" not in out
    assert main.run(["info", store, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["fingerprint"]) == 64
    assert main.run(["verify", store]) == 0
    assert "16 finished tiles sound" in capsys.readouterr().out


def test_rendering_what_is_done_does_nothing(
    rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["render", str(rendered / "spec.yaml")]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main.run(["resume", str(rendered / "tiny.zarr")]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_quiet_commands_say_nothing_of_what_is_done(
    rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["render", str(rendered / "spec.yaml"), "-q"]) == 0
    assert main.run(["resume", str(rendered / "tiny.zarr"), "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_next_step_is_a_film_where_there_are_frames() -> None:
    still, line, film = Grid(9, 9, 3), Grid(9, 1, 3, 4), Grid(9, 9, 3, 4)
    assert shell.next_step("a.zarr", still) == "next: lossatlas export poster a.zarr a.png"
    assert shell.next_step("a.zarr", line) == "next: lossatlas export poster a.zarr a.png"
    told = shell.next_step("my runs/b c.zarr", film)
    assert told == "next: lossatlas export film 'my runs/b c.zarr' 'b c.mp4'"


def test_another_torch_is_refused_unless_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, store = str(lay_out(tmp_path)), str(tmp_path / "tiny.zarr")
    assert main.run(["render", spec, "--executor", "serial", "--quiet"]) == 0
    Store.open(store, writable=True).withdraw(Tile(0, 1, 1))
    ours = versions.installed()
    monkeypatch.setattr(versions, "installed", lambda: ours | {"torch": "99.0"})
    for command in (["render", spec], ["resume", store]):
        assert main.run([*command, "--executor", "serial", "-q"]) == 2
        told = capsys.readouterr().err
        assert "was rendered with torch" in told
        assert "say --other-versions" in told
    assert len(Store.open(store).pending()) == 1
    assert "rendered with" not in _info(store, capsys)
    assert main.run(["resume", store, "--executor", "serial", "-q", "--other-versions"]) == 0
    assert Store.open(store).pending() == []
    assert f"rendered with  torch {ours['torch']}, numpy " in _info(store, capsys)
    assert "; torch 99.0, numpy " in _info(store, capsys)


def test_a_frame_replaced_while_it_renders_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = {"kind": "curve", "weights": ["a.safetensors", "b.safetensors"], "frames": "frames"}
    spec = write_bowl(tmp_path / "bowl", plane=plane)
    frames = tmp_path / "bowl/frames"
    frames.mkdir()
    shutil.copy(tmp_path / "bowl/c.safetensors", frames / "bend-0.safetensors")
    shutil.copy(tmp_path / "bowl/c.safetensors", frames / "bend-1.safetensors")
    made = opening.create

    def then_replaced(*given: Any) -> Any:
        found = made(*given)
        shutil.copy(tmp_path / "bowl/a.safetensors", frames / "bend-1.safetensors")
        return found

    monkeypatch.setattr(opening, "create", then_replaced)
    assert main.run(["render", str(spec), "--executor", "serial", "-q"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"lossatlas: frame 1 ({frames}/bend-1.safetensors) was replaced after")
    assert told.count("\n") == 1
    store = Store.open(str(tmp_path / "bowl/bowl.zarr"))
    assert {tile.frame for tile in store.committed()} == {0}
    assert Holder.read(store) is None


def _info(store: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main.run(["info", store]) == 0
    return capsys.readouterr().out


def test_damage_is_named_put_back_and_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = str(lay_out(tmp_path))
    store = str(tmp_path / "tiny.zarr")
    assert main.run(["render", spec, "--executor", "serial", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    good = (tmp_path / "tiny.zarr/loss/c/0/0/1/2").read_bytes()
    damage(Path(store))
    assert main.run(["verify", store, "--dry-run"]) == 1
    assert "nothing was changed" in capsys.readouterr().out
    assert main.run(["verify", store, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert list(found["damaged"]) == ["0/1/2"]
    assert found["put_back"] is True
    assert main.run(["status", store]) == 0
    assert "15/16 tiles" in capsys.readouterr().out
    assert main.run(["render", spec, "--executor", "serial"]) == 0
    assert "15 of 16 tiles are done" in capsys.readouterr().err
    assert (tmp_path / "tiny.zarr/loss/c/0/0/1/2").read_bytes() == good
    assert main.run(["verify", store]) == 0


def test_a_poison_tile_is_quarantined_named_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.task import TileFacts, TileRenderer

    spec, store = str(lay_out(tmp_path)), str(tmp_path / "tiny.zarr")

    class Poisoned(TileRenderer):
        def __call__(self, tile: Tile) -> TileFacts:
            if tile == Tile(0, 2, 1):
                raise ValueError("no loss here")
            return super().__call__(tile)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.task.TileRenderer", Poisoned)
        assert main.run(["render", spec, "--executor", "serial"]) == 3
    out, err = capsys.readouterr()
    assert "15 of 16 tiles done" in out
    assert "0/2/1: ValueError: no loss here" in out
    assert "tile 0/2/1 given up after 3 tries" in err
    assert main.run(["status", store]) == 0
    out = capsys.readouterr().out
    assert "quarantined 1" in out
    assert "tile 0/2/1: ValueError: no loss here" in out
    assert main.run(["resume", store, "--executor", "serial"]) == 0
    capsys.readouterr()
    assert main.run(["status", store, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["quarantined"]) == ("done", {})
    notes = (tmp_path / "tiny.zarr/.lossatlas").rglob("*.json")
    assert [note.name for note in notes] == ["report.json"]


def test_a_plan_costs_nothing_and_says_what_it_will(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = str(lay_out(tmp_path))
    assert main.run(["plan", spec, "--workers", "7"]) == 0
    out = capsys.readouterr().out
    assert "12 × 12 points (144 in all)" in out
    assert "7 on cpu" in out
    assert main.run(["plan", spec, "--json", "--store", str(tmp_path / "else.zarr")]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["points"] == 144
    assert plan["store"] == str(tmp_path / "else.zarr")
    assert list(tmp_path.glob("*.zarr")) == []


def test_a_store_that_came_to_nothing_is_not_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Workers refuse a precision when the store is there already."""
    path = lay_out(tmp_path)
    content = yaml.safe_load(path.read_text())
    for refine in ({}, {"refine": {"tolerance": 0.01}}):
        path.write_text(yaml.safe_dump(content | {"evaluate": TOO_COARSE | refine}))
        assert main.run(["render", str(path), "--executor", "serial"]) == 2
        assert "precision: bf16 moves losses by up to" in capsys.readouterr().err
        assert not (tmp_path / "tiny.zarr").exists()
    path.write_text(yaml.safe_dump(content))
    assert main.run(["render", str(path), "--executor", "serial"]) == 0


def test_a_store_that_was_there_stays_when_workers_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lay_out(tmp_path)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"evaluate": TOO_COARSE}))
    prepared = prepare.prepare(spec.read(path))
    opening.create(prepared, Grid(12, 12, 3))
    assert main.run(["render", str(path), "--executor", "serial"]) == 2
    assert "precision: bf16 moves losses by up to" in capsys.readouterr().err
    assert (tmp_path / "tiny.zarr").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gird": {}}, "unknown key; did you mean grid?"),
        ({"network": {"factory": "mpl"}}, "mpl"),
        ({"grid": {"width": 0, "height": 4}}, "grid.width"),
        ({"grid": {"width": 10**7, "height": 10**7}}, "would take"),
        ({"data": {"source": "data.npz", "splits": {"train": 999}}}, "999"),
        ({"data": {"source": "nowhere.npz", "splits": {"train": 9}}}, "nowhere.npz"),
        ({"store": "/dev/null/tiny.zarr"}, "/dev/null/tiny.zarr"),
        ({"store": "data.npz"}, "data.npz"),
    ],
)
def test_mistakes_in_the_spec_are_one_line_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], message: str
) -> None:
    path = lay_out(tmp_path)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    before = sorted(tmp_path.rglob("*"))
    assert main.run(["render", str(path), "--executor", "serial"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lossatlas: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render", "no-such.yaml"], "no-such.yaml: no such file"),
        (["render"], "Missing argument 'SPEC'"),
        (["rendre", "x"], "No such command 'rendre'"),
        (["render", "x", "--workers", "0"], "--workers"),
        (["render", "x", "--device", "tpu"], "'tpu' is not one of"),
        (["status", "no-such.zarr"], "no such store"),
        (["info", "."], "is not a render's store"),
        (["verify", "no-such.zarr"], "no such store"),
        (["resume", "no-such.zarr"], "no such store"),
        (["export", "poster", "no-such.zarr", "out.png"], "no such store"),
        (["resume", "x.zarr", "--executor", "serial", "--workers", "4"], "Leave out --workers"),
        (["resume", "x.zarr", "--executor", "serial", "--address", "a:1"], "Leave out --address"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something.txt").touch()
    assert main.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lossatlas: ")
    assert message in err
    assert err.count("\n") == 1


def test_no_gpu_where_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main.run(["render", str(lay_out(tmp_path)), "--device", "cuda"]) == 2
    assert "--device cuda: found no GPU" in capsys.readouterr().err


def test_gpus_that_the_driver_has_none_of_are_measured_by_its_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from cluster.workers import devices
    from tests.cluster.fake_gpus import CpuRenderer

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = devices.WorkerPlan(1, devices.Device("cuda", gpus=1.0), 1)
    monkeypatch.setattr(devices, "plan_workers", lambda *_: found)
    monkeypatch.setattr("pipeline.task.TileRenderer", CpuRenderer)
    assert main.run(["render", str(lay_out(tmp_path)), "--executor", "serial"]) == 0
    assert "16 tiles done" in capsys.readouterr().out


def test_an_internal_error_is_one_line_and_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("pipeline.store.store.Store.open", broken)
    assert main.run(["status", "x.zarr"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("lossatlas: internal error: ZeroDivisionError: by zero. The details are")
    log = Path(err.split("are in ")[1].split(";")[0])
    assert "Traceback" in log.read_text()
    log.unlink()


@pytest.mark.parametrize(
    "command",
    [
        *("", "plan", "render", "resume", "submit", "logs", "stop", "list", "drive"),
        *("status", "info", "verify", "export", "export poster"),
    ],
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: lossatlas {command}".rstrip())
    if command not in ("", "export"):
        assert "Examples:" in out
        assert f"lossatlas {command} " in out.partition("Examples:")[2]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("lossatlas ")


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "status tiny.zarr",
        "info tiny.zarr",
        "verify tiny.zarr",
        "export poster tiny.zarr tiny.png --width 300",
    ],
)
def test_looking_needs_neither_torch_nor_ray(rendered: Path, arguments: str) -> None:
    code = (
        "import sys; from cluster.cli import main; from cluster.workers import packages; "
        "packages.pin(); "
        f"code = main.run({arguments.split()!r}); "
        "assert code == 0, code; assert not {'torch', 'ray'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=rendered,
        # numba keeps what it compiled beside the sources; a user's folder shadows nothing.
        env={**environment(), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
