from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.spec_file import SpecError, validate
from pipeline.training import connect, fit, spec
from pipeline.training.spec import ConnectSpec

CONNECT: dict[str, Any] = {
    "network": {"factory": "net.py:build"},
    "start": "a.safetensors",
    "end": "b.safetensors",
    "curve": {"kind": "bezier"},
    "data": {"source": "cifar10/", "splits": {"train": 8}},
    "train": {"epochs": 3, "lr": 0.1},
    "frames": {"every": 2},
}


def _write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "moons.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_relative_paths_are_taken_from_the_specs_folder(tmp_path: Path) -> None:
    read = spec.read_connect(_write(tmp_path, CONNECT | {"loss": "loss.py:mine"}))
    assert read.name == "moons"
    assert read.network.factory == f"{tmp_path / 'net.py'}:build"
    assert read.loss == f"{tmp_path / 'loss.py'}:mine"
    assert (read.start, read.end) == (
        str(tmp_path / "a.safetensors"),
        str(tmp_path / "b.safetensors"),
    )
    assert read.data.source == str(tmp_path / "cifar10")
    assert read.out == str(tmp_path / "runs/moons")
    assert validate(ConnectSpec, read.model_dump(mode="json"), "again") == read


def test_a_mode_has_no_ends_and_no_curve(tmp_path: Path) -> None:
    fit = {key: CONNECT[key] for key in ("network", "data", "train")}
    read = spec.read_fit(_write(tmp_path, fit))
    assert read.frames is None
    assert read.out == str(tmp_path / "runs/moons")
    with pytest.raises(SpecError, match="start: unknown key"):
        spec.read_fit(_write(tmp_path, fit | {"start": "a"}))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("strat", "x", "strat: unknown key; did you mean start?"),
        ("curve.bend", 2, "curve.bend: unknown key; did you mean bends?"),
        ("curve.kind", "spline", "curve.kind: found 'spline'"),
        ("curve.bends", 0, "curve.bends: found 0"),
        ("train.epoch", 3, "train.epoch: unknown key; did you mean epochs?"),
        ("train.epochs", 0, "train.epochs: found 0"),
        ("train.batch", 0, "train.batch: found 0"),
        ("train.lr", 0, "train.lr: found 0"),
        ("train.lr", float("nan"), "train.lr: found nan"),
        ("train.momentum", 1, "train.momentum: found 1"),
        ("train.weight_decay", -1, "train.weight_decay: found -1"),
        ("train.augment", "mixup", "train.augment: found 'mixup'"),
        ("train", {"epochs": 3}, "train.lr: missing"),
        (
            "train",
            {"epochs": 3, "lr": 1, "momentum": 0, "nesterov": True},
            "train: nesterov with momentum 0; wanted a momentum above 0",
        ),
        ("frames.every", 0, "frames.every: found 0"),
        ("frames.unit", "minute", "frames.unit: found 'minute'"),
        ("data.splits", {}, "data.splits"),
        ("out", "s3://bucket/run", "out is s3://bucket/run; wanted a local folder"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, key: str, value: Any, expected: str) -> None:
    content = yaml.safe_load(yaml.safe_dump(CONNECT))
    *parents, last = key.split(".")
    target = content
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(SpecError) as error:
        spec.read_connect(_write(tmp_path, content))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_no_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        spec.read_connect(tmp_path / "none.yaml")
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n")
    with pytest.raises(SpecError, match="holds list; wanted keys such as network, start, end"):
        spec.read_connect(path)


def test_the_examples_can_be_trained() -> None:
    folder = Path(__file__).parents[2] / "examples" / "mode-connectivity"
    prepared = connect.prepare(spec.read_connect(folder / "connect.yaml"))
    assert prepared.start.size == prepared.end.size == 272_282
    assert fit.prepare(spec.read_fit(folder / "fit.yaml")).spec.train.augment == "crop-flip"
