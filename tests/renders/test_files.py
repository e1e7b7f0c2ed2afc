"""Picture files: the very pixels, words and colours in them, and whole or not at all."""

from __future__ import annotations

import io
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms

from renders.box import Box
from renders.colour import rgb
from renders.files import scratch
from renders.files.deepzoom import deepest, level_size, write_tiles
from renders.files.image import ImageError, write_png, write_tiff
from renders.files.scratch import save
from renders.picture import Picture, paint
from renders.poster import export_poster
from renders.spread import over_threads
from tests.renders.said import said
from tests.renders.sheets import Blocks
from tests.renders.surfaces import landscape

MakeStore = Callable[..., str]
WRITERS = {"png": write_png, "tif": write_tiff}
SIZES = [(1500, 1100), (513, 512), (40, 30), (1025, 3), (1, 1)]


def picture(width: int, height: int) -> Picture:
    """Noise-like, so that a misplaced box cannot go unseen."""
    blocks = [
        (Box(37 * k % width, 53 * k % height, 40, 9), (k, 31 * k % 256, 97 * k % 256))
        for k in range(200)
    ]
    return Picture(width, height, rgb("#f7f4ee"), (Blocks(tuple(blocks)),))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=WRITERS)
def ending(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_file_holds_what_was_painted(
    tmp_path: Path, ending: str, size: tuple[int, int], threads: int
) -> None:
    page, path = picture(*size), tmp_path / f"a.{ending}"
    words = {"Title": "Loss of θ < 1 & more", "Description": "a · b\x07", "Software": "lossatlas 1"}
    written = WRITERS[ending](page, path, dpi=300, text=words, spread=over_threads(threads))
    assert written == path.stat().st_size
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), paint(page, page.box))
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        assert ending == "tif" or image.info["Software"] == "lossatlas 1"
    assert "sRGB" in ImageCms.getProfileDescription(profile)
    assert said(path) == {"Title": "Loss of θ < 1 & more", "Description": "a · b "}
    assert names(tmp_path) == [path.name]


def test_the_same_picture_is_the_same_file(tmp_path: Path, ending: str) -> None:
    for name, threads in (("a", 1), ("b", 4)):
        spread = over_threads(threads)
        WRITERS[ending](picture(1500, 1100), tmp_path / name, dpi=150, spread=spread)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("size", [(1500, 1101), (513, 512), (40, 30)])
def test_each_level_of_a_tiff_is_the_one_below_halved(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    write_tiff(picture(*size), tmp_path / "a.tif", dpi=300, text={"Description": "a · b"})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        assert file.pages[0].tags["XResolution"].value == (300, 1)
        assert file.pages[0].tags["ImageDescription"].value == "a · b"
        levels = [level.asarray().astype(np.float64) for level in file.series[0].levels]
    assert max(levels[-1].shape) <= 512
    assert all(max(level.shape) > 512 for level in levels[:-1])
    for below, level in itertools.pairwise(levels):
        h, w, _ = level.shape
        blocks = below[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3)
        assert np.abs(blocks.mean((1, 3)) - level).max() <= 0.5


def test_a_poster_as_tiff(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(15, 20), skip={(0, 0)})
    export_poster(url, tmp_path / "a.png", width=700)
    export_poster(url, tmp_path / "a.tif", width=700)
    export_poster(url, tmp_path / "odd[Q=1].name", width=700, format_="tiff")
    with Image.open(tmp_path / "a.png") as one, Image.open(tmp_path / "a.tif") as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert (tmp_path / "odd[Q=1].name").read_bytes()[:4] == b"II+\x00"


# Deep zoom


@pytest.mark.parametrize("size", [(1303, 1001), (600, 1025), (300, 20), (1, 1)])
def test_deep_zoom_is_cut_as_viewers_read_it(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = tmp_path / "a_files"
    count = write_tiles(picture, size, (1, 1), folder)
    levels = range(deepest(*size) + 1)
    assert names(folder) == sorted(map(str, levels))
    seen = 0
    for level in levels:
        wide, high = level_size(*size, level)
        page = picture(wide, high)
        for box in page.box.tiles(512, 512):
            with Image.open(folder / str(level) / f"{box.x // 512}_{box.y // 512}.jpg") as tile:
                part = box.grown(1).meet(page.box)
                assert tile.size == (part.width, part.height)
                if max(wide, high) > 256:  # levels below are halved
                    assert np.abs(np.asarray(tile) - paint(page, part).astype(float)).mean() < 4
            seen += 1
    assert seen == count == sum(1 for _ in folder.rglob("*.*"))


def test_levels_coarser_than_the_grid_are_halved(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def level(width: int, height: int) -> Picture:
        asked.append((width, height))
        return picture(width, height)

    write_tiles(level, (3000, 2000), (1400, 900), tmp_path / "a_files")
    assert asked == [(3000, 2000), (1500, 1000)]
    assert len(names(tmp_path / "a_files")) == 13


# What goes wrong


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_breaks_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, failure: BaseException
) -> None:
    calls, path = [], tmp_path / f"a.{ending}"
    path.write_bytes(b"old")

    def broken(page: Picture, box: Box) -> np.ndarray:
        calls.append(box)
        if len(calls) == 5:
            raise failure
        return paint(page, box)

    monkeypatch.setattr(scratch, "paint", broken)
    expected = ImageError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        WRITERS[ending](picture(1500, 1100), path, dpi=300, spread=over_threads(2))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [path.name]


def test_a_missing_folder_is_one_clear_line(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ImageError, match="choose another folder"):
        WRITERS[ending](picture(40, 30), tmp_path / "nowhere" / "a", dpi=300)


def test_room_for_the_scratch_file_is_looked_for_first(
    small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(scratch, "paint", lambda *_: pytest.fail("painted"))
    disk = small_disk(512)
    with pytest.raises(ImageError) as caught:
        WRITERS[ending](picture(4000, 3000), disk / "a", dpi=300)
    assert str(caught.value) == (
        f"{disk / 'a'} cannot be written (its pixels need 36.0 MB there until it is written, and "
        "524 kB are free): wanted room and permission there; choose another folder"
    )
    assert names(disk) == []


@pytest.mark.parametrize("ending", [*WRITERS, "jpg"])
def test_a_disk_that_fills_while_libvips_writes_is_one_line(
    small_disk: Callable[[int], Path], ending: str
) -> None:
    def noise(out: np.ndarray, box: Box) -> None:
        out[:] = np.random.default_rng(box.y).integers(0, 256, out.shape)

    class Noise:
        covers = Box(0, 0, 4000, 4000)
        draw = staticmethod(noise)

    disk = small_disk(4096)
    page = partial(Picture, ground=np.zeros(3), layers=(Noise(),))
    write = {
        "png": lambda: write_png(page(1000, 1000), disk / "a", dpi=300),
        "tif": lambda: write_tiff(page(1000, 1000), disk / "a", dpi=300),
        "jpg": lambda: write_tiles(page, (1100, 1100), (1, 1), disk / "a"),
    }[ending]
    with pytest.raises((ImageError, OSError), match="No space left") as caught:
        write()
    assert "\n" not in str(caught.value)
    assert names(disk) == ([] if ending in WRITERS else ["a"])
    del caught  # whose traceback holds the scratch file


@pytest.mark.parametrize("how", ["pngsave", "tiffsave", "dzsave"])
def test_an_interrupt_is_heard_while_libvips_writes(tmp_path: Path, how: str) -> None:
    # A shell that starts the tests in the background has them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pixels = np.zeros((12_000, 12_000, 3), np.uint8)
    # Some ten seconds of work.
    image = pyvips.Image.new_from_memory(pixels, 12_000, 12_000, 3, "uchar").gaussblur(80)
    press = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    press.start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        save(image, tmp_path, lambda: getattr(image, how)(str(tmp_path / "a")))
    assert time.monotonic() - begun < 2
    press.join()
    signal.signal(signal.SIGINT, before)
