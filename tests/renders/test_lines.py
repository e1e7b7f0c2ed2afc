"""Line plots: dots where something was computed, gaps where not, exact sizes, the same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.lines import Line2D
from PIL import Image

from pipeline.errors import LossatlasError
from pipeline.store.store import Store
from renders.map.tone import fit_tone
from renders.page.interpolation import LineError, Quantity, line_page, line_print
from renders.page.lines import line_colours
from renders.page.printed import Printed
from renders.page.sheet import Sheet, house
from renders.page.theme import DARK, LIGHT, Theme
from renders.page.words import Style
from renders.poster import export_poster
from renders.source.provenance import provenance
from renders.source.surface import read_surface
from tests.renders.marked import with_marks
from tests.renders.sheets import drawn as drawn_over
from tests.renders.sheets import stitched
from tests.renders.surfaces import landscape

MakeStore = Callable[..., str]


def sheet_of(url: str, style: Style | None = None, width: int = 800) -> tuple[Sheet, list[str]]:
    style = style or Style(LIGHT)
    store = Store.open(url)
    quantities = []
    for name in ("loss", "error"):
        lines = tuple(read_surface(store, name, split, 0) for split in store.splits)
        tone = fit_tone([one.values[one.finished] for one in lines], clip=(0, 100))
        quantities.append(Quantity(lines, tone))
    facts = provenance(store, 0)
    with house(style.theme):
        sheet = line_page(quantities, facts, style, width, None, 100.0).sheet
    return sheet, line_print(quantities, facts, style)[0]


def drawn(sheet: Sheet, panel: int, marker: str) -> list[Line2D]:
    lines = sheet.figure.axes[panel].lines
    return [line for line in lines if line.get_marker() == marker]


def a_line(points: int) -> np.ndarray:
    return (0.2 + np.abs(np.linspace(-1, 1, points)))[None].astype(np.float32)


def test_dots_are_where_values_were_computed(make_store: MakeStore) -> None:
    values = a_line(5)
    sheet, phrases = sheet_of(make_store(values, kind="interpolation"))
    assert len(sheet.figure.axes) == 2  # loss and error
    for dots in drawn(sheet, 0, "o"):
        x, y = dots.get_data()
        np.testing.assert_allclose(x, np.linspace(-2, 2, 5))
        np.testing.assert_allclose(y, values[0], rtol=1e-6)
    assert "5 points: smooth between them by interpolation alone" in phrases
    assert any(phrase.startswith("error scale") for phrase in phrases)


def test_a_line_says_nothing_of_marks_that_it_does_not_draw(make_store: MakeStore) -> None:
    url = make_store(a_line(5), kind="interpolation")
    with_marks(url, [{}], [[0.0, 0, 3], [9, 0, 1]], {"loss": [1.0, 2.0]})
    assert not [phrase for phrase in sheet_of(url)[1] if "mark" in phrase]


def test_between_two_points_a_line_stays_between_their_values(make_store: MakeStore) -> None:
    values = np.array([[3.0, 0.01, 0.01, 2.0, 0.5]], np.float32)
    sheet, _ = sheet_of(make_store(values, kind="interpolation"))
    thin = max(drawn(sheet, 0, "None"), key=lambda line: len(np.atleast_1d(line.get_xdata())))
    y = np.asarray(thin.get_ydata(), float)
    assert np.nanmin(y) >= 0.01 * (1 - 1e-6)
    assert np.nanmax(y) <= 3 * (1 + 1e-6)


def test_many_points_have_no_dots_of_their_own(make_store: MakeStore) -> None:
    sheet, _ = sheet_of(make_store(a_line(600), kind="interpolation", tile=100))
    assert not drawn(sheet, 0, "o")


def test_holes_are_gaps_and_are_told(make_store: MakeStore) -> None:
    values = a_line(33)
    values[0, 5], values[0, 20] = np.nan, np.inf
    sheet, _ = sheet_of(make_store(values, kind="interpolation", skip={(0, 1)}))
    (cross,), (tip,) = drawn(sheet, 0, "x"), drawn(sheet, 0, "^")
    x = np.linspace(-2, 2, 33)
    assert np.asarray(cross.get_xdata()) == pytest.approx([x[5]])
    assert np.asarray(tip.get_xdata()) == pytest.approx([x[20]])
    for line in drawn(sheet, 0, "None"):
        at = np.asarray(line.get_xdata(), float)
        if len(at) > 2:  # neither a rim nor an anchor
            known = at[np.isfinite(np.asarray(line.get_ydata(), float))]
            for first, last in ((x[4], x[6]), (x[7], x[16]), (x[19], x[21])):
                assert not ((known > first + 1e-9) & (known < last - 1e-9)).any()
    words = {text.get_text() for text in sheet.figure.texts}
    assert {"not a number", "infinite", "not computed yet"} <= words


def test_a_point_between_two_holes_is_seen(make_store: MakeStore) -> None:
    values = a_line(600)
    values[0, [99, 101]] = np.nan
    sheet, _ = sheet_of(make_store(values, kind="interpolation", tile=100))
    dots = drawn(sheet, 0, "o")
    assert [len(np.atleast_1d(line.get_xdata())) for line in dots] == [1, 1]


def test_alpha_is_0_and_1_at_the_weights(make_store: MakeStore) -> None:
    url = make_store(a_line(5), kind="interpolation")
    sheet, phrases = sheet_of(url, Style(LIGHT, axis="alpha"))
    x = np.asarray(drawn(sheet, 0, "o")[0].get_xdata())
    np.testing.assert_allclose(x, [-0.5, 0, 0.5, 1, 1.5])
    assert "α is 0 at w₀ and 1 at w₁" in phrases
    assert not any("distance in weight space" in phrase for phrase in phrases)
    one = replace(read_surface(Store.open(url), "loss", None, 0), anchors=())
    shown, facts = [Quantity((one,), fit_tone([one.values]))], provenance(Store.open(url), 0)
    with house(LIGHT), pytest.raises(LineError, match="wanted two apart"):
        line_page(shown, facts, Style(LIGHT, axis="alpha"), 800, None, 100.0)


@pytest.mark.parametrize("name", ["a.pdf", "a.svg", "a.png"])
def test_the_same_bytes_whenever_and_whatever_the_users_style(
    make_store: MakeStore, tmp_path: Path, name: str
) -> None:
    url = make_store(a_line(9), kind="interpolation")
    export_poster(url, tmp_path / name, width=500)
    first = (tmp_path / name).read_bytes()
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red"}):
        export_poster(url, tmp_path / name, width=500)
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / name).read_bytes() == first


def test_sizes_in_inches_are_exact_and_type_is_embedded(
    make_store: MakeStore, tmp_path: Path
) -> None:
    url = make_store(a_line(9), kind="interpolation")
    asked: dict[str, Any] = {"size": (975, 720), "layout": "paper", "quantity": "loss"}
    export_poster(url, tmp_path / "a.pdf", **asked)
    raw = (tmp_path / "a.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", raw)
    assert box is not None
    assert [float(v) / 72 for v in box.groups()] == pytest.approx([3.25, 2.4])
    assert b"+SourceSansPro-Regular" in raw
    assert b"/FontFile2" in raw
    assert b"/Type3" not in raw
    export_poster(url, tmp_path / "a.svg", **asked)
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert 'width="234pt" height="172.8pt"' in text
    # Letters are outlines; what they say stands beside them.
    for words in ("Two wells", "train", "w₀", "loss scale"):
        assert words in text
    export_poster(url, tmp_path / "a.png", **asked, background="transparent")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (975, 720)
        assert image.mode == "RGBA"
        assert image.getpixel((3, 3)) == (255, 255, 255, 0)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.02)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_colours_stand_off_from_the_paper(theme: Theme) -> None:
    colours = line_colours(theme, None, 3)
    assert len(set(colours)) == 3


def test_a_dollar_is_a_dollar_and_other_scripts_are_drawn(
    make_store: MakeStore, tmp_path: Path
) -> None:
    url = make_store(a_line(9), kind="interpolation")
    export_poster(url, tmp_path / "a.svg", width=500, title="$a_b$ costs \\alpha {")
    assert "$a_b$ costs \\alpha {" in (tmp_path / "a.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (975, 300), "layout": "paper"}, "wanted more for two plots"),
        ({"background": "whit"}, "nearest is 'white'"),
        ({"axis": "beta"}, "wanted x, alpha"),
        ({"background": "transparent", "format_": "tiff"}, "choose --background white"),
        ({"width": 60_000}, "gigapixels"),
        ({"width": 20_000, "format_": "pdf"}, "wanted at most 0.25"),
    ],
)
def test_refusals(
    make_store: MakeStore, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    url = make_store(a_line(9), kind="interpolation")
    with pytest.raises(LossatlasError, match=message) as caught:
        export_poster(url, tmp_path / "a.png", **options)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


def test_only_lines_have_an_axis_of_alpha(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(LossatlasError, match="wanted a line, .* leave --axis out"):
        export_poster(make_store(landscape(6, 6)), tmp_path / "a.png", axis="alpha")


def test_boxes_of_a_page_of_lines_are_cut_out_of_the_whole(make_store: MakeStore) -> None:
    sheet, _ = sheet_of(make_store(a_line(33), kind="interpolation"))
    layer = Printed(sheet)
    whole = drawn_over(layer, layer.covers)
    np.testing.assert_array_equal(stitched(layer, layer.covers, 256, 100), whole)
