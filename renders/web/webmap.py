"""The web map: deep-zoom tiles, the numbers themselves, and one static page that shows both.

Everything the page needs is a script, a picture or a font beside it, so that it works from
`file://` and from any static host alike.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import LossatlasError
from pipeline.quantities import COMPANIONS
from pipeline.refinement.scale import CLIP
from renders.colour import palette_colours
from renders.files.whole import checked_place, whole_folder
from renders.map.tone import How, Tone, fit_tone
from renders.page.caveats import remarks
from renders.page.layout import map_aspect
from renders.page.text import Weight, font_file
from renders.page.theme import theme_named
from renders.page.words import Style, small_print, subtitle_of, title_of
from renders.source.provenance import Provenance, provenance
from renders.source.surface import (
    TITLES,
    Surface,
    finished_values,
    opened,
    read_surface,
    sample_stride,
)
from renders.ticks import label, spread_ticks
from renders.web import openseadragon
from renders.web.marks import SCRIPT, marks_script

if TYPE_CHECKING:
    from pipeline.store.reader import StoreReader
    from renders.spread import Spread

FACTS = "map.js"
_MARK = "// lossatlas map"
_BESIDE = ("loss_stderr", *COMPANIONS)  # shown only where they are asked for
_PAGE = Path(__file__).parent / "viewer"
_WEIGHTS: tuple[Weight, ...] = ("Light", "Regular", "Semibold", "It")
WIDTHS = (4_096, 32_768)
"""The least and the greatest width chosen where none is asked for; eight pixels a grid point
between them."""
ABSURD_PIXELS = 6_000_000_000


class WebMapError(LossatlasError):
    """A map that cannot be made as asked."""


@dataclass(frozen=True)
class WebMapFacts:
    """What was made.

    `preview` says that predictions will change while the store's refinement goes on.
    `library` is local where OpenSeadragon was copied into the folder, cdn where the page loads it
    from the network; `why_cdn` then says why. `remarks` are what its maker should hear.
    """

    path: str
    layers: int
    width: int
    height: int
    tiles: int
    bytes: int
    library: str
    why_cdn: str
    share: float
    seconds: float
    preview: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Layer:
    """One thing the page can show."""

    quantity: str
    split: str
    frame: int

    @property
    def id(self) -> str:
        return f"{self.quantity}-{self.split}-{self.frame}"


def export_map(
    store_url: str,
    out_dir: str | Path,
    *,
    width: int | None = None,
    quantities: Sequence[str] = (),
    splits: Sequence[str] = (),
    frames: Sequence[int] = (),
    tone: How | None = None,
    clip: tuple[float, float] = CLIP,
    palette: str | Sequence[str] | None = None,
    theme: str = "light",
    contours: bool = True,
    light: bool = True,
    marks: bool = True,
    title: str | None = None,
    subtitle: str | None = None,
    spread: Spread | None = None,
    yes: bool = False,
    offline: bool = False,
) -> WebMapFacts:
    """Write a folder with one page that pans, zooms and reads out a store.

    Args:
        store_url: the render's store, finished or not.
        out_dir: a new folder, or an earlier map, which is replaced whole or not at all.
        width: of the deepest level, pixels; the height follows from the plane.
        quantities, splits, frames: what the page can switch between; all of the store's loss and
            error, all splits and all frames by default.
        tone, clip, palette: as for a poster; one tone a quantity, over all that is shown.
        theme: light or dark, at first; the page can change it, not the tiles.
        contours, light, marks: leave a layer out.
        title, subtitle: None writes them from the store.
        spread: who paints the tiles; the cores by default.
        yes: go on even when the map is absurdly large.
        offline: never call npm; use the cached library, or the CDN.

    Raises:
        LossatlasError: anything asked for that cannot be had; the message names the cure.
    """
    start = time.monotonic()
    out = _checked_folder(Path(out_dir))
    look_theme = theme_named(theme)
    style = Style(look_theme, title=title, subtitle=subtitle, contours=contours, light=light)
    if palette is not None:
        palette_colours(palette)
    store = opened(store_url)
    layers = _layers(store, quantities, splits, frames)
    if store.height == 1:
        raise WebMapError(
            f"{store_url} is one row of points: wanted a plane to zoom into; draw a line with "
            "`lossatlas export poster`"
        )
    wide = _width(width, store.width)
    sizes = {f: _size(store, f, wide) for f in {layer.frame for layer in layers}}
    _refuse_absurd([sizes[layer.frame] for layer in layers], yes)
    tones = {
        q: fit_tone(
            finished_values(store, q, sorted({x.split for x in layers if x.quantity == q})),
            how=tone or ("linear" if q == "error" else None),
            clip=clip,
            palette=palette or look_theme.palette,
            nan=look_theme.nan,
            inf=look_theme.inf,
            stride=sample_stride(store),
        )
        for q in dict.fromkeys(layer.quantity for layer in layers)
    }
    surfaces = {x: read_surface(store, x.quantity, x.split, x.frame) for x in layers}
    if not marks:
        surfaces = {x: replace(surface, marks=()) for x, surface in surfaces.items()}
    library, why = _library(offline)
    with whole_folder(out, WebMapError) as folder:
        tiles = _write_layers(folder, store, surfaces, tones, style, sizes, spread)
        facts = provenance(store, layers[0].frame)
        _write_page(folder, facts, style, surfaces, tones, sizes, library)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    first = sizes[layers[0].frame]
    share = float(np.mean([surface.finished.mean() for surface in surfaces.values()]))
    seconds = time.monotonic() - start
    where = "cdn" if library is None else "local"
    made = str(out), len(layers), *first, tiles, size, where, why, share, seconds
    absent = {tile for surface in surfaces.values() for tile in surface.absent}
    return WebMapFacts(*made, facts.preview, remarks(store_url, [*tones.values()], absent))


def _write_layers(
    folder: Path,
    store: StoreReader,
    surfaces: dict[_Layer, Surface],
    tones: dict[str, Tone],
    style: Style,
    sizes: dict[int, tuple[int, int]],
    spread: Spread | None,
) -> int:
    # Numba takes a second to import: after everything that may still be refused.
    from renders.files.deepzoom import dzi, write_tiles
    from renders.web.levels import Look, level_picture
    from renders.web.numbers import doubts, values_script

    look, count = Look(style.theme, style.light, style.contours), 0
    (folder / "tiles").mkdir()
    (folder / "values").mkdir()
    for layer, surface in surfaces.items():
        width, height = sizes[layer.frame]
        place = folder / "tiles" / f"{layer.id}_files"
        picture = partial(level_picture, surface, tones[layer.quantity], look)
        rows, columns = surface.values.shape
        count += write_tiles(picture, (width, height), (columns, rows), place, spread)
        (folder / "tiles" / f"{layer.id}.dzi").write_text(dzi(width, height), encoding="utf-8")
        unsure = doubts(store, layer.quantity, surface.split, layer.frame)
        script = values_script(layer.id, surface, unsure)
        (folder / "values" / f"{layer.id}.js").write_text(script, encoding="utf-8")
    return count


def _write_page(
    folder: Path,
    facts: Provenance,
    style: Style,
    surfaces: dict[_Layer, Surface],
    tones: dict[str, Tone],
    sizes: dict[int, tuple[int, int]],
    library: Path | None,
) -> None:
    first = next(iter(surfaces.values()))
    about = page_facts(facts, style, surfaces, tones, sizes)
    marks = marks_script(surfaces.values(), style.theme)
    if marks:
        (folder / SCRIPT).write_text(marks, encoding="utf-8")
    text = json.dumps(about, ensure_ascii=False, separators=(",", ":"))
    (folder / FACTS).write_text(f"{_MARK}\nwindow.LOSSATLAS = {text};\n", encoding="utf-8")
    for name in ("viewer.css", "viewer.js", "marks.js"):
        shutil.copyfile(_PAGE / name, folder / name)
    page = (_PAGE / "index.html").read_text(encoding="utf-8")
    words = {
        "@TITLE@": _escaped(title_of(facts, style)),
        "@SUBTITLE@": _escaped(subtitle_of(facts, style, [first.quantity], first.split)),
        "@THEME@": style.theme.name,
        "@MARKS@": f'<script src="{SCRIPT}"></script>\n' if marks else "",
        "@LIBRARY@": openseadragon.script_tag(library),
    }
    for mark, value in words.items():
        page = page.replace(mark, value)
    (folder / "index.html").write_text(page, encoding="utf-8")
    fonts = folder / "fonts"
    fonts.mkdir()
    for weight in _WEIGHTS:
        shutil.copyfile(font_file(weight), fonts / font_file(weight).name)
    licence = font_file("Regular").with_name("LICENSE.txt")
    if licence.is_file():
        shutil.copyfile(licence, fonts / "LICENSE.txt")
    if library is not None:
        for name in (openseadragon.SCRIPT, openseadragon.LICENCE):
            shutil.copyfile(library / name, folder / name)


def page_facts(
    facts: Provenance,
    style: Style,
    surfaces: dict[_Layer, Surface],
    tones: dict[str, Tone],
    sizes: dict[int, tuple[int, int]],
) -> dict[str, Any]:
    """What the page knows beside tiles and numbers, as plain JSON values."""
    from renders.files.deepzoom import OVERLAP, TILE

    frames: dict[str, Any] = {}
    for layer, surface in surfaces.items():
        frames.setdefault(
            str(layer.frame),
            {
                "extent": list(surface.extent),
                "size": list(sizes[layer.frame]),
                # A patch has no distances, and so no bar of a length.
                "equal": map_aspect(surface.extent)[1] and facts.has_lengths,
                "anchors": [
                    {"name": a.shown, "x": a.x, "y": a.y, "off": a.off_plane}
                    for a in surface.anchors
                ],
                "curve": []
                if surface.curve is None
                else [[float(f"{v:.6g}") for v in point[:2]] for point in surface.curve],
            },
        )
    first = next(iter(surfaces.values()))
    phrases, signature = small_print(first, tones[first.quantity], facts)
    return {
        "title": title_of(facts, style),
        "grid": {"width": first.values.shape[1], "height": first.values.shape[0]},
        "units": facts.units,
        "axes": list(facts.axes),
        "tile": TILE,
        "overlap": OVERLAP,
        "pens": [style.theme.pen_light, style.theme.pen_dark],
        "about": [phrase for phrase in phrases if not phrase.startswith("colours ")],
        "signature": signature,
        "layers": [
            {"id": x.id, "quantity": x.quantity, "split": x.split, "frame": x.frame}
            for x in surfaces
        ],
        "frames": frames,
        "quantities": {q: _legend(q, tone, facts.measures.get(q, "")) for q, tone in tones.items()},
    }


def _legend(quantity: str, tone: Tone, unit: str) -> dict[str, Any]:
    ticks = spread_ticks(tone.low, tone.high, lambda v: float(tone.position(v)), 0.11)
    last = len(tone.palette) - 1
    stops = [tone.palette[round(k * last / 32)] for k in range(33)]
    return {
        "title": TITLES.get(quantity, quantity),
        "unit": unit,
        "how": {"log": "logarithmic", "equalised": "equalised", "linear": "linear"}[tone.how],
        "stops": stops,
        "tone": {
            "space": tone.space,
            "low": tone.low,
            "high": tone.high,
            "floor": tone.floor,
            "cdf": [round(v, 6) for v in tone.cdf[::16]],
        },
        "ticks": [[round(float(tone.position(v)), 5), label(v)] for v in ticks],
        "nan": tone.nan,
        "inf": tone.inf,
    }


def _layers(
    store: StoreReader, quantities: Sequence[str], splits: Sequence[str], frames: Sequence[int]
) -> list[_Layer]:
    chosen = quantities or [q for q in store.quantities if q not in _BESIDE] or store.quantities
    # A render still under way may not have reached its later frames.
    shown = list(frames) or sorted(store.finished_frames()) or [0]
    layers = [
        _Layer(q, s, f)
        for f in dict.fromkeys(shown)
        for q in dict.fromkeys(chosen)
        for s in dict.fromkeys(splits or store.splits)
        if s in store.fields.splits_of(q) or s not in store.splits or (quantities and splits)
    ]
    # Names and frames are checked where they are read; one frame of each name is enough.
    for layer in layers:
        if layer.frame == shown[0] or not 0 <= layer.frame < store.frames:
            read_surface(store, layer.quantity, layer.split, layer.frame)
    return layers


def _width(width: int | None, columns: int) -> int:
    if width is None:
        return min(max(WIDTHS[0], 8 * columns), WIDTHS[1])
    if width < 256:
        raise WebMapError(f"width is {width} pixels: wanted at least 256; ask for a larger map")
    return width


def _size(store: StoreReader, frame: int, width: int) -> tuple[int, int]:
    extent = store.extent(frame)
    aspect = map_aspect((extent.x0, extent.x1, extent.y0, extent.y1))[0]
    return width, max(1, round(width * aspect))


def _refuse_absurd(sizes: list[tuple[int, int]], yes: bool) -> None:
    total = sum(width * height for width, height in sizes)
    if total > ABSURD_PIXELS and not yes:
        raise WebMapError(
            f"the map would have {len(sizes):,} layers of {sizes[0][0]:,} × {sizes[0][1]:,}, "
            f"{total / 1e9:.1f} gigapixels: wanted at most {ABSURD_PIXELS / 1e9:.0f}; ask for a "
            "smaller --width or fewer with --quantity, --split, --frame, or say --yes to go on"
        )


def _checked_folder(path: Path) -> Path:
    path = path.absolute()
    if path.is_file():
        raise WebMapError(f"{path} is a file: wanted the name of a new folder")
    if path.is_dir() and any(path.iterdir()):
        try:
            with (path / FACTS).open(encoding="utf-8") as file:
                ours = file.readline().strip() == _MARK
        except OSError:
            ours = False
        if not ours:
            raise WebMapError(
                f"{path} holds something else: wanted a new folder, or an earlier map to replace"
            )
    return checked_place(path, WebMapError)


def _library(offline: bool) -> tuple[Path | None, str]:
    found = openseadragon.cached()
    if found is not None:
        return found, ""
    if offline:
        return None, "it is not in the cache"
    try:
        return openseadragon.fetched(), ""
    except openseadragon.OpenSeadragonError as error:
        return None, str(error)


def _escaped(text: str) -> str:
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(mark, entity)
    return text
