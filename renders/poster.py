"""Posters: a whole page around one landscape."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import LossatlasError
from pipeline.scale import CLIP
from renders.box import Box
from renders.caveats import remarks
from renders.colour import hex_colour, palette_colours, rgb
from renders.layout import PROFILE_ASPECT, layout_for, map_aspect
from renders.map.tone import How, Tone, fit_tone
from renders.page import Style, page_layers, small_print, title_of
from renders.paper import sheet_named
from renders.source.provenance import Provenance, provenance
from renders.source.surface import Surface, finished_values, opened, read_surface, sample_stride
from renders.sprite import Sprite, Sprites
from renders.theme import theme_named
from renders.whole import checked_place

if TYPE_CHECKING:
    from renders.picture import Layer, Picture
    from renders.relief import Relief
    from renders.spread import Spread

ABSURD_PIXELS = 1_500_000_000
_FORMATS = {".png": "png", ".pdf": "pdf", ".tif": "tiff", ".tiff": "tiff"}


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
    quantity: str = "loss",
    split: str | None = None,
    frame: int = 0,
    tone: How | None = None,
    clip: tuple[float, float] = CLIP,
    limits: tuple[float | None, float | None] = (None, None),
    palette: str | Sequence[str] | None = None,
    theme: str = "light",
    layout: str = "gallery",
    contours: bool = True,
    light: bool = True,
    curve: bool = True,
    anchors: bool = True,
    scale_bar: bool = True,
    title: str | None = None,
    subtitle: str | None = None,
    spread: Spread | None = None,
    yes: bool = False,
    format_: str | None = None,
) -> PosterFacts:
    """Draw one frame of a store as a poster and write it as PNG, PDF or pyramidal TIFF.

    Args:
        store_url: the render's store, finished or not.
        out_path: a `.png`, `.pdf` or `.tif` in an existing folder; replaced whole or not at all.
        width: of the page, pixels; the height follows from the plane. 3000 without a `paper`.
        size: width and height of the page, pixels, instead.
        paper: A0, letter, 24x36in …, see `renders.paper`; decides width and height with `dpi`.
        orientation: of the paper: portrait, landscape, or auto, as the picture lies.
        dpi: dots per inch, written into the file.
        relief: in the round, seen by its camera; None draws a map.
        quantity, split, frame: what is shown; split None is the one that calibrates batch norm.
        tone: None is linear for an error, and else as `renders.map.tone.fit_tone` chooses.
        clip, limits, palette: see `renders.map.tone.fit_tone`; fitted over all frames.
        theme: light or dark.
        layout: gallery, paper or bare.
        contours, light, curve, anchors, scale_bar: leave a layer out.
        title, subtitle: None writes them from the store; an empty string leaves them out.
        spread: who paints; the cores by default.
        yes: go on even when the picture is absurdly large.
        format_: png, pdf or tiff, whatever the name ends in; None goes by the ending.

    Raises:
        LossatlasError: anything asked for that cannot be had; the message names the cure.
    """
    start = time.monotonic()
    path = checked_path(Path(out_path), format_)
    if not 1 <= dpi <= 100_000:
        raise PosterError(f"dpi is {dpi:g}: wanted dots per inch, 72 to 600 as a rule")
    style = Style(
        theme_named(theme),
        layout,
        contours,
        light,
        curve,
        anchors,
        contours,
        title,
        subtitle,
        scale_bar,
    )
    sheet = _page_size(width, size, paper, orientation, dpi, 1.0)
    layout_for(layout, sheet[0], 1.0, sheet[1])
    if palette is not None:
        palette_colours(palette)
    store = opened(store_url)
    surface = read_surface(store, quantity, split, frame)
    line = min(store.height, store.width) == 1
    if relief is not None and line:
        raise PosterError(
            f"{store_url} is a line, not a plane: wanted one for a relief; draw it with `lossatlas "
            "export poster`"
        )
    line = store.height == 1
    aspect = PROFILE_ASPECT if line or relief is not None else map_aspect(surface.extent)[0]
    wide, high = _page_size(
        width, size, paper, orientation, dpi, layout_for(layout, 1000, aspect).height / 1000
    )
    page = layout_for(layout, wide, aspect, high)
    refuse_absurd(page.width, page.height, yes)
    fitted = fit_tone(
        # A profile shows every split at once, a map only one.
        finished_values(store, quantity, store.splits if line else (surface.split,)),
        how=tone or ("linear" if quantity == "error" else None),
        clip=clip,
        limits=limits,
        palette=palette or style.theme.palette,
        nan=style.theme.nan,
        inf=style.theme.inf,
        stride=sample_stride(store),
    )
    facts = provenance(store, frame)
    absent = {*surface.absent}
    if absent:
        facts = replace(facts, share=float(surface.finished.mean()))
    if line:
        from renders.profile import profile_picture

        lines = [read_surface(store, quantity, name, frame) for name in store.splits]
        absent.update(tile for each in lines for tile in each.absent)
        picture = profile_picture(lines, fitted, facts, style, wide, high)
    elif relief is not None:
        from renders.relief import relief_picture

        picture = relief_picture(surface, fitted, facts, style, relief, wide, high)
    else:
        picture = poster_picture(surface, fitted, facts, style, wide, high)
    words = {"Software": f"lossatlas {facts.version}", "Title": title_of(facts, style)}
    words["Description"] = " · ".join(small_print(surface, fitted, facts)[0])
    bytes_ = write_picture(picture, path, format_, dpi=dpi, text=words, spread=spread)
    seconds = time.monotonic() - start
    return PosterFacts(
        str(path),
        picture.width,
        picture.height,
        dpi,
        bytes_,
        facts.share,
        seconds,
        fitted.to_dict(),
        facts.preview,
        remarks(store_url, [fitted], absent),
    )


def poster_picture(
    surface: Surface,
    tone: Tone,
    facts: Provenance,
    style: Style,
    width: int,
    height: int | None = None,
) -> Picture:
    """The poster as a picture that can be painted box by box, `width` pixels wide.

    The height follows from the plane, unless the paper decides it.
    """
    # Numba takes a second to import: after everything that may still be refused.
    from renders.figures import contour_figures
    from renders.inks import ground_at, inks_on
    from renders.map.canvas import Map
    from renders.map.contour import Contours, round_levels
    from renders.map.field import field_of
    from renders.map.holes import Hatch
    from renders.map.light import Light
    from renders.overlay import anchor_sprites, curve_strokes
    from renders.picture import Picture
    from renders.projection import Projection
    from renders.scalebar import scale_bar_sprites

    aspect, equal = map_aspect(surface.extent)
    page = layout_for(style.layout, width, aspect, height)
    at, u, theme = page.map, page.unit, style.theme
    field = field_of(surface, tone, at.width, at.height)
    projection = Projection(at, surface.extent)
    lines = None
    if style.contours:
        levels, index = round_levels(tone)
        inks = tuple(hex_colour(inks_on(ground_at(v, tone, theme), theme).pen) for v in levels)
        lines = Contours(levels, index, max(0.9 * u, 0.8), max(1.6 * u, 1.2), inks, 0.26, 0.50)
    marks: tuple[Sprite, ...] = ()
    if style.anchors:
        marks = anchor_sprites(surface, projection, tone, theme, 5.6 * u, 19 * u)
    strokes = curve_strokes(surface, projection, tone, theme, 2.6 * u) if style.curve else ()
    bar: tuple[Sprite, ...] = ()
    if style.scale_bar and equal and page.kind != "bare":
        beside = tuple(mark.box for mark in marks)
        bar = scale_bar_sprites(surface, projection, tone, theme, facts.units, 9 * u, beside)
    figures: tuple[Sprite, ...] = ()
    gaps: tuple[Sprite, ...] = ()
    if lines is not None and style.figures and 9 * u >= 6:
        avoid = tuple(mark.box for mark in (*marks, *bar))
        avoid += tuple(_stations(strokes, round(8 * u)))
        figures, gaps = contour_figures(field, tone, lines, at, 9 * u, avoid)
    hatch = Hatch(theme.hatch_ground, theme.hatch_line, 9 * u, max(1.1 * u, 0.8))
    landscape = Map(at, field, tone, hatch, Light() if style.light else None, lines, gaps)
    layers: list[Layer] = [landscape, Sprites(figures), *strokes, Sprites((*bar, *marks))]
    if page.kind != "bare":
        layers += page_layers(surface, tone, facts, style, page, projection, equal)
    return Picture(page.width, page.height, rgb(theme.paper), tuple(layers))


def _stations(strokes: tuple[Any, ...], reach: int) -> list[Any]:
    if not strokes:
        return []
    return [Box(round(x), round(y), 1, 1).grown(reach) for x, y in strokes[-1].points]


def write_picture(
    picture: Picture,
    path: Path,
    format_: str | None = None,
    *,
    dpi: float,
    text: dict[str, str],
    spread: Spread | None = None,
) -> int:
    """Write a picture as `format_` or what `path` ends in; returns the file's size in bytes.

    Raises:
        LossatlasError: the file cannot be written.
    """
    match format_ or _FORMATS[path.suffix.lower()]:
        case "pdf":
            from renders.pdf import write_pdf

            return write_pdf(picture, path, dpi=dpi, text=text, spread=spread)
        case "tiff":
            from renders.files.image import write_tiff

            return write_tiff(picture, path, dpi=dpi, text=text, spread=spread)
        case _:
            from renders.files.image import write_png

            return write_png(picture, path, dpi=dpi, text=text, spread=spread)


def checked_path(path: Path, format_: str | None = None) -> Path:
    """`path`, if a picture could be written there.

    Raises:
        PosterError: an ending we do not write, or a place nobody could write to.
    """
    if format_ not in (None, *_FORMATS.values()):
        raise PosterError(f"format is {format_!r}: wanted png, pdf or tiff")
    if format_ is None and path.suffix.lower() not in _FORMATS:
        raise PosterError(
            f"{path} ends in {path.suffix or 'nothing'!r}: wanted .png, .pdf or .tif; rename it"
        )
    if path.is_dir():
        raise PosterError(f"{path} is a folder: wanted the name of a file")
    return checked_place(path, PosterError)


def refuse_absurd(width: int, height: int, yes: bool) -> None:
    """Raise PosterError above `ABSURD_PIXELS`, unless `yes`."""
    if width * height > ABSURD_PIXELS and not yes:
        raise PosterError(
            f"the picture would be {width:,} × {height:,}, {width * height / 1e9:.1f} gigapixels: "
            f"wanted at most {ABSURD_PIXELS / 1e9:.1f}; ask for fewer dpi, or say --yes to go on"
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
