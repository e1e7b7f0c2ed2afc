"""Posters: a whole page around one landscape."""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import LossatlasError
from pipeline.refinement.scale import CLIP
from renders.colour import palette_colours
from renders.files.whole import checked_place
from renders.map.tone import How, fit_tone
from renders.page.caveats import remarks
from renders.page.layout import PROFILE_ASPECT, layout_for, line_aspect, map_aspect
from renders.page.paper import VECTOR, sheet_named
from renders.page.theme import grounded
from renders.page.words import Style, small_print, title_of
from renders.source.provenance import provenance
from renders.source.surface import finished_values, opened, read_surface, sample_stride

if TYPE_CHECKING:
    from pipeline.store.reader import StoreReader
    from renders.relief.relief import Relief
    from renders.spread import Spread

ABSURD_PIXELS = 1_500_000_000
ABSURD_IN_MEMORY = 250_000_000
"""Pixels of a page that is drawn in memory: vector files and transparent ones."""
_FORMATS = {".png": "png", ".pdf": "pdf", ".svg": "svg", ".tif": "tiff", ".tiff": "tiff"}
LONGEST_PDF = 200
"""Inches; ISO 32000-1, annex C."""
BACKGROUNDS = ("theme", "white", "transparent")
AXES = ("x", "alpha")


class PosterError(LossatlasError):
    """A poster that cannot be made as asked."""


@dataclass(frozen=True)
class PosterFacts:
    """What was made: the file, its size, and the tone that others can reuse.

    `share` is what is computed of the frame; `preview` says that some of that is predicted, and
    will change while the store's refinement goes on. `remarks` are what its maker should hear.
    """

    path: str
    width: int
    height: int
    dpi: float
    bytes: int
    share: float
    seconds: float
    tone: dict[str, Any]
    preview: bool = False
    remarks: tuple[str, ...] = ()


def export_poster(
    store_url: str,
    out_path: str | Path,
    *,
    width: int | None = None,
    size: tuple[int, int] | None = None,
    paper: str | None = None,
    orientation: str = "auto",
    dpi: float = 300.0,
    relief: Relief | None = None,
    quantity: str | None = None,
    split: str | None = None,
    frame: int = 0,
    tone: How | None = None,
    clip: tuple[float, float] = CLIP,
    limits: tuple[float | None, float | None] = (None, None),
    palette: str | Sequence[str] | None = None,
    theme: str = "light",
    background: str = "theme",
    layout: str = "gallery",
    axis: str = "x",
    contours: bool = True,
    vector_contours: bool = False,
    light: bool = True,
    curve: bool = True,
    anchors: bool = True,
    marks: bool = True,
    scale_bar: bool = True,
    title: str | None = None,
    subtitle: str | None = None,
    spread: Spread | None = None,
    yes: bool = False,
    format_: str | None = None,
) -> PosterFacts:
    """Draw one frame of a store as a poster and write it as PNG, PDF, SVG or pyramidal TIFF.

    A store of height 1 becomes a line plot: loss and error, a panel each.

    Args:
        store_url: the render's store, finished or not.
        out_path: a `.png`, `.pdf`, `.svg` or `.tif` in an existing folder; replaced whole or not at
            all.
        width: of the page, pixels; the height follows from the plane. 3000 without a `paper`.
        size: width and height of the page, pixels, instead.
        paper: A0, letter, 24x36in …, see `renders.page.paper`; decides width and height with `dpi`.
        orientation: of the paper: portrait, landscape, or auto, as the picture lies.
        dpi: dots per inch, written into the file.
        relief: in the round, seen by its camera; None draws a map.
        quantity, split, frame: what is shown; quantity None is the loss, on a line plot the error
            as well; split None is the one that calibrates batch norm.
        tone: None is linear for an error, and else as `renders.map.tone.fit_tone` chooses.
        clip, limits, palette: see `renders.map.tone.fit_tone`; fitted over all frames. A line plot
            shows all values unless `clip` or `limits` is given.
        theme: light or dark.
        background: the theme's, white or transparent; a relief and a TIFF cannot be transparent.
        layout: gallery, paper or bare. On a line plot `paper` keeps type readable in print.
        axis: of a line plot: `x` of the plane, or `alpha`, 0 and 1 at the two sets of weights.
        contours, light, curve, anchors, marks, scale_bar: leave a layer out.
        vector_contours: in a PDF or SVG, isolines as paths; they do not fade where they crowd.
        title, subtitle: None writes them from the store; an empty string leaves them out.
        spread: who paints; the cores by default.
        yes: go on even when the picture is absurdly large.
        format_: png, pdf, svg or tiff, whatever the name ends in; None goes by the ending.

    Raises:
        LossatlasError: anything asked for that cannot be had; the message names the cure.
    """
    start = time.monotonic()
    path = checked_path(Path(out_path), format_)
    kind = kind_of(path, format_)
    checked_dpi(dpi)
    one_of("background", background, BACKGROUNDS)
    one_of("axis", axis, AXES)
    style = Style(
        grounded(theme, background),
        layout,
        contours,
        light,
        curve,
        anchors,
        contours,
        title,
        subtitle,
        scale_bar,
        axis,
    )
    sheet = _page_size(width, size, paper, orientation, dpi, 1.0)
    layout_for(layout, sheet[0], 1.0, sheet[1])
    if palette is not None:
        palette_colours(palette)
    store = opened(store_url)
    line = store.height == 1
    shown = _quantities(store, quantity, line)
    surface = read_surface(store, shown[0], split, frame)
    surface = surface if marks else replace(surface, marks=())
    if relief is not None and min(store.height, store.width) == 1:
        raise PosterError(
            f"{store_url} is a line, not a plane: wanted one for a relief; draw it with `lossatlas "
            "export poster`"
        )
    if relief is not None and relief.marks == "own" and not surface.marks:
        raise PosterError(f"{store_url} shows no marks: wanted some for --marks own; leave it out")
    check_kind(kind, background, vector_contours, line, relief is not None, axis)
    aspect = map_aspect(surface.extent)[0]
    if line or relief is not None:
        aspect = line_aspect(len(shown)) if line else PROFILE_ASPECT
    wide, high = _page_size(
        width, size, paper, orientation, dpi, layout_for(layout, 1000, aspect).height / 1000
    )
    page = layout_for(layout, wide, aspect, high)
    in_memory = line or kind in VECTOR or background == "transparent"
    check_page(page.width, page.height, dpi, kind, in_memory, yes)
    tones, splits_of = [], store.fields.splits_of
    for name in shown:
        first = name == shown[0]
        fitted = fit_tone(
            # A line plot shows every split at once, a map only one.
            finished_values(store, name, splits_of(name) if line else (surface.split,)),
            how=(tone if first else None) or ("linear" if name == "error" else None),
            # Colours may end before the values do, a line's scale may not.
            clip=(0.0, 100.0) if line and clip == CLIP else clip,
            limits=limits if first else (None, None),
            palette=palette or style.theme.palette,
            nan=style.theme.nan,
            inf=style.theme.inf,
            stride=sample_stride(store),
        )
        tones.append(fitted)
    facts = provenance(store, frame)
    absent = {*surface.absent}
    if absent:
        facts = replace(facts, share=float(surface.finished.mean()))
    words = {"Software": f"lossatlas {facts.version}", "Title": title_of(facts, style)}
    clear = background == "transparent"
    if line:
        from renders.page.interpolation import Quantity, line_page, line_print

        quantities = []
        for name, fitted in zip(shown, tones, strict=True):
            lines = tuple(read_surface(store, name, each, frame) for each in splits_of(name))
            absent.update(tile for each in lines for tile in each.absent)
            quantities.append(Quantity(lines, fitted))
        drawn = line_page(quantities, facts, style, wide, high, dpi, clear)
        words["Description"] = " · ".join(line_print(quantities, facts, style)[0])
    else:
        words["Description"] = " · ".join(small_print(surface, tones[0], facts)[0])
        if relief is not None:
            from renders.relief.relief import relief_page

            drawn = relief_page(surface, tones[0], facts, style, relief, wide, high, dpi)
        else:
            from renders.page.landscape import landscape_page

            drawn = landscape_page(
                surface, tones[0], facts, style, wide, high, dpi, clear, vector_contours
            )
    bytes_ = drawn.write(path, kind, words, spread)
    return PosterFacts(
        str(path),
        drawn.sheet.width,
        drawn.sheet.height,
        dpi,
        bytes_,
        facts.share,
        time.monotonic() - start,
        tones[0].to_dict(),
        facts.preview,
        remarks(store_url, tones, absent),
    )


def _quantities(store: StoreReader, asked: str | None, line: bool) -> list[str]:
    if asked is not None:
        return [asked]
    return ["loss", "error"] if line and "error" in store.quantities else ["loss"]


def check_kind(
    kind: str,
    background: str,
    vector_contours: bool,
    line: bool = False,
    relief: bool = False,
    axis: str = "x",
) -> None:
    """Raise PosterError where a page is asked for what it, or its kind of file, cannot be."""
    if not line and axis != "x":
        raise PosterError(
            f"axis is {axis} and the store is a plane: wanted a line, of kind: interpolation; "
            "leave --axis out"
        )
    if background == "transparent" and (kind == "tiff" or relief):
        raise PosterError(
            f"background is transparent for {'a tiff' if kind == 'tiff' else 'a relief'}: wanted "
            "a map or a line plot as .png, .pdf or .svg; choose --background white"
        )
    if vector_contours and (line or relief or kind not in VECTOR):
        found = "a line plot" if line else "a relief" if relief else f"a {kind}"
        raise PosterError(
            f"vector contours are asked for in {found}: wanted a map as .pdf or .svg; leave "
            "--vector-contours out"
        )


def kind_of(path: Path, format_: str | None) -> str:
    """png, pdf, svg or tiff."""
    return format_ or _FORMATS[path.suffix.lower()]


def checked_dpi(dpi: float) -> None:
    """Raise PosterError for a resolution that no printer or screen has."""
    if not 1 <= dpi <= 100_000:
        raise PosterError(f"dpi is {dpi:g}: wanted dots per inch, 72 to 600 as a rule")


def one_of(what: str, name: str, known: Sequence[str]) -> None:
    """Raise PosterError where `name` is not known; the message names the nearest."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise PosterError(f"{what} is {name!r}: wanted {', '.join(known)}; the nearest is {near!r}")


def checked_path(path: Path, format_: str | None = None) -> Path:
    """`path`, if a picture could be written there.

    Raises:
        PosterError: an ending we do not write, or a place nobody could write to.
    """
    if format_ not in (None, *_FORMATS.values()):
        raise PosterError(f"format is {format_!r}: wanted png, pdf, svg or tiff")
    if format_ is None and path.suffix.lower() not in _FORMATS:
        raise PosterError(
            f"{path} ends in {path.suffix or 'nothing'!r}: wanted .png, .pdf, .svg or .tif; rename "
            "it"
        )
    if path.is_dir():
        raise PosterError(f"{path} is a folder: wanted the name of a file")
    return checked_place(path, PosterError)


def check_page(width: int, height: int, dpi: float, kind: str, in_memory: bool, yes: bool) -> None:
    """Raise PosterError for a page that is too large for its kind of file.

    Args:
        width, height: pixels.
        dpi: pixels an inch.
        kind: of file.
        in_memory: whether the page is drawn in one piece.
        yes: allow absurdly many pixels.
    """
    most = ABSURD_IN_MEMORY if in_memory else ABSURD_PIXELS
    if width * height > most and not yes:
        raise PosterError(
            f"the picture would be {width:,} × {height:,}, {width * height / 1e9:.1f} gigapixels: "
            f"wanted at most {most / 1e9:.2g}; ask for fewer dpi, or say --yes to go on"
        )
    if kind == "pdf" and max(width, height) / dpi > LONGEST_PDF:
        raise PosterError(
            f"the page would be {width / dpi:,.0f} × {height / dpi:,.0f} inches: wanted at most "
            f"{LONGEST_PDF} a side in a pdf; ask for a smaller paper, or a .tif"
        )


def _page_size(
    width: int | None,
    size: tuple[int, int] | None,
    paper: str | None,
    orientation: str,
    dpi: float,
    aspect: float,
) -> tuple[int, int | None]:
    if size is not None:
        if width is not None or paper is not None:
            raise PosterError(
                f"size {size[0]}x{size[1]} is given together with "
                f"{'width' if width is not None else 'paper'}: wanted one of them"
            )
        return size
    if paper is None:
        if orientation != "auto":
            raise PosterError(
                f"orientation is {orientation} without a paper: wanted --paper too, such as A2"
            )
        return 3000 if width is None else width, None
    if width is not None:
        raise PosterError(
            f"both width ({width}) and paper ({paper}) are given: wanted one; a paper's pixels "
            "follow from --dpi"
        )
    return sheet_named(paper, orientation, aspect).pixels(dpi)
