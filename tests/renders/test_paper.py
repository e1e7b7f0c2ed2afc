"""Sheets, pages fitted onto them, the scale bar and PDF: exact sizes, nothing cut off."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from renders.page.scalebar import round_length

from pipeline.errors import LossatlasError
from renders.page.layout import KINDS, fitted_layout
from renders.page.paper import PaperError, sheet_named
from renders.page.poster import export_poster
from renders.spread import over_threads
from tests.renders.surfaces import landscape

MakeStore = Callable[..., str]


@pytest.mark.parametrize(
    ("paper", "orientation", "aspect", "millimetres"),
    [
        ("A0", "auto", 0.7, (1189, 841)),
        ("a0", "auto", 1.4, (841, 1189)),
        ("A4", "portrait", 0.3, (210, 297)),
        ("24x36in", "auto", 0.5, (914.4, 609.6)),
        ("24inx36in", "portrait", 0.5, (609.6, 914.4)),
        ("60 × 90 cm", "portrait", 1, (600, 900)),
        ("500x700mm", "landscape", 2, (700, 500)),
        ("letter", "portrait", 1, (215.9, 279.4)),
    ],
)
def test_sheets(
    paper: str, orientation: str, aspect: float, millimetres: tuple[float, float]
) -> None:
    sheet = sheet_named(paper, orientation, aspect)
    assert (sheet.width_mm, sheet.height_mm) == pytest.approx(millimetres)


def test_a_sheet_in_pixels_is_exact() -> None:
    assert sheet_named("24x36in", "portrait").pixels(300) == (7_200, 10_800)
    assert sheet_named("A0", "portrait").pixels(300) == (9_933, 14_043)


@pytest.mark.parametrize(
    ("paper", "orientation", "message"),
    [
        ("A11", "auto", "nearest name is A1"),
        ("24x36", "auto", "wanted a size like A0"),
        ("1x1mm", "auto", "check the unit"),
        ("200x300m", "auto", "check the unit"),
        ("A0", "upright", "nearest is"),
    ],
)
def test_sheets_that_are_none(paper: str, orientation: str, message: str) -> None:
    with pytest.raises(PaperError, match=message):
        sheet_named(paper, orientation)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1000, 300), (300, 1000), (777, 777), (4961, 7016)])
@pytest.mark.parametrize("aspect", [0.4, 1.0, 2.5])
def test_every_layout_stays_on_its_sheet(kind: str, size: tuple[int, int], aspect: float) -> None:
    page = fitted_layout(kind, *size, aspect)
    assert (page.width, page.height) == size
    for box in (page.map, page.legend):
        assert box.x >= 0
        assert box.y >= 0
        assert box.right <= page.width
        assert box.bottom <= page.height
    assert page.small_y + 15 * page.unit <= page.height or kind == "bare"
    assert page.map.height / page.map.width == pytest.approx(aspect, abs=1.5 / page.map.width)


def test_lengths_of_scale_bars() -> None:
    assert [round_length(v) for v in (1, 1.99, 2, 4.9, 7, 0.03)] == [1, 1, 2, 2, 5, 0.02]


def test_a_poster_on_paper(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(15, 20))
    facts = export_poster(url, tmp_path / "a.png", paper="A5", orientation="portrait", dpi=60)
    assert (facts.width, facts.height) == (350, 496)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (350, 496)
        assert image.info["dpi"] == pytest.approx((60, 60), abs=0.02)


def test_a_pdf_holds_the_very_pixels_at_their_physical_size(
    make_store: MakeStore, tmp_path: Path
) -> None:
    url = make_store(landscape(15, 20))
    options = {"paper": "10x14cm", "dpi": 72.0, "spread": over_threads(2)}
    facts = export_poster(url, tmp_path / "a.png", **options)  # type: ignore[arg-type]
    export_poster(url, tmp_path / "a.pdf", **options)  # type: ignore[arg-type]
    raw = (tmp_path / "a.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", raw)
    assert box is not None
    assert [float(v) for v in box.groups()] == pytest.approx([facts.width, facts.height])
    start = raw.index(b"stream\n", raw.index(b"/Subtype /Image")) + 7
    rows = np.frombuffer(zlib.decompressobj().decompress(raw[start:]), np.uint8)
    steps = rows.reshape(facts.height, facts.width, 3).astype(np.int64)
    assert b"/Predictor 2" in raw
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.cumsum(steps, axis=1) % 256, np.asarray(image))
    # Every object is where the table says.
    table = raw[raw.index(b"xref\n") :].split(b"\n")
    for k, line in enumerate(table[3:10]):
        assert raw[int(line[:10]) :].startswith(f"{k + 1} 0 obj".encode())
    assert b"/ICCBased" in raw


def test_a_huge_pdf_stretches_its_unit(make_store: MakeStore, tmp_path: Path) -> None:
    export_poster(make_store(landscape(8, 8)), tmp_path / "a.pdf", width=300, dpi=1)
    raw = (tmp_path / "a.pdf").read_bytes()
    unit = re.search(rb"/UserUnit ([\d.]+)", raw)
    assert unit is not None
    assert float(unit[1]) == pytest.approx(300 * 72 / 14_400)


REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"paper": "A0", "width": 100}, "wanted one"),
    ({"orientation": "portrait"}, "without a paper"),
    ({"paper": "20x30m"}, "--yes"),
    ({"paper": "A4", "dpi": 1.0}, "at least 64"),
    ({"format_": "bmp"}, "wanted png, pdf, svg or tiff"),
]


@pytest.mark.parametrize(("options", "message"), REFUSALS)
def test_refusals(
    make_store: MakeStore, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    url = make_store(landscape(6, 6))
    with pytest.raises(LossatlasError, match=message) as caught:
        export_poster(url, tmp_path / "a.png", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]
