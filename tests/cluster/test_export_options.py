"""The exports' options, as a user types them."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cluster.commands.export import export

PAGE = ("--width", "--size", "--paper", "--orientation", "--dpi", "--format", "--layout")
TONE = ("--quantity", "--split", "--frame", "--tone", "--clip", "--limits", "--palette", "--theme")


@pytest.mark.parametrize("command", ["poster", "relief"])
def test_posters_and_reliefs_take_the_same_page_and_tone(command: str) -> None:
    said = CliRunner().invoke(export, [command, "--help"]).output
    words = said.split()
    assert [option for option in (*PAGE, *TONE) if option not in words] == []
