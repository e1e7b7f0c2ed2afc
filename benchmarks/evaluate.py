"""How fast the evaluator is, against a bare torch loop, the usual procedure and a peer.

    python -m benchmarks.evaluate [--points 6] [--examples 512] [--json]

All on the same network (ResNet-20, seeded weights), the same examples and the same points of one
filter-normalised plane, one thread each, interleaved in one process, the best of three. Seconds are
of processor time, since these machines are shared. What they return is compared.

- bare: the eval-mode forward pass over all examples at its best batch size, nothing else.
- frozen: our evaluator with the checkpoint's statistics, against `bare`.
- recompute: our evaluator with exact statistics, against `procedure`.
- procedure: what the mode-connectivity authors' code does at a point: reset the statistics, one
  training-mode pass with a cumulative average, one evaluation pass a split, batches of 128.
- loss-landscapes: the package from PyPI, the same plane and loss, through its own loop.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time
from collections.abc import Callable
from datetime import date

import loss_landscapes
import numpy as np
import torch
import torch.nn.functional as F
from loss_landscapes import ModelWrapper
from loss_landscapes.metrics import Metric
from torch import nn

from pipeline import network
from pipeline.evaluate import Evaluator
from pipeline.plane import Plane, random_directions

BATCHES = (16, 32, 64, 128, 256)


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
    generator = np.random.default_rng(0)
    data = {
        name: (
            generator.standard_normal((examples, 3, 32, 32)).astype("f4"),
            generator.integers(0, 10, examples),
        )
        for name in ("train", "test")
    }
    _settle_statistics(net, data["train"][0])
    plane = _plane(net)
    edge = int(np.ceil(np.sqrt(points)))
    points = edge**2
    coordinates = _peers_points(edge)

    batch = _best_batch(net, data)
    frozen = Evaluator(copy.deepcopy(net), data, batch_norm="frozen")
    recompute = Evaluator(copy.deepcopy(net), data, batch_norm="recompute")
    contenders: dict[str, Callable[[], np.ndarray]] = {
        "bare": lambda: _bare(net, data, batch, points),
        "frozen": lambda: frozen.evaluate(plane, coordinates)["loss"],
        "procedure": lambda: _procedure(net, data, plane, coordinates),
        "recompute": lambda: recompute.evaluate(plane, coordinates)["loss"],
    }
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
    began = time.process_time()
    peer = _peer(net, data["train"], plane, edge, frozen.chunk)
    seconds["loss-landscapes"] = time.process_time() - began
    images = dict.fromkeys(contenders, 2 * examples * points) | {
        "loss-landscapes": examples * points
    }
    return {
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "points": points,
        "examples": 2 * examples,
        "bare_batch": batch,
        "images_a_second": {n: round(images[n] / s, 1) for n, s in seconds.items()},
        "points_a_second": {n: round(points / s, 3) for n, s in seconds.items()},
        "frozen_over_bare": round(seconds["bare"] / seconds["frozen"], 3),
        "recompute_over_procedure": round(seconds["procedure"] / seconds["recompute"], 3),
        "largest_difference": {
            "loss-landscapes": float(np.abs(peer - values["frozen"][0]).max()),
            "procedure": float(np.abs(values["procedure"] - values["recompute"]).max()),
        },
    }


def show(result: dict[str, object]) -> None:
    images, points = result["images_a_second"], result["points_a_second"]
    assert isinstance(images, dict)
    assert isinstance(points, dict)
    print(f"{'':18}{'images/s':>10}{'points/s':>10}")
    for name in images:
        print(f"{name:18}{images[name]:10.1f}{points[name]:10.3f}")
    print(f"frozen over bare: {result['frozen_over_bare']}")
    print(f"recompute over procedure: {result['recompute_over_procedure']}")
    print(f"largest difference of a loss: {result['largest_difference']}")


def _plane(net: nn.Module) -> Plane:
    origin = torch.cat([p.detach().double().ravel() for p in net.parameters()]).numpy()
    return random_directions(origin, {n: tuple(p.shape) for n, p in net.named_parameters()}, 0)


def _settle_statistics(net: nn.Module, inputs: np.ndarray) -> None:
    """Running statistics that fit the weights, as a trained network's do."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    net.train()
    with torch.no_grad():
        net(torch.from_numpy(inputs))
    net.eval()


def _best_batch(net: nn.Module, data: dict[str, tuple[np.ndarray, np.ndarray]]) -> int:
    seconds = {}
    for batch in BATCHES:
        _bare(net, data, batch, 1)
        began = time.process_time()
        _bare(net, data, batch, 1)
        seconds[batch] = time.process_time() - began
    return min(seconds, key=lambda batch: seconds[batch])


def _bare(
    net: nn.Module, data: dict[str, tuple[np.ndarray, np.ndarray]], batch: int, points: int
) -> np.ndarray:
    fast = copy.deepcopy(net).to(memory_format=torch.channels_last)
    inputs = torch.cat([torch.from_numpy(x) for x, _ in data.values()])
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(points):
            for piece in inputs.split(batch):
                fast(piece)
    return np.zeros(0)


def _procedure(
    net: nn.Module,
    data: dict[str, tuple[np.ndarray, np.ndarray]],
    plane: Plane,
    coordinates: np.ndarray,
) -> np.ndarray:
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


class _PeerLoss(Metric):
    """Mean cross-entropy in eval mode, as a loss-landscapes metric, at our batch size."""

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, batch: int) -> None:
        super().__init__()
        self._pieces = list(
            zip(
                torch.from_numpy(inputs).split(batch),
                torch.from_numpy(targets).split(batch),
                strict=True,
            )
        )

    def __call__(self, model_wrapper: ModelWrapper) -> float:
        with torch.inference_mode():
            losses = [
                F.cross_entropy(model_wrapper.forward(x), y, reduction="none")
                for x, y in self._pieces
            ]
        return float(torch.cat(losses).double().mean())


def _peers_points(edge: int) -> np.ndarray:
    """Where loss-landscapes evaluates: it steps before it measures, back and forth."""
    return np.array(
        [(i / edge, (j + 1 if i % 2 == 0 else j) / edge) for i in range(edge) for j in range(edge)]
    )


def _peer(
    net: nn.Module, split: tuple[np.ndarray, np.ndarray], plane: Plane, edge: int, batch: int
) -> np.ndarray:
    """The same points through loss-landscapes: from the origin in even steps along u and v."""
    ends = []
    for x, y in ((1, 0), (0, 1)):
        end = copy.deepcopy(net)
        nn.utils.vector_to_parameters(
            torch.from_numpy(plane.weights(x, y)).float(), end.parameters()
        )
        ends.append(end)
    values: np.ndarray = loss_landscapes.planar_interpolation(
        copy.deepcopy(net), *ends, _PeerLoss(*split, batch), steps=edge
    )
    return values.ravel()


if __name__ == "__main__":
    main()
