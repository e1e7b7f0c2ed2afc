"""Data: every kind of source, the draw's properties, and everything that has to be refused."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.problem import usercode
from pipeline.problem.data import DataError, Subsample, draw, load
from pipeline.problem.parquet import Parquet
from pipeline.spec import DataSpec, NormaliseSpec
from pipeline.url import UnreachableError

EXAMPLE = Path(__file__).parents[2] / "examples/mode-connectivity/cifar10"


def spec(source: object, /, **given: Any) -> DataSpec:
    """Splits as keyword arguments; select, seed and normalise too."""
    options = {key: given.pop(key) for key in ("select", "seed", "normalise") if key in given}
    return DataSpec(source=str(source), splits=given, **({"select": "head"} | options))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def pictures(count: int, shape: tuple[int, ...] = (5, 4, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_parquet(path: Path, pixels: np.ndarray, labels: Any, **columns: Any) -> Path:
    cells = [{"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(pixels)]
    table = pa.table(columns or {"img": cells, "label": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)
    return path


def scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


def check(found: Subsample, pixels: np.ndarray, labels: Any) -> None:
    np.testing.assert_array_equal(found.inputs, scaled(pixels)[found.indices])
    np.testing.assert_array_equal(found.targets, np.asarray(labels)[found.indices])
    assert found.inputs.dtype == np.float32
    assert found.targets.dtype == found.indices.dtype == np.int64
    assert found.inputs.flags.c_contiguous


# --- the draw -------------------------------------------------------------------------------

labels_ = st.lists(st.integers(-3, 12), min_size=1, max_size=120).map(np.array)


@settings(deadline=None)
@given(labels=labels_, seed=st.integers(0, 2**64), cut=st.floats(0, 1))
def test_a_draw_is_nested_proportional_and_whole(labels: np.ndarray, seed: int, cut: float) -> None:
    total = len(labels)
    whole = draw(labels, total, seed, "train")
    assert sorted(whole.tolist()) == list(range(total))
    part = draw(labels, int(cut * total), seed, "train")
    np.testing.assert_array_equal(part, whole[: len(part)])
    drawn = labels[whole]
    for label in set(labels.tolist()):
        counts = np.cumsum(drawn == label)
        expected = np.arange(1, total + 1) * (labels == label).sum() / total
        assert np.abs(counts - expected).max() < 1


def test_a_large_class_among_single_ones_stays_proportional() -> None:
    """Sorting by (k + 1/2) / count would draw all nine single ones together: off by over four."""
    labels = np.array([0] * 1000 + list(range(1, 10)))
    drawn = labels[draw(labels, 1009, 0, "train")] == 0
    assert np.abs(np.cumsum(drawn) - np.arange(1, 1010) * 1000 / 1009).max() < 1


@settings(deadline=None)
@given(count=st.integers(0, 50), seed=st.integers(0, 2**32))
def test_targets_without_classes_are_permuted(count: int, seed: int) -> None:
    for labels in (np.zeros(50, np.float32), np.zeros((50, 2), np.int64)):
        part = draw(labels, count, seed, "x")
        np.testing.assert_array_equal(part, draw(labels, 50, seed, "x")[:count])
        assert len(set(part.tolist())) == count


def test_a_draw_depends_on_seed_and_split_alone() -> None:
    labels = np.arange(200) % 7
    first = draw(labels, 50, 0, "train")
    np.testing.assert_array_equal(first, draw(labels, 50, 0, "train"))
    assert not np.array_equal(first, draw(labels, 50, 1, "train"))
    assert not np.array_equal(first, draw(labels, 50, 0, "test"))
    # A change here would change every stored subsample.
    assert draw(np.arange(20) % 3, 6, 0, "train").tolist() == [12, 10, 17, 9, 4, 14]


# --- sources --------------------------------------------------------------------------------


def test_parquet_of_several_row_groups_and_shards(tmp_path: Path) -> None:
    pixels, labels = pictures(10), list(range(10))
    write_parquet(tmp_path / "train-00000-of-00002.parquet", pixels[:7], labels[:7])
    write_parquet(tmp_path / "train-00001-of-00002.parquet", pixels[7:], labels[7:])
    write_parquet(tmp_path / "test.parquet", pixels[::-1][:4], [3, 3, 3, 3])
    train, test = load(spec(tmp_path, train=9, test=2, select="stratified"))
    assert (train.name, test.name) == ("train", "test")
    check(train, pixels, labels)
    check(test, pixels[::-1], [3] * 4)
    head, _ = load(spec(tmp_path, train=9, test=2))
    assert head.indices.tolist() == list(range(9))
    check(head, pixels, labels)


def test_splits_come_in_the_order_asked_for(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", pictures(2), [0, 1])
    write_parquet(tmp_path / "b.parquet", pictures(2), [0, 1])
    assert [s.name for s in load(spec(tmp_path, b=1, a=2))] == ["b", "a"]


@pytest.mark.parametrize(
    ("image", "label", "raw"),
    [("image", "label", False), ("img", "y", True), ("image", "fine_label", True)],
)
def test_column_names(tmp_path: Path, image: str, label: str, raw: bool) -> None:
    pixels = pictures(3)
    cells = [png(p) if raw else {"bytes": png(p), "path": None} for p in pixels]
    columns: dict[str, Any] = {"coarse": [9, 9, 9], label: [0, 1, 2], image: cells}
    path = write_parquet(tmp_path / "some.parquet", pixels, None, **columns)
    (found,) = load(spec(path, train=3))
    check(found, pixels, [0, 1, 2])


def test_labels_are_read_before_images_and_only_chosen_images_are_decoded(tmp_path: Path) -> None:
    pixels = pictures(40)
    labels = (np.arange(40) % 4).tolist()
    chosen = draw(np.array(labels), 8, 3, "train")
    cells = [png(p) if i in chosen else b"not an image" for i, p in enumerate(pixels)]
    path = write_parquet(tmp_path / "x.parquet", pixels, None, img=cells, label=labels)
    (found,) = load(spec(path, train=8, select="stratified", seed=3))
    np.testing.assert_array_equal(found.indices, chosen)
    check(found, pixels, labels)


def test_nothing_but_labels_is_read_before_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for name in ("targets", "inputs"):
        method = getattr(Parquet, name)

        def spy(self: Any, *args: Any, name: str = name, method: Any = method) -> Any:
            order.append(name)
            return method(self, *args)

        monkeypatch.setattr(Parquet, name, spy)
    load(spec(EXAMPLE, train=8, select="stratified"))
    assert order == ["targets", "inputs"]


def test_folders_of_images(tmp_path: Path) -> None:
    pixels = pictures(5)
    for i, folder in enumerate(["dog", "cat", "cat", "ape", "dog"]):
        path = tmp_path / "train" / folder / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels[i]))
    (tmp_path / "train/.DS_Store").write_text("")
    (tmp_path / "train/cat/notes.txt").write_text("")
    (found,) = load(spec(tmp_path, train=5))
    order = [3, 1, 2, 0, 4]
    check(found, pixels[order], [0, 1, 1, 2, 2])
    (alone,) = load(spec(tmp_path / "train", any=5))
    assert alone.digest == found.digest
    (some,) = load(spec(tmp_path, train=3, select="stratified"))
    assert sorted(some.targets.tolist()) == [0, 1, 2]


def test_grey_and_palette_images(tmp_path: Path) -> None:
    pixels = pictures(2, (6, 3))
    path = write_parquet(tmp_path / "x.parquet", pixels, [0, 1])
    (found,) = load(spec(path, train=2))
    np.testing.assert_array_equal(found.inputs[:, 0], pixels.astype(np.float32) / 255)
    assert found.inputs.shape == (2, 1, 6, 3)
    file = io.BytesIO()
    Image.fromarray(pictures(1)[0]).convert("P").save(file, format="PNG")
    path = write_parquet(tmp_path / "p.parquet", pixels, None, img=[file.getvalue()], label=[0])
    assert load(spec(path, train=1))[0].inputs.shape == (1, 3, 5, 4)


@pytest.mark.parametrize(
    ("x", "shape", "dtype"),
    [
        (pictures(4, (6, 5, 3)), (4, 3, 6, 5), np.float32),
        (pictures(4, (3, 6, 5)), (4, 3, 6, 5), np.float32),
        (pictures(4, (3, 6, 4)), (4, 4, 3, 6), np.float32),
        (pictures(4, (6, 5)), (4, 1, 6, 5), np.float32),
        (pictures(4, (12,)), (4, 12), np.float32),
        (np.zeros((4, 5, 4, 3)), (4, 3, 5, 4), np.float32),
        (np.zeros((4, 3, 5, 4)), (4, 3, 5, 4), np.float32),
        (np.zeros((4, 3, 5, 3)), (4, 3, 5, 3), np.float32),
        (np.zeros((4, 7), np.float16), (4, 7), np.float32),
        (np.zeros((4, 9), np.int32), (4, 9), np.int64),
        (np.zeros(4), (4,), np.float32),
    ],
)
def test_arrays(tmp_path: Path, x: np.ndarray, shape: tuple[int, ...], dtype: type) -> None:
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(4, dtype=np.int32))
    (found,) = load(spec(tmp_path / "a.npz", any=4))
    assert found.inputs.shape == shape
    assert found.inputs.dtype == dtype
    assert found.targets.dtype == np.int64
    if x.dtype == np.uint8:
        assert found.inputs.max() > 0.9
        np.testing.assert_allclose(np.sort(found.inputs.ravel() * 255), np.sort(x.ravel()), 1e-6)


def test_named_arrays(tmp_path: Path) -> None:
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6) % 2
    np.savez(tmp_path / "a.npz", train_x=x, train_y=y, x_test=x[:3], y_test=y[:3])
    train, test = load(spec(tmp_path / "a.npz", train=6, test=3))
    assert (len(train.inputs), len(test.inputs)) == (6, 3)
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "folder/train.npz", x=x, y=y)
    np.savez(tmp_path / "folder/test.npz", test_x=x, test_y=y)
    again, _ = load(spec(tmp_path / "folder", train=6, test=1))
    assert again.digest == train.digest


def test_regression_targets(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((5, 2)), y=np.ones((5, 3)))
    (found,) = load(spec(tmp_path / "a.npz", any=4, select="stratified"))
    assert found.targets.dtype == np.float32
    assert found.targets.shape == (4, 3)


def test_user_code(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "def make(split):\n"
        "    if split == 'odd': return 1\n"
        "    return np.full((3, 2), len(split)), np.array([0, 1, 0])\n"
    )
    wanted = spec(f"{file}:make", train=3)
    code = usercode.source_of(wanted.source)
    assert code is not None
    assert usercode.source_of(str(tmp_path)) is None
    file.unlink()
    (found,) = load(wanted, code)
    assert found.inputs.tolist() == [[5, 5]] * 3
    assert found.inputs.dtype == np.int64
    with pytest.raises(DataError, match=r"mine.py:make\('odd'\) returned int; wanted two arrays"):
        load(spec(f"{file}:make", odd=3), code)
    file.write_text("def make(split):\n    raise KeyError(split)\n")
    with pytest.raises(DataError, match=r"raised KeyError: 'train' \(mine.py line 2\)"):
        load(wanted)


def test_urls(tmp_path: Path) -> None:
    pixels = pictures(4)
    local = write_parquet(tmp_path / "train.parquet", pixels, [0, 1, 2, 3])
    with fsspec.open("memory://bucket/set/train.parquet", "wb") as file:
        file.write(local.read_bytes())
    for i, image in enumerate(pixels):
        with fsspec.open(f"memory://bucket/images/train/{i % 2}/{i}.png", "wb") as file:
            file.write(png(image))
    for place in ("memory://bucket/set", "memory://bucket/set/train.parquet"):
        check(load(spec(place, train=4))[0], pixels, [0, 1, 2, 3])
    check(load(spec("memory://bucket/images", train=4))[0], pixels[[0, 2, 1, 3]], [0, 0, 1, 1])
    with pytest.raises(DataError, match="does not exist"):
        load(spec("memory://bucket/none", train=4))
    with pytest.raises(DataError, match="cannot be read"):
        load(spec("nosuchscheme://bucket", train=4))


def test_normalisation_and_the_digest_before_it(tmp_path: Path) -> None:
    pixels = pictures(6)
    path = write_parquet(tmp_path / "x.parquet", pixels, [0] * 6)
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    (plain,) = load(spec(path, train=6))
    (found,) = load(spec(path, train=6, normalise=NormaliseSpec(mean=mean, std=std)))
    axes = (slice(None), None, None)
    expected = (scaled(pixels) - np.array(mean, np.float32)[axes]) / np.array(std, np.float32)[axes]
    np.testing.assert_array_equal(found.inputs, expected)
    assert found.digest == plain.digest
    np.savez(tmp_path / "v.npz", x=np.full((2, 4), 51, np.uint8), y=[0, 1])
    one = NormaliseSpec(mean=(0.2,), std=(0.5,))
    assert np.allclose(load(spec(tmp_path / "v.npz", a=2, normalise=one))[0].inputs, 0)


def test_the_digest_tells_rows_pixels_and_targets_apart(tmp_path: Path) -> None:
    pixels = pictures(3)
    changed = pixels.copy()
    changed[1, 0, 0, 0] ^= 1
    digests = set()
    for i, (images, labels, count) in enumerate(
        [
            (pixels, [0, 1, 2], 3),
            (changed, [0, 1, 2], 3),
            (pixels, [0, 1, 1], 3),
            (pixels, [0] * 3, 2),
        ]
    ):
        path = write_parquet(tmp_path / f"{i}.parquet", images, labels)
        digests.add(load(spec(path, train=count))[0].digest)
    assert len(digests) == 4


def test_the_digest_tells_shapes_and_choices_apart(tmp_path: Path) -> None:
    """The same numbers as vectors and as sequences of them, and the same ones from other rows."""
    labels = np.arange(8) % 2
    vectors = np.arange(8 * 6, dtype="f4").reshape(8, 6)
    np.savez(tmp_path / "vectors.npz", x=vectors, y=labels)
    np.savez(tmp_path / "sequences.npz", x=vectors.reshape(8, 2, 3), y=labels)
    found = [load(spec(tmp_path / f"{n}.npz", train=8))[0] for n in ("vectors", "sequences")]
    np.testing.assert_array_equal(found[0].indices, found[1].indices)
    assert found[0].digest != found[1].digest
    np.savez(tmp_path / "alike.npz", x=np.zeros((8, 6), "f4"), y=np.zeros(8, int))
    one, other = (
        load(spec(tmp_path / "alike.npz", train=4, select="stratified", seed=seed))[0]
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(one.inputs, other.inputs)
    assert one.indices.tolist() != other.indices.tolist()
    assert one.digest != other.digest


def test_the_example_is_whole() -> None:
    train, test = load(spec(EXAMPLE, train=512, test=512, select="stratified"))
    for found in (train, test):
        assert found.inputs.shape == (512, 3, 32, 32)
        assert set(found.targets.tolist()) == set(range(10))
        assert 0.4 < found.inputs.mean() < 0.55


# --- what is refused ------------------------------------------------------------------------


def refused(message: str, source: object, **given: Any) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(spec(source, **(given or {"train": 2})))
    assert "\n" not in str(caught.value)


def test_sources_and_splits_that_are_not_there(tmp_path: Path) -> None:
    refused("does not exist; wanted a folder, a .parquet", tmp_path / "gone")
    refused("has no split train; .* Found nothing", tmp_path)
    write_parquet(tmp_path / "test.parquet", pictures(2), [0, 1])
    refused(r"has no split train; wanted train\.parquet.*Found test$", tmp_path)
    write_parquet(tmp_path / "val-0.parquet", pictures(2), [0, 1])
    refused("has no split train; .* Found test, val$", tmp_path, train=1, test=1)
    refused(
        r"test.parquet is one file and data.splits names several",
        tmp_path / "test.parquet",
        a=1,
        b=1,
    )
    (tmp_path / "a.csv").write_text("x,y")
    refused(r"a.csv is of no known kind; wanted .parquet, .npz or .bin", tmp_path / "a.csv")


def test_a_folder_with_one_set_is_that_of_any_single_split(tmp_path: Path) -> None:
    write_parquet(tmp_path / "birds-0.parquet", pictures(2), [0, 1])
    write_parquet(tmp_path / "birds-1.parquet", pictures(2), [0, 1])
    assert len(load(spec(tmp_path, train=4))[0].inputs) == 4
    refused("has no split train", tmp_path, train=1, test=1)
    (tmp_path / "cats").mkdir()
    refused("has no split train; .* Found birds, cats", tmp_path)


def test_two_kinds_of_one_split(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(2), [0, 1])
    np.savez(tmp_path / "train.npz", x=[0.0], y=[0])
    refused("holds train.npz, train.parquet; wanted one kind", tmp_path)
    (tmp_path / "train.npz").unlink()
    write_parquet(tmp_path / "train-0.parquet", pictures(2), [0, 1])
    refused("holds train-0.parquet, train.parquet; wanted one kind", tmp_path)


def test_more_than_there_is(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", pictures(3), [0, 1, 2])
    for select in ("head", "stratified"):
        message = r"data.splits.train asks for 5,000 examples and .*x.parquet has 3; .* Lower"
        refused(message, path, train=5000, select=select)
    empty = write_parquet(tmp_path / "e.parquet", pictures(1)[:0], pa.array([], pa.int64()))
    refused("e.parquet holds no examples; wanted 2", empty)
    np.savez(tmp_path / "e.npz", x=np.zeros((0, 2)), y=np.zeros(0, int))
    refused("e.npz holds no examples", tmp_path / "e.npz")


@pytest.mark.parametrize("keep", [0, 6, 300, -1])
def test_truncated_parquet(tmp_path: Path, keep: int) -> None:
    path = write_parquet(tmp_path / "x.parquet", pictures(9), [0] * 9)
    path.write_bytes(path.read_bytes()[:keep])
    refused("x.parquet is not a whole parquet file", path)


def test_parquet_with_a_broken_page(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", pictures(9), [0] * 9)
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    refused("x.parquet is not a whole parquet file", path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": [b""] * 2}, "has columns img; wanted label or y or fine_label"),
        ({"label": [0, 1]}, "has columns label; wanted img or image"),
        ({"img": [b""] * 2, "label": [0, None]}, "label has empty rows"),
        ({"img": [b""] * 2, "label": ["a", "b"]}, "label is string; wanted whole numbers"),
        ({"img": ["a", "b"], "label": [0, 1]}, "row 0 holds str; wanted an encoded image"),
        ({"img": [None, None], "label": [0, 1]}, "row 0 holds NoneType; wanted an encoded"),
        ({"img": [b"GIF89a.."] * 2, "label": [0, 1]}, "x.parquet row 0 cannot be decoded"),
        ({"img": [b""] * 2, "label": [0, 1]}, "x.parquet row 0 cannot be decoded"),
        ({"img": [png(pictures(1)[0])[:-40]] * 2, "label": [0, 1]}, "row 0 cannot be decoded"),
        ({"img": [b""] * 2, "label": [0.5, float("inf")]}, "targets of .* NaN or inf in row 1"),
    ],
)
def test_columns_that_are_wrong(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    refused(message, write_parquet(tmp_path / "x.parquet", pictures(2), None, **columns))


def test_images_of_several_sizes_or_depths(tmp_path: Path) -> None:
    cells = [png(pictures(1)[0]), png(pictures(1, (5, 6, 3))[0])]
    path = write_parquet(tmp_path / "x.parquet", pictures(2), None, img=cells, label=[0, 1])
    refused(r"x.parquet row 1 is 6×5 with 3 channels and the first image 4×5 with 3", path)
    deep = io.BytesIO()
    Image.fromarray(np.full((5, 4), 40_000, np.uint16)).save(deep, format="PNG")
    path = write_parquet(
        tmp_path / "d.parquet", pictures(1), None, img=[deep.getvalue()], label=[0]
    )
    refused("d.parquet row 0 is an image of mode I.*; wanted 8 bits a channel", path, train=1)


def test_image_folders_that_are_wrong(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).write_bytes(png(pictures(1)[0]))
    (tmp_path / "train/b/2.png").write_bytes(png(pictures(1, (7, 4, 3))[0]))
    refused(r"train/b/2.png is 4×7 with 3 channels and the first image 4×5", tmp_path, train=3)
    (tmp_path / "train/c").mkdir()
    refused("holds no image in c; wanted a folder of images for each class", tmp_path)
    (tmp_path / "train/stray.png").write_bytes(b"")
    refused("holds stray.png outside any class", tmp_path)
    (tmp_path / "test").mkdir()
    refused("holds no image in .*test; wanted a folder", tmp_path, test=1)


def test_arrays_that_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    bad: list[tuple[dict[str, Any], str]] = [
        (
            {"x": np.zeros((3, 2))},
            "a.npz holds x; wanted train_x, train_y or x_train, y_train or x, y for split",
        ),
        (
            {"x": np.zeros((3, 2)), "y": np.zeros(4, int)},
            r"inputs of float64 \(3, 2\) and 4 targets",
        ),
        (
            {"x": np.zeros((3, 2), object), "y": np.zeros(3, int)},
            "x cannot be read .*without objects",
        ),
        ({"x": np.zeros((3, 2)), "y": np.array([{}, 1, 2])}, "y cannot be read .*without objects"),
        (
            {"x": np.zeros((3, 2)), "y": np.array(["a", "b", "c"])},
            r"targets .* are <U1 \(3,\); wanted",
        ),
        ({"x": np.array([["a"], ["b"], ["c"]]), "y": np.zeros(3, int)}, "inputs .* are <U1"),
        ({"x": np.array([[1], [np.nan], [1]]), "y": np.zeros(3, int)}, "inputs .* inf in row 1;"),
        ({"x": np.zeros((3, 2)), "y": np.array([0, np.nan, 0])}, "targets .* inf in row 1;"),
        ({"x": np.zeros((3, 2)), "y": np.float32(1)}, r"targets .* are float32 \(\); wanted"),
    ]
    for arrays, message in bad:
        np.savez(path, **arrays)
        refused(message, path)
    np.savez(path, x=np.zeros((3, 2)), y=np.zeros(3, int))
    refused("holds x, y; wanted train_x, train_y or x_train, y_train for", path, train=1, test=1)
    path.write_bytes(path.read_bytes()[:-30])
    refused("a.npz is not a whole .npz file", path)
    path.write_bytes(b"")
    refused("a.npz is not a whole .npz file", path)
    path.write_bytes(pickle.dumps({"x": 1}))
    refused("a.npz is not a whole .npz file", path)
    np.save(tmp_path / "b.npy", np.zeros(3))
    (tmp_path / "b.npy").rename(path)
    refused("a.npz is not a whole .npz file", path)


def test_normalisations_that_do_not_fit(tmp_path: Path) -> None:
    three = NormaliseSpec(mean=(0.5,) * 3, std=(0.5,) * 3)
    path = write_parquet(tmp_path / "x.parquet", pictures(2, (6, 3)), [0, 1])
    refused(
        "normalise has 3 channels and the inputs of .*x.parquet have 1",
        path,
        train=2,
        normalise=three,
    )
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 3), int), y=np.zeros(3, int))
    refused(
        "are whole numbers; wanted images or vectors", tmp_path / "a.npz", train=2, normalise=three
    )


class Failing(io.BytesIO):
    """A file of a remote file system, or of a disk, that fails when it is read."""

    def __init__(self, error: Exception) -> None:
        super().__init__(b"PAR1" + bytes(100) + b"PAR1")
        self._error = error

    def read(self, size: int | None = -1) -> bytes:
        raise self._error


@pytest.mark.parametrize(
    ("place", "error", "kind", "told"),
    [
        (
            "s3://b/x.parquet",
            TimeoutError("no answer"),
            UnreachableError,
            "be reached .no answer",
        ),
        ("s3://b/x.parquet", PermissionError(13, "no"), UnreachableError, "cannot be reached"),
        ("s3://b/x.parquet", OSError("Couldn't deserialize"), DataError, "is not a whole parquet"),
        ("x.parquet", PermissionError(13, "Permission denied"), DataError, "be read .Permission d"),
        ("x.parquet", OSError(5, "Input/output error"), DataError, "cannot be read .Input/output"),
    ],
)
def test_a_parquet_file_that_cannot_be_had_is_not_called_broken(
    place: str, error: Exception, kind: type[Exception], told: str
) -> None:
    class Files:
        def open(self, path: str, mode: str) -> Failing:
            return Failing(error)

    with pytest.raises(kind, match=told):
        Parquet(place, Files(), ("b/x.parquet",)).targets()
