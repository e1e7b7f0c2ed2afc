"""Weights at a point: float64 arithmetic, rounded once."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pipeline.evaluation.weights import NetworkWeights
from pipeline.geometry.plane import Plane


def test_weights_are_those_of_the_plane_rounded_once() -> None:
    """Of sums whose float64 is near the middle of two float32, rounding twice moves many."""
    net = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(400, 10))
    count = sum(parameter.numel() for parameter in net.parameters())
    generator = np.random.default_rng(0)
    origin, u, v = (scale * generator.standard_normal(count) for scale in (1.0, 3.0, 5.0))
    plane = Plane(origin, u, v, "euclidean")
    place = NetworkWeights(net, torch.device("cpu"))
    place.load(plane)
    for x, y in ((0.0, 0.0), (0.3, -0.7), (-1.9, 2.1), (0.1, 1e-5)):
        place.move(x, y)
        np.testing.assert_array_equal(_weights(net), plane.weights(x, y).astype("f4"))
    # The test would notice: so few parameters are enough for rounding twice to show.
    twice = (origin - 1.9 * u).astype("f4") + 2.1 * v
    assert (twice.astype("f4") != plane.weights(-1.9, 2.1).astype("f4")).mean() > 0.1


def test_a_line_has_no_second_direction() -> None:
    net = nn.Linear(3, 2)
    place = NetworkWeights(net, torch.device("cpu"))
    generator = np.random.default_rng(0)
    origin, u = generator.standard_normal((2, 8))
    place.load(Plane(origin, u, np.zeros(1), "euclidean"))
    place.move(0.5, 7.0)
    np.testing.assert_array_equal(_weights(net), (origin + 0.5 * u).astype("f4"))


def _weights(net: nn.Module) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in net.parameters()])
