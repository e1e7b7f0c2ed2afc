"""Networks of several inputs: where they come from, and that they reach forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from pipeline import opening, spec
from pipeline.errors import LossatlasError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.geometry.grid import Grid, Tile
from pipeline.prepare import prepare
from pipeline.problem.data import DataError, load
from pipeline.spec import DataSpec
from pipeline.task import TileRenderer
from pipeline.training import fit
from tests.bowl import write_bowl
from tests.pipeline.test_fit import MOONS, fit_spec, quick

RANDOM = np.random.default_rng(0)
IDS, MASK = RANDOM.integers(0, 9, (20, 5)), RANDOM.integers(0, 2, (20, 5))
LABELS = RANDOM.integers(0, 3, 20)


class Two(nn.Module):
    """Mean of embeddings where a mask is set."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        kept = self.embed(ids) * mask[..., None]
        outputs: Tensor = self.head(kept.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))
        return outputs


class One(nn.Module):
    """The same of one array."""

    def __init__(self) -> None:
        super().__init__()
        self.two = Two()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.two(x[..., 0], x[..., 1])
        return outputs


@pytest.mark.parametrize("chunk", [3, None])
def test_forward_is_called_with_a_tuple_or_by_name(chunk: int | None) -> None:
    weights = nn.utils.parameters_to_vector(Two().parameters()).detach().numpy()
    both = np.stack([IDS, MASK], -1)
    wanted = Evaluator(One(), {"a": (both, LABELS)}, chunk=chunk).at(weights)
    for inputs in ((IDS, MASK), {"mask": MASK, "ids": IDS}):
        evaluator = Evaluator(Two(), {"a": (inputs, LABELS)}, chunk=chunk)
        found = evaluator.at(weights)
        assert {k: v.tolist() for k, v in found.items()} == {
            k: v.tolist() for k, v in wanted.items()
        }


def test_what_forward_does_not_take_is_told_with_names() -> None:
    told = r"\(inputs ids int64 \(2, 5\), musk int64 \(2, 5\), targets int64 \(2,\)\): .*'musk'"
    with pytest.raises(LossatlasError, match=told):
        Evaluator(Two(), {"a": ({"ids": IDS, "musk": MASK}, LABELS)})


def loaded(source: Path, **given: Any) -> Any:
    asked: dict[str, Any] = {"source": str(source), "splits": {"train": 6}} | given
    return load(DataSpec.model_validate(asked))[0]


def as_npz(folder: Path) -> Path:
    np.savez(folder / "train.npz", x_ids=IDS, x_mask=MASK.astype("u1"), y=LABELS)
    return folder


def as_one_npz(folder: Path) -> Path:
    np.savez(folder / "all.npz", train_x_ids=IDS, train_x_mask=MASK, train_y=LABELS)
    return folder / "all.npz"


def as_npy(folder: Path) -> Path:
    for name, array in (("x_ids", IDS), ("x_mask", MASK.astype(bool)), ("y", LABELS)):
        np.save(folder / f"train_{name}.npy", array)
    return folder


def as_function(folder: Path) -> Path:
    np.savez(folder / "own.npz", ids=IDS, mask=MASK, y=LABELS)
    (folder / "own.py").write_text(f"""
import numpy, torch

def load(split):
    found = numpy.load({str(folder / "own.npz")!r})
    return {{"ids": torch.tensor(found["ids"]), "mask": found["mask"].tolist()}}, found["y"]
""")
    return folder / "own.py:load"


@pytest.mark.parametrize("write", [as_npz, as_one_npz, as_npy, as_function])
def test_several_inputs_by_name(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    found = loaded(write(tmp_path))
    rows = found.indices
    np.testing.assert_array_equal(found.inputs["ids"], IDS[rows])
    np.testing.assert_array_equal(found.inputs["mask"], MASK[rows])
    np.testing.assert_array_equal(found.targets, LABELS[rows])
    assert {each.dtype for each in found.inputs.values()} == {np.dtype("int64")}
    assert set(found.inputs) == {"ids", "mask"}
    longer = loaded(write(tmp_path), splits={"train": 9})
    np.testing.assert_array_equal(longer.indices[:6], rows)


def test_columns_of_parquet(tmp_path: Path) -> None:
    table = pa.table({"tokens": IDS.tolist(), "seen": MASK.tolist(), "kind": LABELS})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=7)
    columns = {"ids": "tokens", "mask": "seen", "target": "kind"}
    found = loaded(tmp_path, columns=columns)
    np.testing.assert_array_equal(found.inputs["ids"], IDS[found.indices])
    np.testing.assert_array_equal(found.inputs["mask"], MASK[found.indices])
    np.testing.assert_array_equal(found.targets, LABELS[found.indices])
    alone = loaded(tmp_path, columns={"input": "tokens", "target": "seen"})
    np.testing.assert_array_equal(alone.inputs, IDS[alone.indices])
    np.testing.assert_array_equal(alone.targets, MASK[alone.indices])
    for wrong, message in (
        ({"ids": "token", "target": "kind"}, r"has columns tokens, seen, kind; wanted token\."),
        ({"ids": "tokens"}, r"wanted label or y or fine_label\. .* name it in data.columns"),
    ):
        with pytest.raises(DataError, match=message):
            loaded(tmp_path, columns=wrong)
    ragged = pa.table({"tokens": [[1, 2], [3]] * 10, "kind": LABELS})
    pq.write_table(ragged, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"row \d+ has \d values and the first has \d; .* Pad them"):
        loaded(tmp_path, columns={"ids": "tokens", "target": "kind"})
    words = pa.table({"tokens": ["a"] * 20, "kind": LABELS})
    pq.write_table(words, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"tokens holds str; wanted encoded images, numbers, or li"):
        loaded(tmp_path, columns={"ids": "tokens", "target": "kind"})


def test_pairs_of_npy_are_read_where_they_are_looked_at(tmp_path: Path) -> None:
    x = RANDOM.normal(size=(20, 3)).astype("f4")
    np.save(tmp_path / "train_x.npy", x)
    np.save(tmp_path / "train_y.npy", LABELS)
    np.save(tmp_path / "test_x.npy", x[::-1])
    found = loaded(tmp_path)
    np.testing.assert_array_equal(found.inputs, x[found.indices])
    with pytest.raises(DataError, match="has test_x.npy for split test; wanted test_y.npy, and ei"):
        loaded(tmp_path, splits={"test": 2})
    (tmp_path / "train_y.npy").write_bytes(b"no")
    with pytest.raises(DataError, match=r"train_y.npy is not a whole .npy file"):
        loaded(tmp_path)


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_windows_of_token_files(tmp_path: Path, dtype: Any) -> None:
    ids = RANDOM.integers(0, 60_000, 103).astype(dtype)
    ids.tofile(tmp_path / "train.bin")
    given = {"sequence": 10, "dtype": dtype}
    found = loaded(tmp_path, **given)
    for row, x, y in zip(found.indices, found.inputs, found.targets, strict=True):
        np.testing.assert_array_equal(x, ids[10 * row : 10 * row + 10])
        np.testing.assert_array_equal(y, ids[10 * row + 1 : 10 * row + 11])
    assert found.inputs.dtype == found.targets.dtype == np.int64
    assert found.select == "seeded"
    alone = loaded(tmp_path / "train.bin", **given)
    assert alone.digest == found.digest
    everything = loaded(tmp_path, splits={"train": 10}, **given)
    np.testing.assert_array_equal(everything.indices[:6], found.indices)
    for changes, message in (
        ({"splits": {"train": 11}}, "asks for 11 examples and .*train.bin has 10"),
        ({"sequence": None, "dtype": None}, "wanted data.sequence, the length of a window"),
        ({"sequence": 103}, "holds 103 tokens and data.sequence is 103; wanted more"),
    ):
        with pytest.raises(DataError, match=message):
            loaded(tmp_path, **{**given, **changes})


def test_keys_of_other_data(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(b"abc")
    with pytest.raises(DataError, match=r"is no file of uint16 token ids .*; wanted 2 bytes"):
        loaded(tmp_path, sequence=1)
    np.savez(tmp_path / "one.npz", x=IDS, y=LABELS)
    with pytest.raises(DataError, match=r"data.sequence is given and .* holds .npz; wanted it w"):
        loaded(tmp_path / "one.npz", sequence=4)
    with pytest.raises(DataError, match=r"data.columns is given and .* holds what a function ret"):
        loaded(Path("own.py:load"), columns={"input": "x"})
    for wrong, message in (
        ({"dtype": "uint16"}, "dtype is uint16 without sequence"),
        ({"columns": {"target": "y"}}, "columns names no input"),
    ):
        with pytest.raises(ValueError, match=message):
            DataSpec.model_validate({"source": "a", "splits": {"train": 1}} | wrong)


def test_inputs_of_unequal_length(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x_ids=IDS, x_mask=MASK[:-1], y=LABELS)
    with pytest.raises(DataError, match=r"inputs mask of int64 \(19, 5\) and 20 targets"):
        loaded(tmp_path)
    np.savez(tmp_path / "train.npz", x_ids=IDS, x_mask=MASK, y=LABELS)
    with pytest.raises(DataError, match=r"data.normalise is given and .* are 2 arrays"):
        loaded(tmp_path, normalise={"mean": [0], "std": [1]})


CODE = """
import torch

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(9, 4), torch.nn.Linear(4, 3)

    def forward(self, ids, mask):
        return self.head((self.embed(ids) * mask[..., None]).sum(1))
"""


def test_a_render_with_several_inputs(tmp_path: Path) -> None:
    """From the spec to the store, with the check at the start and the memory's estimate."""
    from safetensors.torch import save_file

    folder = tmp_path / "two"
    path = write_bowl(
        folder,
        network={"factory": "net.py:Two"},
        plane={"kind": "random", "weights": ["w.safetensors"]},
        data={"source": "data/", "splits": {"train": 8}},
        evaluate={},
    )
    (folder / "net.py").write_text(CODE)
    (folder / "data").mkdir()
    as_npz(folder / "data")
    namespace: dict[str, Any] = {}
    exec(CODE, namespace)
    torch.manual_seed(0)
    save_file(namespace["Two"]().state_dict(), folder / "w.safetensors")
    prepared = prepare(spec.read(path))
    assert prepared.facts["data"]["train"]["examples"] == 8
    assert prepared.footprint.worker() > 0
    store, _ = opening.create(prepared, Grid(7, 5, 7, 1))
    TileRenderer(prepared.inputs, store.url)(Tile(0, 0, 0))
    values = store.read("loss", "train", 0)
    assert np.isfinite(values).all()
    assert np.ptp(values) > 0


def test_trainings_with_several_inputs(tmp_path: Path) -> None:
    made = fit_spec(tmp_path, MOONS, train={"epochs": 2, "batch": 5})
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "data").mkdir()
    as_npz(tmp_path / "data")
    changes = {
        "network": made.network.model_copy(
            update={"factory": f"{tmp_path}/net.py:Two", "kwargs": {}}
        ),
        "data": DataSpec(source=str(tmp_path / "data"), splits={"train": 20}),
    }
    with quick():
        losses = fit.fit(fit.prepare(made.model_copy(update=changes))).losses
    assert losses[-1] < losses[0]
