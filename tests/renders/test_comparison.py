"""Landscapes side by side: equal colours are equal values."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.cli import main
from pipeline.errors import LossatlasError
from renders.comparison import comparison_page, export_comparison
from renders.map.tone import fit_tone
from renders.page.theme import LIGHT
from renders.page.words import Style
from renders.source.provenance import Provenance
from tests.renders.sheets import words_on
from tests.renders.surfaces import landscape, surface_of

MakeStore = Callable[..., str]


@pytest.fixture
def two(make_store: MakeStore, tmp_path: Path) -> list[str]:
    """The second is ten times the first."""
    urls = []
    for name, times in (("low", 1), ("high", 10)):
        url = make_store(times * landscape(12, 16))
        shutil.move(url, tmp_path / f"{name}.zarr")
        urls.append(str(tmp_path / f"{name}.zarr"))
    return urls


def test_one_tone_serves_all(two: list[str], tmp_path: Path) -> None:
    made = export_comparison(two, tmp_path / "both.png", width=900)
    values = landscape(12, 16).astype(np.float32)
    expected = fit_tone([values, 10 * values]).to_dict()
    assert made.tone["low"] == pytest.approx(expected["low"])
    assert made.tone["high"] == pytest.approx(expected["high"])
    with Image.open(tmp_path / "both.png") as image:
        assert image.size == (900, made.height)
        left, right = (np.asarray(image.convert("RGB"))[100:250, x : x + 200] for x in (80, 520))
    assert np.abs(left.mean(axis=(0, 1)) - right.mean(axis=(0, 1))).max() > 20


def test_small_print_that_holds_for_all_is_printed_once() -> None:
    surfaces = [surface_of(landscape(12, 16)), surface_of(landscape(30, 20))]
    facts = [
        Provenance(name=name, network="PreResNet-20", grid=grid)
        for name, grid in (("first", "16 × 12"), ("second", "20 × 30"))
    ]
    tone = fit_tone([surface.values for surface in surfaces])
    page = comparison_page(surfaces, tone, facts, Style(LIGHT, "paper"), 1200)
    words = words_on(page.sheet)
    assert {"First", "Second"} <= set(words)
    assert sum("PreResNet-20" in line for line in words) == 1
    assert any("grid 16 × 12" in line for line in words)
    assert any("grid 20 × 30" in line for line in words)
    maps = page.painted[1:]
    assert maps[0].covers.height == maps[1].covers.height
    assert maps[0].covers.right < maps[1].covers.x


def test_what_cannot_stand_side_by_side_is_said(
    two: list[str], make_store: MakeStore, tmp_path: Path
) -> None:
    out = tmp_path / "both.png"
    with pytest.raises(LossatlasError, match="wanted 2 to 4 side by side"):
        export_comparison(3 * two, out)
    line = make_store(landscape(2, 9)[:1], kind="interpolation")
    with pytest.raises(LossatlasError, match="is a line, not a plane"):
        export_comparison([two[0], line], out)
    with pytest.raises(LossatlasError, match="vector contours are asked for in a png"):
        export_comparison(two, out, vector_contours=True)
    with pytest.raises(LossatlasError, match="background is transparent for a tiff"):
        export_comparison(two, tmp_path / "both.tif", background="transparent")
    with pytest.raises(LossatlasError, match="wanted at most 200 a side in a pdf"):
        export_comparison(two, tmp_path / "both.pdf", width=900, dpi=1)
    assert not out.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("both")]


def test_the_command(two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "both.svg")
    assert main.run(["export", "poster", *two, out, "--width", "600", "--vector-contours"]) == 0
    assert (tmp_path / "both.svg").read_text(encoding="utf-8").count("<image") == 3
    assert main.run(["export", "poster", *two, out, "--paper", "A4"]) == 2
    assert "--paper is given with several runs: wanted it with one" in capsys.readouterr().err
    assert main.run(["export", "poster", two[0]]) == 2
    assert f"Only {two[0]} is given; wanted RUN and OUT" in capsys.readouterr().err
