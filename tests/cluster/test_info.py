"""What `plan` and `info` say of a network, its loss and its checkpoints, word by word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cluster.cli.info_table import info_facts, info_lines
from cluster.cli.plan_table import plan_lines
from pipeline import opening, plan, prepare, spec
from pipeline.geometry.grid import Grid
from pipeline.problem import checkpoint
from pipeline.store.store import Store
from tests.bowl import write_bowl


def store_of(folder: Path, **changes: Any) -> Store:
    prepared = prepare.prepare(spec.read(write_bowl(folder, **changes)))
    return opening.create(prepared, Grid(7, 5, 3))[0]


def rows(store: Store) -> dict[str, str]:
    lines = info_lines(store)[1:]
    return {line[2:14].strip(): line[14:].strip() for line in lines}


def test_info_says_what_is_true_of_an_own_network(tmp_path: Path) -> None:
    told = rows(store_of(tmp_path / "a"))
    assert told["network"] == "Bowl (bowl.py), 6 parameters"
    assert "batch norm" not in told
    assert ", seeded sample (" in told["data"]
    assert told["quantities"].endswith("loss mse")
    assert told["anchors"].startswith("w₀ (")


def test_info_says_words_of_the_users_own(tmp_path: Path) -> None:
    weights = [f"{name}.safetensors" for name in "abc"]
    store = store_of(
        tmp_path / "a",
        network={"factory": "bowl.py:Bowl", "label": "A bowl"},
        plane={"kind": "points", "weights": weights, "labels": ["SGD", "Adam", "RMSprop"]},
    )
    told = rows(store)
    assert told["network"] == "A bowl, 6 parameters"
    assert [part.split(" (")[0] for part in told["anchors"].split("), ")] == [
        "SGD",
        "Adam",
        "RMSprop",
    ]
    assert info_facts(store)["words"]["labels"] == ["SGD", "Adam", "RMSprop"]


@pytest.mark.parametrize("said", ["none in this network", None])
def test_info_of_an_older_store(tmp_path: Path, said: str | None) -> None:
    store = store_of(tmp_path / "a")
    store.group.attrs["network"] = {
        "factory": "/x/bowl.py:Bowl",
        "parameters": 6,
        "batch_norm": said,
    }
    told = rows(Store.open(store.url))
    assert told["network"] == "Bowl (bowl.py), 6 parameters"
    assert "batch norm" not in told


def test_info_tells_the_losses_of_checkpoints_with_their_own_buffers(tmp_path: Path) -> None:
    store = store_of(tmp_path / "a")
    assert not {"own losses", "buffers"} & rows(store).keys()
    own = [
        {"anchor": f"w{k}", "file": "b.pt", "split": "train", "loss": 3.489 - k / 9, "own": 1.08}
        for k in range(8)
    ]
    noted = {"own_losses": own, "buffers": "buffers of a.pt everywhere: sn.u, sn.v"}
    store.group.attrs["network"] = dict(store.attrs["network"]) | noted
    told = rows(Store.open(store.url))
    assert told["buffers"] == noted["buffers"]
    assert told["own losses"].startswith("w0: 3.49 here, 1.08 with its own buffers; w1: 3.38")
    assert told["own losses"].endswith("; 2 more")


def test_a_plan_has_no_word_of_batch_norm_where_there_is_none(tmp_path: Path) -> None:
    prepared = prepare.prepare(spec.read(write_bowl(tmp_path / "a")))
    found = plan.plan(prepared, Grid(7, 5, 3), 1e-3, 1, "cpu")
    assert found.batch_norm is None
    assert not any("batch norm" in line for line in plan_lines(found))


def test_what_was_taken_off_names_is_said_by_plan_and_info(tmp_path: Path) -> None:
    path = write_bowl(tmp_path / "a")
    for name in "abc":
        file = tmp_path / f"a/{name}.safetensors"
        state = checkpoint.load(str(file))
        checkpoint.save(str(file), {f"model.{key}": tensor for key, tensor in state.items()})
    prepared = prepare.prepare(spec.read(path))
    told = "a.safetensors, b.safetensors, c.safetensors: names without model."
    assert told in prepared.remarks
    assert prepared.facts["network"]["checkpoints"] == [told]
    store = opening.create(prepared, Grid(7, 5, 3))[0]
    assert rows(store)["checkpoints"] == told
    lines = plan_lines(plan.estimate(prepared, 1, "cpu")[1])
    assert any(line.endswith(told) for line in lines)


def test_info_says_how_much_a_best_fit_plane_explains(tmp_path: Path) -> None:
    weights = [f"{name}.safetensors" for name in "abc"]
    told = rows(store_of(tmp_path / "a", plane={"kind": "fit", "weights": weights}))["plane"]
    assert told.startswith("fit of 3 checkpoints around mean, components 1 (")
    shares = [float(part) for part in re.findall(r"([\d.]+) %", told)]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    film = store_of(tmp_path / "b", plane={"kind": "fit", "frames": weights})
    assert rows(film)["plane"].startswith("fit of 3 checkpoints")
    given = {"kind": "directions", "weights": weights[:1], "directions": weights[1:]}
    told = rows(store_of(tmp_path / "c", plane=given | {"ignore": "none"}))["plane"]
    assert told.startswith("directions of a.safetensors, b.safetensors, c.safetensors; ")
