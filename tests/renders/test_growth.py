"""Paths that grow: evenly, from the first mark to the last, and as far as a frame's number."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import LossatlasError
from pipeline.geometry.plane import Anchor
from renders.colour import rgb
from renders.film import picture
from renders.film.encode import Pixels
from renders.film.film import Timing, _pictures, export_film
from renders.film.frames import export_frames
from renders.film.growth import grown, grown_to, marks_at, path_readings, with_marks_at
from renders.film.labels import Labels
from renders.film.moment import Moment, surface_between
from renders.film.reel import open_reel
from renders.film.scene import read_anchors, reading_headings
from renders.map.tone import fit_tone
from renders.page.inks import ground_at, inks_on
from renders.page.sheet import Sheet, house
from renders.page.theme import LIGHT
from renders.projection import Projection, nearest_values
from tests.renders.films import SIZE, film_store
from tests.renders.marked import group_of, with_marks
from tests.renders.surfaces import landscape, surface_of

MakeStore = Callable[..., str]
LINE = group_of([0.0, 1, 1, 3], [0.0, 0, 2, 2], [0, 1, 2, 4.0], [4.0, 3, 2, 1], line=True)


def test_a_tip_moves_straight_from_mark_to_mark() -> None:
    for upto, tip in ((0.5, (0.5, 0)), (1.25, (1, 0.5)), (2.75, (2.5, 2))):
        part = LINE.grown(upto)
        assert part.count == int(upto) + 1
        assert part.tip
        assert (part.x[-1], part.y[-1]) == tip
        assert part.dots.tolist() == [True] * part.count + [False]
    assert LINE.grown(1).x.tolist() == [0, 1]
    assert not LINE.grown(1).tip
    assert LINE.grown(-0.5).count == len(LINE.grown(-0.5).x) == 0
    assert LINE.grown(3) is LINE
    assert LINE.grown(1.5).fade[-1] == pytest.approx((LINE.fade[1] + LINE.fade[2]) / 2)
    diverged = group_of([0.0, 1], [0.0, 0], own=[np.inf, np.inf], line=True)
    assert np.isnan(diverged.grown(0.5).own["loss"][-1])


def test_all_lines_grow_at_one_pace_and_other_marks_stand() -> None:
    short, swa = LINE.taken(np.arange(2)), group_of([0.0], [0.0])
    counts = [[g.count for g in grown((LINE, short, swa), p)] for p in (0, 1 / 3, 0.99, 1)]
    assert counts == [[1, 1, 1], [2, 2, 1], [3, 2, 1], [4, 2, 1]]


def test_marks_come_with_their_number() -> None:
    numbered = replace(LINE, numbers=np.array([0.0, 10, 20, 40]))
    assert [grown_to((numbered,), t)[0].count for t in (-1, 0, 9.9, 10, 39, 40, 99)] == [
        0, 1, 1, 2, 3, 4, 4,
    ]  # fmt: skip
    assert grown_to((numbered,), 30)[0].x[-1] == 2.0  # half way from 20 to 40
    unsorted = replace(LINE, numbers=np.array([30.0, 10, 20, 40]))
    assert grown_to((unsorted,), 25)[0].names == ("epoch-001", "epoch-002")
    assert grown_to((replace(LINE, numbers=np.full(4, np.nan)),), 0)[0] is not None
    assert grown_to((replace(LINE, numbers=np.full(4, np.nan)),), 0)[0].count == 4


def test_frames_show_the_marks_up_to_their_own_number() -> None:
    surface = replace(surface_of(landscape(8, 8)), marks=(LINE,))
    epochs = Labels("EPOCH", ("0", "2"), (0.0, 2.0))
    assert [
        marks_at(epochs, Moment(surface, *at))[0].count for at in ((0, 0), (0, 1, 0.5), (1, 1))
    ] == [1, 2, 3]
    # Numbers of frames themselves say nothing of epochs.
    frames = Labels("FRAME", ("1", "2"), (1.0, 2.0))
    assert marks_at(frames, Moment(surface, 0, 0)) == (LINE,)
    assert marks_at(frames, Moment(surface, 0, 0, 0.0, 0.0))[0].count == 1


def test_between_two_planes_marks_move_along_and_keep_their_values() -> None:
    one = replace(surface_of(landscape(8, 8)), marks=(LINE,))
    two = replace(one, marks=(LINE.moved(LINE.x + 1, LINE.y, LINE.off_plane, LINE.fade),))
    tone = fit_tone([one.values])
    (half,) = surface_between(None, one, two, None, 0.5, tone).marks
    np.testing.assert_allclose(half.x, LINE.x + 0.5)
    np.testing.assert_array_equal(half.own["loss"], LINE.own["loss"])


def test_what_is_read_out_is_of_the_last_mark() -> None:
    def read(*upto: float) -> list[tuple[str, str]]:
        whole = [replace(LINE, label=f"run {k}") for k in range(len(upto))]
        part = [group.grown(t) for group, t in zip(whole, upto, strict=True)]
        return [(r.heading, r.figure) for r in path_readings(part, whole, "loss", 2)]

    assert read(1.7) == [("EPOCH", "1"), ("OWN LOSS", "3.00"), ("OFF THE PLANE", "1.00")]
    assert read(-1) == [("EPOCH", "—"), ("OWN LOSS", "—"), ("OFF THE PLANE", "—")]
    assert read(2, 0) == [
        ("EPOCH", "2"), ("RUN 0: OWN LOSS", "2.00"), ("RUN 1: OWN LOSS", "4.00"),
    ]  # fmt: skip
    assert len(read(1, 1, 1, 1)) == 4
    outside = [LINE, replace(LINE, seen=False)]
    assert len(path_readings(outside, outside, "loss", 2)) == 3  # of one line


def test_frames_without_a_curve_read_out_their_anchor(make_store: MakeStore) -> None:
    """And the small print counts the marks that a frame shows, not those of later ones."""
    url = make_store(landscape(12, 16), frames=3, plane={"kind": "fit", "epochs": [0, 1, 2]})
    group: dict[str, Any] = {"line": True, "numbers": [0, 1, 2]}
    with_marks(url, [group], [[0, 0, 0], [9, 0, 0], [9, 1, 0]], {"loss": [1.0, 2.0, 3.0]})
    reel = open_reel(url, SIZE)
    here = (Anchor("θ", 0, 0, 0),)
    moments = [Moment(replace(reel.surface(k), anchors=here, curve=None), k, k) for k in range(3)]
    scene = replace(reel.scene, read=read_anchors(moments[0].surface))
    assert scene.read == here
    assert reading_headings(scene.labels, "loss", scene.read) == ("EPOCH", "LOSS AT θ")
    value = picture._figures(scene, moments[0], ())[1]
    near = nearest_values(moments[0].surface, [-0.1, 0.1], [0.1, -0.1])
    assert near.min() * 0.8 < float(value.replace(",", "")) < near.max() * 1.2
    notes = [picture._note(scene, with_marks_at(scene.labels, moment)) for moment in moments]
    assert [note.partition(" marks lie")[0][-2:] for note in notes[2:]] == [" 2"]
    assert "outside" not in notes[0]
    assert "1 mark lies outside" in notes[1]


def test_headings_of_figures_name_the_quantity() -> None:
    headings = reading_headings(Labels("EPOCH", ("0",), (0.0,)), "lambda_max", ())
    assert headings[1] == "LARGEST EIGENVALUE AT THE BEND"
    read = path_readings([LINE], [LINE], "lambda_min", 2)
    assert read[1].heading == "OWN SMALLEST EIGENVALUE"


def test_names_in_a_film_read_on_their_own_ground(make_store: MakeStore) -> None:
    """`w₀` is on dark blue, `w₁` on pale yellow: one ink for both could not be read."""
    values = np.where(np.arange(16) < 8, 0.1, 30.0) * np.ones((12, 1))
    reel = open_reel(make_store(values, kind="fit"), (800, 450))
    surface, scene = reel.surface(0), reel.scene
    with house(scene.style.theme):
        sheet = Sheet.blank(800, 450, 72.0, scene.style.theme)
        projection = Projection(scene.stage.map, surface.extent)
        picture._draw_anchors(sheet, scene, surface, projection, ())
    theme = scene.style.theme
    inks = {text.get_text(): text.get_color() for text in sheet.figure.texts}
    assert inks == {"w₀": theme.pen_light, "w₁": theme.pen_dark}


def test_ink_reads_on_infinite_values() -> None:
    tone = fit_tone([landscape(8, 8)], nan=LIGHT.nan, inf=LIGHT.inf)
    ground = ground_at([np.inf, np.nan], tone, LIGHT)
    assert inks_on(ground, LIGHT).pen.tolist() == rgb(LIGHT.pen_light).tolist()
    np.testing.assert_allclose(ground, rgb(LIGHT.inf))


def test_growth_is_even_and_stands_at_the_holds() -> None:
    timing = Timing(1, 0, 11, (3, 2))
    parts = [timing.grown(k) for k in range(timing.pictures)]
    assert parts[:4] == [0, 0, 0, 0]
    assert parts[-3:] == [1, 1, 1]
    np.testing.assert_allclose(np.diff(parts[3:14]), 0.1)
    assert Timing(1, 0, 1).grown(0) == 1


def marked(make_store: MakeStore, **more: Any) -> str:
    url = make_store(landscape(12, 16), kind="fit")
    group: dict[str, Any] = {"label": "run", "line": True, **more}
    places = [[-1.5, -1, 0], [0, 0, 1], [1.5, 1, 2]]
    return with_marks(url, [group], places, {"loss": [3.0, 2.0, np.nan]})


def pictures_of(url: str, count: int) -> list[Pixels]:
    reel = open_reel(url, SIZE, grows=True)
    return list(_pictures(reel, Timing(1, 0, count), None, 1))


def test_a_still_becomes_a_film_whose_path_grows(make_store: MakeStore, tmp_path: Path) -> None:
    """More of the landscape is covered from picture to picture; what was covered stays so."""
    url = marked(make_store)
    pictures = pictures_of(url, 5)
    at = open_reel(url, SIZE, grows=True).scene.stage.map
    inside = [p[at.y : at.bottom, at.x : at.right].astype(int) for p in pictures]
    changed = [(np.abs(p - inside[0]).max(axis=2) > 60).sum() for p in inside]
    assert all(b > a for a, b in itertools.pairwise(changed))
    facts = export_film(url, tmp_path / "f.mp4", grow=True, each=0.4, hold=0, fps=5, size=SIZE)
    assert facts.pictures == 2


def test_there_must_be_a_line_to_grow(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(LossatlasError, match="no line of marks to grow"):
        export_film(marked(make_store), tmp_path / "f.gif", grow=True, marks=False)


def test_frames_are_drawn_again_when_marks_are_evaluated(tmp_path: Path) -> None:
    url = film_store(tmp_path)
    plain = export_frames(url, tmp_path / "frames", size=SIZE)
    assert (plain.made, export_frames(url, tmp_path / "frames", size=SIZE).kept) == (3, 3)
    group: dict[str, Any] = {"label": "x", "line": True, "numbers": [0, 1, 2]}
    with_marks(url, [group], [[0, 0, 0], [2, 1, 0], [4, 0, 0]], {"loss": [1, 2, 3]}, [1, 1, 0])
    assert export_frames(url, tmp_path / "frames", size=SIZE).made == 3
    assert export_frames(url, tmp_path / "frames", size=SIZE).kept == 3
    import zarr

    zarr.open_group(url, mode="r+")["mark_done"][:] = 1  # type: ignore[index]
    assert export_frames(url, tmp_path / "frames", size=SIZE).made == 3
