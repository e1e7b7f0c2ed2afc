"""What is measured on: a seeded network, images and a filter-normalised plane around it.

torch and numpy alone, so that it is there on a bare GPU machine too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pipeline.geometry.directions import random_directions
from pipeline.geometry.plane import Plane

Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def splits(
    examples: int,
    shape: tuple[int, ...] = (3, 32, 32),
    classes: int = 10,
    names: str = "train test",
) -> Splits:
    """Random examples of `shape` with random classes, as many for each name."""
    generator = np.random.default_rng(0)
    return {
        name: (
            generator.standard_normal((examples, *shape)).astype("f4"),
            generator.integers(0, classes, examples),
        )
        for name in names.split()
    }


def plane_of(net: nn.Module, seed: int = 0) -> Plane:
    """Two seeded, filter-normalised directions around the network's weights."""
    origin = torch.cat([p.detach().double().ravel() for p in net.parameters()]).numpy()
    return random_directions(origin, {n: tuple(p.shape) for n, p in net.named_parameters()}, seed)


def settle_statistics(net: nn.Module, inputs: np.ndarray) -> None:
    """Running statistics that fit the weights, as a trained network's do."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    net.train()
    with torch.no_grad():
        net(torch.from_numpy(inputs))
    net.eval()
