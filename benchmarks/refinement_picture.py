"""The figure of explanation/refinement.md: a refined surface, where it was evaluated, how surely.

python -m benchmarks.refinement_picture RUN.zarr docs/pictures/refinement.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from pipeline.refinement.schedule import Schedule
from pipeline.store.store import Store
from renders.colour import palette_colours, rgb
from renders.map.tone import fit_tone
from renders.page.text import font_file

_PAPER, _INK, _FAINT = "#faf8f4", "#2a2a2e", "#76767c"
_PANEL, _GAP, _MARGIN, _HEAD = 560, 36, 48, 92

Pixels = NDArray[np.uint8]


def picture(store: Store) -> Image.Image:
    """Three panels side by side: the loss, the passes that evaluated it, and the expected error.

    Args:
        store: of a refined render that is finished; its first quantity and split are shown.
    """
    schedule = Schedule.read(store)
    if schedule is None:
        raise SystemExit(f"{store.url} is not refined; wanted a run with evaluate.refine")
    loss = store.read(store.quantities[0], store.splits[0])
    level = np.asarray(store.group["level"][0])  # type: ignore[index]
    error = np.asarray(store.group["predicted_error"][0, 0, 0])  # type: ignore[index]
    tone = fit_tone([loss])
    share = (level >= 0).mean()
    last = schedule.certificates[-1]
    panels = (
        (
            "The picture",
            f"{loss.shape[1]:,} × {loss.shape[0]:,} points",
            _coloured(tone.position(loss), "dusk"),
        ),
        (
            "Where it was evaluated",
            f"{100 * share:.1f} % of the points: light first, dark last, red the audit",
            _passes(level, schedule),
        ),
        (
            "The error to expect",
            f"0 to {100 * last.tolerance[store.quantities[0]]:g} % of the colour range",
            _coloured(_relative(loss, error, schedule), "ink_r"),
        ),
    )
    width = 2 * _MARGIN + 3 * _PANEL + 2 * _GAP
    page = Image.new("RGB", (width, _HEAD + _PANEL + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(page)
    title = ImageFont.truetype(font_file("Semibold"), 26)
    small = ImageFont.truetype(font_file("Regular"), 18)
    for place, (name, words, pixels) in enumerate(panels):
        left = _MARGIN + place * (_PANEL + _GAP)
        shown = Image.fromarray(pixels[::-1])
        if place == 1 and shown.width > _PANEL:
            shown = shown.filter(ImageFilter.MinFilter(3))  # else points would fade away
        resampling = Image.Resampling.BICUBIC if place == 0 else Image.Resampling.BOX
        page.paste(shown.resize((_PANEL, _PANEL), resampling), (left, _HEAD))
        draw.text((left, 44), name, _INK, title, anchor="ls")
        draw.text((left, 74), words, _FAINT, small, anchor="ls")
    return page


def _coloured(position: NDArray[np.floating], palette: str) -> Pixels:
    """Places on a palette in [0, 1], (height, width), as pixels (height, width, 3)."""
    colours = np.stack([rgb(colour) for colour in palette_colours(palette)])
    at = np.clip(np.nan_to_num(position), 0, 1) * (len(colours) - 1)
    knots = np.arange(len(colours))
    channels = [np.interp(at, knots, colours[:, i]) for i in range(3)]
    return np.stack(channels, axis=-1).round().astype("u1")


def _passes(level: NDArray[np.int16], schedule: Schedule) -> Pixels:
    """White where predicted; the later the pass, the darker; audits apart."""
    numbers = np.array([each.level for each in schedule.passes])
    audits = np.array([each.kind == "audit" for each in schedule.passes])
    shade = 0.35 + 0.65 * numbers / max(1, numbers.max())
    out = _coloured(np.where(level < 0, 0.0, shade[level]), "ink_r")
    out[level < 0] = rgb("#ffffff")
    out[(level >= 0) & audits[level]] = rgb("#d0402b")
    return out


def _relative(
    loss: NDArray[np.float32], error: NDArray[np.float32], schedule: Schedule
) -> NDArray[np.floating]:
    """The expected error in tolerances: of a log scale, a ratio."""
    scale = schedule.scales(schedule.last)[0]
    spaced = np.log1p(error / loss) if scale.range.space == "log" else error
    return np.asarray(spaced / scale.tolerance, "f8")


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    picture(Store.open(asked.run)).save(asked.out, optimize=True)


if __name__ == "__main__":
    main()
