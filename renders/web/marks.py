"""The marks of a web map: places, names and own values, as a script that works from any place."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from renders.colour import hex_colour
from renders.page.marks import casing_of
from renders.page.theme import Theme
from renders.source.surface import Surface

SCRIPT = "values/marks.js"


def marks_script(surfaces: Iterable[Surface], theme: Theme) -> str:
    """The marks of all surfaces as a script; empty where there are none.

    Numbers are little endian, in base64. `places` has one float64 array (n, 4) a frame: x, y, the
    distance off the plane, and that as a share of the greatest. `own` has one float32 array (n,) a
    quantity and split; NaN and inf are themselves. `finished` is a byte a mark.

    Args:
        surfaces: all that the map can show.
        theme: decides what lies beneath lines and rims.
    """
    shown = [surface for surface in surfaces if surface.marks]
    if not shown:
        return ""
    places: dict[str, str] = {}
    own: dict[str, str] = {}
    for surface in shown:
        at = np.concatenate([group.places for group in surface.marks])
        places[str(surface.frame)] = _text(at.astype("<f8"))
        for quantity in surface.marks[0].own:
            values = np.concatenate([group.own[quantity] for group in surface.marks])
            own[f"{quantity}-{surface.split}"] = _text(values.astype("<f4"))
    groups = shown[0].marks
    about = {
        "groups": [
            {
                "label": group.label,
                "glyph": group.glyph,
                "colour": group.colour,
                "casing": hex_colour(casing_of(group, theme)),
                "line": group.line,
                "names": group.names,
                "numbers": [n if np.isfinite(n) else None for n in group.numbers.tolist()],
            }
            for group in groups
        ],
        "finished": _text(np.concatenate([group.finished for group in groups]).astype("u1")),
        "places": places,
        "own": own,
    }
    text = json.dumps(about, ensure_ascii=True, separators=(",", ":"))
    # Text of the user's own must not end the script that it stands in.
    return f"window.LOSSATLAS_MARKS = {text.replace('<', chr(92) + 'u003c')};\n"


def _text(array: npt.NDArray[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
