"""Films, decoded again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import LossatlasError
from renders.film import film as film_module
from renders.film.encode import coding_for, encoding
from renders.film.film import FilmError, _painted, export_film
from renders.film.frames import export_frames
from renders.film.moment import moments
from renders.film.picture import scene_picture
from renders.film.reel import open_reel
from renders.picture import paint
from tests.renders.films import SIZE, film_store


def test_a_film_is_tagged_and_its_colours_are_those_painted(tmp_path: Path) -> None:
    url = film_store(tmp_path)
    out = tmp_path / "film.mp4"
    made = export_film(url, out, size=SIZE, fps=10, hold=0.2, interpolate=2)
    # Three computed pictures, two between each two, and two more for each end.
    assert (made.pictures, made.computed) == (3 + 4 + 4, 3)
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        assert (context.width, context.height, context.pix_fmt) == (*SIZE, "yuv420p")
        tags = (context.color_primaries, context.color_trc, context.colorspace)
        assert tags == (1, 1, 1)
        assert context.color_range == 1
        said = json.loads(container.metadata["comment"])
        assert said["interpolated_between_each_two"] == 2
        assert said["fingerprint"] == "f" * 64
        frames = list(container.decode(video=0))
    assert len(frames) == made.pictures
    shown = frames[0].reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
    reel = open_reel(url, SIZE, least=1.0, blends=True)
    painted = _painted(reel, next(iter(moments(reel.surfaces(), 0, reel.tone))))
    # Chroma is halved in size, so only the averages of blocks can agree; 601 for 709 is off by 10.
    blocks = [p[:160, :320].reshape(8, 20, 16, 20, 3).mean((1, 3)) for p in (shown, painted)]
    assert np.abs(blocks[0] - blocks[1]).max() < 4


@pytest.mark.parametrize("blends", [False, True])
def test_bands_of_a_frame_are_cut_out_of_the_whole(tmp_path: Path, blends: bool) -> None:
    """Dashes go on from band to band, too."""
    reel = open_reel(film_store(tmp_path), (960, 540), least=1.0, blends=blends)
    for moment in moments(reel.surfaces(), int(blends), reel.tone):
        picture = scene_picture(reel.scene, moment)
        parts = [paint(picture, box) for box in picture.box.tiles(960, 128)]
        np.testing.assert_array_equal(np.concatenate(parts), paint(picture, picture.box))


def test_the_index_is_in_front(tmp_path: Path) -> None:
    out = tmp_path / "film.mp4"
    export_film(film_store(tmp_path), out, size=SIZE)
    content = out.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_what_makes_no_film_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    url = film_store(tmp_path, finished=1)
    with pytest.raises(FilmError, match="has one finished frame"):
        export_film(url, tmp_path / "a.mp4", size=SIZE)
    with pytest.raises(LossatlasError, match="322x180 is the nearest"):
        export_film(url, tmp_path / "a.mp4", size=(321, 180))
    with pytest.raises(LossatlasError, match="wanted one of .mp4"):
        export_film(url, tmp_path / "a.avi", size=SIZE)
    with pytest.raises(FilmError, match="is no folder"):
        export_film(url, tmp_path / "none/a.mp4", size=SIZE)
    with pytest.raises(LossatlasError, match="no such store"):
        export_film(str(tmp_path / "none.zarr"), tmp_path / "a.mp4", size=SIZE)
    assert [p.name for p in tmp_path.iterdir()] == ["film.zarr"]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "a.webp"])
def test_a_full_disk_leaves_nothing_and_says_so(
    name: str, tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(4)
    url = film_store(tmp_path)
    with pytest.raises(
        LossatlasError,
        match=r"cannot be written \(No space left on device\)",
    ):
        export_film(url, disk / name, size=SIZE, lossless=name.endswith("mkv"))
    assert not list(disk.iterdir())


def test_frames_on_a_full_disk_go_on_once_there_is_room(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(512)
    filler = disk / "filler"
    filler.write_bytes(bytes(480 << 10))
    url = film_store(tmp_path)
    with pytest.raises(
        LossatlasError,
        match=r"cannot be written \(its pixels need .* are free\)",
    ):
        export_frames(url, disk / "frames", size=SIZE)
    filler.unlink()
    export_frames(url, disk / "frames", size=SIZE)
    whole = tmp_path / "whole"
    export_frames(url, whole, size=SIZE)
    for picture in sorted(whole.glob("*.png")):
        assert (disk / "frames" / picture.name).read_bytes() == picture.read_bytes()


def _decoded(path: Path, format_: str = "rgb24") -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=format_) for frame in container.decode(video=0)]


def test_a_master_keeps_every_pixel(tmp_path: Path) -> None:
    url, out = film_store(tmp_path), tmp_path / "master.mkv"
    made = export_film(url, out, size=SIZE, fps=10, hold=0, lossless=True)
    assert made.codec == "ffv1"
    reel = open_reel(url, SIZE, least=1.0)
    painted = [_painted(reel, moment) for moment in moments(reel.surfaces(), 0, reel.tone)]
    np.testing.assert_array_equal(np.stack(_decoded(out)), np.stack(painted))


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_loops_go_on_for_ever(ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"film.{ending}"
    export_film(film_store(tmp_path), out, size=SIZE, fps=10, hold=0.2, interpolate=1)
    with Image.open(out) as loop:
        assert loop.size == SIZE
        assert loop.info["loop"] == 0
        assert loop.is_animated
        # Three computed frames and a moment between each two; what stands may be one long picture.
        assert loop.n_frames >= 5


def test_a_lossy_loop_follows_slow_changes(tmp_path: Path) -> None:
    """An encoder that leaves places be which change a little falls behind, block by block."""
    out, (width, height) = tmp_path / "slow.webp", (160, 96)
    ramp = np.mgrid[:height, :width].sum(axis=0)[..., None] * np.array([0.5, 0.3, 0.2])
    pictures = [np.uint8(ramp + 0.7 * k) for k in range(100)]
    with encoding(out, coding_for(out), (width, height), Fraction(10)) as encoder:
        for picture in pictures:
            encoder.add(picture)
    with Image.open(out) as loop:
        loop.seek(90)
        found = np.asarray(loop.convert("RGB"), dtype=float)
    apart = (found - pictures[90]).reshape(height // 8, 8, width // 8, 8, 3).mean((1, 3))
    assert np.abs(apart).max() < 4


def test_frames_that_stand_are_painted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted = []
    monkeypatch.setattr(
        film_module,
        "_painted",
        lambda reel, moment: painted.append(moment) or _painted(reel, moment),
    )
    made = export_film(film_store(tmp_path), tmp_path / "a.mp4", size=SIZE, fps=10, each=1.0)
    assert (len(painted), made.pictures) == (3, 3 * 10 + 2 * 10)


def test_an_encoder_killed_in_the_middle_leaves_no_film(tmp_path: Path) -> None:
    url, out = film_store(tmp_path), tmp_path / "film.mp4"
    program = (
        "import os, signal\n"
        "from renders.film.film import export_film\n"
        "def kill(done, of):\n"
        "    if done > 10: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"export_film({url!r}, {str(out)!r}, size={SIZE}, interpolate=10, on_progress=kill)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[2]
    )
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    assert export_film(url, out, size=SIZE, interpolate=10).pictures == len(_decoded(out))


def test_frames_with_nothing_finished_are_left_out_and_said(tmp_path: Path) -> None:
    made = export_film(film_store(tmp_path, frames=4, finished=2), tmp_path / "a.mp4", size=SIZE)
    assert (made.computed, made.left_out, made.unfinished) == (2, 2, 0)
