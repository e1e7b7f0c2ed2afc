"""The picture of a curve's report: which lines, on which scale, and where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import LossatlasError
from renders.along import Panel, panels, report_picture, write_report
from renders.map.line import Stroke
from renders.picture import paint
from renders.theme import LIGHT

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


def _drawn(panel: Panel) -> list[tuple[str, int]]:
    return [(line.split, line.way) for line in panel.lines]


def test_curve_line_and_the_ensembles_error_are_drawn() -> None:
    loss, error = panels(_report())
    assert _drawn(loss) == [("train", 0), ("test", 0), ("train", 1), ("test", 1)]
    assert _drawn(error) == [*_drawn(loss), ("train", 2), ("test", 2)]


def test_a_loss_without_an_error_has_one_panel() -> None:
    assert [panel.quantity for panel in panels(_report(error=False))] == ["loss"]


@pytest.mark.parametrize(("loss", "geometric"), [(0.7, False), (5.0, True)])
def test_a_wide_range_of_losses_is_shown_by_its_logarithm(loss: float, geometric: bool) -> None:
    panel = panels(_report(loss))[0]
    assert panel.geometric is geometric
    low, high = panel.span()
    assert (low, high) == pytest.approx(np.log([0.1, loss]) if geometric else (0.1, loss))


def test_what_is_not_finite_lifts_the_pen() -> None:
    report = _report()
    report["curve"]["splits"]["train"]["loss"]["values"][3:5] = [np.nan, np.inf]
    panel = panels(report)[0]
    assert np.isnan(panel.height(panel.lines[0].values)).sum() == 2
    assert np.isfinite(panel.span()).all()


def test_lines_are_where_the_scale_says() -> None:
    picture = report_picture(_report(0.7), "title", "", LIGHT, 1000)
    strokes = [layer for layer in picture.layers if isinstance(layer, Stroke)]
    # 8 % of room below the lowest value, in a panel of 300 pixels from row 158 on.
    flat = [s for s in strokes if len(s.points) == 11 and s.width_px < 3]
    assert flat[0].points[:, 1] == pytest.approx(458 - 300 * 0.08 / 1.16)
    # The same picture whatever the boxes it is painted in.
    whole = paint(picture, picture.box)
    parts = [paint(picture, box) for box in picture.box.tiles(1000, 100)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    words: dict[str, Any] = {"examples": {"train": 4}}
    with pytest.raises(LossatlasError, match="wanted .png"):
        write_report(_report(), tmp_path / "a.pdf", **words)
    with pytest.raises(LossatlasError, match="is no folder"):
        write_report(_report(), tmp_path / "none" / "a.png", **words)
    with pytest.raises(LossatlasError, match="wanted light or dark"):
        write_report(_report(), tmp_path / "a.png", theme="sepia", **words)
    assert not list(tmp_path.iterdir())
