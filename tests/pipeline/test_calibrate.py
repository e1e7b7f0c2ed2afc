"""Which split calibrates batch norm, and which trains: by name, whatever order YAML gives."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from pipeline import opening, plan, prepare, spec
from pipeline.errors import LossatlasError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.fingerprint import digest_of_parts
from pipeline.geometry.plane_checkpoints import PlanesError
from pipeline.prepare import PrepareError
from pipeline.problem import checkpoint, state_dict
from pipeline.problem.layout import Layout
from pipeline.problem.network import build
from pipeline.spec import RenderSpec
from pipeline.spec_file import SpecError
from pipeline.store.store import Store
from pipeline.task import TileRenderer
from pipeline.training import fit
from tests.pipeline.test_fit import MOONS, fit_spec, quick

NET = """
from torch import nn

def build(norm=True):
    middle = nn.BatchNorm1d(6) if norm else nn.Tanh()
    return nn.Sequential(nn.Linear(3, 6), middle, nn.ReLU(), nn.Linear(6, 3))
"""
SPREAD = {"test": 3, "train": 1, "val": 2}
MakeSpec = Callable[..., RenderSpec]


@pytest.fixture
def make(tmp_path: Path) -> MakeSpec:
    """Makes a spec of splits whose inputs differ in spread; the order of `splits` is kept."""
    (tmp_path / "net.py").write_text(NET)
    random = np.random.default_rng(0)
    arrays = {}
    for split, spread in SPREAD.items():
        arrays[f"{split}_x"] = (spread * random.normal(size=(20, 3))).astype("f4")
        arrays[f"{split}_y"] = random.integers(0, 3, 20)
    np.savez(tmp_path / "data.npz", **arrays)

    def made(splits: str, evaluate: dict[str, Any] = {}, norm: bool = True) -> RenderSpec:  # noqa: B006
        for seed, end in enumerate("ab"):
            torch.manual_seed(seed)
            net = build(f"{tmp_path}/net.py:build", {"norm": norm})
            drawn = {name: torch.rand_like(p) - 0.5 for name, p in net.named_parameters()}
            buffers = {n: b for n, b in net.state_dict().items() if n not in drawn}
            checkpoint.save(str(tmp_path / f"{end}.safetensors"), drawn | buffers)
        content = {
            "network": {"factory": "net.py:build", "kwargs": {"norm": norm}},
            "plane": {"kind": "interpolation", "weights": ["a.safetensors", "b.safetensors"]},
            "grid": {"width": 3, "height": 1, "tile": 1},
            "data": {"source": "data.npz", "splits": dict.fromkeys(splits.split(), 16)},
            "evaluate": evaluate,
            "store": "s.zarr",
        }
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return spec.read(tmp_path / "s.yaml")

    return made


def rendered(read: RenderSpec, most: int = 9) -> Store:
    prepared = prepare.prepare(read)
    store, _ = opening.create(prepared, plan.resolve_grid(prepared, 1e-3, 1))
    renderer = TileRenderer(prepared.inputs, store.url)
    for tile in store.pending()[:most]:
        renderer(tile)
    return store


def losses(store: Store) -> dict[str, list[float]]:
    return {split: store.read("loss", split)[0].tolist() for split in store.splits}


def age(store: Store) -> None:
    """Make of a store one that was made before the calibrating split had a name."""
    path = Path(store.url) / "zarr.json"
    content = json.loads(path.read_text())
    attributes = content["attributes"]
    del attributes["parts"]["evaluate.calibrate"]
    del attributes["spec"]["evaluate"]["calibrate"]
    attributes["parts"]["data.splits"] = attributes["splits"]
    attributes["fingerprint"] = digest_of_parts(attributes["parts"])
    path.write_text(json.dumps(content))


def test_the_order_of_splits_changes_nothing(make: MakeSpec, tmp_path: Path) -> None:
    found, prints = [], set()
    for number, order in enumerate(itertools.permutations(("train", "val", "test"))):
        read = make(" ".join(order)).model_copy(update={"store": str(tmp_path / f"{number}.zarr")})
        store = rendered(read)
        assert store.splits == ("train", "test", "val")
        found.append(losses(store))
        prints.add(store.attrs["fingerprint"])
    assert all(each == found[0] for each in found)
    assert len(prints) == 1
    half = rendered(make("train val test"), most=1)
    assert losses(rendered(make("val test train"))) == found[0]
    assert half.attrs["network"]["batch_norm"] == (
        "recompute: population statistics of the train split"
    )
    assert half.group["split"].attrs["calibrates"] == "train"
    assert half.attrs["parts"]["evaluate.calibrate"] == "train"


@pytest.mark.parametrize("calibrate", ["train", "test", "val"])
def test_the_split_that_is_named_calibrates(make: MakeSpec, calibrate: str) -> None:
    """Held to torch's own batch norm, in training mode over that split."""
    read = make("train test val", {"calibrate": calibrate})
    inputs = prepare.prepare(read).inputs
    assert (inputs.calibrate, next(iter(inputs.problem.splits))) == (calibrate, calibrate)
    splits = {split: inputs.problem.splits[split] for split in sorted(SPREAD)}
    state = checkpoint.load(read.plane.weights[0])
    net = build(read.network.factory, {})
    net.load_state_dict(state)
    flat = state_dict.weights(state, Layout.of(net))
    recomputing = build(read.network.factory, {})
    found = Evaluator(recomputing, splits, ("loss",), calibrate=calibrate).at(flat)["loss"]
    norm = next(module for module in net.modules() if isinstance(module, nn.BatchNorm1d))
    norm.momentum = 1.0
    with torch.no_grad():
        examples = torch.tensor(splits[calibrate][0])
        net.train()(examples)
        assert norm.running_var is not None
        norm.running_var *= (len(examples) - 1) / len(examples)  # population, not sample
    expected = Evaluator(net.eval(), splits, ("loss",), batch_norm="frozen").at(flat)["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_another_calibrating_split_is_another_render(make: MakeSpec) -> None:
    rendered(make("train test"))
    told = (
        r"belongs to another render: evaluate\.calibrate: train in the store, test here\. To go on "
        r"with it say evaluate: \{calibrate: train\}; or else change store"
    )
    with pytest.raises(PrepareError, match=told):
        rendered(make("train test", {"calibrate": "test"}))


def test_it_counts_only_where_there_is_something_to_calibrate(make: MakeSpec) -> None:
    for given in ({"norm": False}, {"evaluate": {"batch_norm": "frozen"}}):
        prepared = prepare.prepare(make("val test", **given))
        assert "evaluate.calibrate" not in prepared.parts
        assert prepare.prepare(make("test val", **given)).parts == prepared.parts


def test_older_stores_go_on_with_their_first_split(make: MakeSpec) -> None:
    whole = losses(rendered(make("test train", {"calibrate": "test"})))
    store = rendered(make("test train", {"calibrate": "test"}))
    for tile in list(store.grid.tiles())[1:]:
        store.withdraw(tile)
    age(store)
    store = Store.open(store.url, writable=True)
    resumed = prepare.prepare_resume(store)
    assert resumed.inputs.calibrate == "test"
    renderer = TileRenderer(resumed.inputs, store.url)
    for tile in store.pending():
        renderer(tile)
    assert losses(store) == whole
    with pytest.raises(PrepareError, match=r"test in the store, train here.*\{calibrate: test\}"):
        rendered(make("test train"))
    assert losses(rendered(make("train test", {"calibrate": "test"}))) == whole


def test_older_stores_keep_their_order_of_splits(make: MakeSpec, tmp_path: Path) -> None:
    prepared = prepare.prepare(make("train test val"))
    grid = plan.resolve_grid(prepared, 1e-3, 1)
    order = ("train", "val", "test")
    old = str(tmp_path / "old.zarr")
    store = Store.create(
        old, grid, order, prepared.inputs.quantities, prepared.frames, prepared.facts
    )
    age(store)
    store = Store.open(old, writable=True)
    expected = losses(rendered(make("train test val")))
    renderer = TileRenderer(prepare.prepare_resume(store).inputs, old)
    for tile in store.pending():
        renderer(tile)
    assert store.splits == order
    assert losses(store) == expected


def test_specs_that_calibrate_wrongly(make: MakeSpec) -> None:
    with pytest.raises(
        SpecError, match="evaluate.calibrate is tran; wanted one of data.splits: tr"
    ):
        make("train test", {"calibrate": "tran"})
    with pytest.raises(SpecError, match="calibrate is train with batch_norm: frozen, which comput"):
        make("train", {"calibrate": "train", "batch_norm": "frozen"})


def test_without_statistics_of_its_own(make: MakeSpec) -> None:
    """A checkpoint needs them for `frozen` alone."""
    read = make("train")
    expected = losses(rendered(read))
    for path in read.plane.weights:
        state = checkpoint.load(path)
        checkpoint.save(path, {n: t for n, t in state.items() if "running" not in n})
    again = read.model_copy(update={"store": f"{read.store}2"})
    assert losses(rendered(again)) == expected
    frozen = again.evaluate.model_copy(update={"batch_norm": "frozen"})
    told = (
        r"plane\.weights\[0\] \(a\.safetensors\) holds no statistics .*1\.running_mean.* recompute"
    )
    with pytest.raises(PlanesError, match=told):
        prepare.prepare(again.model_copy(update={"evaluate": frozen}))


def test_train_trains_and_old_trainings_go_on(tmp_path: Path) -> None:
    splits = {"test": 32, "train": 64}
    read = fit_spec(tmp_path, MOONS | {"data": {"source": "moons", "splits": splits}})
    prepared = fit.prepare(read)
    assert prepared.inputs.trains == "train"
    assert list(prepared.inputs.problem.splits) == ["train", "test"]
    inputs, _ = prepared.inputs.training
    assert len(inputs) == 64
    # One that was begun when the first split trained.
    only = read.data.model_copy(update={"splits": {"test": 32}})
    short = read.train.model_copy(update={"epochs": 1})
    begun = read.model_copy(update={"data": only, "train": short})
    with quick():
        fit.fit(fit.prepare(begun))
        again = fit.prepare(begun.model_copy(update={"data": read.data}))
        assert again.inputs.trains == "test"
        assert fit.fit(again).resumed_at == 1
    assert fit.prepare_again(read.out).inputs.trains == "test"
    with pytest.raises(LossatlasError, match="belongs to another training: train"):
        fit.fit(fit.prepare(read))


def test_a_store_whose_splits_were_swapped_is_not_gone_on_with(make: MakeSpec) -> None:
    store = rendered(make("test train"))
    path = Path(store.url) / "zarr.json"
    content = json.loads(path.read_text())
    content["attributes"]["splits"].reverse()
    path.write_text(json.dumps(content))
    with pytest.raises(PrepareError, match="so it was changed"):
        prepare.prepare_resume(Store.open(store.url, writable=True))
