"""Numbered frames: what is made, what is kept, and one scale over all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import LossatlasError
from pipeline.store.store import Store
from renders.film.frames import MANIFEST, export_frames
from renders.film.labels import Labels, labels_for
from tests.renders.films import SIZE, commit_frame, film_store
from tests.renders.said import said


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def test_frames_are_numbered_as_in_the_store(tmp_path: Path) -> None:
    made = export_frames(film_store(tmp_path), tmp_path / "frames", size=SIZE)
    assert (made.frames, made.made, made.kept) == (3, 3, 0)
    assert list(_files(tmp_path / "frames")) == [f"frame-0000{k}.png" for k in range(3)]
    with Image.open(tmp_path / "frames/frame-00001.png") as picture:
        assert picture.size == SIZE
    told = said(tmp_path / "frames/frame-00001.png")
    assert told["Description"] == "frame 1 of 3: epoch 1"


def test_a_second_run_keeps_what_is_there_and_mends_what_is_not(tmp_path: Path) -> None:
    url, folder = film_store(tmp_path), tmp_path / "frames"
    export_frames(url, folder, size=SIZE)
    before = _files(folder)
    (folder / "frame-00001.png").unlink()
    (folder / "frame-00002.png").write_bytes(b"torn")
    again = export_frames(url, folder, size=SIZE)
    assert (again.made, again.kept) == (2, 1)
    assert _files(folder) == before


def test_an_interrupted_run_keeps_the_frames_it_made(tmp_path: Path) -> None:
    url, folder = film_store(tmp_path), tmp_path / "frames"

    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_frames(url, folder, size=SIZE, workers=1, on_progress=stop)
    again = export_frames(url, folder, size=SIZE)
    assert again.kept >= 1
    assert again.made + again.kept == 3
    assert not list(folder.glob(".*"))


def test_other_settings_make_every_frame_again(tmp_path: Path) -> None:
    url, folder = film_store(tmp_path), tmp_path / "frames"
    export_frames(url, folder, size=SIZE)
    assert export_frames(url, folder, size=SIZE, contours=False).made == 3
    assert export_frames(url, folder, size=(340, 180), contours=False).made == 3


def test_unfinished_frames_are_hatched_and_made_again(tmp_path: Path) -> None:
    url, folder = film_store(tmp_path, finished=2), tmp_path / "frames"
    first = export_frames(url, folder, size=SIZE, limits=(0.1, 3.0))
    assert (first.frames, first.unfinished) == (3, 1)
    store = Store.open(url, writable=True)
    commit_frame(store, store.pending()[0])
    again = export_frames(url, folder, size=SIZE, limits=(0.1, 3.0))
    assert (again.made, again.kept, again.unfinished) == (1, 2, 0)


def test_one_scale_over_all_frames_whatever_is_shown(tmp_path: Path) -> None:
    """Frames that were made apart fit together, to the byte."""
    url = film_store(tmp_path)
    export_frames(url, tmp_path / "whole", size=SIZE)
    for first, last in ((0, 0), (1, 2)):
        export_frames(url, tmp_path / "parts", size=SIZE, first=first, last=last)
    assert _files(tmp_path / "parts") == _files(tmp_path / "whole")
    noted = json.loads((tmp_path / "whole" / MANIFEST).read_text())
    assert noted["tone"]["low"] == pytest.approx(0.2, abs=0.05)
    pictures = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "whole").glob("*.png"))]
    assert not np.array_equal(pictures[0], pictures[1])


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    url = film_store(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(LossatlasError, match="is a file"):
        export_frames(url, tmp_path / "file", size=SIZE)
    with pytest.raises(LossatlasError, match="is no folder"):
        export_frames(url, tmp_path / "none" / "frames", size=SIZE)
    with pytest.raises(LossatlasError, match="frames 2 to 7"):
        export_frames(url, tmp_path / "frames", size=SIZE, first=2, last=7)


def test_frames_of_a_training_are_called_by_their_epochs() -> None:
    names = [f"frame-{k:04d}" for k in range(3)]
    assert labels_for({"frames": names}, 3) == Labels("FRAME", ("0", "1", "2"), (0, 1, 2))
    found = labels_for({"frames": names, "epochs": [0, 12.5, 25]}, 3)
    assert found == Labels("EPOCH", ("0", "12.5", "25"), (0, 12.5, 25))
    assert found.decimals == 1
    found = labels_for({"frames": names, "epochs": [0, 1 / 3, 1200.0]}, 3)
    assert (found.names, found.decimals) == (("0", "0.33", "1,200"), 2)
