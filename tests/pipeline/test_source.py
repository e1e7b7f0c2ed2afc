"""Class folders numbered once, files that are no data, and what a user's own code may return."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.problem import data
from pipeline.problem.data import DataError, Subsample
from pipeline.spec import DataSpec, NormaliseSpec

PIXELS = {"ant": 10, "bee": 20, "cat": 30, "images": 40}


def write_classes(folder: Path, *classes: str) -> None:
    """Two images of each class, grey by its name."""
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            image = Image.fromarray(np.full((2, 2), PIXELS[name], np.uint8))
            image.save(folder / name / f"{number}.png")


def labels(source: Path, **splits: int) -> dict[str, dict[str, int]]:
    """Split → the name of each class met, told by the pixels → the number it has got."""
    names = {grey: name for name, grey in PIXELS.items()}
    found = {}
    for split in data.load(DataSpec(source=str(source), splits=splits)):
        greys = (split.inputs[:, 0, 0, 0] * 255).round().astype(int)
        found[split.name] = {
            names[grey]: int(y) for grey, y in zip(greys, split.targets, strict=True)
        }
    return found


def test_classes_are_numbered_once_for_all_splits(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", "ant", "bee", "cat")
    write_classes(tmp_path / "test", "ant", "cat")
    write_classes(tmp_path / "holdout", "cat")
    expected = {"ant": 0, "bee": 1, "cat": 2}
    of_test = {"ant": 0, "cat": 2}
    assert labels(tmp_path, train=6, test=4) == {"train": expected, "test": of_test}
    assert labels(tmp_path, test=4) == {"test": of_test}
    assert labels(tmp_path, holdout=2, test=4) == {"holdout": {"cat": 2}, "test": of_test}


def test_without_train_the_split_with_every_class_numbers_them(tmp_path: Path) -> None:
    write_classes(tmp_path / "val", "bee", "cat")
    write_classes(tmp_path / "test", "ant", "bee", "cat")
    every = {"ant": 0, "bee": 1, "cat": 2}
    for splits in ({"val": 4, "test": 6}, {"test": 6, "val": 4}):
        assert labels(tmp_path, **splits) == {"val": {"bee": 1, "cat": 2}, "test": every}
    assert labels(tmp_path, val=4) == {"val": {"bee": 1, "cat": 2}}
    write_classes(tmp_path / "val", "images")
    with pytest.raises(DataError, match=r"test has the class ant, which val/ lacks; wanted every"):
        labels(tmp_path, test=6, val=4)


def test_a_split_without_class_folders(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match=r"no image in .*test; wanted a folder of images for each"):
        labels(tmp_path, test=1)


def test_a_class_that_train_lacks_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", "ant", "cat")
    write_classes(tmp_path / "test", "ant", "bee", "cat")
    told = r"/test has the class bee, which train/ lacks; wanted every class in train/.*take it out"
    for splits in ({"train": 4, "test": 6}, {"test": 6}):
        with pytest.raises(DataError, match=told):
            labels(tmp_path, **splits)
    assert labels(tmp_path, train=4) == {"train": {"ant": 0, "cat": 1}}


@pytest.mark.parametrize("splits", [{"train": 4, "val": 2}, {"val": 2}])
def test_classes_in_a_file_of_annotations_are_refused(
    tmp_path: Path, splits: dict[str, int]
) -> None:
    """As Tiny ImageNet has them."""
    write_classes(tmp_path / "train", "ant", "bee")
    write_classes(tmp_path / "val", "images")
    (tmp_path / "val/val_annotations.txt").write_text("0.png\tant\t0\t0\t1\t1\n")
    told = r"val holds one folder, images/, and val_annotations\.txt; wanted a folder of images for"
    with pytest.raises(DataError, match=told):
        labels(tmp_path, **splits)
    assert labels(tmp_path, train=4) == {"train": {"ant": 0, "bee": 1}}


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("train/images", r"train holds one folder, images/, with ant/, bee/ in it; wanted the cl"),
        ("cifar", r"holds one folder, cifar/, with ant/, bee/ in it; wanted the class folders"),
        ("Train", r"has no split train; wanted .* Found Train"),
        ("training", r"has no split train; wanted .* Found training"),
    ],
)
def test_class_folders_in_another_place_are_refused(tmp_path: Path, folder: str, told: str) -> None:
    write_classes(tmp_path / folder, "ant", "bee")
    with pytest.raises(DataError, match=told):
        labels(tmp_path, train=4)


def test_one_class_and_splits_as_classes_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "one/train", "ant")
    with pytest.raises(DataError, match="holds one folder, ant/, which makes all images one class"):
        labels(tmp_path / "one", train=2)
    for split in ("Test", "training"):
        write_classes(tmp_path / "two/train" / split, "ant", "bee")
    with pytest.raises(DataError, match="holds Test/, training/, with ant/, bee/ in it; wanted"):
        labels(tmp_path / "two", train=8)


def test_classes_and_layouts_are_told(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", "ant", "bee")
    write_classes(tmp_path / "train/cat", "cat")  # nested in a class
    (found,) = data.load(DataSpec(source=str(tmp_path), splits={"train": 6}))
    assert (found.classes, found.inputs_told) == ("3 classes: ant, bee, cat", "")
    for values, told in (
        ("np.zeros((2, 6, 5, 3), 'f4')", "float32 (n, 6, 5, 3): channels last, moved first"),
        ("np.zeros((2, 3, 6, 5), 'f4')", ""),
        (
            "np.zeros((2, 3, 6, 4), 'f4')",
            "float32 (n, 3, 6, 4): channels first (channels last would fit too)",
        ),
        (
            "np.zeros((2, 3, 6, 4), 'u1')",
            "bytes (n, 3, 6, 4): channels last, moved first (channels first would fit too), "
            "scaled to [0, 1]",
        ),
        ("np.zeros((2, 9), 'u1')", "bytes (n, 9): scaled to [0, 1]"),
        ("np.zeros((2, 9), 'i8')", ""),
    ):
        assert called(tmp_path, f"{values}, [0, 1]").inputs_told == told
    facts = {"train": {"inputs": "a"}, "test": {"inputs": "b"}}
    assert data.by_split(facts, "inputs") == "train: a; test: b"
    assert data.by_split(facts, "targets") == ""


def test_hidden_files_and_folders_are_no_data(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", "ant", "bee")
    for junk in (
        "train/.ipynb_checkpoints/0.png",
        "train/ant/.ipynb_checkpoints/0-checkpoint.png",
        "train/ant/._0.png",
        "train/._0.png",
        "train/.DS_Store",
        "train/__MACOSX/ant/0.png",
        "train/bee/deeper/__MACOSX/0.png",
        ".ipynb_checkpoints/0.png",
        "._train",
    ):
        (tmp_path / junk).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / junk).write_bytes(b"no image")
    assert labels(tmp_path, train=4) == {"train": {"ant": 0, "bee": 1}}
    assert labels(tmp_path / "train", train=4) == {"train": {"ant": 0, "bee": 1}}
    hidden = tmp_path / ".cache/data"
    write_classes(hidden / "train", "ant", "bee")
    assert labels(hidden, train=4) == {"train": {"ant": 0, "bee": 1}}


def called(folder: Path, returned: str) -> Subsample:
    code = f"import numpy as np\nimport torch\n\ndef load(split):\n    return {returned}\n"
    (folder / "load.py").write_text(code)
    source = f"{folder / 'load.py'}:load"
    (found,) = data.load(DataSpec(source=source, splits={"train": 2}, select="head"))
    return found


@pytest.mark.parametrize(
    "inputs",
    [
        "torch.ones(2, 3, dtype=torch.bfloat16)",
        "torch.ones(2, 3, dtype=torch.float16)",
        "torch.ones(2, 3, requires_grad=True)",
        "torch.ones(2, 3).to(torch.float8_e4m3fn)",
        "[torch.ones(3, requires_grad=True), torch.ones(3)]",
        "(torch.ones(3, dtype=torch.bfloat16),) * 2",
        "[[1, 1, 1], [1.0, 1, 1]]",
    ],
)
def test_what_users_return_is_read(tmp_path: Path, inputs: str) -> None:
    found = called(tmp_path, f"{inputs}, [torch.tensor(0), torch.tensor(1)]")
    np.testing.assert_array_equal(found.inputs, np.ones((2, 3), "f4"))
    assert found.inputs.dtype == np.float32
    assert found.targets.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("[[1.0, 2], [3.0]], [0, 1]", r"load\('train'\): x is no array .*rows of one length"),
        ("[[1.0, 2], [3.0, 4]], [[0], [1, 2]]", r"load\('train'\): y is no array"),
        ("torch.eye(2).to_sparse(), [0, 1]", "x is a tensor of .*sparse_coo; wanted a dense one"),
        ("[torch.eye(2).to_sparse()] * 2, [0, 1]", "x is a tensor of .*sparse_coo; wanted"),
        ("torch.eye(2), torch.ones(2, device='meta')", "y is a meta tensor, without values"),
        ("np.array([[1, 2], None], object), [0, 1]", "has inputs of object"),
        ("np.eye(2), np.array([0, None])", r"targets of .* are object \(2,\); wanted numbers"),
        ("np.eye(2), ['a', 'b']", r"targets of .* are <U1 \(2,\); wanted numbers"),
        ("np.ma.masked_equal(np.eye(2), 0), [0, 1]", "x has masked values; wanted numbers"),
        ("None, None", "wanted numbers, one row an example"),
    ],
)
def test_what_users_return_is_refused_in_one_line(
    tmp_path: Path, returned: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        called(tmp_path, returned)
    assert "\n" not in str(caught.value)


def test_byte_targets(tmp_path: Path) -> None:
    """Images to be reproduced are treated as the inputs; all other bytes are numbers."""
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    half = NormaliseSpec(mean=(0.5,) * 3, std=(0.25,) * 3)

    def load(
        x: np.ndarray, y: np.ndarray, loss: str, norm: NormaliseSpec | None = None
    ) -> Subsample:
        np.savez(tmp_path / "a.npz", x=x, y=y)
        spec = DataSpec(source=str(tmp_path / "a.npz"), splits={"train": 3}, normalise=norm)
        return data.load(spec, None, loss)[0]

    for norm in (None, half):
        found = load(images, images, "mse", norm)
        np.testing.assert_array_equal(found.targets, found.inputs)
        assert found.inputs.shape == (3, 3, 4, 5)
        assert found.bytes_of_targets.startswith("bytes, treated as the inputs are: scaled to")
        assert found.bytes_of_targets.endswith(", normalised") == (norm is half)
    for loss in ("cross_entropy", "loss.py:own"):
        found = load(images, images, loss)
        np.testing.assert_array_equal(found.targets, images[found.indices])
        assert found.targets.dtype == np.int64
    found = load(images, images[:, 0, 0, 0], "mse")
    np.testing.assert_array_equal(found.targets, images[found.indices, 0, 0, 0])
    low, high = found.targets.min(), found.targets.max()
    assert found.bytes_of_targets == f"bytes from {low} to {high}, not scaled"
    assert not load(images, np.arange(3), "mse").bytes_of_targets
