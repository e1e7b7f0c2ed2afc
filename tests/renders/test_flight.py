"""Films in the round: where the camera is, and that the model moves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import av
import numpy as np
import pytest

from renders.film.film import export_film
from renders.film.flight import Flight, flight_from, path_from, stand_for
from renders.film.reel import open_reel
from renders.relief.camera import Camera, CameraError
from tests.renders.films import film_store

SIZE = (320, 180)


def _degrees(camera: Camera) -> tuple[float, float]:
    return math.degrees(camera.azimuth), math.degrees(camera.altitude)


def test_a_whole_turn_leads_on_to_its_start_and_a_part_of_one_eases_in_and_out() -> None:
    whole = Flight((Camera(0.0, 0.5),), 2 * math.pi)
    assert whole.loops
    assert whole.camera(0.25).azimuth == pytest.approx(math.pi / 2)
    part = Flight((Camera(0.0, 0.5),), math.radians(60))
    assert not part.loops
    assert _degrees(part.camera(1.0))[0] == pytest.approx(60)
    assert _degrees(part.camera(0.5))[0] == pytest.approx(30)
    assert _degrees(part.camera(0.05))[0] < 1


def test_a_path_passes_through_its_cameras() -> None:
    flight = Flight(path_from("160,30 200,50; 240,20"))
    for part, there in ((0.0, (160, 30)), (0.5, (200, 50)), (1.0, (240, 20))):
        assert _degrees(flight.camera(part)) == pytest.approx(there)
    steep = Flight(path_from("0,80 90,90 180,90 270,10"))
    altitudes = [steep.camera(part).altitude for part in np.linspace(0, 1, 50).tolist()]
    assert max(altitudes) <= math.pi / 2


def test_what_is_no_flight_is_refused() -> None:
    with pytest.raises(CameraError, match="at least two cameras"):
        path_from("160,30")
    with pytest.raises(CameraError, match="orbit is inf"):
        flight_from(None, math.inf, 0.2)


def test_the_model_stays_whole_in_every_picture_of_a_flight(tmp_path: Path) -> None:
    reel = open_reel(film_store(tmp_path), SIZE, flat=False)
    stand = stand_for(reel.scene, Flight(None, 2 * math.pi), reel.surfaces())
    room = reel.scene.stage.map
    for frame in (0, 2):
        ground = stand.modelled(reel.surface(frame)).ground
        for part in (0.0, 0.13, 0.4, 0.77):
            x, y, _ = stand.framing.shot(stand.flight.camera(part)).project(ground.points)
            assert room.x - 1 < x.min()
            assert x.max() < room.right + 1
            assert room.y - 1 < y.min()
            assert y.max() < room.bottom + 1


def test_a_film_in_the_round_shows_the_model_as_it_changes(tmp_path: Path) -> None:
    url = film_store(tmp_path)
    out = tmp_path / "round.mp4"
    still = Flight((Camera(),))
    made = export_film(url, out, size=SIZE, fps=10, hold=0, flight=still)
    assert (made.pictures, made.computed) == (3, 3)
    with av.open(str(out)) as container:
        pictures = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)]
        said = json.loads(container.metadata["comment"])
    assert said["flight"]["cameras"] == [[160.0, 38.0, 26.0]]
    # The camera stands, the bend moves away from the line: only the terrain can have changed.
    map_ = (slice(20, 120), slice(80, 240))
    changed = np.abs(pictures[2][map_] - pictures[0][map_]).max(axis=-1)
    assert (changed > 24).mean() > 0.02


def test_a_single_frame_makes_a_film_that_goes_once_around(tmp_path: Path) -> None:
    url = film_store(tmp_path, frames=1, finished=1)
    out = tmp_path / "orbit.mp4"
    made = export_film(
        url, out, size=SIZE, fps=4, hold=0, each=2, flight=flight_from(None, None, 0.2)
    )
    assert made.pictures == 8
    with av.open(str(out)) as container:
        pictures = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)]
    steps = [
        np.abs(a - b).mean() for a, b in zip(pictures, [*pictures[1:], pictures[0]], strict=True)
    ]
    assert min(steps) > 1
    # From the last picture to the first it is no farther than from any to the next.
    assert steps[-1] < 1.6 * max(steps[:-1])
