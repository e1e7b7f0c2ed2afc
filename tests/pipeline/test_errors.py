"""How somebody else's error is told on one line."""

from __future__ import annotations

from pipeline.errors import described, one_line


def test_a_message_of_many_lines_becomes_one() -> None:
    error = ValueError("shape (3, 2)\n   does not fit\n\tshape (4,)\n")
    assert one_line(error) == "shape (3, 2) does not fit shape (4,)"
    assert one_line(error, 12) == "shape (3, 2)"
    assert described(error) == "ValueError: shape (3, 2) does not fit shape (4,)"
    assert described(error, 12) == "ValueError: shape (3, 2)"


def test_an_error_without_a_message_is_named_once() -> None:
    assert one_line(AssertionError()) == one_line(AssertionError(" \n")) == "AssertionError"
    assert described(AssertionError(), 300) == "AssertionError"
