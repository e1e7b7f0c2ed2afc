"""Films, decoded again."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import LossatlasError
from pipeline.grid import Extent, Grid
from pipeline.plane import Anchor, FrameFacts
from pipeline.store import Store
from renders.film import FilmError, _painted, export_film
from renders.moment import moments
from renders.reel import open_reel

SIZE = (320, 180)


def film_store(folder: Path, frames: int = 3, finished: int = 3) -> str:
    grid = Grid(width=12, height=7, tile=12, frames=frames)
    facts = [
        FrameFacts(
            Extent(-1, 5, -1, 2),
            (
                Anchor("start", 0, 0, 0),
                Anchor("bend", 2, 0.3 * k + 0.1, 0),
                Anchor("end", 4, 0, 0),
            ),
            np.array([[t * 4, t * (1 - t) * (0.6 * k + 0.2), 0] for t in np.linspace(0, 1, 9)]),
        )
        for k in range(frames)
    ]
    names = [f"epoch-{k:02d}" for k in range(frames)]
    attrs = {
        "name": "film",
        "spec": {},
        "plane": {"kind": "curve", "units": "euclidean", "dx": 4.0, "dy": 1.0, "frames": names},
        "fingerprint": "f" * 64,
        "created": "2026-11-23T00:00:00+00:00",
    }
    store = Store.create(str(folder / "film.zarr"), grid, ["train"], ["loss"], facts, attrs)
    x, y = grid.axes(facts[0].extent)
    for tile in list(grid.tiles())[:finished]:
        loss = 0.2 + (x[None] - 2) ** 2 / 4 + (y[:, None] - 0.3 * tile.frame) ** 2
        store.commit(tile, {"loss": loss[None].astype("f4")}, 1, 1)
    return store.url


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
