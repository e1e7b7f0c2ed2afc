"""What a page says: title, subtitle, small print. The same words whoever letters them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.caption import proper
from renders.map.tone import Tone
from renders.page import caveats
from renders.page.theme import Theme
from renders.source.provenance import Provenance
from renders.source.surface import TITLES, Surface
from renders.ticks import short

NOT_A_NUMBER, INFINITE, NOT_COMPUTED = "not a number", "infinite", "not computed yet"


@dataclass(frozen=True)
class Style:
    """Everything about a poster that is taste.

    Attributes:
        theme: its colours.
        layout: gallery, paper or bare.
        contours, light, curve, anchors, figures, scale_bar: which layers are drawn.
        title, subtitle: None writes them from the store.
        axis: what lies along a line plot: `x` of the plane, or `alpha`, 0 and 1 at its anchors.
    """

    theme: Theme
    layout: str = "gallery"
    contours: bool = True
    light: bool = True
    curve: bool = True
    anchors: bool = True
    figures: bool = True
    title: str | None = None
    subtitle: str | None = None
    scale_bar: bool = True
    axis: str = "x"


def small_print(
    surface: Surface, tone: Tone, facts: Provenance, equal: bool = True
) -> tuple[list[str], str]:
    """The provenance as phrases, and the signature."""
    shown = "shown" if facts.preview else "computed"
    phrases = [
        facts.network,
        facts.data,
        facts.normalisation,
        facts.buffers,
        facts.own_losses,
        f"grid {facts.grid}",
        caveats.coarse(*surface.values.shape),
        scale_words(surface, tone),
        caveats.clipped(tone),
        {
            "euclidean": "axes: distance in weight space",
            "filter-normalised": "axes: filter-normalised, dimensionless",
        }.get(facts.units, ""),
        "" if equal else "axes not to one scale",
        facts.refinement,
        "" if facts.share >= 1 else f"{100 * facts.share:.0f} % {shown}",
    ]
    signature = " · ".join(p for p in (f"lossatlas {facts.version}", facts.date) if p)
    return [p for p in phrases if p], signature


def scale_words(surface: Surface, tone: Tone) -> str:
    """How values become colours, or heights, and between which."""
    how = {"log": "logarithmic", "equalised": "equalised", "linear": "linear"}[tone.how]
    if len(surface.values) > 1:
        return f"colours {how}, {short(tone.low)} to {short(tone.high)}"
    how = "logarithmic" if tone.space == "log" else "linear"
    what = TITLES.get(surface.quantity, surface.quantity)
    return f"{what} scale {how}, {short(tone.low)} to {short(tone.high)}"


def title_of(facts: Provenance, style: Style) -> str:
    if style.title is not None:
        return style.title
    words = " ".join(proper(word) for word in re.split(r"[\s_-]+", facts.name.strip("_- ")))
    return words[:1].upper() + words[1:]


def heading_of(quantity: str, split: str) -> str:
    """What a legend is of, in capitals."""
    return f"{split} {TITLES.get(quantity, quantity)}".upper()


def subtitle_of(
    facts: Provenance, style: Style, quantities: Sequence[str], split: str | None = None
) -> str:
    """The subtitle: which quantities of which network, and where; a map shows one split."""
    if style.subtitle is not None:
        return style.subtitle
    where = {
        "curve": "in the plane of a curve between two sets of weights",
        "points": "in the plane through three sets of weights",
        "random": "around one set of weights, along two random directions",
        "interpolation": "on the line between two sets of weights",
        "line": "along a line of its weight space",
    }.get(facts.plane, "over a plane of its weight space")
    what = " and ".join(TITLES.get(name, name) for name in quantities)
    if split is not None:
        what = f"{split} {what}"
    return f"{what[:1].upper()}{what[1:]} of {facts.network or 'a network'} {where}"
