"""Type: which font draws what, and what is said of characters that none has."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from cluster.cli import main
from renders.box import Box
from renders.colour import rgb
from renders.page import fallback, text
from renders.page.inks import inks_on
from renders.page.printed import Printed
from renders.page.sheet import Align, Sheet, house
from renders.page.text import Type, Weight, cap_height, font_file, text_width
from renders.page.theme import LIGHT
from tests.renders.sheets import inked, words_on

ARABIC, JAPANESE, EMOJI = "شبكة", "日本語", "😀"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    text.runs.cache_clear()
    text._TOLD.clear()
    yield
    text.runs.cache_clear()


def without_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "_fonts", lambda: ())


def lettered(words: str, kind: Type, align: Align = "left", x: float = 100.0) -> Sheet:
    """A sheet with one line of text that stands on y = 100."""
    with house(LIGHT):
        page = Sheet.blank(900, 200, 100.0, LIGHT)
        page.text(words, kind, x, 100.0, align)
    return page


def test_a_font_knows_what_it_lacks() -> None:
    own = font_file("Regular")
    assert all(fallback.has_glyph(own, c) for c in "aöλЖ₀∞−")
    assert not any(fallback.has_glyph(own, c) for c in f"{ARABIC}{JAPANESE}{EMOJI}")
    assert not fallback.has_glyph(Path("/none.ttf"), "a")


def test_what_no_font_has_is_a_question_mark_and_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_fonts(monkeypatch)
    kind = Type(20)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        page = lettered(f"{JAPANESE} net", kind)
        text_width(f"the {JAPANESE} net\n", Type(20, "Light"))
    assert len(seen) == 1
    assert str(seen[0].message).startswith("no font on this machine has 日 本 語: drawn as ?. Ins")
    assert words_on(page) == ["??? net"]


def test_another_font_draws_what_ours_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fallback.font_with("ش")
    if found is None:
        pytest.skip("needs a font with Arabic")
    own = font_file("Light")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Space belongs to our own font, on both sides.
        assert text.runs(f"Loss of {ARABIC} here", "Light") == (
            (own, "Loss of "),
            (found, ARABIC),
            (own, " here"),
        )
        page = lettered(f"{ARABIC} here", Type(30))
        ((_, joined),) = inked(lettered(ARABIC, Type(30)))
        apart = sum(box.width for c in ARABIC for _, box in inked(lettered(c, Type(30))))
    assert len(inked(page)) == 1
    # Its letters are joined: they are narrower than each alone.
    assert joined.width < 0.9 * apart


@pytest.mark.parametrize(
    "weight", ["ExtraLight", "Light", "Regular", "Semibold", "It", "SemiboldIt"]
)
@pytest.mark.parametrize("words", [ARABIC, f"Loss of {ARABIC}", f"{ARABIC} here"])
def test_what_a_font_was_found_for_is_drawn_with_it(weight: Weight, words: str) -> None:
    """matplotlib warns of what the font that it takes lacks, and draws a box."""
    if fallback.font_with("ش") is None:
        pytest.skip("needs a font with Arabic")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = lettered(words, Type(30, weight))
        assert inked(page)


def test_plain_text_looks_for_no_other_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "_fonts", lambda: pytest.fail("looked for fonts"))
    assert text_width("Train loss of PreResNet-20, w₀ − θ", Type(20)) > 100
    # An accent of its own, and the letter that has it, are the same.
    assert text_width("e\u0301", Type(20)) == text_width("é", Type(20))


def test_the_command_line_says_a_warning_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def drawing(*_: object, **__: object) -> int:
        text_width(EMOJI, Type(20))
        return 0

    without_fonts(monkeypatch)
    monkeypatch.setattr(main.cli, "main", drawing)
    assert main.run(["status"]) == 0
    said = capsys.readouterr().err
    assert said.startswith(f"lossatlas: no font on this machine has {EMOJI}: drawn as ?.")
    assert said.count("\n") == 1


@pytest.mark.parametrize("weight", ["Light", "Regular", "Semibold", "It", "SemiboldIt"])
@pytest.mark.parametrize("size", [33.0, 9.0])
def test_text_is_as_wide_as_it_was_measured(weight: Weight, size: float) -> None:
    """Pages are laid out with the one and drawn with the other."""
    for words in (
        "Train loss of PreResNet-20 in the plane of a curve", "TRAIN LOSS", "AVATAR To. We",
        "3×10⁶ · 5e−6 · 0.05", "w₀ − θ",
    ):  # fmt: skip
        page = lettered(words, Type(size, weight), x=20.0)
        (text_,) = page.figure.findobj(Text)
        assert isinstance(text_, Text)
        with house(LIGHT):
            extent = text_.get_window_extent()
        measured = text_width(words, Type(size, weight))
        assert extent.width == pytest.approx(measured, rel=0.035, abs=0.5), words


@pytest.mark.parametrize(("align", "part"), [("left", 0.0), ("centre", 0.5), ("right", 1.0)])
def test_text_stands_on_its_baseline_where_it_was_aligned(align: Align, part: float) -> None:
    kind = Type(40.0, "Semibold")
    ((_, ink),) = inked(lettered("HAMBURG", kind, align, 450.0))
    assert ink.bottom == pytest.approx(100, abs=2)
    assert ink.height == pytest.approx(cap_height(kind), abs=3)
    left = 450 - part * text_width("HAMBURG", kind)
    assert ink.x == pytest.approx(left, abs=5)
    assert ink.right == pytest.approx(left + text_width("HAMBURG", kind), abs=5)


@pytest.mark.parametrize("weight", ["Light", "Regular", "Semibold", "It", "SemiboldIt"])
def test_every_glyph_we_letter_with_exists(weight: Weight) -> None:
    own = font_file(weight)
    for glyph in "w₀₁₂₃₄₅₆₇₈₉⁰¹²³⁴⁵⁶⁷⁸⁹×−·–%,.…":
        assert fallback.has_glyph(own, glyph), glyph
        assert inked(lettered(glyph, Type(40, weight))), glyph


@pytest.mark.parametrize("degrees", [90.0, -60.0, 17.0])
def test_turned_text_is_turned_about_the_middle_of_its_baseline(degrees: float) -> None:
    """Counter-clockwise."""
    with house(LIGHT):
        page = Sheet.blank(200, 200, 100.0, LIGHT)
        page.turned("HHHHHH", Type(30.0), 100.5, 100.5, np.radians(degrees), "#000000")
    ((_, box),) = inked(page)
    long, tall = text_width("HHHHHH", Type(30.0)), cap_height(Type(30.0))
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    assert box.width == pytest.approx(long * abs(cosine) + tall * abs(sine), abs=6)
    assert box.height == pytest.approx(long * abs(sine) + tall * abs(cosine), abs=6)
    # Letters stand on the left of a line that runs upwards.
    assert box.x + box.width / 2 == pytest.approx(100.5 - tall / 2 * sine, abs=2)
    assert box.y + box.height / 2 == pytest.approx(100.5 - tall / 2 * cosine, abs=2)


def ink_at(floating: bool, x: float) -> float:
    """The middle of a haloed text's ink, in pixels from the left."""
    with house(LIGHT):
        page = Sheet.blank(300, 100, 72.0, LIGHT)
        inks = inks_on(rgb("#0a1a50"), LIGHT)
        page.haloed("bend", Type(27.0, "Semibold"), x, 60, inks, "centre", floating=floating)
    alpha = np.asarray(Printed(page).ink(Box(0, 0, 300, 100)))[..., 3].astype(float)
    return float((alpha.sum(axis=0) * (np.arange(300) + 0.5)).sum() / alpha.sum())


def test_floating_text_moves_by_fractions_of_a_pixel() -> None:
    """What moves slowly in a film would tremble on whole ones."""
    steps = np.diff([ink_at(True, 150 + k / 8) for k in range(17)])
    np.testing.assert_allclose(steps, 1 / 8, atol=0.05)


def test_a_rim_lies_all_around_its_letters() -> None:
    dark = inks_on(rgb("#0a1a50"), LIGHT)
    for floating in (False, True):
        with house(LIGHT):
            page = Sheet.blank(300, 100, 72.0, LIGHT)
            page.haloed("bend", Type(40.0, "Semibold"), 100, 60, dark, floating=floating)
        out = np.full((100, 300, 3), 90, dtype=np.uint8)
        Printed(page).draw(out, Box(0, 0, 300, 100))
        grey = out.astype(int).mean(axis=2)
        rows, columns = np.nonzero(grey > 200)
        around, across = np.nonzero(grey < 89)
        assert around.min() <= rows.min() - 3
        assert around.max() >= rows.max() + 3
        assert across.min() <= columns.min() - 3
        assert across.max() >= columns.max() + 3
