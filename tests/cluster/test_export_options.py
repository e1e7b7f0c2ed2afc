"""The exports' options, as a user types them."""

from __future__ import annotations

import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

import renders.film.film
import renders.film.frames
import renders.poster
import renders.web.webmap
from cluster.cli import main
from cluster.cli.export.group import export
from tests.renders.films import film_store

PAGE = ("--width", "--size", "--paper", "--orientation", "--dpi", "--format", "--layout")
TONE = ("--quantity", "--split", "--frame", "--tone", "--clip", "--limits", "--palette", "--theme")


@pytest.mark.parametrize("command", ["poster", "relief"])
def test_posters_and_reliefs_take_the_same_page_and_tone(command: str) -> None:
    said = CliRunner().invoke(export, [command, "--help"]).output
    words = said.split()
    assert [option for option in (*PAGE, *TONE) if option not in words] == []


@pytest.mark.slow
def test_a_film_takes_its_flight_and_its_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = ["export", "film", film_store(tmp_path), str(tmp_path / "a.mp4"), "--size", "64x48"]
    film += ["--frames", "1:3", "--hold", "0", "--palette", "#102040,#f8f0d0"]
    assert main.run([*film, "--orbit", "30"]) == 2
    assert "--orbit is for films in the round: say --relief too" in capsys.readouterr().err
    assert main.run([*film, "--relief", "--orbit", "30"]) == 0
    assert "from 2 computed" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["poster", "relief", "map", "film", "frames"])
def test_every_export_can_leave_marks_out(command: str) -> None:
    assert "--no-marks" in CliRunner().invoke(export, [command, "--help"]).output


def test_marks_are_shown_in_one_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, film = film_store(tmp_path), str(tmp_path / "a.mp4")
    for asked, said in (
        (["film", url, film, "--marks", "own"], "--marks is for films in the round"),
        (["film", url, film, "--grow"], "no line of marks to grow"),
        (["relief", url, str(tmp_path / "a.png"), "--marks", "own"], "shows no marks"),
        (
            ["relief", url, str(tmp_path / "a.png"), "--marks", "own", "--no-marks"],
            "--marks own and --no-marks are both given",
        ),
    ):
        assert main.run(["export", *asked]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.zarr"]


@pytest.mark.parametrize(
    ("command", "module", "function"),
    [
        ("poster", renders.poster, "export_poster"),
        ("relief", renders.poster, "export_poster"),
        ("map", renders.web.webmap, "export_map"),
        ("film", renders.film.film, "export_film"),
        ("frames", renders.film.frames, "export_frames"),
    ],
)
def test_an_interrupted_export_says_what_is_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    module: ModuleType,
    function: str,
) -> None:
    def interrupted(store: str, out: str, **how: Any) -> None:
        if command == "frames" and told:
            how["on_progress"](2, 9)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(module, function, interrupted)
    out, told = tmp_path / "out", list[str]()
    for _ in range(2):
        assert main.run(["export", command, "a.zarr", str(out)]) == 130
        told.append(capsys.readouterr().err.replace(str(tmp_path), ""))
        out.touch()
    expected = ["/out was not written", "/out is as it was before"]
    if command == "frames":
        expected = [
            "no frame was made this time",
            "2 frames in /out kept; the same command makes the others",
        ]
    assert told == [f"lossatlas: stopped; {words}\n" for words in expected]
