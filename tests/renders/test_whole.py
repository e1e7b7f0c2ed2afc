"""Files and folders that are there whole or not at all, and what killed exports leave."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import LossatlasError
from renders.files.whole import checked_place, sweep, whole_file, whole_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.errors import LossatlasError
from renders.files import whole

path, kind, when = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if when == "replacing":  # between the two renames
    rename = Path.rename
    Path.rename = lambda a, b: (rename(a, b), os.kill(os.getpid(), signal.SIGKILL))
with getattr(whole, f"whole_{kind}")(path, LossatlasError) as partial:
    (partial / "x" if kind == "folder" else partial).write_text("new")
    if when == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed(path: Path, kind: str, when: str) -> list[str]:
    """An export that is killed; the names it leaves."""
    command = [sys.executable, "-c", KILLED, str(path), kind, when]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    return sorted(each.name for each in path.parent.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_export_takes_away_what_a_killed_one_left(tmp_path: Path, kind: str) -> None:
    (name,) = _killed(tmp_path / "f.mp4", kind, "writing")
    assert re.fullmatch(r"\.f\.mp4\.\d+\.partial", name)
    checked_place(tmp_path / "g.mp4", LossatlasError)
    assert (tmp_path / name).exists(), "it belongs to another export"
    checked_place(tmp_path / "f.mp4", LossatlasError)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_to_be_replaced_comes_back(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "map", LossatlasError) as folder:
        (folder / "x").write_text("old")
    left = _killed(tmp_path / "map", "folder", "replacing")
    assert [name.rpartition(".")[2] for name in left] == ["old", "partial"]
    sweep(tmp_path, "map")
    assert [path.name for path in tmp_path.iterdir()] == ["map"]
    assert (tmp_path / "map/x").read_text() == "old"


def test_what_a_living_export_writes_is_left_alone(tmp_path: Path) -> None:
    file, folder = tmp_path / "f.png", tmp_path / "map"
    with whole_file(file, LossatlasError) as one, whole_folder(folder, LossatlasError) as other:
        one.write_text("f")
        (other / "x").write_text("x")
        sweep(tmp_path, ".*")
        (tmp_path / ".f.png.1.partial").write_text("of a process that is dead")
        (tmp_path / ".f.png.x.partial").write_text("not ours")
        sweep(tmp_path, ".*")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"f.png", "map", ".f.png.x.partial"}
    assert (file.read_text(), (folder / "x").read_text()) == ("f", "x")
