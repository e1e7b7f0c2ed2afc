"""The picture of a curve's report: which lines, on which scale, and where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import LossatlasError
from renders.page.lines import Panel
from renders.page.printed import Printed
from renders.page.report import panels, report_page, write_report
from renders.page.sheet import house
from renders.page.theme import LIGHT
from tests.renders.sheets import drawn, stitched

T = np.linspace(0, 1, 11)


def _report(loss: float = 1.0, error: bool = True) -> dict[str, Any]:
    """A flat curve at 0.1, and a line that rises to `loss` halfway."""
    ridge = 0.1 + (loss - 0.1) * np.sin(np.pi * T)
    curve = {"loss": {"values": [0.1] * 11}}
    line = {"loss": {"values": ridge.tolist()}}
    if error:
        curve |= {q: {"values": [0.2] * 11} for q in ("error", "ensemble_loss", "ensemble_error")}
        line |= {q: {"values": [0.5] * 11} for q in ("error", "ensemble_loss", "ensemble_error")}
    return {
        "kind": "bezier",
        "bends": 1,
        "batch_norm": None,
        "t": T.tolist(),
        "curve": {"length": 2.0, "splits": {"train": curve, "test": curve}},
        "line": {"length": 1.0, "splits": {"train": line, "test": line}},
    }


def _drawn(panel: Panel) -> list[tuple[str, bool, bool]]:
    """Of each line its split's colour, whether it is whole, and whether its dots are rings."""
    return [(line.colour, not line.dashes, line.hollow) for line in panel.lines]


def test_curve_line_and_the_ensembles_error_are_drawn() -> None:
    loss, error = panels(_report(), LIGHT)
    train, test = dict.fromkeys(line.colour for line in loss.lines)
    both = [(train, True, False), (test, True, False), (train, False, True), (test, False, True)]
    assert _drawn(loss) == both
    assert _drawn(error) == [*both, (train, False, False), (test, False, False)]


def test_a_loss_without_an_error_has_one_panel() -> None:
    assert [panel.heading for panel in panels(_report(error=False), LIGHT)] == ["loss"]


@pytest.mark.parametrize(("loss", "log"), [(0.7, False), (5.0, True)])
def test_a_wide_range_of_losses_is_shown_by_its_logarithm(loss: float, log: bool) -> None:
    panel = panels(_report(loss), LIGHT)[0]
    assert panel.log is log
    assert (panel.low, panel.high) == pytest.approx((0.1, loss))


def _page(report: dict[str, Any]) -> Any:
    with house(LIGHT):
        return report_page(report, "title", "", LIGHT, 1600)


def test_what_is_not_finite_lifts_the_pen_and_is_told() -> None:
    report = _report()
    report["curve"]["splits"]["train"]["loss"]["values"][3:5] = [np.nan, np.inf]
    sheet = _page(report)
    heights = [np.asarray(line.get_ydata(), float) for line in sheet.figure.axes[0].lines]
    assert {int(np.isnan(y).sum()) for y in heights} == {0, 2}
    assert {"not a number", "infinite"} <= {text.get_text() for text in sheet.figure.texts}


def test_dots_and_lines_are_where_the_report_says() -> None:
    axes = _page(_report(0.7)).figure.axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(dots) == 4
    flat = [line for line in dots if np.ptp(np.asarray(line.get_ydata(), float)) == 0]
    assert len(flat) == 2
    np.testing.assert_allclose(flat[0].get_xdata(), T)
    np.testing.assert_allclose(flat[0].get_ydata(), 0.1)
    low, high = axes.get_ylim()
    assert low < 0.1 < 0.7 < high


@pytest.mark.parametrize("name", ["a.png", "a.pdf", "a.svg"])
def test_a_report_is_the_same_bytes_again(tmp_path: Path, name: str) -> None:
    found = []
    for _ in range(2):
        write_report(_report(), tmp_path / name, examples={"train": 4}, size=(975, None))
        found.append((tmp_path / name).read_bytes())
    assert found[0] == found[1]


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    words: dict[str, Any] = {"examples": {"train": 4}}
    with pytest.raises(LossatlasError, match="wanted .png, .pdf or .svg"):
        write_report(_report(), tmp_path / "a.bmp", **words)
    with pytest.raises(LossatlasError, match="is no folder"):
        write_report(_report(), tmp_path / "none" / "a.png", **words)
    with pytest.raises(LossatlasError, match="wanted light or dark"):
        write_report(_report(), tmp_path / "a.png", theme="sepia", **words)
    with pytest.raises(LossatlasError, match="ask for a higher picture"):
        write_report(_report(), tmp_path / "a.png", size=(975, 400), **words)
    assert not list(tmp_path.iterdir())


def test_boxes_of_a_report_are_cut_out_of_the_whole() -> None:
    layer = Printed(_page(_report()))
    whole = drawn(layer, layer.covers)
    np.testing.assert_array_equal(stitched(layer, layer.covers, 1024, 256), whole)
