"""`fit`, `connect` and `curve` as a user types them, on two small blobs of points."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from cluster.cli.main import run
from tests.cluster.landscape import lossatlas
from tests.renders.said import said

NETWORK = {"factory": "mlp", "kwargs": {"inputs": 2, "hidden": [8], "classes": 2}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    y = np.arange(64) % 2
    x = generator.standard_normal((64, 2)) * 0.4 + np.where(y, 1.0, -1.0)[:, None]
    np.savez(tmp_path / "data.npz", x=x.astype("f4"), y=y)
    for seed in (1, 2):
        _write(
            tmp_path / f"fit{seed}.yaml",
            train={"epochs": 3, "batch": 16, "lr": 0.1, "seed": seed},
            out=f"mode{seed}",
        )
    _write(
        tmp_path / "connect.yaml",
        start="mode1/mode.safetensors",
        end="mode2/mode.safetensors",
        curve={"kind": "bezier", "bends": 1, "init": "linear"},
        train={"epochs": 3, "batch": 16, "lr": 0.1, "seed": 0},
        frames={"every": 1, "unit": "epoch"},
        out="curve",
    )
    return tmp_path


def _write(path: Path, **keys: Any) -> None:
    data = {"source": "data.npz", "splits": {"train": 64}}
    path.write_text(yaml.safe_dump({"network": NETWORK, "data": data, **keys}))


def test_from_nothing_to_a_report_along_a_curve(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fit", str(folder / "fit1.yaml")]) == 0
    assert "fit: epoch 3.0/3" in capsys.readouterr().err
    assert run(["fit", str(folder / "fit2.yaml"), "--quiet"]) == 0
    assert run(["connect", str(folder / "connect.yaml")]) == 0
    said = capsys.readouterr()
    assert "next: lossatlas curve" in said.out
    assert len(list((folder / "curve/frames").glob("*.safetensors"))) == 4
    assert run(["curve", str(folder / "connect.yaml"), "--points", "5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["t"] == [0, 0.25, 0.5, 0.75, 1]
    assert (report["network"], report["batch_norm"]) == ("MLP", None)
    assert report["measures"]["loss"] == "nats per example"
    assert run(["curve", str(folder / "connect.yaml"), "--points", "3"]) == 0
    assert "straight line between its ends" in capsys.readouterr().out


def test_what_is_wrong_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", str(folder / "connect.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run(["fit", str(folder / "none.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert run(["curve", str(folder / "connect.yaml")]) == 2


def test_a_report_is_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("fit1", "fit2"):
        assert run(["fit", str(folder / f"{name}.yaml"), "--quiet"]) == 0
    spec, out = str(folder / "connect.yaml"), folder / "curve.png"
    assert run(["connect", spec, "--quiet"]) == 0
    assert run(["curve", spec, "--points", "3", "--picture", str(out), "--theme", "dark"]) == 0
    with Image.open(out) as picture:
        assert picture.size[0] == 2400
    told = said(out)
    assert told["Title"] == "MLP along a Bézier curve"
    assert "64 train examples · 1 bend" in told["Description"]
    capsys.readouterr()
    assert run(["curve", spec, "--picture", str(folder / "curve.bmp")]) == 2
    assert "wanted .png" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.slow
def test_a_training_on_a_cluster_ends_with_the_same_bits(
    ray: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = ray.get_runtime_context().gcs_address
    command = ["fit", str(folder / "fit1.yaml")]
    assert run(command) == 0
    here = (folder / "mode1/mode.safetensors").read_bytes()
    shutil.rmtree(folder / "mode1")
    done = lossatlas(*command, "--address", address, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "fit: epoch 3.0/3" in done.stderr
    assert (folder / "mode1/mode.safetensors").read_bytes() == here
    refused = lossatlas(*command, "--address", address, "--device", "cuda", folder=folder)
    assert refused.returncode == 2
    assert "has no GPU" in refused.stderr


def test_what_to_type_next_can_be_pasted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from types import SimpleNamespace

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    there = folder.rename(folder.with_name("a folder"))
    connect = str(there / "connect.yaml")
    monkeypatch.setattr("pipeline.training.connect.prepare", lambda spec: spec)
    monkeypatch.setattr("pipeline.training.connect.connect", interrupted)
    assert run(["connect", connect]) == 130
    assert f"go on with: lossatlas connect '{connect}'\n" in capsys.readouterr().out
    outcome = SimpleNamespace(result="out", steps=1, losses=[0.5])
    monkeypatch.setattr("pipeline.training.connect.connect", lambda *_: outcome)
    assert run(["connect", connect]) == 0
    assert f"next: lossatlas curve '{connect}'\n" in capsys.readouterr().out


def test_a_renders_spec_has_no_frames_of_a_curve(capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parents[2] / "examples" / "mode-connectivity"
    assert run(["curve", str(example / "spec.yaml"), "--frame", "1"]) == 2
    assert "--frame with a render's spec" in capsys.readouterr().err
    assert run(["curve", str(example / "film.yaml")]) == 2
    assert "plane.frames is the curves of a film" in capsys.readouterr().err


OWN = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
"""


def test_a_report_runs_the_code_that_its_spec_names_or_that_is_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "net.py").write_text(OWN)
    for name in ("fit1", "fit2", "connect"):
        path = folder / f"{name}.yaml"
        content = yaml.safe_load(path.read_text()) | {"network": {"factory": "net.py:build"}}
        path.write_text(yaml.safe_dump(content))
        assert run([path.stem.rstrip("12"), str(path), "--quiet"]) == 0
    report = ["curve", str(folder / "connect.yaml"), "--points", "2", "--quiet"]
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "another"))
    assert run(report) == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "a third"))
    (folder / "net.py").write_text(f"{OWN}# another now\n")
    assert run(report) == 2
    told = capsys.readouterr().err
    assert f"{folder}/curve names code that no spec of yours here named: network net.py:bu" in told
    assert run([*report, "--trust", told.split()[-1]]) == 0
    assert f"lossatlas: runs the code in {folder}/curve: network net.py:build (sha256 " in (
        capsys.readouterr().err
    )
