"""Paper, and pages fitted onto it: exact sizes, nothing cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import LossatlasError
from renders.page.layout import KINDS, fitted_layout
from renders.page.paper import PaperError, sheet_named
from renders.poster import export_poster
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


def test_a_poster_on_paper(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(15, 20))
    facts = export_poster(url, tmp_path / "a.png", paper="A5", orientation="portrait", dpi=60)
    assert (facts.width, facts.height) == (350, 496)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (350, 496)
        assert image.info["dpi"] == pytest.approx((60, 60), abs=0.02)


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
