"""Marks lie where they are, in the colour of their own value, and say how far off they are."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle
from matplotlib.text import Text

from pipeline.errors import LossatlasError
from pipeline.geometry.plane import Anchor
from pipeline.store.reader import WORDS
from pipeline.store.store import Store
from renders.box import Box
from renders.colour import luminance, rgb, to_linear
from renders.map.points import SUB, Dots
from renders.map.tone import Tone, fit_tone
from renders.page.crowd import stamp
from renders.page.glyph import outline
from renders.page.key import Key, arranged, entry_width
from renders.page.landscape import landscape_page
from renders.page.layout import layout_for
from renders.page.marks import (
    casing_of,
    draw_marks,
    fills,
    on_map,
    opacity,
    radius_for,
    stacked,
    step_opacities,
)
from renders.page.page import Page
from renders.page.printed import Printed
from renders.page.sheet import Sheet, house
from renders.page.theme import DARK, LIGHT
from renders.page.words import Style, marks_said, small_print
from renders.picture import paint
from renders.poster import export_poster
from renders.projection import Projection, nearest_values
from renders.source.marks import COLOURS, GLYPHS, MarkGroup, MarksError, read_marks
from renders.source.provenance import Provenance, provenance
from renders.source.surface import Surface, read_surface
from tests.renders.marked import group_of, with_marks
from tests.renders.sheets import drawn, inked, stitched, words_on
from tests.renders.surfaces import landscape, surface_of

MakeStore = Callable[..., str]
AT = Box(10, 20, 400, 300)
PLANE = Projection(AT, (-2.0, 2.0, -1.5, 1.5))


def tone_of(surface: Surface) -> Tone:
    return fit_tone([surface.values], clip=(0, 100))


def marked(*groups: MarkGroup, **more: Any) -> Surface:
    return replace(surface_of(landscape(24, 32)), curve=None, anchors=(), marks=groups, **more)


def inked_sheet(*groups: MarkGroup, radius: float = 8.0) -> tuple[Sheet, npt.NDArray[np.uint8]]:
    """Marks alone on a sheet of 430 × 350 pixels, and their ink."""
    tone = tone_of(marked())
    with house(LIGHT):
        sheet = Sheet.blank(430, 350, 100.0, LIGHT)
        draw_marks(sheet, on_map(groups, PLANE), "loss", tone, radius, AT)
    ink = Printed(sheet).ink(Box(0, 0, 430, 350))
    return sheet, np.zeros((350, 430, 4), np.uint8) if ink is None else ink


def page_of(surface: Surface, width: int = 500, **style: Any) -> Page:
    how = Style(LIGHT, **{"light": False, "contours": False, **style})
    return landscape_page(surface, tone_of(surface), Provenance(), how, width)


# Reading


def test_old_stores_have_no_marks(make_store: MakeStore) -> None:
    store = Store.open(make_store(landscape(8, 8)))
    assert read_marks(store, "train", 0) == ()
    assert read_surface(store, "loss", None, 0).marks == ()


def test_marks_are_read_group_by_group(make_store: MakeStore) -> None:
    places = [[-1, 0, 2], [0, 0.5, 4], [1, 0, 0], [0.5, 0.5, 1]]
    groups = [
        {"label": "a\x1b[2J", "line": True, "count": 3, "names": ["e-1", "e-2", "e-3"]},
        {"label": "b", "count": 1, "glyph": "plus", "colour": "crimson", "numbers": [7]},
    ]
    own = [[0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]]
    url = make_store(landscape(8, 8))
    with_marks(url, groups, places, {"loss": own}, [1, 1, 0, 1])
    first, second = read_marks(Store.open(url), "test", 0)
    assert first.label == "a\\u001b[2J"
    assert first.names == ("e-1", "e-2", "e-3")
    assert (second.label, second.glyph, second.colour) == ("b", "plus", "#dc143c")
    assert (first.glyph, first.colour, first.line) == ("circle", COLOURS[0], True)
    assert first.x.tolist() == [-1, 0, 1]
    assert first.fade.tolist() == [0.5, 1, 0]
    np.testing.assert_array_equal(first.own["loss"], [1, 2, np.nan])
    assert first.finished.tolist() == [True, True, False]
    assert second.numbers.tolist() == [7]
    assert np.isnan(first.numbers).all()


def test_a_later_spec_may_call_and_draw_marks_otherwise(make_store: MakeStore) -> None:
    url = with_marks(make_store(landscape(8, 8)), [{"label": "a"}], [[0, 0, 0]], {"loss": [1]})
    later = {"label": "b", "line": True, "glyph": "plus", "colour": "#00ff00"}
    for said in ([later], [later, later], "damaged"):
        Store.open(url, writable=True).write_note(WORDS, {"marks": said})
        (group,) = read_marks(Store.open(url), "train", 0)
        new = group.label, group.line, group.glyph, group.colour
        old = "a", False, "circle", COLOURS[0]
        assert new == (tuple(later.values()) if said == [later] else old)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([{"glyph": "star"}], "'star': wanted one of circle"),
        ([{"colour": "no\x1bne"}], r"'no\\u001bne': wanted #rrggbb"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    make_store: MakeStore, groups: list[dict[str, Any]], said: str
) -> None:
    url = with_marks(make_store(landscape(8, 8)), groups, [[0, 0, 0], [1, 0, 0]], {"loss": [1, 2]})
    with pytest.raises(MarksError, match=said) as caught:
        read_marks(Store.open(url), "train", 0)
    assert "\n" not in str(caught.value)


def test_marks_that_are_gone_are_one_line(make_store: MakeStore) -> None:
    url = with_marks(make_store(landscape(8, 8)), [{}], [[0, 0, 0]], {"loss": [1]})
    (Path(url) / "mark_loss/c/0/0").unlink()
    with pytest.raises(LossatlasError, match=r"mark_loss/c/0/0 is missing\).*lossatlas verify"):
        read_marks(Store.open(url), "train", 0)


# Drawing


@pytest.mark.parametrize("glyph", GLYPHS)
def test_a_mark_lies_on_its_place(glyph: str) -> None:
    _, ink = inked_sheet(group_of([0.83], [-0.41], glyph=glyph, own=[1.0]))
    rows, columns = np.nonzero(ink[..., 3] > 128)
    x, y = (float(v) for v in PLANE.pixels(0.83, -0.41))
    assert (columns.min() + columns.max() + 1) / 2 == pytest.approx(x, abs=0.8)
    off = 3.2 if glyph == "triangle" else 0.8  # its middle is that of its mass
    assert (rows.min() + rows.max() + 1) / 2 == pytest.approx(y, abs=off)


@pytest.mark.parametrize("glyph", GLYPHS)
def test_glyphs_look_as_large_as_each_other(glyph: str) -> None:
    """Areas within a fifth of a disc's, and each layer inside the one beneath it."""
    y, x = np.mgrid[-2:2:400j, -2:2:400j]
    at = np.stack([x.ravel(), y.ravel()], axis=1)
    covered = [outline(glyph, 1.0, grown).contains_points(at) for grown in (0.26, 0.0, -0.14)]
    assert covered[1].mean() * 16 == pytest.approx(np.pi, rel=0.22)
    assert (covered[1] <= covered[0]).all()
    assert (covered[2] <= covered[1]).all()
    assert covered[2].any()


def test_a_dot_has_the_tone_of_its_own_loss() -> None:
    """Not that of the plane beneath; NaN, inf, and what is not computed have colours of theirs."""
    tone = tone_of(marked())
    own = [tone.low, tone.high, np.nan, np.inf, 1.0]
    group = group_of(np.linspace(-1.5, 1.5, 5), np.zeros(5), own=own, finished=[1, 1, 1, 1, 0])
    _, ink = inked_sheet(group)
    wanted = [tone.palette[0], tone.palette[-1], tone.nan, tone.inf]
    colours = [*(rgb(c) for c in wanted), casing_of(group, LIGHT)]
    for x, colour in zip(group.x.tolist(), colours, strict=True):
        px, py = (int(v) for v in PLANE.pixels(x, 0.0))
        assert ink[py, px].tolist() == [*np.rint(colour).astype(int), 255]


def test_a_dot_without_values_of_its_own_has_its_groups_colour() -> None:
    group = group_of([0.0], [0.0], colour="#ee5038")
    assert fills(group, "loss", tone_of(marked()), LIGHT).tolist() == [rgb("#ee5038").tolist()]


def test_own_colours_are_those_of_the_tone() -> None:
    surface = marked()
    tone = fit_tone([surface.values], how="equalised")
    values = np.geomspace(0.2, 20, 40)
    group = group_of(np.zeros(40), np.zeros(40), own=values)
    lut = tone.lut()
    lo, hi = tone.span
    at = np.rint(np.clip((np.log(values) - lo) / (hi - lo), 0, 1) * (len(lut) - 1)).astype(int)
    assert np.abs(fills(group, "loss", tone, LIGHT) - lut[at]).max() < 0.6


def test_a_line_fades_with_the_distance_off_the_plane() -> None:
    """Less and less of it is left, step by step; and all of it in the plane."""
    count = 9
    off = np.linspace(0, 5, count)
    group = group_of(np.linspace(-1.8, 1.8, count), np.zeros(count), off, line=True)
    sheet, ink = inked_sheet(group, radius=4.0)
    x, y = PLANE.pixels((group.x[1:] + group.x[:-1]) / 2, 0.0)
    alpha = ink[int(y), x.astype(int), 3].astype(int)
    assert (np.diff(alpha) < 0).all()
    assert (np.diff(step_opacities(group)) < 0).all()
    assert opacity([0.0, 1.0]).tolist() == [1.0, pytest.approx(0.16)]
    flat = group_of(group.x, group.y, 0.0, line=True)
    assert (inked_sheet(flat, radius=4.0)[1][int(y), x.astype(int), 3] > 240).all()
    pens = [a for a, _ in inked(sheet) if isinstance(a, LineCollection)]
    assert len(pens) == 3
    assert [len(pen.get_segments()) for pen in pens] == [count - 1] * 3


def test_lines_and_rims_contrast_with_what_lies_beneath_them() -> None:
    for colour in (*COLOURS, "#102040"):
        group = group_of([0], [0], colour=colour)
        for theme in (LIGHT, DARK):
            apart = luminance(rgb(colour)) + 0.05, luminance(casing_of(group, theme)) + 0.05
            assert max(apart) / min(apart) > 4.5
    dark = {tuple(casing_of(group_of([0], [0], colour=c), LIGHT)) for c in COLOURS}
    assert dark == {tuple(rgb(LIGHT.pen_dark))}


_BLINDNESS = {
    "none": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip
"""Linear light as seen. Source: Machado et al. 2009, doi:10.1109/TVCG.2009.113, severity 1."""


@pytest.mark.parametrize("kind", _BLINDNESS)
def test_groups_are_told_apart_whatever_colours_one_sees(kind: str) -> None:
    """By at least 25 ΔE (CIE 1976), and by their glyphs besides."""
    xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
         [0.0193339, 0.1191920, 0.9503041]]
    )  # fmt: skip

    def lab(colour: str) -> npt.NDArray[np.float64]:
        seen = np.clip(_BLINDNESS[kind] @ to_linear(rgb(colour)), 0, 1)
        t = (xyz @ seen) / xyz.sum(axis=1)
        f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    for one, two in itertools.combinations(COLOURS, 2):
        assert np.linalg.norm(lab(one) - lab(two)) > 25
    assert len(set(GLYPHS[: len(COLOURS)])) == len(COLOURS)


def test_an_anchor_that_is_a_mark_is_drawn_once() -> None:
    anchors = Anchor("w0", -1, 0, 0), Anchor("w1", 1, 0, 0)
    rings = []
    for groups in ((), (group_of([1.0], [0.0], own=[1.0]),)):
        page = page_of(replace(marked(*groups), anchors=anchors))
        rings.append(len(page.sheet.figure.findobj(Circle)))
        assert {"w₀", "w₁"} <= set(words_on(page.sheet))
    assert rings[0] == 2 * rings[1] > 0


def test_marks_beyond_the_map_leave_no_ink() -> None:
    out = group_of([-9, 0, 9.0], [0, 9, 0], own=[1.0, 1, 1])
    assert not inked_sheet(out)[1].any()
    through = group_of([-9.0, 9.0], [0, 0], line=True)
    rows, columns = np.nonzero(inked_sheet(through)[1][..., 3])
    assert (columns.min(), columns.max()) == (AT.x, AT.right - 1)
    assert len(rows)


@pytest.mark.parametrize("count", [0, 1])
def test_no_mark_and_one_mark(count: int) -> None:
    group = group_of(np.zeros(count), np.zeros(count), np.zeros(count), np.ones(count), line=True)
    page = page_of(marked(group))
    assert ("walk" in words_on(page.sheet)) == bool(count)
    assert len(paint(page.picture, page.picture.box))


# Crowds


def test_a_crowd_is_painted_as_a_painter_would() -> None:
    """Layer over layer, later marks over earlier ones, in naive loops."""
    rng = np.random.default_rng(0)
    places = rng.uniform(-3, 43, (60, 2))
    colours = rng.integers(0, 256, (60, 3, 3)).astype(float)
    shape = stamp("diamond", 2.3)
    clip = Box(2, 3, 34, 30)
    layer = Dots(places, shape, colours, clip)
    box = Box(0, 0, 40, 36)
    big = np.full((SUB * 36, SUB * 40, 3), np.nan)
    for above in range(3):
        for k, (x, y) in enumerate(places):
            for dx, dy, at in zip(shape.dx, shape.dy, shape.layer, strict=True):
                j, i = int(np.floor(SUB * y)) + dy, int(np.floor(SUB * x)) + dx
                if at == above and 0 <= j < SUB * 36 and 0 <= i < SUB * 40:
                    big[j, i] = colours[k, at]
    ground = np.array([200, 180, 160.0])
    whole = np.where(np.isnan(big), ground, big).reshape(36, SUB, 40, SUB, 3).mean(axis=(1, 3))
    outside = np.ones((36, 40), bool)
    outside[clip.rows(box), clip.columns(box)] = False
    whole[outside] = ground
    np.testing.assert_array_equal(drawn(layer, box), np.rint(whole))
    np.testing.assert_array_equal(stitched(layer, box, 13, 7), np.rint(whole))


@pytest.mark.parametrize("crowd", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_any_tiling_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch, crowd: bool) -> None:
    monkeypatch.setattr("renders.page.marks.CROWD", 50 if crowd else 1_000)
    rng = np.random.default_rng(1)
    count = 120
    x, y = np.cumsum(rng.normal(0, 0.15, (2, count)), axis=1)
    groups = [
        group_of(x, y, rng.uniform(0, 3, count), rng.uniform(0.1, 20, count), glyph=glyph, **more)
        for glyph, more in (("circle", {"line": True}), ("ring", {}))
    ]
    picture = page_of(marked(*groups), 460).picture
    whole = paint(picture, picture.box)
    for wide, high in ((171, 93), (64, 460)):
        parts = np.zeros_like(whole)
        for box in picture.box.tiles(wide, high):
            parts[box.rows(picture.box), box.columns(picture.box)] = paint(picture, box)
        np.testing.assert_array_equal(parts, whole)
    bare = page_of(marked(), 460).picture
    assert (whole != paint(bare, bare.box)).any(axis=2).sum() > 500


def test_a_crowd_is_pixels_in_a_vector_file(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    count = 300
    places = np.column_stack([*rng.uniform(-1, 1, (2, count)), np.ones(count)])
    url = with_marks(
        make_store(landscape(16, 20)), [{"label": "x"}], places, {"loss": np.ones(300)}
    )
    sizes = {}
    for most in (1_000, 100):
        monkeypatch.setattr("renders.page.marks.CROWD", most)
        export_poster(url, tmp_path / "out.svg", width=400)
        sizes[most] = (tmp_path / "out.svg").read_text().count("<path")
    assert sizes[1_000] - sizes[100] >= 4 * (count - 1)


def test_many_marks_are_drawn_smaller_than_few() -> None:
    sizes = [
        radius_for([group_of(np.zeros(n), np.zeros(n))], 3.0) for n in (1, 40, 300, 3_000, 10**5)
    ]
    assert sizes[0] == sizes[1]
    assert (np.diff(sizes[1:]) < 0).all()


# Words


def names(key: Key) -> list[list[str]]:
    return [[label for _, label in row] for row in key.rows]


def test_a_key_fits_its_room() -> None:
    labels = ["SGD", "SGD with momentum 0.9", "Adam", "x" * 90, "SAM", "Lion"]
    groups = [group_of([0], [0], label=label, line=True) for label in labels]
    for room, rows in ((330.0, 3), (330.0, 2), (814.0, 1), (90.0, 6)):
        key = arranged(groups, 10.5, room, rows)
        assert len(key.rows) <= rows
        assert sum(map(len, key.rows)) == len(groups)
        for row in key.rows:
            wide = sum(entry_width(*entry, key.kind) for entry in row)
            assert wide + 1.5 * key.kind.size * (len(row) - 1) <= room + 1e-6
    assert names(arranged(groups[:3], 10.5, 330.0, 3)) == [labels[:3]]
    assert arranged([group_of([], [])], 10.5, 330.0, 3).rows == ()


@pytest.mark.parametrize("layout", ["gallery", "paper"])
def test_a_key_stands_clear_of_everything_else(layout: str) -> None:
    labels = ["SGD", "SGD with momentum 0.9", "Adam", "AdamW, weight decay 0.01", "SAM", "Lion"]
    groups = [group_of([0.1 * k], [0], own=[1.0], label=w, line=True) for k, w in enumerate(labels)]
    values = landscape(24, 32)
    values[3, 3] = np.nan  # swatches stand near
    surface = replace(surface_of(values), curve=None, anchors=(), marks=tuple(groups))
    page = page_of(surface, 1000, layout=layout)
    texts = [(a.get_text(), b) for a, b in inked(page.sheet) if isinstance(a, Text)]
    keyed = [box for text, box in texts if text in labels]
    assert len(keyed) == len(labels)
    others = [box for text, box in texts if text not in labels]
    legend = layout_for(layout, 1000, 0.75).legend
    for box in keyed:
        assert box.meet(Box(0, 0, page.sheet.width, page.sheet.height)) == box
        assert all(box.meet(other).empty for other in (*others, legend))
    for one, two in itertools.combinations(keyed, 2):
        assert one.meet(two).empty


def test_the_small_print_says_how_far_off_and_what_is_not_seen() -> None:
    tone = tone_of(marked())

    def said(*groups: MarkGroup) -> list[str]:
        return marks_said(marked(*groups), tone)

    beneath = float(marked().values[12, 16])
    there = {"own": [beneath]}
    assert said() == said(group_of([], [])) == []
    assert said(group_of([0.06], [0.06], **there)) == []
    assert said(group_of([0.06], [0.06], 12.345, **there)) == ["marks lie up to 12.3 off the plane"]
    assert said(group_of([0.06, 0.06], [0.06, 0.06], [0, 2.0], [beneath] * 2, line=True)) == [
        "marks lie up to 2 off the plane, where their lines fade"
    ]
    assert said(group_of([0.06], [0.06], own=[9 * beneath])) == [
        "marks have the colours of their own loss"
    ]
    assert said(group_of([0.06], [0.06], own=[np.inf])) == [
        "marks have the colours of their own loss"
    ]
    assert said(group_of([9.0, -3, 2], [0, 0, 1.5])) == ["2 marks lie outside"]
    assert said(group_of([-3.0], [0])) == ["1 mark lies outside"]
    assert said(group_of([0.06], [0.06], finished=False)) == ["1 mark not computed yet"]
    assert marks_said(marked(group_of([0.06], [0.06], 3.0)), tone, "patch") == [
        "marks lie up to 3 off the patch"
    ]
    printed = small_print(marked(group_of([9.0], [0])), tone, Provenance())[0]
    assert "1 mark lies outside" in printed


def test_a_mark_may_lie_farther_away_than_integers_reach() -> None:
    places = np.array([[0.06, 1e38, -1e300, np.nan, np.inf], [0.06, 0, 1e38, 0, 0]])
    values = nearest_values(marked(), *places)
    assert values[0] == marked().values[12, 16]
    assert np.isnan(values[1:]).all()
    page = page_of(marked(group_of(places[0, :2], places[1, :2], own=[1.0, 2], line=True)))
    assert paint(page.picture, page.picture.box).any()


def test_marks_outside_decide_nothing_of_what_is_inside(make_store: MakeStore) -> None:
    """Neither how lines fade, nor how far off the plane marks are said to lie, nor the key."""
    groups = [{"label": "near", "line": True, "count": 3}, {"label": "beside", "count": 1}]
    places = [[-1, 0, 1], [0, 0.5, 2], [9, 0, 5000], [0, 7, 10_000]]
    url = with_marks(make_store(landscape(8, 8)), groups, places, {"loss": [1, 2, 3, 4]})
    surface = read_surface(Store.open(url), "loss", "train", 0)
    near, beside = surface.marks
    assert near.fade.tolist() == [0.5, 1, 1]
    assert [group.meets(surface.extent) for group in surface.marks] == [True, False]
    assert (near.seen, beside.seen) == (True, False)
    said = marks_said(surface, tone_of(surface))
    assert said[0] == "marks lie up to 2 off the plane, where their lines fade"
    assert "2 marks lie outside" in said
    words = words_on(page_of(surface).sheet)
    assert "near" in words
    assert "beside" not in words


def test_without_marks_inside_all_decide_how_lines_fade(make_store: MakeStore) -> None:
    url = make_store(landscape(8, 8))
    with_marks(url, [{}], [[9, 0, 2], [9, 1, 4]], {"loss": [1, 2]})
    assert read_marks(Store.open(url), "train", 0)[0].fade.tolist() == [0.5, 1]


def test_a_line_between_marks_outside_may_cross_the_picture() -> None:
    square = -1.0, 1.0, -1.0, 1.0
    ways = {((-3, 0), (3, 0)): True, ((-3, 0), (0, 3)): False, ((-3, 5), (3, 5)): False}
    ways |= {((0.5, -9), (0.5, 9)): True, ((-3, 0), (np.nan, 0)): False}
    for ends, crosses in ways.items():
        group = group_of(*zip(*ends, strict=True), line=True)
        assert group.meets(square) == crosses
        assert not replace(group, line=False).meets(square)


def test_a_mark_alone_lies_over_a_larger_group() -> None:
    """Such as the mean of weights over the samples around it."""
    alone = group_of([0.0], [0.0], colour="#ff0000")
    many = group_of([0.0, 1], [0.0, 1], colour="#0000ff")
    line = group_of([0.0], [0.0], line=True)
    placed = on_map([alone, many, line], PLANE)
    assert [each.group for each in stacked(placed)] == [many, line, alone]
    over = [inked_sheet(*groups)[1] for groups in ((alone, many), (many, alone))]
    np.testing.assert_array_equal(*over)


@pytest.mark.parametrize(
    ("units", "ignore", "said"),
    [
        ("directions", "none", "shares of the given directions, no distances"),
        ("filter-normalised", "bias_norm", "filter-normalised, dimensionless, without biases and"),
        ("layer-normalised", "none", "layer-normalised, dimensionless, not always at right"),
    ],
)
def test_a_picture_of_given_directions_says_what_its_axes_are(
    make_store: MakeStore, units: str, ignore: str, said: str
) -> None:
    plane = {"kind": "directions", "units": units, "names": ["a", "b"]}
    spec = {"name": "d", "plane": {"kind": "directions", "ignore": ignore}}
    store = Store.open(make_store(landscape(24, 32), spec=spec, plane=plane))
    surface, facts = read_surface(store, "loss", None, 0), provenance(store, 0)
    (words,) = (p for p in small_print(surface, tone_of(surface), facts)[0] if "axes: " in p)
    assert words.startswith(f"axes: {said}")
    assert words.endswith(", not always at right angles")
    page = landscape_page(surface, tone_of(surface), facts, Style(LIGHT, light=False), 900)
    bars = [word for word in words_on(page.sheet) if re.match(r"0?\.?5\b", word)]
    assert bool(bars) == (units != "directions")


def test_marks_can_be_left_out(make_store: MakeStore, tmp_path: Path) -> None:
    url = make_store(landscape(12, 16))
    export_poster(url, tmp_path / "before.png", width=300)
    with_marks(url, [{"label": "x"}], [[0, 0, 1]], {"loss": [1]})
    export_poster(url, tmp_path / "without.png", width=300, marks=False)
    export_poster(url, tmp_path / "with.png", width=300)
    before, without, shown = (
        (tmp_path / f"{name}.png").read_bytes() for name in ("before", "without", "with")
    )
    assert before == without != shown


@pytest.mark.parametrize(
    ("plane", "axes"),
    [
        ({"kind": "fit", "explained": [0.785, 0.12, 0.01], "components": [1, 3]},
         ("PC1 78.5 %", "PC3 12.0 %")),
        ({"kind": "patch", "units": "patch"}, ("α", "β")),
        ({"kind": "directions", "names": ["up\x1b", "down"]}, ("up\\u001b", "down")),
        ({"kind": "directions", "names": ["only"]}, ("only", "y")),
        ({"kind": "curve"}, ("x", "y")),
    ],
)  # fmt: skip
def test_axes_are_named_for_what_they_are(
    make_store: MakeStore, plane: dict[str, Any], axes: tuple[str, str]
) -> None:
    store = Store.open(make_store(landscape(12, 16), plane=plane))
    facts = provenance(store, 0)
    assert facts.axes == axes
    surface = read_surface(store, "loss", None, 0)
    page = landscape_page(surface, tone_of(surface), facts, Style(LIGHT), 800)
    assert set(axes) <= set(words_on(page.sheet))
    scaled = any("in weight space" in words or words == "0.5" for words in words_on(page.sheet))
    assert scaled or plane["kind"] == "patch"
    texts = [box for a, box in inked(page.sheet) if isinstance(a, Text) and a.get_text() in axes]
    whole = Box(0, 0, page.sheet.width, page.sheet.height)
    assert all(box.meet(whole) == box for box in texts)
