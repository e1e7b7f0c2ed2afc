"""Pictures of refined renders: what they show before the end, and what they say of it."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import LossatlasError
from pipeline.store.store import Store
from renders.film.frames import export_frames
from renders.film.reel import open_reel
from renders.poster import export_poster
from renders.source.provenance import provenance
from renders.source.surface import opened, read_surface
from renders.web.numbers import doubts, values_script
from renders.web.webmap import export_map
from tests.renders.said import said
from tests.renders.surfaces import surface_of


def test_a_poster_says_how_much_was_evaluated_and_how_sure_the_rest_is(
    refined_store: Store, tmp_path: Path
) -> None:
    facts = export_poster(refined_store.url, tmp_path / "p.png", width=600)
    assert (facts.share, facts.preview) == (1.0, False)
    level = refined_store.level()
    assert level is not None
    words = said(tmp_path / "p.png")["Description"]
    assert (
        f"{100 * (level >= 0).mean():.0f} % of points evaluated, the rest predicted: 94." in words
    )
    assert "% of them within 0.2 % of the colour range (audited, 95 % confidence)" in words


def test_a_poster_of_a_refinement_under_way_is_a_preview(
    begun_store: Store, refined_store: Store, tmp_path: Path
) -> None:
    facts = export_poster(begun_store.url, tmp_path / "p.png", width=600)
    assert (facts.share, facts.preview) == (1.0, True)
    with Image.open(tmp_path / "p.png") as image:
        shown = np.asarray(image.convert("RGB"), dtype=float)
    words = said(tmp_path / "p.png")["Description"]
    assert re.search(r"preview: [\d.]+ % of points evaluated so far, the rest predicted", words)
    export_poster(refined_store.url, tmp_path / "q.png", width=600)
    with Image.open(tmp_path / "q.png") as image:
        whole = np.asarray(image.convert("RGB"), dtype=float)
    # The small print is another; the landscape is not.
    assert np.abs(shown - whole)[: int(0.8 * len(whole))].mean() < 0.5


def test_full_renders_say_nothing_of_it(make_store: Any) -> None:
    store = opened(make_store(np.ones((8, 8))))
    facts = provenance(store, 0)
    assert (facts.refinement, facts.preview) == ("", False)
    assert doubts(store, "loss", "train", 0) is None
    script = values_script("x", read_surface(store, "loss", "train", 0))
    assert re.fullmatch(r'\S.*\["x"\] = \{finished: null, values: "[^"]*"\};\n', script)


def test_frames_of_a_preview_are_made_again(begun_film: Store, tmp_path: Path) -> None:
    first = export_frames(begun_film.url, tmp_path / "frames", size=(320, 240))
    assert (first.made, first.kept, first.unfinished) == (2, 0, 2)
    again = export_frames(begun_film.url, tmp_path / "frames", size=(320, 240))
    assert (again.made, again.kept) == (2, 0)
    with pytest.raises(LossatlasError, match="no finished frame"):
        export_frames(begun_film.url, tmp_path / "whole", size=(320, 240), finished_only=True)


def test_frames_are_kept_until_the_render_is_refined_further(
    begun_film: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from renders.film import frames, reel

    made = []
    monkeypatch.setattr(frames, "_draw", lambda _, frame, path: path.write_bytes(b"x") or 1)
    monkeypatch.setattr(reel, "lasting_share", lambda *_: 1.0)
    for tolerance in (0.01, 0.01, 0.001):
        # As if the schedule had been asked for another tolerance.
        copy = tmp_path / "film.zarr"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(begun_film.url, copy)
        words = f"1 % of points evaluated, the rest predicted within {tolerance}"
        monkeypatch.setattr("renders.source.provenance._refinement", lambda *_, words=words: words)
        made.append(export_frames(str(copy), tmp_path / "frames", size=(320, 240)).made)
    assert made == [2, 0, 2]


def test_a_film_of_a_preview_lists_its_store_once(
    begun_film: Store, listings: list[object]
) -> None:
    shown = open_reel(begun_film.url, (320, 240))
    assert shown.frames == (0, 1)
    assert [surface.finished.all() for surface in shown.surfaces()] == [True, True]
    assert 0 < shown.share(1) < 0.5
    assert len(listings) == 2


def test_before_the_first_pass_there_is_nothing_to_show(tmp_path: Path) -> None:
    from tests.refining import refined_in

    early = refined_in(tmp_path / "early", steps=5)
    with pytest.raises(LossatlasError, match="wanted at least one to draw; run `lossatlas resume"):
        export_poster(early.url, tmp_path / "p.png", width=600)


def test_doubts_are_kept_in_four_bits_and_never_too_small() -> None:
    unsure = np.array([[np.nan, 0.0, 1e-9], [0.004, 0.0041, np.inf], [0.5, 0.3, 2**-13]], "f4")
    script = values_script("x", surface_of(np.ones((3, 3))), unsure)
    found = re.search(r'top: (-?\d+), doubts: "([^"]*)"', script)
    assert found is not None
    top, packed = int(found[1]), np.frombuffer(base64.b64decode(found[2]), "u1")
    codes = np.stack([packed & 15, packed >> 4], axis=1).ravel()[:9].reshape(3, 3)
    assert codes.tolist() == [[0, 1, 1], [8, 8, 15], [14, 14, 2]]
    told = 2.0 ** (top - 14 + codes.astype("f8"))
    predicted = np.isfinite(unsure)
    assert (told >= unsure)[predicted].all()
    assert (told < 2 * unsure)[predicted & (unsure > 2**-14)].all()


def test_nothing_but_certain_and_unknown_predictions() -> None:
    for unsure in (np.full((2, 2), np.inf, "f4"), np.zeros((2, 2), "f4")):
        assert "doubts" in values_script("x", surface_of(np.ones((2, 2))), unsure)


def test_a_map_knows_which_of_its_numbers_are_predicted(
    refined_store: Store, begun_store: Store, tmp_path: Path
) -> None:
    level = refined_store.level()
    assert level is not None
    for store, preview in ((refined_store, False), (begun_store, True)):
        out = tmp_path / f"map-{preview}"
        made = export_map(store.url, out, width=300, offline=True)
        assert made.preview == preview
        script = (out / "values" / "loss-train-0.js").read_text()
        found = re.search(r'doubts: "([^"]*)"', script)
        assert found is not None
        packed = np.frombuffer(base64.b64decode(found[1]), "u1")
        codes = np.stack([packed & 15, packed >> 4], axis=1).ravel()[: level.size]
        exact = np.asarray(opened(store.url).level()) >= 0
        assert np.array_equal(codes.reshape(level.shape) == 0, exact)
        assert (codes == 15).any() == preview
        about = json.loads((out / "map.js").read_text().partition(" = ")[2].rstrip(";\n"))["about"]
        assert any(phrase.startswith("preview: ") for phrase in about) == preview
