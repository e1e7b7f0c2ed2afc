"""`import` and `export data` as commands, and what the others say of an imported store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cluster.cli.main import run
from pipeline.store.store import Store
from tests.bowl import write_bowl


@pytest.fixture
def surface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An .npz file in the current folder."""
    monkeypatch.chdir(tmp_path)
    x = np.linspace(-1, 1, 9)
    np.savez("mine.npz", x=x, y=x, train_loss=x[:, None] ** 2 + x**2 + 1, odd=x)
    return tmp_path / "mine.npz"


def test_an_imported_store_is_looked_at_and_not_resumed(
    surface: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", "mine.npz"]) == 0
    assert capsys.readouterr().out == (
        "runs/mine.zarr: loss of train, 9 × 9 points; left out: odd\n"
    )
    assert run(["info", "runs/mine.zarr"]) == 0
    assert "imported from mine.npz (" in capsys.readouterr().out
    assert run(["info", "runs/mine.zarr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["imported"]["file"] == "mine.npz"
    assert run(["status", "runs/mine.zarr"]) == 0
    assert "done" in capsys.readouterr().out
    assert run(["verify", "runs/mine.zarr"]) == 0
    capsys.readouterr()
    for command in (["resume", "runs/mine.zarr"], ["resume", "runs/mine.zarr", "--quiet"]):
        assert run(command) == 2
        told = capsys.readouterr().err
        assert "was imported from mine.npz" in told
        assert told.count("\n") == 1


def test_a_render_does_not_go_on_with_an_imported_store(
    surface: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["import", "mine.npz", "bowl.zarr"])
    capsys.readouterr()
    spec = write_bowl(surface.parent / "bowl")
    code = run(["render", str(spec), "--store", "bowl.zarr", "--executor", "serial", "--quiet"])
    assert code == 2
    assert "was imported from mine.npz" in capsys.readouterr().err


def test_damage_in_it_is_named_and_nothing_is_taken_away(
    surface: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["import", "mine.npz"])
    chunk = surface.parent / "runs/mine.zarr/loss/c/0/0/0/0"
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    capsys.readouterr()
    assert run(["verify", "runs/mine.zarr"]) == 1
    assert "Import that again, to another store" in capsys.readouterr().out
    assert len(Store.open("runs/mine.zarr").committed()) == 1


def test_numbers_are_exported(surface: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "mine.npz", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["left_out"] == ["odd"]
    assert run(["export", "data", told["store"], "out.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["width"] == 9
    with np.load("out.npz") as out, np.load("mine.npz") as before:
        np.testing.assert_array_equal(out["train_loss"], before["train_loss"].astype("f4"))
    assert run(["export", "data", told["store"], "out.vtp", "--split", "tes"]) == 2
    assert "has no split 'tes'" in capsys.readouterr().err
