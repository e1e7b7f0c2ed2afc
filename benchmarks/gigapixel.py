"""How fast large pictures, reliefs and films are, against the least that any such program must do.

    python -m benchmarks.gigapixel [--side 32768] [--json]

Each case runs in a process of its own, so that its peak memory is its own. The store is a made-up
landscape of 1000×1000 points. Wall seconds on a shared machine say little: read the ratios, of
processor seconds to those of the bare loop in the same run.

- bare: resample and look up colours over the same pixels, on all cores, and throw them away.
- tiff, map: `export poster … .tif` and `export map`, one layer, of side × side pixels: light,
  contours, dithering, the whole pyramid and compression included. Peak memory counts the mapped
  scratch file too, 3 bytes a pixel.
- poster: a PNG of 7200 × 10800, 24 × 36 inches at 300 dpi.
- bake, relief: a model at 1080p lit once, and then one frame of it.
- film, x264: the same 1080p frames through our encoder and through ffmpeg at the same settings.
- start: how long the exports take from the shell to a picture of 64 pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import host

GRID = 1_000
FRAMES = 90
HD = (1920, 1080)
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=32_768, help="of the gigapixel pictures")
    parser.add_argument("--json", action="store_true", help="print the line of JSON only")
    parser.add_argument("--case", choices=sorted(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(_measured(CASES[asked.case], asked.folder, asked.side)))
        return
    if shutil.which("ffmpeg") is None:
        sys.exit(
            "gigapixel: no ffmpeg on the PATH; wanted one with libx264, which the case x264 "
            "measures. Install it, on Debian with apt-get install ffmpeg"
        )
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), asked.side)
    if not asked.json:
        show(result)
    print(json.dumps(result))


def run(folder: Path, side: int) -> Result:
    _write_store(folder)
    # Once, small, so that kernels are compiled and cached: that is paid once a machine.
    for case in CASES:
        _case(case, folder, 1_024)
    cases = {case: _case(case, folder, side) for case in CASES}
    bare = cases["bare"]["cpu"]
    result: Result = {
        "benchmark": "gigapixel",
        "date": date.today().isoformat(),
        "machine": host.name(),
        "side": side,
        "cases": cases,
        "tiff_to_bare": cases["tiff"]["cpu"] / bare,
        "map_to_bare": cases["map"]["cpu"] / bare,
        "x264_to_film": cases["x264"]["wall"] / cases["film"]["wall"],
        "start": {name: _start(name, folder) for name in ("poster", "map", "relief", "film")},
    }
    return result


def _case(case: str, folder: Path, side: int) -> Result:
    place = folder / "out"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    command = [sys.executable, "-m", "benchmarks.gigapixel", "--case", case]
    done = subprocess.run(
        [*command, "--folder", str(folder), "--side", str(side)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        sys.exit(f"gigapixel: the case {case} failed: {last}")
    shutil.rmtree(place)
    found: Result = json.loads(done.stdout.splitlines()[-1])
    return found


def _measured(case: Callable[[Path, int], Callable[[], Result]], folder: Path, side: int) -> Result:
    work = case(folder, side)
    wall, cpu = time.perf_counter(), host.cpu_seconds()
    more = work()
    wall, cpu = time.perf_counter() - wall, host.cpu_seconds() - cpu
    return {"wall": wall, "cpu": cpu, "peak_gb": host.peak_gb(), **more}


def _write_store(folder: Path) -> None:
    from pipeline.geometry.grid import Extent, Grid
    from pipeline.geometry.plane import Anchor, FrameFacts
    from pipeline.store.store import Store

    at = np.linspace(-1.5, 1.5, GRID)
    x, y = np.meshgrid(at, at)
    bumps = np.sin(6 * x + 2 * y) * np.cos(5 * y - x) + 0.3 * np.sin(19 * x) * np.sin(17 * y)
    values = np.exp(2.4 * np.hypot(x, 1.4 * y) + 0.25 * bumps - 2).astype(np.float32)
    grid = Grid(GRID, GRID, 250, 1)
    anchors = (Anchor("w0", -0.8, 0, 0), Anchor("w1", 0.8, 0, 0))
    curve = np.stack([np.linspace(-0.8, 0.8, 50), np.zeros(50), np.zeros(50)], axis=1)
    facts = [FrameFacts(Extent(-1.5, 1.5, -1.5, 1.5), anchors, curve)]
    attrs: Result = {"spec": {"name": "gigapixel"}, "created": "2026-11-25T00:00:00"}
    store = Store.create(str(folder / "run.zarr"), grid, ["train"], ["loss"], facts, attrs)
    for tile in grid.tiles():
        store.commit(tile, {"loss": values[grid.window(tile)][None]}, 0.1, 0)


def _bare(folder: Path, side: int) -> Callable[[], Result]:
    from renders.box import Box
    from renders.files.deepzoom import TILE
    from renders.map.canvas import Map
    from renders.map.field import field_of
    from renders.map.holes import Hatch
    from renders.page.theme import LIGHT

    surface, tone = _surface(folder)
    hatch = Hatch(LIGHT.hatch_ground, LIGHT.hatch_line, 9.0, 1.2)
    layer = Map(Box(0, 0, side, side), field_of(surface, tone, side, side), tone, hatch)

    def draw(box: Box) -> int:
        out = np.empty((box.height, box.width, 3), np.uint8)
        layer.draw(out, box)
        return int(out[0, 0, 0])

    def work() -> Result:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            tiles = sum(1 for _ in pool.map(draw, layer.at.tiles(2 * TILE, 2 * TILE)))
        return {"tiles": tiles}

    return work


def _surface(folder: Path) -> tuple[Any, Any]:
    from pipeline.store.store import Store
    from renders.map.tone import fit_tone
    from renders.source.surface import read_surface

    surface = read_surface(Store.open(str(folder / "run.zarr")), "loss", None, 0)
    return surface, fit_tone([surface.values])


def _tiff(folder: Path, side: int) -> Callable[[], Result]:
    from renders.poster import export_poster

    out = folder / "out" / "a.tif"
    url = str(folder / "run.zarr")
    return lambda: {"bytes": export_poster(url, out, width=side, layout="bare").bytes}


def _map(folder: Path, side: int) -> Callable[[], Result]:
    from renders.web.webmap import export_map

    out, url = folder / "out" / "map", str(folder / "run.zarr")
    return lambda: {"bytes": export_map(url, out, width=side, offline=True).bytes}


def _poster(folder: Path, side: int) -> Callable[[], Result]:
    from renders.poster import export_poster

    out, url = folder / "out" / "a.png", str(folder / "run.zarr")
    dpi = 300.0 if side > 2_000 else 20.0
    return lambda: {"bytes": export_poster(url, out, paper="24x36in", dpi=dpi).bytes}


def _relief(folder: Path, side: int, once_baked: bool) -> Callable[[], Result]:
    from renders.film.film import _painted_picture
    from renders.film.flight import Flight, stand_for
    from renders.film.moment import Moment
    from renders.film.reel import open_reel

    reel = open_reel(str(folder / "run.zarr"), HD, flat=False)
    surface = reel.surface(0)
    stand = stand_for(reel.scene, Flight(), iter([surface]))
    moment = Moment(surface, 0, 0)
    if not once_baked:
        stand.modelled(surface)
        return lambda: {"quads": stand.modelled(surface).ground.heights.size}
    terrain = stand.modelled(surface)
    _painted_picture(stand.picture(moment, terrain, 0.3))

    def work() -> Result:
        # Two at once, as films paint them; a frame's time is the half.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = [0.1, 0.4, 0.6, 0.9]
            list(pool.map(lambda p: _painted_picture(stand.picture(moment, terrain, p)), parts))
        return {"frames": len(parts)}

    return work


def _bake(folder: Path, side: int) -> Callable[[], Result]:
    return _relief(folder, side, once_baked=False)


def _frame(folder: Path, side: int) -> Callable[[], Result]:
    return _relief(folder, side, once_baked=True)


def _frames(folder: Path) -> list[np.ndarray]:
    """A flat film's frame, moving: what a camera pan would give an encoder to do."""
    from renders.film.film import _painted
    from renders.film.moment import Moment
    from renders.film.reel import open_reel

    reel = open_reel(str(folder / "run.zarr"), HD)
    still = _painted(reel, Moment(reel.surface(0), 0, 0))
    return [np.ascontiguousarray(np.roll(still, 3 * k, axis=1)) for k in range(FRAMES)]


def _film(folder: Path, side: int) -> Callable[[], Result]:
    from renders.film.encode import coding_for, encoding

    out, frames = folder / "out" / "a.mp4", _frames(folder)

    def work() -> Result:
        with encoding(out, coding_for(out), HD, Fraction(30)) as encoder:
            for frame in frames:
                encoder.add(frame)
        return {"frames": len(frames), "bytes": out.stat().st_size}

    return work


def _x264(folder: Path, side: int) -> Callable[[], Result]:
    from renders.film.encode import coding_for

    out = folder / "out" / "b.mp4"
    raw = np.stack(_frames(folder)).tobytes()
    options = coding_for(out).options
    # The same conversion too: our encoder's way to BT.709 is part of what it does.
    command = [
        *("ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{HD[0]}x{HD[1]}", "-r", "30", "-i", "-"),
        *("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p"),
        *("-c:v", "libx264", "-preset", options["preset"], "-crf", options["crf"]),
        *("-x264-params", options["x264-params"], "-movflags", "+faststart", str(out)),
    ]

    def work() -> Result:
        done = subprocess.run(command, input=raw, check=False, capture_output=True)
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip().splitlines()
            sys.exit(f"ffmpeg: {told[0] if told else done.returncode}")
        return {"frames": FRAMES, "bytes": out.stat().st_size}

    return work


CASES: dict[str, Callable[[Path, int], Callable[[], Result]]] = {
    "bare": _bare,
    "tiff": _tiff,
    "map": _map,
    "poster": _poster,
    "bake": _bake,
    "relief": _frame,
    "film": _film,
    "x264": _x264,
}


def _start(export: str, folder: Path) -> float:
    """Seconds of processor time from the shell to a tiny picture, the better of two."""
    out = folder / "start"
    small = {
        "poster": ("poster", "a.png", "--width", "64", "--layout", "bare"),
        "map": ("map", "a", "--width", "256", "--offline"),
        "relief": ("relief", "b.png", "--width", "64", "--layout", "bare", "--camera", "160,38"),
        "film": ("film", "c.mp4", "--relief", "--size", "64x64", "--each", "0.1", "--hold", "0"),
    }[export]
    kind, name, *options = small
    seconds = []
    for _ in range(2):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        before = host.cpu_seconds()
        command = [
            sys.executable,
            "-m",
            "cluster.cli.main",
            "export",
            kind,
            str(folder / "run.zarr"),
        ]
        subprocess.run([*command, str(out / name), *options], check=True, capture_output=True)
        seconds.append(host.cpu_seconds() - before)
    return min(seconds)


def show(result: Result) -> None:
    print(f"{result['machine']}, {result['date']}, side {result['side']:,}\n")
    print(f"{'':8}{'wall s':>10}{'cpu s':>10}{'peak GB':>10}")
    for name, case in result["cases"].items():
        print(f"{name:8}{case['wall']:10.2f}{case['cpu']:10.2f}{case['peak_gb']:10.2f}")
    frames = result["cases"]["relief"]["frames"]
    print(f"\ntiff to bare, cpu   {result['tiff_to_bare']:.2f}   wanted at most 1.6")
    print(f"map to bare, cpu    {result['map_to_bare']:.2f}   wanted at most 1.6")
    print(f"x264 to film, wall  {result['x264_to_film']:.2f}   wanted at least 1")
    print(f"relief, s a frame   {result['cases']['relief']['wall'] / frames:.2f}   wanted 1.2")
    for name, seconds in result["start"].items():
        print(f"start of {name:10} {seconds:.2f}   wanted under 2, processor seconds")


if __name__ == "__main__":
    main()
