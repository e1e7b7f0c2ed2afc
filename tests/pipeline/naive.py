"""Small networks, ordinary and odd, and their numbers the obvious way, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.geometry.plane import Plane

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
POINTS = np.array([[0.0, 0.0], [0.4, -0.2], [-1.0, 1.0]])


class SmallNet(nn.Module):
    """Convolutions with and without batch norm, a skip, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(8, affine=False)
        self.fc = nn.Linear(8, 6)
        self.norm3 = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = y + F.relu(self.norm2(self.conv2(y)))
        return self.head(F.relu(self.norm3(self.fc(y.mean((2, 3))))))


class Asking(nn.Module):
    """A forward that looks at its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 10)
        self.norm = nn.BatchNorm1d(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.norm(self.layer(x))
        return outputs * 2 if outputs[0, 0].item() > 0 else outputs


class Counting(Asking):
    """One whose result depends on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        outputs: torch.Tensor = self.norm(self.layer(x))
        return outputs * self.calls


def small_images(count: int, seed: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    drawn = (generator.standard_normal((count, 3, 6, 5)) * scale).astype("f4")
    return drawn, generator.integers(0, 5, count)


def small_net() -> SmallNet:
    """Seeded, with running statistics that are not those of any data."""
    torch.manual_seed(0)
    made = SmallNet()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    return made


def two_splits() -> Arrays:
    return {"train": small_images(37, 0), "test": small_images(23, 1)}


def reference(net: nn.Module, data: Arrays, plane: Plane, mode: str) -> dict[str, np.ndarray]:
    """The same numbers the obvious way: float64, whole splits, one train-mode pass to calibrate."""
    values: dict[str, list[list[float]]] = {"loss": [], "error": [], "loss_stderr": []}
    for x, y in POINTS:
        copied = copy.deepcopy(net).double().eval()
        weights = torch.from_numpy(plane.weights(x, y)).float().double()
        nn.utils.vector_to_parameters(weights, copied.parameters())
        if mode == "recompute":
            inputs = torch.from_numpy(data["train"][0]).double()
            calibrate(copied, lambda net, inputs=inputs: net(inputs))
        row: dict[str, list[float]] = {quantity: [] for quantity in values}
        for inputs, targets in data.values():
            with torch.no_grad():
                outputs = copied(torch.from_numpy(inputs).double())
            losses = F.cross_entropy(outputs, torch.from_numpy(targets), reduction="none").numpy()
            row["loss"].append(losses.mean())
            row["error"].append(float((outputs.argmax(1).numpy() != targets).mean()))
            row["loss_stderr"].append(losses.std(ddof=1) / np.sqrt(len(losses)))
        for quantity, of_splits in row.items():
            values[quantity].append(of_splits)
    return {quantity: np.array(rows).T for quantity, rows in values.items()}


def calibrate(net: nn.Module, passed: Callable[[nn.Module], Any]) -> None:
    """Give every batch norm the moments of one pass, which `passed` makes."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    hooks = []
    for norm in norms:

        def measure(module: Any, args: tuple[torch.Tensor]) -> None:
            (x,) = args
            axes = [axis for axis in range(x.ndim) if axis != 1]
            module.running_mean = x.mean(axes)
            module.running_var = x.var(axes, correction=0)

        hooks.append(norm.register_forward_pre_hook(measure))
    with torch.no_grad():
        passed(net)
    for hook in hooks:
        hook.remove()
