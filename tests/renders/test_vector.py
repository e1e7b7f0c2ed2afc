"""Vector and transparent files: type that is embedded, pixels that are the map's, no paper."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.contour import QuadContourSet
from PIL import Image

from pipeline.errors import LossatlasError
from renders.box import Box
from renders.map.canvas import Map
from renders.map.tone import fit_tone
from renders.page.landscape import landscape_page
from renders.page.layout import layout_for
from renders.page.page import Page
from renders.page.printed import Printed
from renders.page.theme import LIGHT
from renders.page.words import Style
from renders.picture import paint
from renders.poster import export_poster
from renders.relief.relief import Relief
from renders.source.provenance import Provenance
from renders.spread import over_threads
from tests.renders.sheets import Pixels
from tests.renders.surfaces import landscape, surface_of

MakeStore = Callable[..., str]
FACTS = Provenance("two-wells", "PreResNet-20", units="euclidean")
SAID = {"Title": "Loss of θ < 1 & more", "Description": "a · b", "Software": "lossatlas 1"}
WIDTH = 500
SVG = "{http://www.w3.org/2000/svg}"
SURFACE = surface_of(landscape(24, 32))


def page_of(width: int = WIDTH, **options: Any) -> Page:
    tone = fit_tone([SURFACE.values])
    return landscape_page(SURFACE, tone, FACTS, Style(LIGHT), width, dpi=100.0, **options)


def written(page: Page, path: Path) -> bytes:
    size = page.write(path, path.suffix[1:], SAID, over_threads(2))
    raw = path.read_bytes()
    assert len(raw) == size
    return raw


def dictionaries(pdf: bytes) -> list[tuple[bytes, bytes]]:
    """The dictionary and the content of every stream of a PDF."""
    found = []
    for at in re.finditer(rb"\d+ 0 obj\n(<<(?:(?!endobj).)*?>>)\nstream\n", pdf, re.DOTALL):
        content = zlib.decompressobj().decompress(pdf[at.end() :])
        found.append((at[1], content))
    return found


def images(pdf: bytes) -> list[Pixels]:
    """The images of a PDF as they are seen: their rows are filtered as those of a PNG."""
    found: list[Pixels] = []
    upright: dict[int, bool] = {}
    streams = dictionaries(pdf)
    for _, content in streams:
        placed = rb"0 0 ([-\d.]+) [-\d.]+ [-\d.]+ cm /I(\d+) Do"
        upright |= {int(name): float(high) > 0 for high, name in re.findall(placed, content)}
    for about, content in streams:
        if b"/Subtype /Image" not in about:
            continue
        assert b"/ColorSpace /DeviceRGB" in about
        sides = [int(side) for side in re.findall(rb"/(?:Width|Height) (\d+)", about)]
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", *sides, 8, 2, 0, 0, 0))
        body = head + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
        with Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + body)) as image:
            rows = np.asarray(image.convert("RGB"))
        found.append(rows if upright[len(found) + 1] else rows[::-1])
    return found


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def painted(page: Page) -> Pixels:
    """The map alone, without what lies on it."""
    landscape = page.painted[0]
    out = np.zeros((landscape.covers.height, landscape.covers.width, 3), dtype=np.uint8)
    landscape.draw(out, landscape.covers)
    return out


def test_a_pdf_embeds_its_type_and_says_its_title(tmp_path: Path) -> None:
    raw = written(page_of(), tmp_path / "a.pdf")
    fonts = set(re.findall(rb"/FontName /\w+\+([\w-]+)", raw))
    assert {b"SourceSansPro-Light", b"SourceSansPro-Regular", b"SourceSansPro-Semibold"} <= fonts
    assert raw.count(b"/FontFile2") == raw.count(b"/Type /FontDescriptor") > 0
    assert b"/Type3" not in raw
    assert b"DejaVu" not in raw
    assert b"/CreationDate" not in raw
    about = {key.decode(): text(words) for key, words in re.findall(SAYS, raw, re.DOTALL)}
    assert about["Title"] == "Loss of θ < 1 & more"
    assert about["Subject"] == "a · b"
    assert about["Creator"] == "lossatlas 1"


SAYS = rb"/(Title|Subject|Creator) \((.*?)(?<!\\)\)"


def text(words: bytes) -> str:
    """A string of a PDF: bytes may be written as three octal digits, or after a backslash."""

    def plain(at: re.Match[bytes]) -> bytes:
        return bytes([int(at[1], 8)]) if at[1].isdigit() else at[1]

    raw = re.sub(rb"\\(\d{3}|.)", plain, words, flags=re.DOTALL)
    return raw.decode("utf-16" if raw.startswith(b"\xfe\xff") else "latin-1")


@pytest.mark.parametrize("vectors", [False, True])
def test_a_pdf_holds_the_very_pixels_of_its_map(tmp_path: Path, vectors: bool) -> None:
    page = page_of(vector_contours=vectors)
    own, ramp = images(written(page, tmp_path / "a.pdf"))
    np.testing.assert_array_equal(own, painted(page_of(vector_contours=vectors)))
    legend = layout_for("gallery", WIDTH, 0.75).legend
    assert ramp.shape == (legend.height, legend.width, 3)


def test_a_pdf_has_the_size_that_was_asked_for(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(15, 20))
    export_poster(url, tmp_path / "a.pdf", paper="10x14cm", orientation="portrait", dpi=72.0)
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", (tmp_path / "a.pdf").read_bytes())
    assert box is not None
    # Whole pixels, one a point.
    assert [float(v) for v in box.groups()] == pytest.approx([283, 397])


def tree_of(svg: Path) -> ElementTree.Element:
    return ElementTree.parse(svg).getroot()


def test_an_svg_is_an_image_and_paths(tmp_path: Path) -> None:
    counts = []
    for vectors in (False, True):
        path = tmp_path / f"{vectors}.svg"
        written(page_of(vector_contours=vectors), path)
        root = tree_of(path)
        assert root.tag == f"{SVG}svg"
        assert root.findtext(f"{SVG}title") == SAID["Title"]
        assert len(list(root.iter(f"{SVG}image"))) == 2  # the map and the legend's bar
        counts.append(len(list(root.iter(f"{SVG}path"))))
        assert not list(root.iter(f"{SVG}text"))  # letters are outlines
        words = path.read_text(encoding="utf-8")
        assert "<!-- Two wells -->" in words
    assert counts[1] >= counts[0] + 5


def test_an_image_in_an_svg_is_the_map(tmp_path: Path) -> None:
    written(page_of(), tmp_path / "a.svg")
    image = next(tree_of(tmp_path / "a.svg").iter(f"{SVG}image"))
    packed = image.get("{http://www.w3.org/1999/xlink}href", "").partition("base64,")[2]
    with Image.open(io.BytesIO(base64.b64decode(packed))) as found:
        pixels = np.asarray(found.convert("RGB"))
    expected = painted(page_of())
    assert any(np.array_equal(way, expected) for way in (pixels, pixels[::-1]))


def test_isolines_as_paths_lie_where_the_value_is_the_level() -> None:
    """And make room for their figures."""
    page = page_of(800, vector_contours=True)
    landscape = page.painted[0]
    assert isinstance(landscape, Map)
    assert landscape.contours is None
    at, field = landscape.at, landscape.field
    sets = page.sheet.figure.findobj(QuadContourSet)
    assert len(sets) == 2  # fine ones, and heavier ones with figures
    lines = [line for found in sets for line in zip(found.levels, found.get_paths(), strict=True)]
    points = np.concatenate([path.vertices for _, path in lines])
    assert len(points) > 1_000
    for level, path in lines:
        x, y = np.asarray(path.vertices).T
        s, sx, sy = field.at(x, y)
        off = np.abs(s - level) / np.maximum(np.hypot(sx, sy), 1e-9)
        assert off.max() < 0.5, "half a pixel"
    figures = [words for words in page.sheet.figure.texts if words.get_rotation() != 0]
    assert figures
    for words in figures:
        away = np.hypot(*(points + np.array([at.x, at.y]) - words.get_position()).T)
        assert away.min() > 3, words.get_text()


@pytest.mark.parametrize("ending", ["pdf", "svg", "png"])
def test_the_same_page_is_the_same_file(tmp_path: Path, ending: str) -> None:
    found = [written(page_of(transparent=True), tmp_path / f"{k}.{ending}") for k in range(2)]
    assert found[0] == found[1]


def alpha_and_colours(path: Path) -> tuple[npt.NDArray[np.uint8], Pixels]:
    with Image.open(path) as image:
        assert image.mode == "RGBA"
        pixels = np.asarray(image)
    return pixels[..., 3], pixels[..., :3]


def test_a_transparent_png_has_the_maps_pixels_and_no_paper(tmp_path: Path) -> None:
    written(page_of(transparent=True), tmp_path / "clear.png")
    written(page_of(), tmp_path / "opaque.png")
    alpha, colours = alpha_and_colours(tmp_path / "clear.png")
    with Image.open(tmp_path / "opaque.png") as image:
        opaque = np.asarray(image)
    page = page_of()
    at = page.painted[0].covers
    inside = (slice(at.y, at.bottom), slice(at.x, at.right))
    assert (alpha[:20] == 0).all()
    assert (alpha[:, :20] == 0).all()
    assert (alpha[-8:] == 0).all()
    assert 0.002 < (alpha[at.bottom + 30 :] > 0).mean() < 0.5, "words beneath the map"
    assert (alpha[inside] == 255).all()
    # Where no ink lies on the map, both show the very pixels that were painted.
    ink = Printed(page.sheet).ink(at)
    assert ink is not None
    free = ink[..., 3] == 0
    free &= np.pad(np.ones((at.height - 4, at.width - 4), bool), 2)  # within the frame
    assert 0.8 < free.mean() < 0.99
    np.testing.assert_array_equal(colours[inside][free], painted(page)[free])
    np.testing.assert_array_equal(opaque[inside][free], painted(page)[free])
    # Both have the same ink on it.
    off = np.abs(colours[inside].astype(int) - opaque[inside])
    assert (off[2:-2, 2:-2].max(axis=2) > 8).mean() < 1e-3
    with Image.open(tmp_path / "clear.png") as image:
        assert image.info["dpi"] == pytest.approx((100, 100), abs=0.02)
        assert image.info["Title"] == SAID["Title"]


@pytest.mark.parametrize("ending", ["pdf", "svg"])
def test_transparent_vector_files_have_no_paper(tmp_path: Path, ending: str) -> None:
    clear, opaque = (
        written(page_of(transparent=on), tmp_path / f"{on}.{ending}") for on in (True, False)
    )
    if ending == "svg":
        paper = LIGHT.paper.encode()
        assert b"fill: " + paper in opaque
        assert b"fill: " + paper not in clear
        return
    told = [content for about, content in dictionaries(opaque) if b"/Subtype" not in about]
    none = [content for about, content in dictionaries(clear) if b"/Subtype" not in about]
    red, green, blue = (int(LIGHT.paper[k : k + 2], 16) / 255 for k in (1, 3, 5))
    ink = f"{red:.4f}"[:6].encode()
    assert any(ink in content for content in told)
    assert not any(ink in content for content in none)
    assert green > blue


def test_what_is_written_in_memory_holds_for_large_pages_too(
    make_store: MakeStore, tmp_path: Path
) -> None:
    url = make_store(landscape(15, 20))
    for name, options in (("a.pdf", {}), ("a.png", {"background": "transparent"})):
        with pytest.raises(LossatlasError, match="gigapixels: wanted at most 0.25") as caught:
            export_poster(url, tmp_path / name, width=20_000, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("a.png", {"vector_contours": True}, "a png: wanted a map as .pdf or .svg; leave --vector-co"),
    ("a.tif", {"vector_contours": True}, "a tiff: wanted a map as .pdf or .svg; leave --vector-c"),
    ("a.pdf", {"vector_contours": True, "relief": Relief()}, "in a relief: wanted a map as .pdf"),
    ("a.png", {"background": "transparent", "relief": Relief()}, "choose --background white"),
    ("a.tif", {"background": "transparent"}, "transparent for a tiff: .* --background white"),
    ("a.png", {"background": "white", "theme": "dark"}, "choose theme light, or"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSALS)
def test_what_a_file_cannot_be_is_one_line_with_its_cure(
    make_store: MakeStore, tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    url = make_store(landscape(6, 6))
    with pytest.raises(LossatlasError, match=message) as caught:
        export_poster(url, tmp_path / name, **options)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


def test_isolines_as_paths_of_a_line_are_refused(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(np.linspace(1, 2, 16)[None], kind="interpolation")
    with pytest.raises(LossatlasError, match="in a line plot: wanted a map"):
        export_poster(url, tmp_path / "a.pdf", vector_contours=True)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    for ending, options in (("pdf", {}), ("svg", {}), ("png", {"transparent": True})):
        with pytest.raises(LossatlasError, match="choose another folder") as caught:
            written(page_of(**options), tmp_path / "nowhere" / f"a.{ending}")
        assert "\n" not in str(caught.value)


def test_a_page_can_be_written_twice(tmp_path: Path) -> None:
    """As another kind, and as a picture afterwards."""
    page = page_of()
    before = paint(page.picture, Box(0, 0, WIDTH, 200))
    first = written(page, tmp_path / "a.pdf")
    assert written(page, tmp_path / "b.pdf") == first
    np.testing.assert_array_equal(paint(page.picture, Box(0, 0, WIDTH, 200)), before)
