"""The same plane, examples and points through other programs: how fast, how alike, how much memory.

    python -m benchmarks.peers [--network resnet20|cnn|mlp] [--edge 3] [--examples 256] [--json]

Everybody evaluates edge × edge points on one split with one thread, interleaved in one process, the
best of three, in processor time since these machines are shared. Memory is what a process of its
own grew by while evaluating the points once. `difference` is the largest of a loss from lossatlas's
at the same points, relative to it.

- lossatlas, compiled: the same with `evaluate.compile`, done before the clock starts.
- naive loop: what a notebook does: write the weights, go through a `DataLoader` in batches of 128.
- loss-landscapes: its own loop over its plane; its metric gets our batches, ready in memory.
- landscaper: the same. It makes the directions' lengths its own, so lossatlas is put on its plane;
  it also adds noise to its largest value, which is left out of the comparison.
- procedure: batch norm by the mode-connectivity authors, against lossatlas's `recompute`.

A package that is not installed is named and left out. landscaper wants many others: install it
apart, `pip install --target FOLDER landscaper`, and run with PYTHONPATH=FOLDER.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import evaluate, machine, subject
from pipeline.evaluation.evaluator import Evaluator
from pipeline.geometry.plane import Plane
from pipeline.problem import network

_PACKAGES = ("loss-landscapes", "landscaper")
# name → kwargs and the shape of an example
_NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "resnet20": ({}, (3, 32, 32)),
    "cnn": ({}, (3, 32, 32)),
    "mlp": ({"inputs": 64, "hidden": [64], "classes": 10}, (64,)),
}


@dataclass(frozen=True)
class Subject:
    """What everybody is given."""

    net: nn.Module
    data: subject.Splits
    edge: int
    batch: int

    @property
    def split(self) -> tuple[np.ndarray, np.ndarray]:
        return self.data["train"]

    def loss(self, net: Callable[[torch.Tensor], torch.Tensor]) -> float:
        """Mean cross-entropy in batches as large as lossatlas's own."""
        inputs, targets = (torch.from_numpy(array).split(self.batch) for array in self.split)
        with torch.inference_mode():
            losses = [
                F.cross_entropy(net(x), y, reduction="none")
                for x, y in zip(inputs, targets, strict=True)
            ]
        return float(torch.cat(losses).double().mean())


@dataclass(frozen=True)
class Contender:
    """One program: its losses (points,), and where those points are on which plane."""

    losses: Callable[[], np.ndarray]
    plane: Plane
    coordinates: np.ndarray
    compared_with: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=_NETWORKS, default="resnet20")
    parser.add_argument("--edge", type=int, default=3)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--json", action="store_true", help="print the line of JSON only")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.memory_of:
        print(_growth(contenders(asked.network, asked.edge, asked.examples)[asked.memory_of]))
        return
    missing = [package for package in _PACKAGES if _version(package) is None]
    for package in missing:
        print(f"{package} is not installed and left out: pip install {package}", file=sys.stderr)
    result = run(asked.network, asked.edge, asked.examples)
    if not asked.json:
        show(result)
    print(json.dumps(result))


def run(name: str, edge: int, examples: int) -> dict[str, Any]:
    field = contenders(name, edge, examples)
    seconds = dict.fromkeys(field, np.inf)
    values = {of: contender.losses() for of, contender in field.items()}
    for _ in range(3):
        for of, contender in field.items():
            began = time.process_time()
            contender.losses()
            seconds[of] = min(seconds[of], time.process_time() - began)
    ours = _ours(name, edge, examples)
    rows = {
        of: {
            "points_a_second": round(edge**2 / seconds[of], 3),
            "lossatlas_is_faster_by": round(seconds[of] / seconds[contender.compared_with], 2),
            "difference": _difference(
                ours[contender.compared_with].evaluate(contender.plane, contender.coordinates),
                values[of],
                without_largest=of == "landscaper",
            ),
            "memory_mb": _memory(name, edge, examples, of),
        }
        for of, contender in field.items()
    }
    return machine.facts() | {
        "network": name,
        "points": edge**2,
        "examples": examples,
        "versions": {package: _version(package) for package in _PACKAGES},
        "programs": rows,
    }


def show(result: dict[str, Any]) -> None:
    print(f"{result['network']}, {result['examples']} examples, {result['points']} points")
    print(f"{'':24}{'points/s':>10}{'lossatlas is':>14}{'difference':>12}{'memory':>10}")
    for name, row in result["programs"].items():
        memory = "" if row["memory_mb"] is None else f"{row['memory_mb']:.0f} MB"
        print(
            f"{name:24}{row['points_a_second']:10.2f}{row['lossatlas_is_faster_by']:12.2f} ×"
            f"{row['difference']:12.1e}{memory:>10}"
        )


def contenders(name: str, edge: int, examples: int) -> dict[str, Contender]:
    """Everybody who is installed, by name."""
    given = _subject(name, edge, examples)
    plane = subject.plane_of(given.net)
    points = _back_and_forth(edge)
    ours = _ours(name, edge, examples)

    def add(of: str, losses: Callable[[], np.ndarray], compared_with: str = "lossatlas") -> None:
        found[of] = Contender(losses, plane, points, compared_with)

    found: dict[str, Contender] = {}
    for of, evaluator in ours.items():
        losses = lambda e=evaluator: e.evaluate(plane, points)["loss"][0]  # noqa: E731
        add(of, losses, of.removesuffix(", compiled"))
    add("naive loop", lambda: naive_loop(given.net, given.split, plane, points))
    if "lossatlas, recompute" in ours:
        add(
            "procedure",
            lambda: evaluate.procedure(given.net, given.data, plane, points)[0],
            "lossatlas, recompute",
        )
    if _version("loss-landscapes"):
        add("loss-landscapes", lambda: _loss_landscapes(given, plane))
    if _version("landscaper"):
        found["landscaper"] = _landscaper(given, plane)
    return found


def naive_loop(
    net: nn.Module, split: tuple[np.ndarray, np.ndarray], plane: Plane, points: np.ndarray
) -> np.ndarray:
    """Losses (points,) as a notebook takes them."""
    loader = DataLoader(TensorDataset(*(torch.from_numpy(a) for a in split)), batch_size=128)
    copied = copy.deepcopy(net)
    losses = []
    for x, y in points:
        weights = torch.from_numpy(plane.weights(x, y)).float()
        nn.utils.vector_to_parameters(weights, copied.parameters())
        total = 0.0
        with torch.no_grad():
            for inputs, targets in loader:
                total += F.cross_entropy(copied(inputs), targets, reduction="sum").item()
        losses.append(total / len(split[0]))
    return np.array(losses)


def _subject(name: str, edge: int, examples: int) -> Subject:
    kwargs, shape = _NETWORKS[name]
    net = network.build(name, kwargs)
    data = subject.splits(examples, shape, names="train")
    subject.settle_statistics(net, data["train"][0])
    chunk = Evaluator(copy.deepcopy(net), data).chunk
    return Subject(net, data, edge, chunk)


def _ours(name: str, edge: int, examples: int) -> dict[str, Evaluator]:
    given = _subject(name, edge, examples)
    modes: dict[str, Literal["frozen", "recompute"]] = {"lossatlas": "frozen"}
    if any(isinstance(module, nn.BatchNorm2d) for module in given.net.modules()):
        modes["lossatlas, recompute"] = "recompute"
    return {
        f"{of}, compiled" if compiled else of: Evaluator(
            copy.deepcopy(given.net), given.data, ["loss"], batch_norm=mode, compiled=compiled
        )
        for of, mode in modes.items()
        for compiled in (False, True)
    }


def _back_and_forth(edge: int) -> np.ndarray:
    """Where loss-landscapes evaluates: it steps before it measures, back and forth."""
    return np.array(
        [(i / edge, (j + 1 if i % 2 == 0 else j) / edge) for i in range(edge) for j in range(edge)]
    )


def _loss_landscapes(given: Subject, plane: Plane) -> np.ndarray:
    """Its losses from the origin in even steps along u and v, in `_back_and_forth`'s order."""
    import loss_landscapes
    from loss_landscapes.metrics import Metric

    class Loss(Metric):
        def __call__(self, model_wrapper: Any) -> float:
            return given.loss(model_wrapper.forward)

    ends = []
    for x, y in ((1, 0), (0, 1)):
        end = copy.deepcopy(given.net)
        weights = torch.from_numpy(plane.weights(x, y)).float()
        nn.utils.vector_to_parameters(weights, end.parameters())
        ends.append(end)
    values: np.ndarray = loss_landscapes.planar_interpolation(
        copy.deepcopy(given.net), *ends, Loss(), steps=given.edge
    )
    return values.ravel()


def _landscaper(given: Subject, plane: Plane) -> Contender:
    """It goes whole steps from its centre along directions to which it gives lengths itself."""
    from landscaper import compute

    distance, edge = 1.0, given.edge
    weights = list(given.net.parameters())
    directions = [_pieces(given.net, vector) for vector in (plane.u, plane.v)]

    def losses() -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            values, _ = compute.compute_loss_landscape(
                copy.deepcopy(given.net),
                None,
                directions,
                lambda net, _: given.loss(net),
                steps=edge,
                distance=distance,
                dim=2,
                device="cpu",
            )
        return np.asarray(values).ravel()

    lengthened = []
    with torch.no_grad():
        for direction in copy.deepcopy(directions):
            compute.normalize_direction(direction, weights)
            length = compute.get_model_norm(weights) * distance / (edge / 2)
            compute.scale_direction(direction, length / compute.get_model_norm(direction))
            lengthened.append(torch.cat([d.double().ravel() for d in direction]).numpy())
    steps = np.arange(edge) - edge // 2
    points = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2).astype("f8")
    own = Plane(plane.origin, lengthened[0], lengthened[1], plane.units)
    return Contender(losses, own, points, "lossatlas")


def _pieces(net: nn.Module, vector: np.ndarray) -> list[torch.Tensor]:
    sizes = [p.numel() for p in net.parameters()]
    pieces = torch.from_numpy(vector).float().split(sizes)
    return [piece.view(p.shape) for piece, p in zip(pieces, net.parameters(), strict=True)]


def _difference(ours: dict[str, np.ndarray], theirs: np.ndarray, without_largest: bool) -> float:
    expected = ours["loss"][0].astype("f8")
    deviation = np.abs(theirs - expected) / expected
    return float(
        np.delete(deviation, expected.argmax()).max() if without_largest else deviation.max()
    )


def _memory(name: str, edge: int, examples: int, of: str) -> float | None:
    """MB that a process of its own grew by; None where the kernel does not tell."""
    command = [sys.executable, "-m", "benchmarks.peers", "--network", name, "--memory-of", of]
    command += ["--edge", str(edge), "--examples", str(examples)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return None if told.strip() == "None" else float(told)


def _growth(contender: Contender) -> float | None:
    if not Path("/proc/self/clear_refs").exists():
        return None
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    contender.losses()
    return (_status("VmHWM") - before) / 1e3


def _status(key: str) -> int:
    """Of this process, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
