"""Pyramidal TIFF: the very pixels, each level halved from the one below, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from renders import tiff
from renders.box import Box
from renders.colour import rgb
from renders.picture import Picture, paint
from renders.poster import export_poster
from renders.pyramid import differences, halved, level_sizes
from renders.spread import over_threads
from renders.sprite import Sprites, rectangle
from renders.tiff import TiffError, write_tiff
from tests.renders.surfaces import landscape

MakeStore = Callable[..., str]


def picture(width: int, height: int) -> Picture:
    """Noise-like, so that a misplaced tile cannot go unseen."""
    boxes = [
        rectangle(Box(37 * k % width, 53 * k % height, 40, 9), rgb(f"#{k * 997 % 0xFFFFFF:06x}"))
        for k in range(200)
    ]
    return Picture(width, height, rgb("#f7f4ee"), (Sprites(tuple(boxes)),))


def halved_slowly(pixels: np.ndarray) -> np.ndarray:
    h, w, _ = pixels.shape
    padded = np.pad(pixels, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge").astype(np.float64)
    return np.asarray(
        (padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]) / 4
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 4), (64, 33)])
def test_halving_averages_blocks(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert np.abs(halved(pixels) - halved_slowly(pixels)).max() <= 0.5


def test_halving_does_not_drift() -> None:
    pixels = np.random.default_rng(3).integers(100, 104, (512, 512, 3)).astype(np.uint8)
    small = pixels
    for _ in range(5):
        small = halved(small)
    assert small.mean() == pytest.approx(pixels.mean(), abs=0.08)


def test_differences_undo() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    back = np.cumsum(differences(pixels, 8, 8), axis=1, dtype=np.uint64).astype(np.uint8)
    assert np.array_equal(back[:5, :7], pixels)
    assert (back[5:] == back[4]).all()


@pytest.mark.parametrize("size", [(1500, 1100), (513, 512), (40, 30), (1025, 3)])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_level_is_what_it_should_be(
    tmp_path: Path, size: tuple[int, int], threads: int
) -> None:
    page = picture(*size)
    written = write_tiff(page, tmp_path / "a.tif", dpi=300, spread=over_threads(threads))
    assert written == (tmp_path / "a.tif").stat().st_size
    expected = paint(page, page.box)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        levels = file.series[0].levels
        assert [level.shape[1::-1] for level in levels] == level_sizes(*size, 512)
        assert file.pages[0].tags["XResolution"].value == (300, 1)
        for level in levels:
            assert np.array_equal(level.asarray(), expected)
            expected = halved(expected)


def test_other_readers_agree(tmp_path: Path) -> None:
    page = picture(600, 530)
    write_tiff(page, tmp_path / "a.tif", dpi=150, text={"Description": "a · b"})
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(np.asarray(image), paint(page, page.box))
        assert image.info["dpi"] == (150, 150)
        assert image.info["icc_profile"]


def test_a_poster_as_tiff(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(15, 20), skip={(0, 0)})
    export_poster(url, tmp_path / "a.png", width=700)
    export_poster(url, tmp_path / "a.tif", width=700)
    export_poster(url, tmp_path / "odd.name", width=700, format_="tiff")
    with Image.open(tmp_path / "a.png") as one, Image.open(tmp_path / "a.tif") as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert (tmp_path / "odd.name").read_bytes()[:4] == b"II+\x00"


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_breaks_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    calls = []

    def broken(page: Picture, box: Box) -> np.ndarray:
        calls.append(box)
        if len(calls) == 5:
            raise failure
        return paint(page, box)

    monkeypatch.setattr(tiff, "paint", broken)
    expected = TiffError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_tiff(picture(1500, 1100), tmp_path / "a.tif", dpi=300, spread=over_threads(2))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write_tiff(picture(1500, 1100), tmp_path / "a.tif", dpi=300)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
