"""The PNG writer: any number of threads, the right dpi and colours, and all or nothing."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from renders.box import Box
from renders.picture import Picture, paint
from renders.png import BAND_ROWS, PngError, adler32_combine, write_png
from renders.spread import over_threads


class Wave:
    """A layer with a different colour everywhere."""

    halo_px = 0
    covers = Box(0, 0, 10_000, 10_000)

    def draw(self, out: npt.NDArray[np.float32], box: Box) -> None:
        y, x = np.mgrid[box.y : box.bottom, box.x : box.right]
        for c in range(3):
            out[..., c] = 127 + 120 * np.sin(x / (7 + c) + y / (11 - c))


class Broken(Wave):
    """A layer that fails once the picture is half drawn."""

    def draw(self, out: npt.NDArray[np.float32], box: Box) -> None:
        if box.y >= BAND_ROWS:
            raise KeyboardInterrupt


def picture(height: int = 3 * BAND_ROWS + 17, layer: Wave | None = None) -> Picture:
    return Picture(211, height, np.zeros(3), (layer or Wave(),))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("height", [1, BAND_ROWS, 3 * BAND_ROWS + 17])
def test_it_decodes_to_the_painted_pixels(tmp_path: Path, threads: int, height: int) -> None:
    page = picture(height)
    path = tmp_path / "wave.png"
    words = {"Title": "Loss of θ"}
    size = write_png(page, path, dpi=300, text=words, spread=over_threads(threads))
    assert size == path.stat().st_size
    with Image.open(path) as image:
        image.load()
        assert np.array_equal(np.asarray(image), paint(page, page.box))
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert image.info["Title"] == "Loss of θ"
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    assert "sRGB" in ImageCms.getProfileDescription(profile)
    assert [p.name for p in tmp_path.iterdir()] == ["wave.png"]


def test_every_checksum_is_right(tmp_path: Path) -> None:
    """Some readers look at those of the chunks alone, or at none."""
    page, path = picture(), tmp_path / "wave.png"
    write_png(page, path, dpi=300, spread=over_threads(2))
    data, at, stream = path.read_bytes(), 8, b""
    while at < len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        content, checksum = data[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        assert zlib.crc32(kind + content).to_bytes(4, "big") == checksum
        stream += content if kind == b"IDAT" else b""
        at += 12 + length
    assert len(zlib.decompress(stream)) == page.height * (1 + 3 * page.width)


def test_the_same_picture_is_the_same_file(tmp_path: Path) -> None:
    for name, threads in (("a", 1), ("b", 4)):
        write_png(picture(), tmp_path / name, dpi=150, spread=over_threads(threads))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_interrupted_export_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "wave.png"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_png(picture(layer=Broken()), path, dpi=300, spread=over_threads(1))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["wave.png"]


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(PngError, match="choose another folder"):
        write_png(picture(), tmp_path / "nowhere" / "a.png", dpi=300)


@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_checksums_join(a: bytes, b: bytes) -> None:
    assert adler32_combine(zlib.adler32(a), zlib.adler32(b), len(b)) == zlib.adler32(a + b)
