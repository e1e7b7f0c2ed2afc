"""Sizes of pages as people write them."""

from __future__ import annotations

import pytest

from cluster.cli.export.sizes import length_from, page_size, size_or_width
from cluster.errors import ClusterError


def test_lengths_and_sizes_are_whole_pixels() -> None:
    assert length_from("3000", 300) == 3000
    assert length_from("3.25in", 300) == 975
    assert length_from("8.9 cm", 600) == length_from("89mm", 600) == 2102
    assert page_size("3.25x2.4in", 300) == (975, 720)
    assert page_size("1920×1080", 72) == (1920, 1080)
    assert size_or_width("3.25in") == (975, None)
    assert size_or_width(None) == (2400, None)


@pytest.mark.parametrize("text", ["3.25", "in", "3.25x", "x", "3x4x5", "..x2in", "3.25ft"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match="wanted pixels or"):
        size_or_width(text) if text != "in" else length_from(text, 300)
