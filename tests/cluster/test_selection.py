from __future__ import annotations

import pytest

from cluster.errors import ClusterError
from cluster.scheduling.selection import Selection, parse
from pipeline.geometry.grid import Grid

TILES = list(Grid(width=4, height=2, tile=2, frames=7).tiles())


def test_every_third_frame_comes_first_and_nothing_is_left_out() -> None:
    chosen = Selection(every=3).of(TILES)
    assert [tile.frame for tile in chosen[::2]] == [0, 3, 6, 1, 2, 4, 5]
    assert sorted(chosen) == TILES


@pytest.mark.parametrize(
    ("text", "frames"),
    [("2:4", [2, 3]), ("5:", [5, 6]), (":2", [0, 1]), ("3", [3]), ("0:", list(range(7)))],
)
def test_frames_as_python_counts(text: str, frames: list[int]) -> None:
    selection = parse(text)
    selection.check(7)
    assert sorted({tile.frame for tile in selection.of(TILES)}) == frames


@pytest.mark.parametrize("text", ["x", "4:2", "2:2", "-1:3", "1:2:3"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match="wanted A:B"):
        parse(text)


def test_frames_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ClusterError, match="wanted some of 0:7"):
        parse("7:9").check(7)
