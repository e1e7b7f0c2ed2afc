"""How fast the evaluator is, against a bare torch loop and the usual procedure.

    python -m benchmarks.evaluate [--points 6] [--examples 512] [--json]

All on the same network (ResNet-20, seeded weights), the same examples and the same points of one
filter-normalised plane, one thread each, interleaved in one process, the best of three. Seconds are
of processor time, since these machines are shared. What they return is compared.

- bare: the eval-mode forward pass over all examples at its best batch size, nothing else.
- frozen: our evaluator with the checkpoint's statistics, against `bare`.
- recompute: our evaluator with exact statistics, against `procedure`.
- either, compiled: the same with `evaluate.compile`, the compiling not counted.
- procedure: what the mode-connectivity authors' code does at a point: reset the statistics, one
  training-mode pass with a cumulative average, one evaluation pass a split, batches of 128.

What other packages do is in `benchmarks.peers`, what the machine could do in `benchmarks.roofline`.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import time
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import machine, subject
from pipeline.evaluation.evaluator import Evaluator
from pipeline.geometry.plane import Plane
from pipeline.problem import network

BATCHES = (16, 32, 64, 128, 256)
MODES: tuple[Literal["frozen", "recompute"], ...] = ("frozen", "recompute")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--examples", type=int, default=512, help="of each of two splits")
    parser.add_argument("--json", action="store_true", help="print the line of JSON only")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    result = run(asked.points, asked.examples)
    if not asked.json:
        show(result)
    print(json.dumps(result))


def run(points: int, examples: int) -> dict[str, object]:
    net = network.build("resnet20", {})
    data = subject.splits(examples)
    subject.settle_statistics(net, data["train"][0])
    plane = subject.plane_of(net)
    coordinates = np.random.default_rng(0).uniform(-1, 1, (points, 2))

    batch = _best_batch(net, data)
    contenders: dict[str, Callable[[], np.ndarray]] = {
        "bare": lambda: _bare(net, data, batch, points),
        "procedure": lambda: procedure(net, data, plane, coordinates),
    }
    for mode, how in itertools.product(MODES, ("", ", compiled")):
        ours = Evaluator(copy.deepcopy(net), data, batch_norm=mode, compiled=bool(how))
        contenders[mode + how] = lambda e=ours: e.evaluate(plane, coordinates)["loss"]
    seconds: dict[str, float] = {}
    values: dict[str, np.ndarray] = {}
    for name, contender in contenders.items():
        contender()
        seconds[name] = np.inf
    for _ in range(3):
        for name, contender in contenders.items():
            began = time.process_time()
            values[name] = contender()
            seconds[name] = min(seconds[name], time.process_time() - began)
    images = 2 * examples * points
    return machine.facts() | {
        "points": points,
        "examples": 2 * examples,
        "bare_batch": batch,
        "images_a_second": {n: round(images / s, 1) for n, s in seconds.items()},
        "points_a_second": {n: round(points / s, 3) for n, s in seconds.items()},
        "frozen_over_bare": round(seconds["bare"] / seconds["frozen"], 3),
        "recompute_over_procedure": round(seconds["procedure"] / seconds["recompute"], 3),
        "compiled_is_faster_by": {
            mode: round(seconds[mode] / seconds[f"{mode}, compiled"], 3) for mode in MODES
        },
        "compiled_moves_a_loss_by": {
            mode: float(np.abs(values[f"{mode}, compiled"] / values[mode] - 1).max())
            for mode in MODES
        },
        "largest_difference": float(np.abs(values["procedure"] - values["recompute"]).max()),
    }


def show(result: dict[str, object]) -> None:
    images, points = result["images_a_second"], result["points_a_second"]
    assert isinstance(images, dict)
    assert isinstance(points, dict)
    print(f"{'':20}{'images/s':>10}{'points/s':>10}")
    for name in images:
        print(f"{name:20}{images[name]:10.1f}{points[name]:10.3f}")
    print(f"frozen over bare: {result['frozen_over_bare']}")
    print(f"recompute over procedure: {result['recompute_over_procedure']}")
    print(f"compiled is faster by: {result['compiled_is_faster_by']}")
    print(f"largest difference of a loss: {result['largest_difference']}")


def _best_batch(net: nn.Module, data: subject.Splits) -> int:
    seconds = {}
    for batch in BATCHES:
        _bare(net, data, batch, 1)
        began = time.process_time()
        _bare(net, data, batch, 1)
        seconds[batch] = time.process_time() - began
    return min(seconds, key=lambda batch: seconds[batch])


def _bare(net: nn.Module, data: subject.Splits, batch: int, points: int) -> np.ndarray:
    fast = copy.deepcopy(net).to(memory_format=torch.channels_last)
    inputs = torch.cat([torch.from_numpy(x) for x, _ in data.values()])
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(points):
            for piece in inputs.split(batch):
                fast(piece)
    return np.zeros(0)


def procedure(
    net: nn.Module,
    data: subject.Splits,
    plane: Plane,
    coordinates: np.ndarray,
) -> np.ndarray:
    """Losses (splits, points), as the mode-connectivity authors' code takes them."""
    copied = copy.deepcopy(net)
    norms = [m for m in copied.modules() if isinstance(m, nn.BatchNorm2d)]
    rows = []
    for x, y in coordinates:
        weights = torch.from_numpy(plane.weights(x, y)).float()
        with torch.no_grad():
            nn.utils.vector_to_parameters(weights, copied.parameters())
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
            copied.train()
            for piece in torch.from_numpy(data["train"][0]).split(128):
                copied(piece)
            copied.eval()
            rows.append([_mean_loss(copied, *split) for split in data.values()])
    return np.array(rows).T


def _mean_loss(net: nn.Module, inputs: np.ndarray, targets: np.ndarray) -> float:
    total = 0.0
    pieces = zip(
        torch.from_numpy(inputs).split(128), torch.from_numpy(targets).split(128), strict=True
    )
    for x, y in pieces:
        total += float(F.cross_entropy(net(x), y, reduction="sum"))
    return total / len(inputs)


if __name__ == "__main__":
    main()
