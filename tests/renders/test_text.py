"""Type: which font draws what, and what is said of characters that none has."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cluster.cli import main
from renders.page import fallback, text
from renders.page.text import Type, font_file, text_mask, text_width

ARABIC, JAPANESE, EMOJI = "شبكة", "日本語", "😀"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    text.runs.cache_clear()
    text._TOLD.clear()
    yield
    text.runs.cache_clear()


def without_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "_fonts", lambda: ())


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
        mask, _ = text_mask(f"{JAPANESE} net", kind)
        text_width(f"the {JAPANESE} net\n", Type(20, "Light"))
    assert len(seen) == 1
    assert str(seen[0].message).startswith("no font on this machine has 日 本 語: drawn as ?. Ins")
    np.testing.assert_array_equal(mask, text_mask("??? net", kind)[0])


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
        drawn, _ = text_mask(ARABIC, Type(30))
        spaced, _ = text_mask(ARABIC, Type(30, "Regular", 0.1))
    assert drawn.any()
    # Its letters are joined, and never set apart.
    np.testing.assert_array_equal(drawn[:, : drawn.shape[1]], spaced[:, : drawn.shape[1]])


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
