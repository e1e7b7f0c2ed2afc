"""What decides a render's numbers is compared, part by part; digests tell unlike things apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from pipeline import facts, opening, prepare, spec
from pipeline.fingerprint import differences, digest_of_array, digest_of_parts
from pipeline.geometry.grid import Grid
from pipeline.prepare import Prepared, PrepareError
from pipeline.spec import RenderSpec
from pipeline.store.store import Store

NETWORK = """
from torch import nn

def net(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))
"""
LOSS = """
from torch.nn import functional as F

def each(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")
"""
Change = Callable[[Path, dict[str, Any]], object]


def lay_out(folder: Path) -> dict[str, Any]:
    """Files of a render with a batch norm and code of its own, and the content of its spec."""
    folder.mkdir(exist_ok=True)
    (folder / "net.py").write_text(NETWORK)
    (folder / "loss.py").write_text(LOSS)
    for seed, name in enumerate("abc"):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        net[1].running_mean += 0.1
        torch.save(net.state_dict(), folder / f"{name}.pt")
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split in ("train", "test"):
        arrays[f"x_{split}"] = generator.standard_normal((12, 3)).astype("f4")
        arrays[f"y_{split}"] = generator.integers(0, 2, 12)
    np.savez(folder / "data.npz", **arrays)
    return {
        "network": {"factory": "net.py:net"},
        "plane": {"kind": "random", "weights": ["a.pt"], "seed": 1, "extent": [-1, 1, -1, 1]},
        "grid": {"width": 3, "height": 2, "tile": 2},
        "data": {"source": "data.npz", "splits": {"train": 8, "test": 8}},
        "evaluate": {"loss": "loss.py:each", "quantities": ["loss", "loss_stderr"]},
        "store": "run.zarr",
    }


def read(folder: Path, content: dict[str, Any]) -> RenderSpec:
    (folder / "spec.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return spec.read(folder / "spec.yaml")


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, dict[str, Any], Prepared]:
    content = lay_out(tmp_path)
    prepared = prepare.prepare(read(tmp_path, content))
    opening.create(prepared, Grid(3, 2, 2))
    return tmp_path, content, prepared


def _edited(name: str) -> Change:
    def edit(folder: Path, content: dict[str, Any]) -> None:
        with (folder / name).open("a") as file:
            file.write("# another\n")

    return edit


def _moved(key: str) -> Change:
    def move(folder: Path, content: dict[str, Any]) -> None:
        state = torch.load(folder / "a.pt", weights_only=True)
        state[key] += 0.25
        torch.save(state, folder / "a.pt")

    return move


def _pixel(folder: Path, content: dict[str, Any]) -> None:
    arrays = dict(np.load(folder / "data.npz"))
    arrays["x_test"] += 0.5
    np.savez(folder / "data.npz", **arrays)


def _set(where: str, value: Any) -> Change:
    area, _, key = where.partition(".")

    def put(folder: Path, content: dict[str, Any]) -> None:
        content[area][key] = value

    return put


CHANGES: dict[str, tuple[Change, set[str]]] = {
    "network's code": (_edited("net.py"), {"network.code"}),
    "loss's code": (_edited("loss.py"), {"evaluate.loss.code"}),
    "buffers": (_moved("1.running_mean"), {"network.buffers"}),
    "weights": (_moved("0.bias"), {"plane.weights[0]"}),
    "extent": (_set("plane.extent", [-1, 1, -1, 2]), {"plane.extent"}),
    "seed": (_set("plane.seed", 2), {"plane.seed"}),
    "width": (_set("grid.width", 4), {"grid.width"}),
    "height": (_set("grid.height", 3), {"grid.height"}),
    "examples": (_pixel, {"data.test"}),
    "other examples": (_set("data.seed", 7), {"data.train", "data.test"}),
    "splits": (_set("data.splits", {"train": 8}), {"data.splits", "data.test"}),
    "calibrating split": (_set("evaluate.calibrate", "test"), {"evaluate.calibrate"}),
    "normalisation": (
        _set("data.normalise", {"mean": [0.5], "std": [2.0]}),
        {"data.normalise"},
    ),
    "quantities": (_set("evaluate.quantities", ["loss"]), {"evaluate.quantities"}),
    "batch norm": (
        _set("evaluate.batch_norm", "frozen"),
        {"evaluate.batch_norm", "evaluate.calibrate"},
    ),
    "precision": (_set("evaluate.precision", "bf16"), {"evaluate.precision"}),
    "compiling": (_set("evaluate.compile", True), {"evaluate.compile"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_numbers_is_told_and_refused(
    begun: tuple[Path, dict[str, Any], Prepared], change: str
) -> None:
    folder, content, prepared = begun
    make, expected = CHANGES[change]
    make(folder, content)
    other = prepare.prepare(read(folder, content))
    told = differences(prepared.parts, other.parts)
    assert {line.partition(":")[0] for line in told} == expected
    assert other.fingerprint != prepared.fingerprint
    with pytest.raises(PrepareError, match="belongs to another render") as refused:
        opening.match(other)
    assert all(line in str(refused.value) for line in told)


def test_other_numerics_do_not_go_on(
    begun: tuple[Path, dict[str, Any], Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, content, prepared = begun
    monkeypatch.setattr(facts, "NUMERICS", facts.NUMERICS + 1)
    store = Store.open(prepared.spec.store)
    told = f"numerics: {facts.NUMERICS - 1} in the store, {facts.NUMERICS} here"
    with pytest.raises(PrepareError, match=f"cannot be resumed, .*{told}"):
        prepare.prepare_resume(store)
    with pytest.raises(PrepareError, match=told):
        opening.create(prepare.prepare(read(folder, content)), Grid(3, 2, 2))


def test_a_store_that_does_not_say_which_split_calibrates_goes_on_with_its_first(
    begun: tuple[Path, dict[str, Any], Prepared],
) -> None:
    folder, content, prepared = begun
    store = Store.open(prepared.spec.store, writable=True)
    parts = {k: v for k, v in store.attrs["parts"].items() if k != "evaluate.calibrate"}
    store.group.attrs.update({"parts": parts, "fingerprint": digest_of_parts(parts)})
    opening.match(prepared)
    prepare.prepare_resume(Store.open(store.url))
    content["evaluate"]["calibrate"] = "test"
    told = "evaluate.calibrate: train in the store, test here"
    with pytest.raises(PrepareError, match=told):
        opening.create(prepare.prepare(read(folder, content)), Grid(3, 2, 2))


def test_parts_of_either_side_alone_are_differences() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1}) == ["b: 2 in the store, null here"]
    assert differences({"a": 1}, {"a": 1, "b": 2}) == ["b: null in the store, 2 here"]
    assert differences({"a": (1, 2)}, {"a": [1, 2]}) == []
    assert digest_of_parts({"a": 1, "b": 2}) == digest_of_parts({"b": 2, "a": 1})
    assert digest_of_parts({"a": 1}) != digest_of_parts({"a": 2})


def test_digests_of_arrays_tell_shapes_dtypes_and_ends_apart() -> None:
    """All of these are the same twenty-four bytes, or are so one after the other."""
    zeros = np.zeros(6, "f4")
    digests = {
        digest_of_array(zeros),
        digest_of_array(zeros.reshape(2, 3)),
        digest_of_array(zeros.view("i4")),
        digest_of_array(zeros.astype(">f4")),
        digest_of_array(zeros[:2], zeros[2:]),
        digest_of_array(zeros[:3], zeros[3:]),
    }
    assert len(digests) == 6
    columns = np.arange(6.0).reshape(2, 3)
    assert digest_of_array(columns) == digest_of_array(np.asfortranarray(columns))
    assert digest_of_array(columns) != digest_of_array(columns.T)
