"""Counted work, held to what one counts by hand; and what a floor is made of."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.roofline import count, floor


def test_operations_and_bytes_are_those_counted_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 6, 1, groups=2),
        nn.Flatten(),
        nn.Linear(6 * 4 * 5, 7),
    ).eval()
    work = count(net, torch.zeros(1, 3, 8, 10))
    first, second, head = 2 * (4 * 4 * 5) * 27, 2 * (6 * 4 * 5) * 2, 2 * 7 * 120
    assert work.flops == first + second + head
    assert work.convolution_flops == first + second
    values = (3 * 80 + 4 * 20) + (4 * 20 + 6 * 20) + (120 + 7)
    assert (work.layer_bytes, work.input_bytes) == (4 * values, 4 * 240)
    assert work.parameters == 108 + 8 + 12 + 6 + 840 + 7
    assert work.plane_bytes == 32 * work.parameters


def test_a_floor_is_work_over_what_the_machine_does() -> None:
    work = count(nn.Sequential(nn.Linear(5, 2)), torch.zeros(1, 5))
    found = floor(work, examples=10, rate=100.0, bandwidth=50.0)
    assert found["by_operations"] == 10 * 20 / 100
    assert found["by_fewest_bytes"] == (12 * 32 + 10 * 20) / 50
    assert found["by_layer_bytes"] == (12 * 32 + 10 * 20 + 10 * 4 * 7) / 50
