"""Marks on a model: on the ground or at their own value, and only as far as they are in sight."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry.plane import Anchor
from renders.box import Box
from renders.map.tone import Tone, fit_tone
from renders.page.marks import Placed
from renders.page.theme import DARK
from renders.page.words import Style
from renders.picture import paint
from renders.relief.camera import Camera, Shot, framed
from renders.relief.path import on_model, unmarked, world
from renders.relief.relief import Relief, checked, relief_page
from renders.relief.terrain import Ground, ground_of
from renders.source.marks import MarkGroup
from renders.source.provenance import Provenance
from tests.renders.marked import group_of
from tests.renders.surfaces import landscape, surface_of

RISE = 0.2
SURFACE = surface_of(landscape(24, 32))
TONE: Tone = fit_tone([SURFACE.values], clip=(0, 100))


def fence() -> Ground:
    """Flat ground with a ridge along y = 0; coordinates are those of the world."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 101), np.linspace(-0.4, 0.4, 161))
    z = 0.2 * np.clip(1 - np.abs(y) / 0.05, 0, 1)
    return Ground(np.stack([x, y, z], axis=-1), (-0.5, 0.5, -0.4, 0.4), (0.5, 0.4))


def seen_from_south(ground: Ground, altitude: float = 40) -> Shot:
    camera = Camera(math.pi, math.radians(altitude))
    return framed([camera], ground.hull, Box(0, 0, 800, 500)).shot(camera)


def placed(group: MarkGroup, ground: Ground, own: bool = False) -> Placed:
    shot = seen_from_south(ground)
    return on_model([group], ground, shot, TONE, "loss", own, RISE)[0]


def test_marks_lie_on_the_ground_and_where_a_camera_sees_them() -> None:
    ground = ground_of(SURFACE, TONE, RISE)
    group = group_of([-1.5, 0.3, 9.0], [-1.2, -1.4, 0.0], own=[1.0, 2, 3])
    points = world(group, ground, TONE, "loss", False, RISE)
    np.testing.assert_allclose(points[:2, 2], ground.height_at(points[:2]))
    assert np.isnan(points[2]).all()  # off the model
    x, y, _ = seen_from_south(ground).project(points)
    found = placed(group, ground)
    np.testing.assert_allclose(found.x[:2], x[:2])
    np.testing.assert_allclose(found.y[:2], y[:2])
    assert found.seen.tolist() == [True, True, False]
    assert found.stems == ()


def test_own_values_are_heights_of_the_colours_scale() -> None:
    """The ends of the tone are floor and top; NaN lies on the ground, inf at the top."""
    ground = ground_of(SURFACE, TONE, RISE)
    middle = math.sqrt(TONE.low * TONE.high)
    own = [TONE.low, TONE.high, middle, np.inf, np.nan]
    group = group_of(np.linspace(-1, 1, 5), np.zeros(5), own=own)
    points = world(group, ground, TONE, "loss", True, RISE)
    np.testing.assert_allclose(points[:4, 2], [0, RISE, RISE / 2, RISE], atol=1e-9)
    assert points[4, 2] == pytest.approx(float(ground.height_at(points[4])))
    bare = group_of([0.0], [0.0])  # no values of its own
    draped = world(bare, ground, TONE, "loss", False, RISE)
    np.testing.assert_array_equal(world(bare, ground, TONE, "loss", True, RISE), draped)


def test_what_stands_behind_a_ridge_is_not_seen() -> None:
    ground = fence()
    found = placed(group_of([0.0, 0, 0], [-0.2, 0.1, 0.39], line=True), ground)
    assert found.seen.tolist() == [True, False, True]
    # The line is seen on this side, and again where one looks over the ridge.
    drawn = np.concatenate(found.steps)
    shot = seen_from_south(ground)
    _, front, _ = shot.project(ground.place([0.0], [-0.02]))
    _, hidden, _ = shot.project(ground.place([0.0], [0.1]))
    assert (drawn[:, 1] > front[0]).any()
    assert not (np.abs(drawn[:, 1] - hidden[0]) < 3).any()
    assert len(found.opacities) == len(found.steps) >= 2


def test_a_mark_above_the_ridge_has_a_stem_down_to_it() -> None:
    ground = fence()
    found = placed(group_of([0.1], [0.05], own=[TONE.high]), ground, own=True)
    assert found.seen.all()
    (stem,) = found.stems
    assert np.ptp(stem[:, 0]) < 1.0
    assert stem[0].tolist() == pytest.approx([found.x[0], found.y[0]])
    assert stem[-1, 1] > stem[0, 1]


def test_a_line_on_the_ground_follows_it() -> None:
    ground = fence()
    shot = seen_from_south(ground, 60)
    group = group_of([-0.4, 0.4], [0.0, 0.0], line=True)
    (found,) = on_model([replace(group, y=np.array([-0.3, 0.3]))], ground, shot, TONE, "loss",
                        False, RISE)  # fmt: skip
    _, top, _ = shot.project(np.array([[0.0, 0, 0.2]]))
    (straight,) = on_model([replace(group, y=np.array([-0.3, 0.3]))], ground, shot, TONE, "loss",
                           True, RISE)  # fmt: skip
    near = [abs(np.concatenate(p.steps)[:, 1] - top[0]).min() for p in (found, straight)]
    assert near[0] < 12
    assert len(np.concatenate(found.steps)) > 20


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("far", [3.0, 1e38])
def test_a_line_to_a_mark_far_away_ends_at_the_rim(far: float, own: bool) -> None:
    ground = fence()
    group = group_of([0.1, far], [-0.2, -0.2], own=[1.0, 2.0], line=True)
    found = placed(group, ground, own)
    assert found.seen.tolist() == [True, False]
    across = np.concatenate(found.steps)[:, 0]
    (near, rim), _, _ = seen_from_south(ground).project(np.array([[0.1, -0.2, 0], [0.5, -0.2, 0]]))
    assert across.max() - across.min() == pytest.approx(abs(rim - near), rel=0.2)
    beside = group_of([0.1, far], [0.7, 0.7], own=[1.0, 2.0], line=True)
    assert placed(beside, ground, own).steps == ()


def test_an_anchor_that_is_a_mark_has_no_ball() -> None:
    ground = ground_of(SURFACE, TONE, RISE)
    anchors = Anchor("w0", -1, 0, 0), Anchor("w1", 1, 0, 0)
    assert unmarked(anchors, (), ground) == anchors
    assert unmarked(anchors, [group_of([1.0], [0.0])], ground) == anchors[:1]
    assert unmarked((), [group_of([1.0], [0.0])], ground) == ()


def test_a_relief_shows_marks_draped_or_at_their_own_value() -> None:
    group = group_of([-1.2, 0, 1.2], [0.2, 0.4, 0], [0, 1, 2], [20.0, 20, 20], line=True)
    pictures = []
    for groups, how in (((), "draped"), ((group,), "draped"), ((group,), "own")):
        surface = replace(SURFACE, marks=groups)
        relief = replace(checked(None, RISE, how), camera=Camera())  # type: ignore[arg-type]
        page = relief_page(
            surface, TONE, Provenance(), Style(DARK, "bare", light=False), relief, 300, 200
        )
        pictures.append(paint(page.picture, page.picture.box))
    for one, two in ((0, 1), (1, 2)):
        assert (pictures[one] != pictures[two]).any(axis=2).sum() > 100
    assert Relief().marks == "draped"
