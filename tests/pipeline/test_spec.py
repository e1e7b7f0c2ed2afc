from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import spec
from pipeline.refine_spec import stored_refine
from pipeline.spec import RenderSpec
from pipeline.spec_file import SpecError
from tests.bowl import write_bowl


def test_relative_paths_are_taken_from_the_specs_folder(bowl: Callable[..., RenderSpec]) -> None:
    read = bowl(store="runs/a.zarr", data={"source": "s3://bucket/x", "splits": {"train": 2}})
    folder = Path(read.plane.weights[0]).parent
    assert read.plane.weights[1] == str(folder / "b.safetensors")
    assert read.network.factory == f"{folder / 'bowl.py'}:Bowl"
    assert read.store == str(folder / "runs/a.zarr")
    assert read.data.source == "s3://bucket/x"


def test_the_frames_of_a_film_are_found_beside_the_spec(bowl: Callable[..., RenderSpec]) -> None:
    ends = ["a.safetensors", "b.safetensors"]
    folder = bowl(plane={"kind": "curve", "weights": ends, "frames": "frames/"}).plane
    assert Path(folder.frames) == Path(folder.weights[0]).parent / "frames"
    listed = bowl(plane={"kind": "curve", "weights": ends, "frames": ["x.pt", "y.pt"]}).plane
    assert [Path(f).parent for f in listed.frames] == [Path(w).parent for w in listed.weights]
    with pytest.raises(SpecError, match="kind: curve with frames wants start and end"):
        bowl(plane={"kind": "curve", "weights": ends[:1], "frames": "frames/"})


def test_a_spec_survives_json(bowl: Callable[..., RenderSpec]) -> None:
    read = bowl()
    assert spec.parse(read.model_dump(mode="json")) == read


def test_an_audit_that_can_never_pass_is_refused(bowl: Callable[..., RenderSpec]) -> None:
    with pytest.raises(SpecError) as told:
        bowl(evaluate={"loss": "mse", "refine": {"audit": 300}})
    assert (
        "evaluate.refine: refine.audit is 300: so few points can never show beyond: 0.002 at 95 % "
        "confidence, even if none of them is off; wanted audit: 1,497 or more, or a larger beyond"
    ) in str(told.value)
    with pytest.raises(SpecError, match=r"audit is 1,496: .* wanted audit: 1,497"):
        bowl(evaluate={"loss": "mse", "refine": {"audit": 1496}})
    fine = bowl(evaluate={"loss": "mse", "refine": {"audit": 1497}})
    # What a store was begun with is not refused now.
    content = fine.model_dump(mode="json")
    content["evaluate"]["refine"]["audit"] = 300
    with pytest.raises(SpecError):
        spec.parse(content)
    assert spec.stored(content, "a.zarr").evaluate.refine == stored_refine({"audit": 300})


def test_name_and_store_have_defaults(tmp_path: Path) -> None:
    path = write_bowl(tmp_path / "b")
    content = yaml.safe_load(path.read_text())
    del content["name"], content["store"]
    path.write_text(yaml.safe_dump(content))
    read = spec.read(path)
    assert read.name == "bowl"
    assert read.store == str(path.parent / "runs/bowl.zarr")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("gird", {}, "gird: unknown key; did you mean grid?"),
        ("grid.widht", 3, "grid.widht: unknown key; did you mean width?"),
        ("grid.width", 0, "grid.width: found 0"),
        ("grid.height", 2.5, "grid.height: found 2.5"),
        ("grid.tile", 0, "grid.tile"),
        ("plane.margn", 1, "plane.margn: unknown key; did you mean margin?"),
        ("plane.seed", 1, "plane.seed: unknown key; wanted one of kind, weights, margin, extent"),
        ("plane.kind", "pionts", "plane.kind: found 'pionts'; wanted one of points, curve"),
        ("plane.weights", ["a"], "plane.weights has 1 entries; kind: points wants three"),
        ("plane.extent", [1, 0, 0, 1], "empty or reversed"),
        ("plane.margin", -1, "plane.margin: found -1"),
        ("data.splits", {}, "data.splits"),
        ("data.splits", {"train": 0}, "data.splits.train: found 0"),
        ("data.normalise", {"mean": [1], "std": [0]}, "data.normalise: a std that is not positive"),
        ("data.normalise", {"mean": [1, 2], "std": [1]}, "2 means and 1 stds"),
        ("evaluate.quantities", [], "evaluate.quantities: an empty list"),
        ("evaluate.quantities", ["los"], "quantities has los, which loss: mse does not give"),
        ("evaluate.quantities", ["a-b"], "evaluate.quantities[0]: 'a-b' is no name of a quantity"),
        ("evaluate.quantities", ["done"], "evaluate.quantities[0]: done is the name of an array"),
        ("evaluate.quantities", ["mark_x"], "evaluate.quantities[0]: mark_x is the name of an"),
        ("evaluate.batch_norm", "train", "evaluate.batch_norm: found 'train'"),
        ("name", "a/b", "name: found 'a/b'"),
        ("plane.labels", ["a", "b"], "plane.labels has 2 entries; kind: points wants three"),
        ("plane.labels", ["a", "b", " a "], "plane.labels has a name twice (a, b, a)"),
        ("plane.labels", ["a", "b", "c" * 25], "plane.labels[2]: found 'ccc"),
        ("plane.labels", ["a", "b", 3], "plane.labels[2]: found 3"),
        ("network.label", "a\nb", "network.label: found the character U+000A in it; wanted text"),
        ("network.label", "a\u202eb", "network.label: found the character U+202E in it"),
        ("network.label", " ", "network.label: found nothing; wanted text of one line"),
        ("network.label", "a" * 61, "network.label: found 'aaa"),
        ("evaluate.unit", "mm", "unit is 'mm' with loss: mse, of which it is shown as mean"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, key: str, value: Any, expected: str) -> None:
    path = write_bowl(tmp_path / "b")
    content = yaml.safe_load(path.read_text())
    *parents, last = key.split(".")
    target = content
    for parent in parents:
        target = target[parent]
    target[last] = value
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SpecError) as error:
        spec.read(path)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("plane", "labels"),
    [
        ({"kind": "points", "weights": ["a", "b", "c"]}, ["SGD", "Adam", "RMSprop"]),
        ({"kind": "curve", "weights": ["a", "b", "c"]}, ["end", "start", "ネット"]),
        ({"kind": "curve", "frames": "f/"}, ["a", "b", "c"]),
        ({"kind": "random", "weights": ["a"]}, ["best"]),
    ],
)
def test_anchors_have_labels_on_every_kind_of_plane(
    bowl: Callable[..., RenderSpec], plane: dict[str, Any], labels: list[str]
) -> None:
    assert bowl(plane=plane | {"labels": labels}).plane.labels == tuple(labels)
    with pytest.raises(SpecError, match="plane.labels has 4 entries"):
        bowl(plane=plane | {"labels": ["1", "2", "3", "4"]})


def test_a_loss_of_ones_own_has_a_unit(bowl: Callable[..., RenderSpec]) -> None:
    assert bowl(evaluate={"loss": "own.py:loss", "unit": " mm² "}).evaluate.unit == "mm²"


def test_margin_and_extent_together_are_refused(bowl: Callable[..., RenderSpec]) -> None:
    weights = ["a.safetensors", "b.safetensors", "c.safetensors"]
    with pytest.raises(SpecError, match="both margin and extent"):
        bowl(plane={"kind": "points", "weights": weights, "margin": 0.1, "extent": [0, 1, 0, 1]})


def test_a_line_has_height_one(bowl: Callable[..., RenderSpec]) -> None:
    with pytest.raises(SpecError, match="kind: interpolation is a line and wants 1"):
        bowl(plane={"kind": "interpolation", "weights": ["a.safetensors", "b.safetensors"]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "is not YAML"),
        ("- 1\n- 2\n", "holds list"),
        ("", "holds NoneType"),
        ("name: a\nname: b\n", "name is written twice"),
    ],
)
def test_files_that_are_no_spec(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=expected):
        spec.read(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        spec.read(tmp_path / "none.yaml")


def _yaml(folder: Path, grid: str, kwargs: str = "{}") -> RenderSpec:
    path = write_bowl(folder)
    content = yaml.safe_load(path.read_text())
    del content["grid"], content["network"]
    network = f"network:\n  factory: bowl.py:Bowl\n  kwargs: {kwargs}\n"
    path.write_text(f"{yaml.safe_dump(content)}{network}grid: {grid}\n")
    return spec.read(path)


def test_merge_keys_and_anchors(tmp_path: Path) -> None:
    base = "&base {width: 3, height: 5}"
    read = _yaml(tmp_path, "{<<: {width: 3, height: 5}, height: 4}")
    assert (read.grid.width, read.grid.height) == (3, 4)
    kwargs = f"{{a: {base}, b: &two {{<<: *base, width: 4}}, c: {{<<: *two, width: 5}}}}"
    read = _yaml(tmp_path, "{<<: [*two, *base]}", kwargs)
    assert (read.grid.width, read.grid.height) == (4, 5)
    assert read.network.kwargs["c"] == {"width": 5, "height": 5}
    with pytest.raises(SpecError, match="grid.widht: unknown key; did you mean width"):
        _yaml(tmp_path, "{<<: {widht: 3}, width: 3, height: 5}")


@pytest.mark.parametrize(
    ("grid", "kwargs", "expected"),
    [
        ("{width: 3, width: 3, height: 5}", "{}", "is not YAML: width is written twice"),
        ("{<<: {width: 1, width: 2}, height: 5}", "{}", "width is written twice"),
        ("{<<: 3, width: 3, height: 5}", "{}", "expected a mapping or list of mappings for merg"),
        ("{<<: *none, width: 3}", "{}", "found undefined alias"),
        ("{width: 3, height: 5}", "&k {<<: *k}", r"\*k stands inside of &k"),
        ("{width: 3, height: 5}", "&k {a: *k}", r"\*k stands inside of &k"),
        ("{width: 3, height: 5}", "{a: &k [[*k]]}", r"\*k stands inside of &k"),
        ("[" * 3000 + "]" * 3000, "{}", "is nested too deeply"),
        ("{width: 3, height: 5}", "{a: [{b: !!binary /w==}]}", r"a\[0\]\.b is a bytes; wanted"),
        ("{width: 3, height: 5}", "{a: 2026-11-28}", "a is a date; wanted text.* in quotes"),
        ("{width: 3, height: 5}", "{a: !!set {x, y}}", "a is a set; wanted text"),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, grid: str, kwargs: str, expected: str) -> None:
    with pytest.raises(SpecError, match=expected) as caught:
        _yaml(tmp_path, grid, kwargs)
    assert "\n" not in str(caught.value)
