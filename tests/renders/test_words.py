"""Words on pictures: true of what the store holds, and clear of one another."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from pipeline.store.store import Store
from renders.box import Box
from renders.film import picture
from renders.film.film import FilmFacts
from renders.film.frames import FramesFacts, export_frames
from renders.film.moment import readings
from renders.film.reel import open_reel
from renders.film.scene import Scene
from renders.map.tone import Tone, fit_tone
from renders.page.layout import layout_for
from renders.page.lettering import draw_words
from renders.page.report import write_report
from renders.page.sheet import Sheet, house
from renders.page.theme import LIGHT
from renders.page.words import Style, small_print, subtitle_of
from renders.poster import PosterFacts
from renders.source.provenance import provenance
from renders.source.surface import Surface, read_surface
from renders.web import webmap
from tests.renders.films import SIZE, film_store
from tests.renders.said import said
from tests.renders.sheets import inked, words_on
from tests.renders.surfaces import landscape

MakeStore = Callable[..., str]
OWN = [
    {"anchor": "w1", "file": "b.pt", "split": "train", "loss": 3.489, "own": 1.08},
    {"anchor": "w0", "file": "a.pt", "split": "train", "loss": 0.9, "own": 0.5},
]


def told(url: str) -> tuple[Surface, Tone, Store, list[str]]:
    store = Store.open(url)
    surface = read_surface(store, "loss", None, 0)
    tone = fit_tone([surface.values])
    return surface, tone, store, small_print(surface, tone, provenance(store, 0))[0]


def spec(loss: str, **data: Any) -> dict[str, Any]:
    return {
        "name": "own",
        "network": {"factory": "/home/me/my_model.py:build"},
        "plane": {"kind": "points"},
        "data": {"source": "/home/me/my_data.py:load", "splits": {"train": 40}} | data,
        "evaluate": {"loss": loss, "batch_norm": "recompute"},
    }


def test_an_own_network_without_batch_norm_under_mse(make_store: MakeStore) -> None:
    url = make_store(
        landscape(8, 8),
        kind="points",
        spec=spec("mse"),
        network={"label": "MyNet (my_model.py)", "batch_norm": "none in this network"},
        data={"train": {"examples": 40, "digest": "", "select": "seeded"}},
        unit="",
    )
    surface, _, store, phrases = told(url)
    facts = provenance(store, 0)
    assert "MyNet (my_model.py)" in phrases
    assert "my_data.py, 40 train examples (seeded sample)" in phrases
    assert not any("batch norm" in phrase or "nats" in phrase for phrase in phrases)
    assert facts.measures["loss"] == "mean squared error"
    assert subtitle_of(facts, Style(LIGHT), [surface.quantity], surface.split) == (
        "Train loss of MyNet (my_model.py) in the plane through three sets of weights"
    )


def test_an_older_store_says_no_more_than_it_knows(make_store: MakeStore) -> None:
    url = make_store(landscape(8, 8), spec=spec("mse", select="stratified"), network={})
    facts = provenance(Store.open(url), 0)
    assert facts.network == "build (my_model.py)"
    assert facts.measures["loss"] == "mean squared error"
    assert facts.normalisation == ""
    assert facts.data.endswith("(seeded sample)")


@pytest.mark.parametrize("said", [None, "none in this network"])
def test_no_word_of_batch_norm_on_a_map_page(
    make_store: MakeStore, tmp_path: Path, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webmap, "_library", lambda offline: (None, ""))
    url = make_store(landscape(8, 8), network={"batch_norm": said}, unit="mm", labels=["SGD", "b"])
    webmap.export_map(url, tmp_path / "map", width=256, quantities=["loss"], splits=["train"])
    text = (tmp_path / "map" / webmap.FACTS).read_text(encoding="utf-8")
    page = json.loads(text.partition("window.LOSSATLAS = ")[2].rstrip(";\n"))
    assert "batch norm" not in text
    assert page["quantities"]["loss"]["unit"] == "mm"
    assert [anchor["name"] for anchor in page["frames"]["0"]["anchors"]] == ["SGD", "b"]


def test_own_losses_and_buffers_stand_in_the_small_print(make_store: MakeStore) -> None:
    network = {"own_losses": OWN, "buffers": "buffers of a.pt everywhere: sn.u, sn.v"}
    *_, phrases = told(make_store(landscape(8, 8), network=network, labels=["SGD", "Adam"]))
    assert "Adam: 3.49 here, 1.08 with its own buffers; 1 more" in phrases
    assert "buffers of a.pt everywhere: sn.u, sn.v" in phrases


@pytest.mark.parametrize("layout", ["gallery", "paper"])
@pytest.mark.parametrize("quantity", ["loss", "loss_stderr"])
def test_long_words_stay_clear_of_each_other(
    make_store: MakeStore, layout: str, quantity: str
) -> None:
    values = landscape(8, 8)
    values[2, 3], values[5, 5] = np.nan, np.inf
    surface, tone, store, _ = told(make_store(values, skip={(0, 1)}))
    facts = replace(
        provenance(store, 0),
        network="Wide pre-activation residual network of a hundred and ten layers",
        measures={quantity: "nats per token and per example"},
        own_losses="after two hundred epochs: 3.49 here, 1.08 with its own statistics; 3 more",
        buffers="buffers of a.pt everywhere: "
        + ", ".join(f"layer{k}.norm.mean" for k in range(20)),
    )
    data = surface.data.rename(quantity).assign_coords(split="validation-corrupted")
    surface = replace(surface, data=data)
    page, style = layout_for(layout, 1000, 0.75), Style(LIGHT, layout)
    with house(LIGHT):
        sheet = Sheet.blank(page.width, page.height, 150.0, LIGHT)
        draw_words(sheet, surface, tone, facts, style, page, True)
    found = inked(sheet)
    whole = Box(0, 0, page.width, page.height)
    for artist, box in found:
        assert box.meet(whole) == box, artist
        assert box.meet(page.map).empty, artist
    # A swatch lies on its own rim, and is no word.
    words = [(artist, box) for artist, box in found if isinstance(artist, Text)]
    assert len(words) >= 8
    swatches = [(artist, box) for artist, box in found if isinstance(artist, Rectangle)]
    assert len(swatches) == 4
    for (one, a), (other, b) in itertools.combinations([*words, *swatches[1::2]], 2):
        assert a.meet(b).empty, (one, other)


def test_a_label_confuses_nothing_that_looks_anchors_up(tmp_path: Path) -> None:
    url = film_store(tmp_path)
    plain = open_reel(url, SIZE)
    Store.open(url, writable=True).rename(
        {"network": "A net", "labels": ["bend", "end", "start"], "unit": ""}
    )
    named = open_reel(url, SIZE)

    def sides(scene: Scene) -> dict[str, tuple[int, int]]:
        return dict(scene.sides)

    assert sides(named.scene) == sides(plain.scene)
    before, after = plain.surface(0), named.surface(0)
    assert [a.shown for a in after.anchors] == ["bend", "end", "start"]
    assert readings(after, named.tone) == readings(before, plain.tone)
    assert named.scene.facts.network == "A net"


def test_frames_are_drawn_again_when_words_change(tmp_path: Path) -> None:
    url, out = film_store(tmp_path, frames=2, finished=2), tmp_path / "frames"
    assert export_frames(url, out, size=SIZE).made == 2
    assert export_frames(url, out, size=SIZE).kept == 2
    words = {"network": "", "labels": ["a", "b", "c"], "unit": "nats"}
    Store.open(url, writable=True).rename(words)
    assert export_frames(url, out, size=SIZE).made == 2


def test_a_report_says_its_network_and_its_unit(tmp_path: Path) -> None:
    values = {"loss": {"values": [0.1, 0.2]}}
    way = {"length": 1.0, "splits": {"train": values}}
    report = {"kind": "bezier", "bends": 1, "batch_norm": None, "t": [0.0, 1.0]}
    report |= {"network": "MyNet (my_model.py)", "measures": {"loss": "mean squared error"}}
    write_report(report | {"curve": way, "line": way}, tmp_path / "a.png", examples={"train": 4})
    told = said(tmp_path / "a.png")
    assert told["Title"] == "MyNet (my_model.py) along a Bézier curve"
    assert "batch norm" not in told["Description"]


def lettered(scene: Scene) -> str:
    """All titles of a film."""
    with house(scene.style.theme):
        sheet = Sheet.blank(scene.stage.width, scene.stage.height, 72.0, scene.style.theme)
        picture._draw_words(sheet, scene)
    return " ".join(words_on(sheet))


def test_a_film_tells_own_losses(tmp_path: Path) -> None:
    import zarr

    url = film_store(tmp_path)
    group = zarr.open_group(url, mode="r+")
    quiet = lettered(open_reel(url, SIZE).scene)
    group.attrs["network"] = {"own_losses": [OWN[0] | {"anchor": "end"}]}
    scene = open_reel(url, SIZE).scene
    told = lettered(scene)
    assert "with its own statistics" in told
    assert "with its own statistics" not in quiet
    assert scene.facts.own_losses == "end: 3.49 here, 1.08 with its own statistics"


def test_no_key_of_json_ends_in_an_underscore() -> None:
    for facts in (PosterFacts, webmap.WebMapFacts, FilmFacts, FramesFacts):
        names = [field.name for field in fields(facts)]
        assert not [name for name in names if name.endswith("_")]
