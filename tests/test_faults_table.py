"""Each promise of explanation/faults.md names tests that exist, one of them at least not slow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split(" | "))
    for line in (ROOT / "docs" / "explanation" / "faults.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| what dies or fails")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_promise_is_held_by_a_fast_test(row: tuple[str, ...]) -> None:
    held = row[-1].strip(" |")
    slow = re.findall(r"◦ `([^`]+)`", held)
    named = re.findall(r"`([^`]+\.py)`", held)
    assert len(named) > len(slow)
    for name in named:
        assert (ROOT / (name if "/" in name else f"tests/cluster/{name}")).is_file(), name
