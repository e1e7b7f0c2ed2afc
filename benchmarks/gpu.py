"""A thousand times the famous render: what one GPU does, how exactly, and what a film would take.

    python -m benchmarks.gpu [--json] [--device cuda] [--points many] [--no-compile]
        [--frames FOLDER] [--images FILE]

Needs torch and numpy alone. ResNet-20 without shortcuts, 1,000 images, `recompute`: points a second
in float32, tf32 and bf16, operator by operator and compiled, each held to float32 over a spread of
points; the time of 1000×1000 points, and of the film of 600 frames of 300×300, by the fastest way
that is faithful. The images are random, unless `--images` names an `.npz` with `x` (n, 3, 32, 32)
float32 and `y`. With `--frames`, a folder of curve checkpoints as the mode-connectivity code saves
them (PreResNet-20, `.pt`), the film is extrapolated from those: each has a plane of its own to be
loaded.

`--points few --device cpu --no-compile` goes the same way in seconds, and compiled in a minute.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import machine, roofline, subject
from pipeline.evaluation.compiled import CompileError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.precision import DEFAULT_TOLERANCE, Precision, arithmetic, compare, spread
from pipeline.geometry.plane import Plane, PlaneError, along_line, of_curve
from pipeline.problem.networks.preresnet import PreResNet
from pipeline.problem.networks.resnet import ResNet
from pipeline.problem.networks.small import MLP

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bf16")


@dataclass(frozen=True)
class Way:
    """How a point is computed."""

    precision: Precision
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.precision}, compiled" if self.compiled else self.precision


POSTER_POINTS = 1000 * 1000
FILM_POINTS = 600 * 300 * 300
# points timed, points compared, images, points a frame of the film, side of the matrix product
_SIZES = {
    "many": (400, 128, 1000, 400, None),
    "some": (40, 32, 1000, 40, None),
    "few": (1, 2, 8, 1, 64),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--points", choices=_SIZES, default="many")
    parser.add_argument("--images", type=Path, help="an .npz with x and y")
    parser.add_argument("--frames", type=Path, help="a folder of curve checkpoints, .pt")
    parser.add_argument("--no-compile", action="store_true", help="leave compiled ways out")
    parser.add_argument("--json", action="store_true", help="print the line of JSON only")
    asked = parser.parse_args()
    if asked.device == "cpu":
        torch.set_num_threads(1)
    compiled = (False,) if asked.no_compile else (False, True)
    ways = [Way(*way) for way in itertools.product(PRECISIONS, compiled)]
    result = run(asked.device, asked.points, ways, asked.images, asked.frames)
    if not asked.json:
        show(result)
    print(json.dumps(result))


def run(
    device: str,
    points: str,
    ways: list[Way],
    images: Path | None = None,
    frames: Path | None = None,
) -> dict[str, Any]:
    timed, compared, examples, a_frame, side = _SIZES[points]
    data = _data(images, examples)
    torch.manual_seed(0)
    net = ResNet(20, skip=False).eval()
    subject.settle_statistics(net, data["train"][0])
    plane = subject.plane_of(net)
    work = roofline.count(copy.deepcopy(net), torch.from_numpy(data["train"][0][:1]))
    rates = _rates(device, side)
    bandwidth = machine.copy_bandwidth(device)
    coordinates = 2 * spread(compared) - 1
    reference = _evaluator(copy.deepcopy(net), data, device, Way("float32")).evaluate(
        plane, coordinates
    )
    measured, refused = {}, {}
    for way in ways:
        evaluator = _evaluator(copy.deepcopy(net), data, device, way)
        try:
            found = without = _speed(evaluator, plane, timed, device)
        except CompileError as error:
            refused[str(way)] = str(error)
            continue
        if found["replayed"]:
            launched = _evaluator(copy.deepcopy(net), data, device, way, cuda_graph=False)
            without = _speed(launched, plane, timed, device)
        values = evaluator.evaluate(plane, coordinates)
        fidelity = compare(reference, values, way.precision, DEFAULT_TOLERANCE, way.compiled)
        floors = roofline.floor(work, len(data["train"][0]), rates[way.precision], bandwidth)
        measured[way] = found | {
            "points_a_second_without_replay": without["points_a_second"],
            "fidelity": fidelity.as_dict() | {"faithful": fidelity.is_faithful},
            "floor_points_a_second": {k: 1 / v for k, v in floors.items()},
        }
    faithful = [way for way, found in measured.items() if found["fidelity"]["faithful"]]
    best = max(faithful, key=lambda way: measured[way]["points_a_second"])
    film = _film(frames, data, device, best, a_frame) if frames else None
    film_rate = film["points_a_second"] if film else measured[best]["points_a_second"]
    return machine.facts(device) | {
        "device": device,
        "images": len(data["train"][0]),
        "matmul_tflops": {p: rate / 1e12 for p, rate in rates.items()},
        "copy_gb_a_second": bandwidth / 1e9,
        "ways": {str(way): found for way, found in measured.items()},
        "refused": refused,
        "best": str(best),
        "poster_minutes": POSTER_POINTS / measured[best]["points_a_second"] / 60,
        "film": film,
        "film_gpu_hours": FILM_POINTS / film_rate / 3600,
        "small_network": _small(device, timed),
    }


def show(result: dict[str, Any]) -> None:
    print(f"{result['machine']}, ResNet-20 without shortcuts, {result['images']} images, recompute")
    print(
        f"{'':20}{'points/s':>10}{'without replay':>16}{'deviation':>11}{'within 1e-3':>13}"
        f"{'GB':>7}"
    )
    for way, found in result["ways"].items():
        fidelity = found["fidelity"]
        deviation = fidelity["largest"]
        print(
            f"{way:20}{found['points_a_second']:10.2f}"
            f"{found['points_a_second_without_replay']:16.2f}"
            f"{'inf' if deviation is None else f'{deviation:.1e}':>11}"
            f"{fidelity['within']:13.1%}{found['memory_gb']:7.2f}"
        )
    for way, why in result["refused"].items():
        print(f"{way}: {why}")
    print(f"1000×1000 points in {result['best']}: {result['poster_minutes']:.1f} minutes")
    print(f"the film of 54 million points: {result['film_gpu_hours']:.1f} hours")
    small = result["small_network"]
    print(f"an MLP, 64-64-10 on 512 vectors: {small['points_a_second']:.0f} points/s")


def _data(images: Path | None, examples: int) -> subject.Splits:
    if images is None:
        return subject.splits(examples, names="train")
    with np.load(images) as arrays:
        x = arrays["x"][:examples].astype("f4")
        return {"train": (x, arrays["y"][:examples].astype("i8"))}


def _evaluator(
    net: nn.Module,
    data: subject.Splits,
    device: str,
    way: Way,
    cuda_graph: bool = True,
) -> Evaluator:
    return Evaluator(
        net,
        data,
        device=device,
        chunk=len(data["train"][0]),  # as on a GPU, whatever the device: all examples at once
        precision=way.precision,
        compiled=way.compiled,
        cuda_graph=cuda_graph,
    )


def _speed(evaluator: Evaluator, plane: Plane, points: int, device: str) -> dict[str, Any]:
    coordinates = 2 * spread(points) - 1
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    seconds = machine.best_seconds(lambda: evaluator.evaluate(plane, coordinates), device, 3)
    memory = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else 0
    return {
        "points_a_second": points / seconds,
        "replayed": evaluator.is_replayed,
        "chunk": evaluator.chunk,
        "memory_gb": memory / 1e9,
    }


def _rates(device: str, side: int | None) -> dict[Precision, float]:
    rates: dict[Precision, float] = {}
    for precision in PRECISIONS:
        with arithmetic(precision):
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            rates[precision] = machine.matmul_rate(device, dtype, side)
    return rates


def _film(folder: Path, data: subject.Splits, device: str, way: Way, points: int) -> dict[str, Any]:
    """Points a second over the frames in `folder`, their planes' loading included."""
    paths = sorted(folder.glob("*.pt"), key=lambda path: int(re.findall(r"\d+", path.stem)[-1]))
    paths = [path for path in paths if "bezier" in path.stem]
    net = PreResNet(20).eval()
    curves = [_curve_points(path) for path in paths]
    planes = [_plane(curve) for curve in curves]
    evaluator = _evaluator(net, data, device, way)
    evaluator.evaluate(planes[0], np.zeros((1, 2)))
    coordinates = spread(points) * np.linalg.norm(curves[0][2] - curves[0][0])

    def frames() -> None:
        for plane in planes:
            evaluator.evaluate(plane, coordinates)

    seconds = machine.best_seconds(frames, device, 2)
    return {"frames": len(planes), "points_a_second": len(planes) * points / seconds}


def _plane(curve: list[np.ndarray]) -> Plane:
    try:
        return of_curve(curve)
    except PlaneError:  # before its first epoch a curve is straight
        return along_line(curve[0], curve[2])


def _curve_points(path: Path) -> list[np.ndarray]:
    """Start, bend and end, float64 (P,), of a checkpoint with `net.<parameter>_0`, `_1`, `_2`.

    By order, since some names differ; `pipeline.problem.checkpoint` knows them, but it needs other
    packages.
    """
    state = torch.load(path, weights_only=True, map_location="cpu")
    state = state.get("model_state", state)
    return [
        torch.cat([v.double().ravel() for k, v in state.items() if k.endswith(f"_{i}")]).numpy()
        for i in range(3)
    ]


def _small(device: str, points: int) -> dict[str, Any]:
    """A network that does not fill the machine."""
    net = MLP(64, (64,))
    data = subject.splits(512, (64,), names="train")
    evaluator = Evaluator(copy.deepcopy(net), data, device=device)
    return _speed(evaluator, subject.plane_of(net), 16 * points, device)


if __name__ == "__main__":
    main()
