"""Whatever lies about in a store or in the folder of a training is no internal error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from cluster.cli import main
from pipeline.geometry.grid import Extent, Grid, Tile
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store.store import Store
from tests.cluster.landscape import lay_out

if TYPE_CHECKING:
    Put = Callable[[Path], None]

NOTES = (
    *("lease.json", "report.json", "job.json", "refine.json", "refine/copy.json"),
    *("quarantine/0.0.0.json", "quarantine/1.0.0.0.json", "precision/0.json"),
    *("costs/pass-0.json", "refine/audit-6.json", "refine/audit-6/0-0-0.json"),
)
CONTENTS = {
    "empty": b"",
    "binary": bytes(range(256)),
    "half": b'{"id": "x',
    "deep": b"[" * 100_000,
    "null": b"null",
    "number": b"3",
    "list": b"[[1], {}]",
    "object": b"{}",
    "wrong": json.dumps(
        {
            "id": 1,
            "reasons": 3,
            "sessions": [3, {}, {"seconds": "x", "workers": []}],
            "within": None,
            "points": "x",
            "errors": [[1], "x"],
            "left": -1,
            "ranks": {"x": 3},
            "digest": "x",
        }
    ).encode(),
}
STRAYS = (
    *("stray", "x.partial", "done/c/x", "done/c/0/0/99", "done/c/99/0/0", "done/c/0/0/²"),
    *("done/c/0/0/00", "done/c/0/0/0/1", "done/c/0/7", "loss/c/x", "loss/c/0/0/0/0.partial"),
    *(".lossatlas/quarantine/stray.txt", ".lossatlas/quarantine/9.9.9.json"),
    *(".lossatlas/quarantine/a/0.0.0.json", ".lossatlas/precision/x", ".lossatlas/costs/x"),
    *("evaluated/steps/c/0/0/0/0/99", "evaluated/steps/c/0/x/0/0/0"),
)
LOOKS = (["status"], ["status", "--json"], ["info"], ["info", "--json"], ["verify"])


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A render that is finished but for one tile, and needs no folder beside it."""
    folder = tmp_path_factory.mktemp("rendered")
    spec = lay_out(folder, width=6)
    assert main.run(["render", str(spec), "--executor", "serial", "--quiet"]) == 0
    store = Store.open(str(folder / "tiny.zarr"), writable=True)
    store.withdraw(Tile(0, 1, 1))
    return Path(store.url)


@pytest.fixture
def copied(rendered: Path, begun_store: Store, tmp_path: Path) -> Callable[[bool], Path]:
    """Makes a copy of a plain or of a refined store, neither of them finished."""

    def copy(refined: bool) -> Path:
        path = tmp_path / "copy.zarr"
        shutil.rmtree(path, ignore_errors=True)
        return shutil.copytree(begun_store.url if refined else rendered, path)

    return copy


def put(path: Path, content: bytes | None) -> None:
    """Put a file there, or a folder with something in it, in place of what is in the way."""
    for above in reversed(path.parents):
        if above.is_file():
            above.unlink()
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    folder = path.parent if content is not None else path
    folder.mkdir(parents=True, exist_ok=True)
    (path if content is not None else path / "inside").write_bytes(content or b"x")


def told(capsys: pytest.CaptureFixture[str], code: int, wanted: tuple[int, ...]) -> str:
    """What a command said, which is no surprise."""
    out, err = capsys.readouterr()
    assert code in wanted, err
    assert "internal error" not in err
    assert "Traceback" not in err + out
    if code == 2:
        assert err.startswith("lossatlas: ")
        assert err.count("\n") == 1
    return out + err


@pytest.mark.parametrize("content", [*CONTENTS, "folder"])
@pytest.mark.parametrize("refined", [False, True])
def test_notes_of_any_content_are_looked_at(
    copied: Callable[[bool], Path],
    capsys: pytest.CaptureFixture[str],
    content: str,
    refined: bool,
) -> None:
    store = copied(refined)
    for name in NOTES:
        put(store / ".lossatlas" / name, CONTENTS.get(content))
    for command in LOOKS:
        told(capsys, main.run([command[0], str(store), *command[1:]]), (0, 1))
    for command in ("logs", "stop"):
        address = ["--address", "http://127.0.0.1:9"]
        told(capsys, main.run([command, str(store), *address]), (2,))


@pytest.mark.parametrize(("refined", "content"), [(False, "list"), (True, "wrong")])
def test_a_render_goes_on_beside_notes_of_another_shape(
    copied: Callable[[bool], Path], capsys: pytest.CaptureFixture[str], refined: bool, content: str
) -> None:
    store = copied(refined)
    for name in NOTES:
        if name != "refine/copy.json":  # one of the two has to be whole
            put(store / ".lossatlas" / name, CONTENTS[content])
    resume = ["resume", str(store), "--executor", "serial", "--quiet"]
    told(capsys, main.run(resume), (0,))
    assert Store.open(str(store)).pending() == []
    told(capsys, main.run(["status", str(store)]), (0,))


def test_strays_are_no_tiles_and_in_nobodys_way(
    copied: Callable[[bool], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for refined in (False, True):
        for content in (b"stray", None):
            store = copied(refined)
            before = Store.open(str(store)).committed()
            for name in STRAYS:
                put(store / name, content)
            lost = {Tile(0, 0, 0)}  # whose commit one of them is put in place of
            assert Store.open(str(store)).committed() | lost == before | lost
            assert Store.open(str(store)).committed() <= before
            for command in LOOKS[:-1]:
                told(capsys, main.run([command[0], str(store), *command[1:]]), (0,))
            shutil.rmtree(store / "done/c/0/0/0", ignore_errors=True)
            code = main.run(["resume", str(store), "--executor", "serial", "--quiet"])
            told(capsys, code, (0, 2, 3))


@pytest.mark.parametrize("attribute", ["spec", "grid", "refined", "parts", "code", "splits"])
@pytest.mark.parametrize("value", [None, 3, "x", [1], {}, "missing"])
def test_metadata_of_another_shape_is_one_line(
    copied: Callable[[bool], Path], capsys: pytest.CaptureFixture[str], attribute: str, value: Any
) -> None:
    store = copied(False)
    content = json.loads((store / "zarr.json").read_text())
    content["attributes"][attribute] = value
    if value == "missing":
        del content["attributes"][attribute]
    (store / "zarr.json").write_text(json.dumps(content))
    for command in LOOKS:
        told(capsys, main.run([command[0], str(store), *command[1:]]), (0, 2))


@pytest.mark.parametrize("refined", [False, True])
def test_a_missing_chunk_is_not_drawn_without_a_word(
    rendered: Path,
    refined_store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    refined: bool,
) -> None:
    store = tmp_path / "copy.zarr"
    shutil.copytree(refined_store.url if refined else rendered, store)
    picture = ["export", "poster", str(store), str(tmp_path / "x.png"), "--width", "150"]
    assert main.run(picture) == 0
    capsys.readouterr()
    (store / "loss/c/0/0/0/1").unlink()
    assert "a chunk of finished tile 0/0/1 is missing: drawn as not computed" in told(
        capsys, main.run(picture), (0,)
    )
    out = told(capsys, main.run(["verify", str(store)]), (1,))
    assert "tile 0/0/1: loss/c/0/0/0/1 is missing" in out
    if not refined:  # whose tile is pending again, which is no damage
        assert main.run(picture) == 0


@pytest.mark.parametrize("content", ["gone", "binary"])
def test_lost_geometry_is_one_line(
    copied: Callable[[bool], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
) -> None:
    for name in ("extent/c/0/0", "anchor/c/0/0/0"):
        store = copied(False)
        (store / name).unlink()
        if content == "binary":
            put(store / name, CONTENTS["binary"])
        picture = ["export", "poster", str(store), str(tmp_path / "x.png"), "--width", "150"]
        for command in (picture, ["info", str(store)]):
            out = told(capsys, main.run(command), (2,))
            assert f"{name.partition('/')[0]} cannot be read (" in out


def test_a_grid_that_nothing_holds_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store = lay_out(tmp_path), tmp_path / "huge.zarr"
    grid = {"width": 200_000, "height": 200_000}
    for refine in ({}, {"evaluate": {"refine": {"tolerance": 0.01}}}):
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"grid": grid} | refine))
        for command in (["plan"], ["render", "--executor", "serial"]):
            code = main.run([command[0], str(path), *command[1:]])
            assert "points would take" in told(capsys, code, (2,))
    frame = FrameFacts(Extent(0, 1, 0, 1), (Anchor("θ", 0, 0, 0),), None)
    made = Store.create(str(store), Grid(**grid, tile=512), ["train"], ["loss"], [frame], {})
    made.commit(Tile(0, 0, 0), {"loss": np.ones((1, 512, 512), "f4")}, 1.0, 0)
    assert "1/152,881 tiles" in told(capsys, main.run(["status", str(store)]), (0,))
    told(capsys, main.run(["verify", str(store)]), (0,))
    for export in ("poster", "map", "relief"):
        code = main.run(["export", export, str(store), str(tmp_path / "out.png")])
        assert "GB of memory are free" in told(capsys, code, (2,))


def test_a_trainings_folder_of_any_content_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.cluster.test_training_commands import NETWORK

    x = np.random.default_rng(0).standard_normal((16, 2)).astype("f4")
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(16) % 2)
    data = {"source": "data.npz", "splits": {"train": 16}}
    common = {"network": NETWORK, "data": data, "frames": {"every": 1, "unit": "epoch"}}
    train = {"epochs": 1, "batch": 8, "lr": 0.1}
    ends = {"start": "1/mode.safetensors", "end": "2/mode.safetensors"}
    for command, name, more in (("fit", "1", {}), ("fit", "2", {}), ("connect", "curve", ends)):
        spec = (
            common | more | {"train": train | {"seed": len(name) + int(name == "2")}, "out": name}
        )
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(spec))
        assert main.run([command, str(tmp_path / f"{name}.yaml"), "--quiet"]) == 0
    capsys.readouterr()
    shutil.move(tmp_path / "curve", tmp_path / "whole")
    spec_path = str(tmp_path / "curve.yaml")
    for content in (*CONTENTS.values(), None):
        shutil.rmtree(tmp_path / "curve", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "curve")
        for name in ("state.safetensors", "frames/frame-0001.json", "training.json"):
            put(tmp_path / "curve" / name, content)
            if not name.startswith("state"):
                report = ["curve", spec_path, "--points", "3", "--frame", "1", "--quiet"]
                told(capsys, main.run(report), (2,))
            told(capsys, main.run(["connect", spec_path, "--quiet"]), (2,))
