"""The exports' options, as a user types them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster import cli
from cluster.commands.export import export
from tests.renders.films import film_store

PAGE = ("--width", "--size", "--paper", "--orientation", "--dpi", "--format", "--layout")
TONE = ("--quantity", "--split", "--frame", "--tone", "--clip", "--limits", "--palette", "--theme")


@pytest.mark.parametrize("command", ["poster", "relief"])
def test_posters_and_reliefs_take_the_same_page_and_tone(command: str) -> None:
    said = CliRunner().invoke(export, [command, "--help"]).output
    words = said.split()
    assert [option for option in (*PAGE, *TONE) if option not in words] == []


def test_a_film_takes_its_flight_and_its_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = ["export", "film", film_store(tmp_path), str(tmp_path / "a.mp4"), "--size", "64x48"]
    film += ["--frames", "1:3", "--hold", "0", "--palette", "#102040,#f8f0d0"]
    assert cli.run([*film, "--orbit", "30"]) == 2
    assert "--orbit is for films in the round: say --relief too" in capsys.readouterr().err
    assert cli.run([*film, "--relief", "--orbit", "30"]) == 0
    assert "from 2 computed" in capsys.readouterr().out
