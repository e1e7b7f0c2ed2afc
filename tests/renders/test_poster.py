"""The poster, from a store to a file: whole, partial, a profile, or refused with a reason."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import LossatlasError
from pipeline.store.store import Store
from renders.files import scratch
from renders.map.tone import fit_tone
from renders.page.landscape import landscape_page
from renders.page.layout import layout_for, map_aspect
from renders.page.text import Type, fitted_type, text_width
from renders.page.theme import LIGHT
from renders.page.words import Style, small_print
from renders.picture import paint
from renders.poster import export_poster
from renders.source.provenance import provenance
from renders.source.surface import finished_values, read_surface
from tests.renders.surfaces import landscape

MakeStore = Callable[..., str]


def decoded(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("layout", ["gallery", "paper", "bare"])
def test_a_poster_of_every_kind(
    make_store: MakeStore, tmp_path: Path, theme: str, layout: str
) -> None:
    url = make_store(landscape(15, 20))
    out = tmp_path / "poster.png"
    facts = export_poster(url, out, width=400, theme=theme, layout=layout, dpi=150)
    pixels = decoded(out)
    assert pixels.shape == (facts.height, facts.width, 3)
    assert facts.width == 400
    page = layout_for(layout, 400, map_aspect((-2, 2, -1.5, 1.5))[0])
    assert page.map.height / page.map.width == pytest.approx(0.75, abs=0.003)
    if layout != "bare":
        # Nothing is clipped: the page's outermost pixels are bare paper.
        rim = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3)])
        sides = np.concatenate([pixels[:, :2].reshape(-1, 3), pixels[:, -2:].reshape(-1, 3)])
        assert (np.concatenate([rim, sides]) == pixels[0, 0]).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["poster.png", "run.zarr"]


def test_a_poster_is_the_same_bytes_whatever_the_tiling(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = landscape(15, 20)
    values[2, 3], values[5:8, 9] = np.nan, np.inf
    url = make_store(values, skip={(1, 2)})
    seen = []
    for rows, columns in ((256, 1024), (64, 64), (37, 101), (9999, 9999)):
        monkeypatch.setattr(scratch, "_ROWS", rows)
        monkeypatch.setattr(scratch, "_COLUMNS", columns)
        export_poster(url, tmp_path / "a.png", width=330)
        seen.append(decoded(tmp_path / "a.png"))
    assert all(np.array_equal(seen[0], other) for other in seen[1:])


def test_painting_a_box_is_cutting_it_out(make_store: MakeStore) -> None:
    store = Store.open(make_store(landscape(15, 20)))
    surface = read_surface(store, "loss", "train", 0)
    tone = fit_tone(finished_values(store, "loss", ("train",)))
    picture = landscape_page(surface, tone, provenance(store, 0), Style(LIGHT), 640).picture
    whole = paint(picture, picture.box)
    for box in picture.box.tiles(129, 73):
        part = whole[box.y : box.bottom, box.x : box.right]
        assert np.array_equal(paint(picture, box), part)


def test_a_half_finished_store_says_so(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(16, 16), skip={(0, 0), (1, 1)})
    facts = export_poster(url, tmp_path / "a.png", width=300)
    assert facts.share == 0.5
    store = Store.open(url)
    surface = read_surface(store, "loss", None, 0)
    tone = fit_tone(finished_values(store, "loss", ("train",)))
    phrases, _ = small_print(surface, tone, provenance(store, 0))
    assert "50 % computed" in phrases
    assert "PreResNet-20" in phrases
    assert "CIFAR-10, 512 train + 256 test examples" in phrases
    assert "batch norm recomputed at every point" in phrases


def test_one_row_becomes_a_profile(make_store: MakeStore, tmp_path: Path) -> None:
    values = 0.2 + np.abs(np.linspace(-1, 1, 33))[None]
    values[0, 5] = np.nan
    url = make_store(values, kind="interpolation", skip={(0, 3)})
    for theme in ("light", "dark"):
        facts = export_poster(url, tmp_path / "line.png", width=420, theme=theme)
        assert facts.height < facts.width


def test_the_tone_spans_all_frames_and_is_returned(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(8, 8), frames=2)
    a, b = (export_poster(url, tmp_path / f"{k}.png", width=200, frame=k) for k in (0, 1))
    assert a.tone == b.tone
    assert a.tone["how"] == "log"


def test_a_store_with_no_spec_still_draws(make_store: MakeStore, tmp_path: Path) -> None:
    export_poster(make_store(landscape(8, 8), spec={}), tmp_path / "a.png", width=200)


def test_long_titles_shrink_to_fit() -> None:
    kind = fitted_type("a very long title " * 9, Type(40, "Light"), 300)
    assert text_width("a very long title " * 9, kind) <= 301


REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"quantity": "los"}, "nearest is 'loss'"),
    ({"split": "tset"}, "nearest is 'test'"),
    ({"frame": 3}, "no frame 3"),
    ({"palette": "gouldain"}, "nearest name is 'gouldian'"),
    ({"theme": "drak"}, "nearest is 'dark'"),
    ({"layout": "galery"}, "nearest is 'gallery'"),
    ({"width": 8}, "at least 64"),
    ({"width": 60_000}, "gigapixels"),
    ({"limits": (5.0, 1.0)}, "first below the second"),
    ({"tone": "logarithm"}, "wanted linear, log or equalised"),
    ({"dpi": 0.0}, "dpi"),
]


@pytest.mark.parametrize(("options", "message"), REFUSALS)
def test_refusals_are_one_line_and_write_nothing(
    make_store: MakeStore, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    url = make_store(landscape(6, 6))
    with pytest.raises(LossatlasError, match=message) as caught:
        export_poster(url, tmp_path / "a.png", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.jpeg", "wanted .png"), ("a", "wanted .png"), ("no/a.png", "no folder")],
)
def test_bad_places_are_refused(
    make_store: MakeStore, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(LossatlasError, match=message):
        export_poster(make_store(landscape(6, 6)), tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(make_store: MakeStore, tmp_path: Path) -> None:
    url, locked = make_store(landscape(6, 6)), tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(LossatlasError, match="permission"):
        export_poster(url, locked / "a.png")


def test_stores_with_nothing_to_see_are_refused(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(np.full((8, 8), np.nan))
    with pytest.raises(LossatlasError, match="diverged everywhere"):
        export_poster(url, tmp_path / "a.png")


def test_an_empty_store_is_refused(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(8, 8), skip={(0, 0)})
    with pytest.raises(LossatlasError, match="no finished tile"):
        export_poster(url, tmp_path / "a.png")
    with pytest.raises(LossatlasError, match="no such store"):
        export_poster(str(tmp_path / "missing.zarr"), tmp_path / "a.png")


def test_starting_an_export_loads_nothing_heavy() -> None:
    heavy = [
        "torch",
        "ray",
        "datashader",
        "numba",
        "xarray",
        "scipy",
        "pandas",
        "zarr",
        "pyvips",
        "matplotlib",
    ]
    code = f"import sys, renders.poster; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert done.stdout.strip() == "[]"
