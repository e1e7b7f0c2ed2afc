"""The web map: tiles that are the picture, numbers that are the store's, a page that works."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import LossatlasError
from pipeline.store.store import Store
from renders.files.deepzoom import deepest, level_size
from renders.map.tone import fit_tone
from renders.page.theme import LIGHT
from renders.picture import paint
from renders.source.surface import finished_values, read_surface
from renders.spread import over_threads
from renders.web import openseadragon, webmap
from renders.web.levels import Look, level_picture
from renders.web.webmap import WebMapError, export_map
from tests.renders.chromium import Chromium, found
from tests.renders.marked import with_marks
from tests.renders.surfaces import landscape

MakeStore = Callable[..., str]


def export(url: str, out: Path, **options: Any) -> Any:
    return export_map(
        url, out, **{"width": 1100, "offline": True, "spread": over_threads(2), **options}
    )


def test_the_levels_are_the_picture(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(15, 20), skip={(1, 2)})
    facts = export(url, tmp_path / "map", quantities=["loss"], splits=["test"])
    width, height = facts.width, facts.height
    store = Store.open(url)
    surface = read_surface(store, "loss", "test", 0)
    tone = fit_tone(finished_values(store, "loss", ("test",)))
    folder = tmp_path / "map" / "tiles" / "loss-test-0_files"
    assert sorted(int(p.name) for p in folder.iterdir()) == list(range(deepest(width, height) + 1))
    for level in (deepest(width, height), deepest(width, height) - 1):
        wide, high = level_size(width, height, level)
        shown = np.zeros((high, wide, 3))
        for path in (folder / str(level)).iterdir():
            column, row = (int(v) for v in path.stem.split("_"))
            with Image.open(path) as image:
                tile = np.asarray(image)
            x, y = max(0, 512 * column - 1), max(0, 512 * row - 1)
            shown[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
        picture = level_picture(surface, tone, Look(LIGHT), wide, high)
        away = np.abs(shown - paint(picture, picture.box))
        assert away.mean() < 3
    assert sum(1 for _ in folder.rglob("*.jpg")) == facts.tiles
    assert facts.share == pytest.approx(surface.finished.mean())


def test_the_numbers_are_the_stores(make_store: MakeStore, tmp_path: Path) -> None:
    values = landscape(15, 20)
    values[3, 4], values[5, 6] = np.nan, np.inf
    url = make_store(values, skip={(0, 2)})
    export(url, tmp_path / "map")
    script = (tmp_path / "map" / "values" / "loss-train-0.js").read_text()
    found_ = re.search(r'\{finished: "([^"]*)", values: "([^"]*)"\}', script)
    assert found_ is not None
    bits, raw = (np.frombuffer(base64.b64decode(text), np.uint8) for text in found_.groups())
    surface = read_surface(Store.open(url), "loss", "train", 0)
    assert np.array_equal(raw.view("<f4").reshape(15, 20), surface.values, equal_nan=True)
    finished = np.unpackbits(bits, bitorder="little")[:300].reshape(15, 20)
    assert np.array_equal(finished.astype(bool), surface.finished)


def test_the_folder_is_complete_and_carries_licences(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / openseadragon.SCRIPT).write_text("// script")
    (library / openseadragon.LICENCE).write_text("BSD")
    monkeypatch.setattr(openseadragon, "cached", lambda: library)
    facts = export(make_store(landscape(8, 8)), tmp_path / "map", title="a <b> & c")
    assert (facts.library, facts.layers) == ("local", 4)
    names = {p.name for p in (tmp_path / "map").iterdir()}
    assert {openseadragon.SCRIPT, openseadragon.LICENCE, "index.html", "viewer.js"} <= names
    assert (tmp_path / "map" / "fonts" / "LICENSE.txt").is_file()
    page = (tmp_path / "map" / "index.html").read_text()
    assert "a &lt;b&gt; &amp; c" in page
    assert "@" not in page.replace("@TITLE@", "!").split("<body>")[1]


def test_without_npm_the_page_names_the_cdn_and_its_digest(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openseadragon, "cached", lambda folder=None: None)
    monkeypatch.setattr(openseadragon.shutil, "which", lambda _: None)
    facts = export(make_store(landscape(8, 8)), tmp_path / "map", offline=False)
    assert facts.library == "cdn"
    assert "npm is not on the PATH" in facts.why_cdn
    page = (tmp_path / "map" / "index.html").read_text()
    assert f'src="{openseadragon.CDN}" integrity="sha384-{openseadragon.SCRIPT_SHA384}"' in page


def test_another_package_than_the_pinned_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openseadragon.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(openseadragon, "_packed", lambda npm, scratch: b"something else")
    with pytest.raises(openseadragon.OpenSeadragonError, match="do not use it"):
        openseadragon.fetched(tmp_path)
    assert openseadragon.cached(tmp_path) is None


REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"width": 100}, "at least 256"),
    ({"width": 200_000}, "--yes"),
    ({"quantities": ["los"]}, "nearest is 'loss'"),
    ({"frames": [4]}, "no frame 4"),
    ({"theme": "drak"}, "nearest is 'dark'"),
    ({"palette": "duskk"}, "nearest name is 'dusk'"),
]


@pytest.mark.parametrize(("options", "message"), REFUSALS)
def test_refusals_leave_nothing(
    make_store: MakeStore, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(LossatlasError, match=message) as caught:
        export(make_store(landscape(8, 8)), tmp_path / "map", **options)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


def test_an_earlier_map_is_replaced_and_nothing_else_is(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_store(landscape(8, 8))
    out = tmp_path / "map"
    export(url, out)
    (out / "stale").write_text("")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(webmap, "_write_layers", full)
        with pytest.raises(WebMapError, match="No space left"):
            export(url, out)
    assert (out / "stale").exists()
    export(url, out)
    assert not (out / "stale").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map", "run.zarr"]
    with pytest.raises(WebMapError, match="something else"):
        export(url, tmp_path / "run.zarr")
    with pytest.raises(WebMapError, match="one row"):
        export(make_store_row(make_store, tmp_path), tmp_path / "line")


def make_store_row(make_store: MakeStore, tmp_path: Path) -> str:
    (tmp_path / "run.zarr").rename(tmp_path / "old.zarr")
    return make_store(landscape(8, 8)[:1])


def test_the_script_of_marks_holds_their_numbers(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(8, 8))
    export(url, tmp_path / "bare", width=256)
    assert not (tmp_path / "bare" / "values" / "marks.js").exists()
    assert "values/marks.js" not in (tmp_path / "bare" / "index.html").read_text()
    with_marks(url, [{"label": "</script>"}], [[0.1, 0, 2], [1, 0, 1]], {"loss": [np.inf, np.nan]})
    export(url, tmp_path / "map", width=256, quantities=["loss"], splits=["test"])
    script = (tmp_path / "map" / "values" / "marks.js").read_text()
    assert "</script" not in script
    held = json.loads(script.removeprefix("window.LOSSATLAS_MARKS = ").rstrip(";\n"))
    assert held["groups"][0]["label"] == "</script>"
    places = np.frombuffer(base64.b64decode(held["places"]["0"]), "<f8").reshape(2, 4)
    assert places.tolist() == [[0.1, 0, 2, 1], [1, 0, 1, 0.5]]
    own = np.frombuffer(base64.b64decode(held["own"]["loss-test"]), "<f4")
    np.testing.assert_array_equal(own, [np.inf, np.nan])
    export(url, tmp_path / "without", width=256, marks=False)
    assert not (tmp_path / "without" / "values" / "marks.js").exists()


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if found() is None:
        pytest.skip("needs chromium on the PATH")
    page = Chromium(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture
def exported(make_store: MakeStore, tmp_path: Path) -> tuple[Path, Store]:
    if openseadragon.cached() is None and openseadragon.shutil.which("npm") is None:
        pytest.skip("needs OpenSeadragon: run `python -m renders.web.openseadragon` where npm is")
    values = landscape(33, 44)
    values[30, 2] = np.nan
    url = make_store(values, frames=2)
    export(url, tmp_path / "map", offline=False)
    return tmp_path / "map", Store.open(url)


@pytest.fixture
def served(exported: tuple[Path, Store]) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(exported[0]))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()
    server.server_close()
    thread.join()


def point_at(page: Chromium, x: float, y: float) -> dict[str, str]:
    """Move the mouse over plane coordinates; what the page then reads out."""
    place = page.ask(
        "(() => { const {viewer, toView} = lossatlas;"
        f"const p = viewer.viewport.viewportToViewerElementCoordinates(toView({x}, {y}));"
        "const b = document.querySelector('#map').getBoundingClientRect();"
        "return [p.x + b.left, p.y + b.top]; })()"
    )
    page.mouse(*place)
    return dict(readout(page))


def readout(page: Chromium) -> list[list[str]]:
    return list(
        page.ask(
            "[...document.querySelectorAll('#readout div')]"
            ".map(d => [d.dataset.of, d.querySelector('span').textContent])"
        )
    )


@pytest.mark.browser
@pytest.mark.parametrize("way", ["file", "http"])
def test_the_page_in_a_real_browser(
    browser: Chromium, exported: tuple[Path, Store], request: pytest.FixtureRequest, way: str
) -> None:
    folder, store = exported
    url = f"file://{folder}/index.html" if way == "file" else request.getfixturevalue("served")
    browser.resize(1200, 800)
    browser.open(url)
    browser.until("lossatlas.viewer.world.getItemAt(0).getFullyLoaded()")
    browser.until("!document.querySelector('#readout').textContent.includes('–')")
    loss, error = (store.read(q, "train", 0) for q in ("loss", "error"))
    extent = store.extent(0)
    xs, ys = store.grid.axes(extent)
    for j, i in ((3, 5), (16, 30), (29, 40)):
        seen = point_at(browser, xs[i], ys[j])
        assert float(seen["loss"]) == pytest.approx(loss[j, i], rel=2e-3)
        assert float(seen["error"]) == pytest.approx(error[j, i], rel=2e-3)
        assert float(seen["x"].replace("−", "-")) == pytest.approx(xs[i], abs=0.02)
        assert float(seen["y"].replace("−", "-")) == pytest.approx(ys[j], abs=0.02)
    assert point_at(browser, xs[2], ys[30])["loss"] == "NaN"
    # Zoom by key, to the last pixel; the deepest tiles come.
    home = browser.ask("lossatlas.viewer.viewport.getZoom()")
    for _ in range(5):
        browser.press("+")
    browser.until(f"lossatlas.viewer.viewport.getZoom(true) > 3 * {home}")
    browser.until("lossatlas.viewer.world.getItemAt(0).getFullyLoaded()")
    assert browser.ask("document.documentElement.dataset.failed") is None
    before = browser.ask("lossatlas.viewer.viewport.getCenter().x")
    browser.press("ArrowRight")
    assert browser.ask("lossatlas.viewer.viewport.getCenter().x") > before
    browser.press("0")
    # Switch quantity and frame; the address remembers.
    browser.press("2")
    browser.until("document.querySelector('#scale b').textContent === 'train error'")
    browser.until("location.hash.includes('error-train-0')")
    browser.ask(
        "(() => { const s = document.querySelector('.frames input'); s.value = 1; s.oninput(); })()"
    )
    browser.until("location.hash.includes('error-train-1')")
    # Curve and points: on, then off.
    visible = "document.querySelector('#overlay g').getAttribute('visibility')"
    assert browser.ask(visible) == "visible"
    assert browser.ask("document.querySelectorAll('#overlay text').length") == 2
    browser.press("c")
    assert browser.ask(visible) == "hidden"
    theme = browser.ask("document.documentElement.dataset.theme")
    browser.press("t")
    assert browser.ask("document.documentElement.dataset.theme") != theme
    browser.press("t")
    assert browser.complaints == []


@pytest.mark.browser
@pytest.mark.parametrize("phone", [False, True])
def test_marks_in_a_real_browser(
    browser: Chromium, make_store: MakeStore, tmp_path: Path, phone: bool
) -> None:
    """What is told of a mark, whether it is pointed at or touched; NaN and what is not computed."""
    if openseadragon.cached() is None:
        pytest.skip("needs OpenSeadragon: run `python -m renders.web.openseadragon` where npm is")
    names = ["epoch-000", "<b>best", "epoch-020", "last"]
    group = {"label": "SGD </script>", "line": True, "names": names, "numbers": [0, 7, 20, None]}
    places = [[-1, -1, 0.5], [0, 0, 2], [0.5, 0.5, 0], [1.5, -1, 12.25]]
    url = make_store(landscape(33, 44))
    own = {"loss": [[1, 2, np.nan, 4], [5, 6, 7, 8]], "error": [0.1, 0.2, 0.3, 0.4]}
    with_marks(url, [group], places, own, [1, 1, 1, 0])
    export(url, tmp_path / "map")
    browser.resize(390, 844, phone=True) if phone else browser.resize(1200, 800)
    browser.open(f"file://{tmp_path}/map/index.html")
    browser.until("lossatlas.viewer.world.getItemAt(0).getFullyLoaded()")
    assert browser.ask("document.querySelector('#key').innerText") == "SGD </script>"
    told = "[...document.querySelectorAll('#mark b, #mark small, #mark dd')].map(e => e.innerText)"

    def at(x: float, y: float, name: str) -> list[str]:
        if phone:  # numbers are read in the middle
            browser.ask(f"lossatlas.viewer.viewport.panTo(lossatlas.toView({x}, {y}), true), 0")
        else:
            point_at(browser, x, y)
        browser.until(f"document.querySelector('#mark b')?.innerText.startsWith('{name}')")
        assert browser.ask("document.querySelector('#mark').hidden") is False
        return list(browser.ask(told))

    assert at(-1, -1, "epoch-000") == ["epoch-000", "SGD </script>", "1.00", "0.100", "0.500"]
    assert at(0, 0, "<b>") == ["<b>best · epoch 7", "SGD </script>", "2.00", "0.200", "2.00"]
    assert at(0.5, 0.5, "epoch-020")[2] == "NaN"
    assert at(1.5, -1, "last")[2:] == ["not computed", "not computed", "12.25"]
    assert browser.complaints == []
    if phone:
        return
    point_at(browser, -1.8, 1.3)
    browser.until("document.querySelector('#mark').hidden")
    # Ink where marks are, none where they are not, none once they are hidden.
    ink = (
        "(() => {{ const {{viewer, toView}} = lossatlas;"
        "const p = viewer.viewport.viewportToViewerElementCoordinates(toView({}, {}));"
        "return document.querySelector('#marks').getContext('2d')"
        ".getImageData(p.x, p.y, 1, 1).data[3]; }})()"
    )
    assert browser.ask(ink.format(0, 0)) == 255
    assert browser.ask(ink.format(-1.8, 1.3)) == 0
    browser.press("c")
    assert browser.ask("document.querySelector('#marks').hidden") is True


@pytest.mark.browser
def test_the_page_on_a_phone(browser: Chromium, exported: tuple[Path, Store]) -> None:
    browser.resize(390, 844, phone=True)
    browser.open(f"file://{exported[0]}/index.html")
    browser.until("lossatlas.viewer.world.getItemAt(0).getFullyLoaded()")
    assert browser.ask("document.documentElement.scrollWidth") <= 390
    assert browser.ask("document.querySelector('#map').clientHeight") > 300
    # What a tap reads is what is under the finger.
    box = json.loads(
        browser.ask("JSON.stringify(document.querySelector('#map').getBoundingClientRect())")
    )
    before = readout(browser)
    at = [{"x": 100, "y": box["height"] / 2}]
    browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=at)
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.until(f"document.querySelector('[data-of=x] span').textContent !== '{before[-2][1]}'")
    assert browser.complaints == []


@pytest.mark.browser
def test_a_link_opens_where_it_was_made(browser: Chromium, exported: tuple[Path, Store]) -> None:
    browser.resize(1200, 800)
    browser.open(f"file://{exported[0]}/index.html#layer=error-test-1&x=0.5&y=0.25&zoom=6")
    browser.until("document.querySelector('#scale b').textContent === 'test error'")
    middle = browser.ask("lossatlas.toPlane(lossatlas.viewer.viewport.getCenter())")
    assert (middle["x"], middle["y"]) == pytest.approx((0.5, 0.25), abs=0.01)


@pytest.mark.browser
def test_the_read_out_says_what_is_predicted(
    browser: Chromium, refined_store: Store, tmp_path: Path
) -> None:
    if openseadragon.cached() is None and openseadragon.shutil.which("npm") is None:
        pytest.skip("needs OpenSeadragon: run `python -m renders.web.openseadragon` where npm is")
    export(refined_store.url, tmp_path / "map", offline=False)
    browser.resize(1200, 800)
    browser.open(f"file://{tmp_path}/map/index.html")
    browser.until("!document.querySelector('#readout').textContent.includes('–')")
    level, loss = refined_store.level(), refined_store.read("loss", "train")
    error = refined_store.predicted_error("loss", "train")
    assert level is not None
    assert error is not None
    xs, ys = refined_store.grid.axes(refined_store.extent())
    origin = "[...document.querySelectorAll('#readout em')].map(e => e.textContent)"
    inner = np.index_exp[10:-10, 10:-10]
    for evaluated in (True, False):
        j, i = 10 + np.argwhere((level[inner] >= 0) == evaluated)[200]
        assert float(point_at(browser, xs[i], ys[j])["loss"]) == pytest.approx(loss[j, i], rel=2e-3)
        (told,) = browser.ask(origin)
        if evaluated:
            assert told == "evaluated"
        else:
            assert told.startswith("predicted ± ")
            told_error = float(told.removeprefix("predicted ± ").replace("−", "-"))
            assert 0.5 * error[j, i] <= told_error <= 3 * max(error[j, i], 2e-4 * error.max())
    assert browser.complaints == []
