"""Sheets as layers of a picture: any box is cut out of the whole, whoever draws it and when."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from renders.box import Box
from renders.colour import rgb
from renders.page.axes import draw_axes
from renders.page.inks import Inks, inks_on
from renders.page.lines import Pen
from renders.page.printed import Printed, blend
from renders.page.sheet import Align, Sheet, house
from renders.page.text import Type, Weight
from renders.page.theme import DARK, LIGHT
from renders.projection import Projection
from tests.renders.sheets import GROUND, drawn, ink_of, stitched

WIDE, HIGH = 1103, 617
TILES = ((331, 77), (117, 900))
DPIS = (300.0, 127.3)
INKS: Inks = inks_on(rgb("#0a1a50"), LIGHT)


class Chance:
    """Sizes and places.

    Args:
        seed: of the same ones.
        off: 0 yields whole and half pixels, where a hair decides how they are rounded.
    """

    def __init__(self, seed: int, off: float = 0.0) -> None:
        self.off, self._from = off, np.random.default_rng(seed)

    def size(self, low: float, high: float) -> float:
        return float(self._from.uniform(low, high))

    def places(self, count: int) -> Iterator[tuple[float, float]]:
        """Some of them are beyond the page."""
        for _ in range(count):
            x, y = self._from.integers(-40, (2 * WIDE + 40, 2 * HIGH + 40)) / 2
            yield float(x) + self.off, float(y) + self.off


Things = Callable[[Sheet, Chance], None]


def wave(k: int, beyond: float = 50.0) -> tuple[Any, Any]:
    x = np.linspace(-beyond, WIDE + beyond, 200)
    return x, HIGH / 2 + HIGH / 3 * np.sin(x / (17 + 9 * k) + k)


def texts(sheet: Sheet, chance: Chance) -> None:
    words = "Loss 0.5", "AVATAR", "w₀ − 3×10⁶", "λ → ∞", "Ж ☃", "شبكة"
    kinds: tuple[Weight, ...] = ("Light", "Regular", "Semibold", "It", "SemiboldIt", "ExtraLight")
    sides: tuple[Align, ...] = ("left", "centre", "right")
    for k, (x, y) in enumerate(chance.places(36)):
        # No slanted or extra light font here need have other scripts.
        said = k // 3 % 6
        kind = Type(chance.size(5, 60), kinds[k % (3 if said > 3 else 6)])
        sheet.text(words[said], kind, x, y, sides[k % 3])


def turned(sheet: Sheet, chance: Chance) -> None:
    for x, y in chance.places(30):
        kind = Type(chance.size(5, 40), "Semibold")
        sheet.turned("0.0005", kind, x, y, chance.size(-1.5, 1.5), "#123456")


def haloed(sheet: Sheet, chance: Chance) -> None:
    for k, (x, y) in enumerate(chance.places(20)):
        said, weight = ("w₀ bend", "SemiboldIt") if k % 3 else ("a λ ☃", "Semibold")
        kind = Type(chance.size(5, 40), weight)  # type: ignore[arg-type]
        sheet.haloed(said, kind, x, y, INKS, "centre", 0.8, floating=k % 2 == 1)


def large_letters(sheet: Sheet, chance: Chance) -> None:
    """As on a poster of a square metre, whose slanted letters lean out of their widths."""
    for k, weight in enumerate(("SemiboldIt", "It", "Light")):
        kind = Type(190.0 + 50 * k, weight)  # type: ignore[arg-type]
        sheet.text("fjord", kind, 20.3 + 300 * k, 230.7)
        sheet.haloed("bend", kind, 20.3 + 300 * k, 530.2, INKS, floating=k == 1)


def wide_lines(sheet: Sheet, chance: Chance) -> None:
    for k in range(8):
        sheet.mark(*wave(k), color="#800000", lw=sheet.points(3 * k + 0.4), alpha=0.6)


def straight_lines(sheet: Sheet, chance: Chance) -> None:
    for k, (x, y) in enumerate(chance.places(20)):
        width = sheet.points(1 + k % 5)
        sheet.mark([x, x], [0, HIGH], color="#004000", lw=width)
        sheet.mark([0, WIDE], [y, y], color="#000040", lw=width)


def clipped_lines(sheet: Sheet, chance: Chance) -> None:
    for k in range(8):
        clip = Box(40 + k, 50 - k, WIDE - 200, HIGH - 90)
        sheet.mark(*wave(k), clip=clip, color="#008000", lw=sheet.points(5 * k + 1), alpha=0.6)


def dashed_lines(sheet: Sheet, chance: Chance) -> None:
    for k in range(6):
        width = sheet.points(1.5 + k)
        clip = Box(20, 20, 900, 400)
        sheet.mark(*wave(k, -10), clip=clip, color="#000080", lw=width, ls=(0, (3, 2)))


def markers(sheet: Sheet, chance: Chance) -> None:
    for k, (x, y) in enumerate(chance.places(24)):
        sheet.disc(x, y, chance.size(0.6, 30), "#335577", 0.7)
        size = sheet.points(chance.size(2, 20))
        sheet.mark([x, y], [y, x], marker="x^o+"[k % 4], ms=size, ls="")


def rectangles(sheet: Sheet, chance: Chance) -> None:
    for x, y in chance.places(24):
        width, height = (round(chance.size(1, 90)) for _ in "wh")
        sheet.rectangle(Box(round(x), round(y), width, height), "#553377", 0.6)


def axes(sheet: Sheet, chance: Chance) -> None:
    for line_px, at in (
        (1 if chance.off == 0 else 2, Box(60, 40, 241, 180)),
        (2, Box(350, 60, 250, 311)),
    ):
        draw_axes(sheet, Projection(at, (-2, 2, -1.5, 1.5)), 11.3, line_px, ("x", "y"))


def grids(sheet: Sheet, chance: Chance) -> None:
    from renders.page.lines import Line, Panel, draw_panel

    x = np.linspace(-1, 1, 33)
    line = Line(x, 0.3 + np.abs(x), "#a02030", np.zeros(33, np.uint8))
    panel = Panel("loss", "nats", (line,), False, 0.3, 1.3, verticals=((0.0, "w₀"),))
    draw_panel(sheet, Box(70, 30, 500, 350), panel, Pen.of(1.0), "x", True)


ALL: dict[str, Things] = {
    "texts": texts,
    "turned": turned,
    "haloed": haloed,
    "large letters": large_letters,
    "wide lines": wide_lines,
    "straight lines": straight_lines,
    "clipped lines": clipped_lines,
    "dashed lines": dashed_lines,
    "markers": markers,
    "rectangles": rectangles,
    "axes": axes,
    "grids": grids,
}


def sheet_of(*names: str, seed: int = 0, dpi: float = 300.0, off: float = 0.0) -> Sheet:
    """A sheet with these things on it, or with everything."""
    chance = Chance(seed, off)
    with house(LIGHT):
        sheet = Sheet.blank(WIDE, HIGH, dpi, LIGHT)
        for name in names or ALL:
            ALL[name](sheet, chance)
    return sheet


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in ("haloed", "turned") else n for n in ALL],
)
def test_boxes_of_any_size_are_cut_out_of_the_whole(name: str) -> None:
    for seed, dpi in enumerate(DPIS):
        layer = Printed(sheet_of(name, seed=seed, dpi=dpi))
        whole = drawn(layer, layer.covers)
        for size in TILES:
            off = np.abs(stitched(layer, layer.covers, *size).astype(int) - whole).max(axis=2)
            assert not off.any(), f"{(off > 0).sum()} pixels at {dpi} dpi, up to {off.max()}"


@pytest.mark.parametrize("name", ALL)
def test_all_ink_of_a_thing_lies_in_its_box(name: str) -> None:
    for seed, dpi in enumerate(DPIS):
        sheet = sheet_of(name, seed=seed, dpi=dpi)
        page = Box(0, 0, WIDE, HIGH)
        for artist, box in Printed(sheet)._pieces:
            ink = ink_of(sheet, artist).meet(page)
            assert ink.empty or ink.meet(box) == ink, (artist, box, ink)


@pytest.mark.parametrize("name", [name for name in ALL if name != "dashed lines"])
def test_the_layer_is_what_the_figure_draws(name: str) -> None:
    sheet = sheet_of(name, off=0.3)
    with house(LIGHT):
        canvas: Any = FigureCanvasAgg(sheet.figure)
        canvas.draw()
        figure = np.asarray(canvas.buffer_rgba())
    layer = Printed(sheet)
    off = np.abs(drawn(layer, layer.covers, rgb(LIGHT.paper)) - figure[..., :3].astype(int))
    # At the page's edges Agg leaves out wide lines that run just beyond it.
    wrong = off[40:-40, 40:-40].max(axis=2) > 8
    assert wrong.mean() < 5e-5, f"{wrong.sum()} pixels"


@pytest.mark.parametrize("name", [name for name in ALL if name != "dashed lines"])
def test_what_is_kept_is_what_would_be_drawn(name: str) -> None:
    """But for rounding where Agg cuts lines. Dashes begin anew in a cell, and are whole here."""
    for seed, dpi in enumerate(DPIS):
        layer = Printed(sheet_of(name, seed=seed, dpi=dpi))
        kept = layer.kept()
        assert kept.covers == layer.covers
        for box in (layer.covers, Box(100, 90, 333, 217)):
            assert np.abs(drawn(kept, box).astype(int) - drawn(layer, box)).max() <= 2


def test_boxes_without_ink_are_left_alone() -> None:
    with house(LIGHT):
        sheet = Sheet.blank(400, 300, 100.0, LIGHT)
        sheet.text("only here", Type(20), 250, 250)
    layer = Printed(sheet)
    assert layer.ink(Box(0, 0, 200, 150)) is None
    ink = layer.ink(Box(200, 200, 200, 100))
    assert ink is not None
    assert ink.shape == (100, 200, 4)
    assert ink[..., 3].any()
    assert len(layer.kept().cells) < 12
    with house(LIGHT):
        blank = Printed(Sheet.blank(400, 300, 100.0, LIGHT))
    assert blank.ink(blank.covers) is None
    assert (drawn(blank, blank.covers) == GROUND).all()
    assert blank.kept().cells == ()


def test_nothing_is_drawn_beyond_the_page() -> None:
    layer = Printed(sheet_of("texts", "turned", "wide lines"))
    assert layer.covers == Box(0, 0, WIDE, HIGH)
    kept = layer.kept()
    assert all(cell.meet(kept.covers) == cell for cell, _ in kept.cells)


def test_a_sheet_that_was_sent_elsewhere_draws_the_same() -> None:
    sheet = sheet_of()
    layer = Printed(sheet)
    whole = drawn(layer, layer.covers)
    for sent in (Printed(pickle.loads(pickle.dumps(sheet))), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(drawn(sent, sent.covers), whole)


def test_threads_that_draw_at_once_do_not_disturb_each_other() -> None:
    layer = Printed(sheet_of())
    boxes = list(layer.covers.tiles(512, 300))
    alone = [drawn(layer, box) for box in boxes]
    fresh = Printed(sheet_of())
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda box: drawn(fresh, box), boxes))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_sheets_of_two_themes_are_drawn_at_once() -> None:
    sheets = []
    for theme in (LIGHT, DARK):
        with house(theme):
            sheet = Sheet.blank(300, 200, 100.0, theme)
            draw_axes(sheet, Projection(Box(60, 30, 200, 120), (-2, 2, -1, 1)), 11, 1, ("x", "y"))
            sheet.text("loss", Type(30), 80, 100)
        sheets.append(sheet)
    alone = [drawn(Printed(sheet), Box(0, 0, 300, 200)) for sheet in sheets]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(drawn, Printed(sheets[k % 2]), Box(0, 0, 300, 200)) for k in range(12)]
    for k, one in enumerate(asked):
        np.testing.assert_array_equal(one.result(), alone[k % 2])
    assert not np.array_equal(alone[0], alone[1])


def test_the_users_own_style_changes_nothing_and_is_kept() -> None:
    layer = Printed(sheet_of())
    plain = drawn(layer, layer.covers)
    own: Any = {
        "path.simplify": True, "path.simplify_threshold": 1.0, "path.snap": False,
        "font.family": ["DejaVu Serif"], "font.size": 30, "text.antialiased": False,
        "text.color": "red", "lines.antialiased": False, "lines.linewidth": 9,
        "lines.dash_capstyle": "butt", "axes.edgecolor": "red", "axes.grid": True,
        "xtick.direction": "in", "figure.dpi": 33, "savefig.dpi": 44, "text.hinting": "none",
        "axes.unicode_minus": False, "agg.path.chunksize": 101,
    }  # fmt: skip
    with matplotlib.rc_context(own):
        made = Printed(sheet_of())
        np.testing.assert_array_equal(drawn(made, made.covers), plain)
        np.testing.assert_array_equal(drawn(layer, layer.covers), plain)
        assert matplotlib.rcParams["font.size"] == 30
        assert matplotlib.rcParams["path.simplify"] is True


def test_a_straight_line_is_unbroken_whatever_the_boxes() -> None:
    with house(LIGHT):
        sheet = Sheet.blank(400, 300, 300.0, LIGHT)
        for k in range(12):
            x = 20.25 + 31.3 * k
            sheet.mark([x, x], [-10, 310], color="black", lw=sheet.points(1 + k % 3))
    layer = Printed(sheet)
    out = stitched(layer, layer.covers, 37, 41)
    assert (out == out[:1]).all()
    assert (out != GROUND).any()


@pytest.mark.parametrize("clipped", [False, True])
def test_a_wide_line_reaches_into_the_boxes_beside_it(clipped: bool) -> None:
    """By half its width, and no farther, even where its middle lies outside the box."""
    with house(LIGHT):
        sheet = Sheet.blank(300, 200, 100.0, LIGHT)
        clip = Box(0, 0, 300, 200) if clipped else None
        sheet.mark([-50, 350], [100, 100], clip=clip, color="black", lw=sheet.points(60))
    layer = Printed(sheet)
    above, below = drawn(layer, Box(40, 50, 200, 40)), drawn(layer, Box(40, 110, 200, 40))
    for part in (above[20:], below[:20]):
        assert (part == 0).all()
    for part in (above[:19], below[21:]):
        assert (part == GROUND).all()


def test_ink_is_laid_over_what_is_there() -> None:
    out = np.full((3, 4, 3), 100, dtype=np.uint8)
    ink = np.zeros((3, 4, 4), dtype=np.uint8)
    ink[1, 1], ink[1, 2] = (200, 0, 50, 255), (200, 0, 50, 51)
    blend(out, ink)
    assert out[1, 1].tolist() == [200, 0, 50]
    assert out[1, 2].tolist() == [120, 80, 90]
    assert (np.delete(out.reshape(-1, 3), [5, 6], axis=0) == 100).all()


def test_the_parts_of_an_axis_that_is_switched_off_are_not_drawn() -> None:
    with house(LIGHT):
        sheet = Sheet.blank(300, 200, 100.0, LIGHT)
        axes = sheet.axes(Box(50, 50, 200, 100), frameon=False)
        axes.set_axis_off()
    layer = Printed(sheet)
    assert (drawn(layer, layer.covers) == GROUND).all()
