"""What marks cost on a poster: as shapes on the sheet, and as a crowd painted by Datashader.

python -m benchmarks.marks
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from typing import Literal

import numpy as np

from benchmarks import host
from renders.map.tone import fit_tone
from renders.page import marks
from renders.page.landscape import landscape_page
from renders.page.theme import LIGHT
from renders.page.words import Style
from renders.picture import paint
from renders.source.marks import MarkGroup
from renders.source.provenance import Provenance
from renders.source.surface import Surface, labelled

COUNTS = (200, 1_000, 2_000, 5_000, 20_000)
WIDTH = 1_600
Way = Literal["shapes", "crowd"]


def surface(count: int) -> Surface:
    """A bowl with a random walk of `count` marks over it."""
    rng = np.random.default_rng(0)
    x, y = np.cumsum(rng.normal(0, 0.03, (2, count)), axis=1) % 2 - 1
    off = np.abs(rng.normal(0, 1, count))
    group = MarkGroup(
        "walk",
        x,
        y,
        off,
        off / off.max(),
        {"loss": np.exp(rng.normal(0, 1, count))},
        np.ones(count, dtype=bool),
        ("",) * count,
        np.arange(count, dtype=np.float64),
        line=True,
    )
    at = np.linspace(-1, 1, 80)
    values = (0.1 + at[:, None] ** 2 + at**2).astype(np.float32)
    extent = -1.0, 1.0, -1.0, 1.0
    return Surface(labelled(values, extent), np.ones((80, 80), dtype=bool), extent, marks=(group,))


def seconds(shown: Surface) -> float:
    """Processor time of one poster, painted in boxes as files are."""
    tone = fit_tone([shown.values])
    start = time.process_time()
    picture = landscape_page(shown, tone, Provenance(), Style(LIGHT), WIDTH).picture
    for box in picture.box.tiles(1_024, 256):
        paint(picture, box)
    return time.process_time() - start


def measure(count: int, way: Way) -> dict[str, float | int | str]:
    """What marks add to a poster: the first of a process, and any other."""
    marks.CROWD = 10**9 if way == "shapes" else 0
    shown = surface(count)
    bare = replace(shown, marks=())
    seconds(bare)
    without = min(seconds(bare) for _ in range(2))
    first = seconds(shown) - without
    again = min(seconds(shown) for _ in range(2)) - without
    return {"marks": count, "way": way, "first": round(first, 2), "again": round(again, 2)}


def main() -> None:
    """Each in a process of its own: Datashader compiles once a process."""
    if len(sys.argv) > 1:
        way: Way = "shapes" if sys.argv[2] == "shapes" else "crowd"
        print(json.dumps(measure(int(sys.argv[1]), way)))
        return
    rows = []
    print(f"{'marks':>8} {'way':>8} {'first (s)':>10} {'again (s)':>10}")
    for count in COUNTS:
        for way in ("shapes", "crowd"):
            command = [sys.executable, "-m", "benchmarks.marks", str(count), way]
            row = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            rows.append(row)
            print(f"{count:8,} {way:>8} {row['first']:10.2f} {row['again']:10.2f}")
    print(
        json.dumps(
            {"benchmark": "marks", "width": WIDTH, "machine": host.processor(), "rows": rows}
        )
    )


if __name__ == "__main__":
    main()
