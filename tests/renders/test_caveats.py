"""What a picture says of itself, so that nobody believes more of it than is so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cluster.cli import main
from pipeline.store.store import Store
from renders.film.frames import export_frames
from renders.map.tone import fit_tone
from renders.page.caveats import clipped, coarse
from renders.poster import export_poster
from tests.renders.said import said
from tests.renders.surfaces import landscape

SIGNS = np.sin(np.arange(24 * 32)).reshape(24, 32)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((3, 3), "3 × 3 points: smooth between them by interpolation alone"),
        ((3, 500), "500 × 3 points: smooth between them by interpolation alone"),
        ((1, 15), "15 points: smooth between them by interpolation alone"),
        ((16, 16), ""),
        ((1, 16), ""),
    ],
)
def test_a_grid_too_coarse_to_believe_says_so(shape: tuple[int, int], told: str) -> None:
    assert coarse(*shape) == told


def test_a_forced_logarithm_says_what_it_clips() -> None:
    assert clipped(fit_tone([SIGNS])) == ""
    below = int((SIGNS <= 0).sum())
    assert (
        clipped(fit_tone([SIGNS], how="log")) == f"{below} values of 0 or less drawn as the lowest"
    )
    one = fit_tone([np.array([0.0, 1.0, 2.0])], how="log")
    assert clipped(one) == "1 value of 0 or less drawn as the lowest"


def description(png: Path) -> str:
    return said(png)["Description"]


def test_posters_say_it(
    make_store: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, out = make_store(SIGNS[:9, :9]), tmp_path / "a.png"
    small = ("--width", "300")
    assert main.run(["export", "poster", store, str(out), *small]) == 0
    told = description(out)
    assert "9 × 9 points: smooth between them by interpolation alone" in told
    assert "colours linear" in told
    assert capsys.readouterr().err == ""
    assert main.run(["export", "relief", store, str(out), *small, "--tone", "log"]) == 0
    below = int((SIGNS[:9, :9] <= 0).sum())
    assert f"{below} values of 0 or less drawn as the lowest" in description(out)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"lossatlas: {below} values are 0 or less and have no logarithm: drawn as the lowest. "
        "A linear tone shows them: --tone linear"
    )


def test_a_chunk_that_has_gone_missing_is_told(
    make_store: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = landscape(24, 32)
    values[:8, :8] = np.nan  # a tile that diverged: its chunk is there
    store, out = make_store(values), tmp_path / "a.png"
    small = ("--width", "300")
    assert main.run(["export", "poster", store, str(out), *small]) == 0
    assert main.run(["status", store]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "missing" not in captured.out
    whole = export_frames(store, tmp_path / "frames", size=(320, 240))
    assert (whole.made, whole.kept, whole.remarks) == (1, 0, ())

    for column in (1, 3):
        Path(store, "loss", "c", "0", "0", "2", str(column)).unlink()
    told = (
        "chunks of 2 finished tiles are missing (0/2/1, 0/2/3): drawn as not computed. Put them "
        f"back to pending with lossatlas verify {store}, then lossatlas resume {store}"
    )
    assert main.run(["export", "poster", store, str(out), *small]) == 0
    assert told in capsys.readouterr().err
    assert "83 % computed" in description(out)
    facts = export_poster(store, out, width=300, split="test")
    assert facts.remarks == ()
    assert (
        main.run(["export", "map", store, str(tmp_path / "map"), "--width", "256", "--offline"])
        == 0
    )
    assert told in capsys.readouterr().err
    # A frame that was drawn without them is drawn again when they are back.
    made = export_frames(store, tmp_path / "frames", size=(320, 240))
    assert (made.made, made.unfinished, made.remarks) == (1, 1, (told,))

    assert main.run(["status", store]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith(
            "  missing  chunks of 2 finished tiles are missing (0/2/1, 0/2/3). Put them"
        )
        for line in lines
    )
    assert main.run(["status", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == ["0/2/1", "0/2/3"]
    assert main.run(["verify", store]) == 1
    assert len(Store.open(store).pending()) == 2


def test_status_lists_once_and_pictures_only_where_a_tile_is_all_nan(
    make_store: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, listed = make_store(landscape(24, 32)), list[str]()
    look = Store._tiles_in

    def counted(self: Store, path: str, folders: list[str]) -> object:
        listed.extend(folders)
        return look(self, path, folders)

    monkeypatch.setattr(Store, "_tiles_in", counted)
    assert main.run(["export", "poster", url, str(tmp_path / "a.png"), "--width", "300"]) == 0
    assert {folder.partition("/")[0] for folder in listed} == {"done"}
    listed.clear()
    assert main.run(["status", url]) == 0
    assert listed == ["done/c/", "loss/c/0/0/", "loss/c/1/0/"]


def test_where_every_chunk_is_gone_that_is_what_is_said(
    make_store: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = make_store(landscape(8, 8))
    Path(url, "loss", "c", "0", "0", "0", "0").unlink()
    assert main.run(["export", "poster", url, str(tmp_path / "a.png")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a chunk of finished tile 0/0/0 is missing; wanted one to draw" in line
