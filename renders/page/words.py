"""What a page says: title, subtitle, small print. The same words whoever letters them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.caption import proper
from pipeline.quantities import OF_CURVATURE
from renders.map.tone import Tone
from renders.page import caveats
from renders.page.theme import Theme
from renders.projection import nearest_values
from renders.source.provenance import Provenance
from renders.source.surface import TITLES, Surface
from renders.ticks import short

_OTHER_COLOUR = 0.04
"""Of the palette's length: less is not told apart."""
NOT_A_NUMBER, INFINITE, NOT_COMPUTED = "not a number", "infinite", "not computed yet"
NOT_CONVERGED = "not converged"


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
        facts.curvature if surface.quantity in OF_CURVATURE else "",
        caveats.unconverged(surface, facts.tolerance),
        f"grid {facts.grid}",
        caveats.coarse(*surface.values.shape),
        scale_words(surface, tone),
        caveats.clipped(tone),
        _axes_words(facts, len(surface.values) > 1),
        "" if equal or facts.units == "patch" else "axes not to one scale",
        *marks_said(surface, tone, "patch" if facts.units == "patch" else "plane"),
        facts.refinement,
        "" if facts.share >= 1 else f"{100 * facts.share:.0f} % {shown}",
    ]
    signature = " · ".join(p for p in (f"lossatlas {facts.version}", facts.date) if p)
    return [p for p in phrases if p], signature


def _axes_words(facts: Provenance, two: bool) -> str:
    """What a step along the axes is; empty where that is not known."""
    said = {
        "euclidean": "axes: distance in weight space",
        "filter-normalised": "axes: filter-normalised, dimensionless",
        "layer-normalised": "axes: layer-normalised, dimensionless",
        "directions": "axes: shares of the given directions, no distances",
        "patch": "axes: shares of four sets of weights, no distances",
    }.get(facts.units, "")
    if facts.plane != "directions" or not said:
        return said
    left_out = ", without biases and norms" if facts.ignore == "bias_norm" else ""
    # The store does not know the angle.
    return said + left_out + (", not always at right angles" if two else "")


def marks_said(surface: Surface, tone: Tone, what: str = "plane") -> list[str]:
    """What is to be said of a picture's marks: how far off `what` they are, and more."""
    groups = surface.marks
    if not sum(group.count for group in groups):
        return []
    shown = [group.inside(surface.extent) for group in groups]
    off, fade = (
        np.concatenate([getattr(g, k)[seen] for g, seen in zip(groups, shown, strict=True)])
        for k in ("off_plane", "fade")
    )
    phrases = []
    if fade.max(initial=0.0) > 0:
        lines = ", where their lines fade" if any(group.line for group in groups) else ""
        worst = short(float(np.nanmax(off)))
        phrases.append(f"marks lie up to {worst} off the {what}{lines}")
    if _differ(surface, tone):
        phrases.append(f"marks have the colours of their own {_in_short(surface)}")
    outside = sum(group.count - int(seen.sum()) for group, seen in zip(groups, shown, strict=True))
    pending = sum(int((~group.finished & group.dots).sum()) for group in groups)
    if outside:
        phrases.append(f"{outside:,} mark{'s lie' if outside > 1 else ' lies'} outside")
    if pending:
        phrases.append(f"{pending:,} mark{'s' if pending > 1 else ''} not computed yet")
    return phrases


def _in_short(surface: Surface) -> str:
    name = surface.quantity
    return TITLES.get(name, name) if name in OF_CURVATURE else name.split("_")[0]


def _differ(surface: Surface, tone: Tone) -> bool:
    """Whether any mark's own value has clearly another colour than the plane beneath it."""
    for group in surface.marks:
        own = group.own_values(surface.quantity)
        if own is None:
            continue
        beneath = nearest_values(surface, group.x, group.y)
        apart = np.abs(tone.position(own) - tone.position(beneath))
        if (np.isfinite(beneath) & ~np.isfinite(own) & group.finished & group.dots).any():
            return True
        if (apart[np.isfinite(apart)] > _OTHER_COLOUR).any():
            return True
    return False


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
        "fit": "in the plane that fits a set of weights best",
        "patch": "between four sets of weights",
        "directions": "around one set of weights, along given directions",
        "eigenvectors": "around one set of weights, along eigenvectors of its Hessian",
    }.get(facts.plane, "over a plane of its weight space")
    what = " and ".join(TITLES.get(name, name) for name in quantities)
    if split is not None:
        what = f"{split} {what}"
    return f"{what[:1].upper()}{what[1:]} of {facts.network or 'a network'} {where}"
