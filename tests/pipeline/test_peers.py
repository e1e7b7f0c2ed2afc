"""Directions in the files of other tools, in the layout that the code of Li et al. writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import prepare, spec
from pipeline.problem import checkpoint, peers
from pipeline.problem.peers import PeersError
from tests.bowl import write_bowl

h5py = pytest.importorskip("h5py")


def _write(path: Path, **lists: list[np.ndarray]) -> str:
    with h5py.File(path, "w") as file:
        for name, arrays in lists.items():
            group = file.create_group(name)
            for place, array in enumerate(arrays):
                group.create_dataset(str(place), data=array)
    return str(path)


def _network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 12))


@pytest.mark.parametrize("kind", ["weights", "states"])
def test_lists_of_parameters_and_of_states_are_read(tmp_path: Path, kind: str) -> None:
    net = _network()
    tensors = dict(net.named_parameters()) if kind == "weights" else net.state_dict()
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(tuple(each.shape)).astype("f4") for each in tensors.values()]
    path = _write(tmp_path / "directions.h5", xdirection=arrays, ydirection=[-a for a in arrays])
    found = peers.load_direction(f"{path}:ydirection", net)
    assert list(found) == [name for name, _ in net.named_parameters()]
    for name, array in zip(tensors, arrays, strict=True):
        if name in found:
            np.testing.assert_array_equal(found[name].numpy(), -array)


def test_a_plane_along_their_directions(tmp_path: Path) -> None:
    folder = tmp_path / "bowl"
    folder.mkdir()
    u, v = np.random.default_rng(1).standard_normal((2, 6)).astype("f4")
    _write(folder / "directions.h5", xdirection=[u], ydirection=[v])
    plane = {
        "kind": "directions",
        "weights": ["a.safetensors"],
        "directions": ["directions.h5:xdirection", "directions.h5:ydirection"],
        "normalise": "none",
        "ignore": "none",
    }
    prepared = prepare.prepare(spec.read(write_bowl(folder, plane=plane)))
    np.testing.assert_array_equal(prepared.first_plane().u, u.astype("f8"))
    np.testing.assert_array_equal(prepared.first_plane().v, v.astype("f8"))
    assert prepared.facts["plane"]["names"] == ["xdirection", "ydirection"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("d.h5", "Write .*d.h5:xdirection"),
        ("d.h5:zdirection", "no list zdirection; .* It has nan, short, swapped, xdirection"),
        ("none.h5:xdirection", "no such file"),
        ("broken.h5:xdirection", "cannot be read as HDF5"),
        ("d.h5:short", "has 2 tensors and the network 1 parameters"),
        ("d.h5:swapped", r"first difference: \(3, 2\) against weight \(2, 3\)"),
        ("d.h5:nan", "NaN"),
        ("linked.h5:xdirection", "refers to other files|cannot be read"),
        ("external.h5:xdirection", "refers to other files"),
    ],
)
def test_what_is_no_direction_is_one_line(tmp_path: Path, path: str, message: str) -> None:
    net = nn.Linear(3, 2, bias=False)
    good = np.ones((2, 3), "f4")
    _write(
        tmp_path / "d.h5",
        xdirection=[good],
        short=[good, good],
        swapped=[good.T],
        nan=[good * np.nan],
    )
    (tmp_path / "broken.h5").write_bytes((tmp_path / "d.h5").read_bytes()[:300])
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        group = file.create_group("xdirection")
        group["0"] = h5py.ExternalLink(str(tmp_path / "d.h5"), "/xdirection/0")
    (tmp_path / "secret").write_bytes(good.tobytes())
    with h5py.File(tmp_path / "external.h5", "w") as file:
        group = file.create_group("xdirection")
        group.create_dataset("0", (2, 3), "f4", external=[(str(tmp_path / "secret"), 0, 24)])
    with pytest.raises(PeersError, match=message) as caught:
        peers.load_direction(str(tmp_path / path), net)
    assert "\n" not in str(caught.value)


def test_their_checkpoints_are_read(tmp_path: Path) -> None:
    """`main.py` of their code saves these."""
    net = _network()
    content: dict[str, Any] = {"acc": 12.5, "epoch": 3, "state_dict": net.state_dict()}
    torch.save(content, tmp_path / "model_3.t7")
    found = checkpoint.load(str(tmp_path / "model_3.t7"))
    assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())
