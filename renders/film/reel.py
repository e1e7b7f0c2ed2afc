"""The reel: a store's frames as a film shows them, under one tone and in one scene."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from pipeline.errors import LossatlasError
from pipeline.geometry.grid import Tile
from pipeline.refinement.scale import CLIP
from renders.colour import palette_colours
from renders.film.stage import stage_for
from renders.map.tone import How, Tone, fit_tone
from renders.page.caveats import remarks
from renders.page.theme import theme_named
from renders.page.words import Style
from renders.source.provenance import provenance
from renders.source.surface import (
    Surface,
    finished_values,
    lasting_share,
    opened,
    read_surface,
    sample_stride,
    without,
)

if TYPE_CHECKING:
    from pipeline.store.reader import StoreReader
    from renders.film.scene import Scene


class ReelError(LossatlasError):
    """The store has no frames to show as asked."""


class Look(TypedDict, total=False):
    """What frames show and how; every key may be left out.

    Keys:
        quantity, split: loss or error or loss_stderr; split None is the one that calibrates
            batch norm.
        theme: dark, as films are by default, or light.
        palette, tone, clip, limits: see `renders.map.tone.fit_tone`; an error's tone is linear by
            default. The tone is fitted once over all frames of the store.
        contours, light, curve, anchors, marks: False leaves a layer out.
        title, subtitle: None writes them from the store; an empty string leaves them out.
    """

    quantity: str
    split: str | None
    theme: str
    palette: str | Sequence[str] | None
    tone: How | None
    clip: tuple[float, float]
    limits: tuple[float | None, float | None]
    contours: bool
    light: bool
    curve: bool
    anchors: bool
    marks: bool
    title: str | None
    subtitle: str | None


@dataclass(frozen=True, eq=False)
class Reel:
    """An opened film.

    Attributes:
        store: where the frames are.
        finished: of the frames with anything finished, which points are, bool (height, width).
        shares: of the same frames, which part of each is as it will stay, in [0, 1].
        frames: the ones to show, ascending.
        asked: how many were asked for, those left out included.
        tone: fitted over the whole store, whatever is shown of it.
        scene: what all pictures have in common.
        fingerprint: of the render, with the date where a store has none.
        remarks: what the film's maker should hear.
        marks: whether they are shown.
    """

    store: StoreReader
    finished: dict[int, npt.NDArray[np.bool_]]
    shares: dict[int, float]
    frames: tuple[int, ...]
    asked: int
    tone: Tone
    scene: Scene
    fingerprint: str
    remarks: tuple[str, ...] = ()
    marks: bool = True

    def surface(self, frame: int) -> Surface:
        """One frame, whether anything of it is finished or not.

        Raises:
            LossatlasError: its chunks are damaged.
        """
        nothing = np.zeros((self.store.height, self.store.width), dtype=bool)
        finished = self.finished.get(frame, nothing)
        scene = self.scene
        surface = read_surface(self.store, scene.quantity, scene.split, frame, finished)
        return surface if self.marks else replace(surface, marks=())

    def surfaces(self) -> Iterator[Surface]:
        """The frames to show, one after another."""
        for frame in self.frames:
            yield self.surface(frame)

    def share(self, frame: int) -> float:
        """Which part of the frame is finished, in [0, 1]; in a preview, what is evaluated."""
        return self.shares.get(frame, 0.0)


def open_reel(
    store_url: str,
    size: tuple[int, int],
    *,
    first: int | None = None,
    last: int | None = None,
    least: float = 0.0,
    whole: bool = False,
    blends: bool = False,
    flat: bool = True,
    grows: bool = False,
    **look: Unpack[Look],
) -> Reel:
    """Open a store and decide all that its frames have in common.

    Args:
        store_url: the render's store, finished or not.
        size: width and height of the pictures, pixels.
        first, last: frames to show, both included; None is the store's own end.
        least: the share of its points that a frame must have finished to be shown, in [0, 1]; at 0
            even one without any is.
        whole: progress runs over the store's frames and not over those shown, so that parts of a
            sequence made apart fit together.
        blends: whether there will be moments in between.
        flat: whether the landscape is a map, or in the round.
        grows: whether lines of marks grow over the film.
        look: see `Look`.

    Raises:
        LossatlasError: anything asked for that cannot be had; the message names the cure.
    """
    quantity = look.get("quantity", "loss")
    style = Style(
        theme_named(look.get("theme", "dark")),
        "film",
        contours=look.get("contours", True),
        light=look.get("light", True),
        curve=look.get("curve", True),
        anchors=look.get("anchors", True),
        figures=False,
        title=look.get("title"),
        subtitle=look.get("subtitle"),
    )
    stage_for(size, 0.5, (100, 100, 100))
    palette = look.get("palette") or style.theme.palette
    palette_colours(palette)
    from renders.film.growth import growing
    from renders.film.labels import labels_for
    from renders.film.scene import scene_for

    store = opened(store_url)
    if store.height == 1 or store.width == 1:
        raise ReelError(f"{store_url} is a line, not a plane: wanted a film; export its poster")
    span = _span(store, first, last)
    finished = store.finished_frames()
    if not finished:
        raise ReelError(
            f"{store_url} has no finished tile in any frame: wanted at least one frame to show; "
            f"run `lossatlas resume {shlex.quote(store_url)}` first"
        )
    some = sorted(finished)
    samples = [
        read_surface(store, quantity, look.get("split"), frame, finished[frame])
        for frame in sorted({some[0], some[len(some) // 2], some[-1]})
    ]
    marks = look.get("marks", True)
    if not marks:
        samples = [replace(sample, marks=()) for sample in samples]
    if grows and not growing(samples[0].marks):
        raise ReelError(
            f"{store_url} has no line of marks to grow: wanted marks with `line: true`, two or "
            "more; add them to the spec, or leave --grow out"
        )
    absent: set[Tile] = set()
    tone = fit_tone(
        finished_values(store, quantity, (samples[0].split,), absent),
        how=look.get("tone") or ("linear" if quantity == "error" else None),
        clip=look.get("clip", CLIP),
        limits=look.get("limits", (None, None)),
        palette=palette,
        nan=style.theme.nan,
        inf=style.theme.inf,
        stride=sample_stride(store),
    )
    for frame in {tile.frame for tile in absent}:
        gone = [tile for tile in absent if tile.frame == frame]
        finished[frame] = without(store, finished[frame], gone)
    shares = {frame: lasting_share(store, frame, mask) for frame, mask in finished.items()}
    frames = tuple(f for f in range(span[0], span[1] + 1) if shares.get(f, 0.0) >= least)
    if not frames:
        what = "finished frame" if least >= 1 else "frame with anything finished"
        raise ReelError(
            f"{store_url} has no {what} from {span[0]} to {span[1]}: wanted at least one to show; "
            f"run `lossatlas resume {shlex.quote(store_url)}` first"
        )
    scene = scene_for(
        size,
        samples,
        tone,
        style,
        provenance(store, 0),
        labels_for(store.attrs.get("plane") or {}, store.frames),
        (0, store.frames - 1) if whole else (frames[0], frames[-1]),
        tuple(range(store.frames)) if whole else frames,
        _extents(store),
        blends,
        flat,
        grows,
    )
    asked = span[1] - span[0] + 1
    told = remarks(store_url, [tone], {tile for tile in absent if tile.frame in frames})
    named = _fingerprint(store.attrs)
    return Reel(store, finished, shares, frames, asked, tone, scene, named, told, marks)


def _span(store: StoreReader, first: int | None, last: int | None) -> tuple[int, int]:
    found = (0 if first is None else first, store.frames - 1 if last is None else last)
    if not 0 <= found[0] <= found[1] < store.frames:
        raise ReelError(
            f"frames {found[0]} to {found[1]} are asked for: wanted first ≤ last within 0 to "
            f"{store.frames - 1}, the frames of {store.url}"
        )
    return found


def _extents(store: StoreReader) -> list[tuple[float, float, float, float]]:
    extents = [store.extent(frame) for frame in range(store.frames)]
    return [(e.x0, e.x1, e.y0, e.y1) for e in extents]


def _fingerprint(attrs: dict[str, Any]) -> str:
    return str(attrs.get("fingerprint") or attrs.get("created") or "")
