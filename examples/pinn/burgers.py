"""A physics-informed network for Burgers' equation, u_t + u·u_x = ν·u_xx on [−1, 1] × [0, 1].

u(x, 0) = −sin πx, u(±1, t) = 0 and ν = 0.01/π (Raissi et al. 2019).
"""

import itertools
import math

import numpy as np
import torch
from torch import nn

VISCOSITY = 0.01 / math.pi


class Field(nn.Module):
    def __init__(self, width=20, layers=3):
        super().__init__()
        sizes = [2] + [width] * layers
        pairs = itertools.pairwise(sizes)
        hidden = [m for a, b in pairs for m in (nn.Linear(a, b), nn.Tanh())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 1))

    def forward(self, points):  # (n, 2): x, t
        return self.layers(points)


def load(split):
    """Points of the domain. There are no targets: the equation is what has to hold."""
    random = np.random.default_rng({"train": 0, "test": 1}[split])
    points = random.uniform((-1, 0), (1, 1), (2000, 2)).astype("f4")
    return points, np.zeros(len(points), "f4")


def loss(network, inputs, targets):
    x, t = inputs[:, :1], inputs[:, 1:]
    u = network(inputs)
    (slope,) = torch.autograd.grad(u.sum(), inputs, create_graph=True)
    (bend,) = torch.autograd.grad(slope[:, 0].sum(), inputs, create_graph=True)
    pde = (slope[:, 1] + u[:, 0] * slope[:, 0] - VISCOSITY * bend[:, 0]).square()
    start = (network(torch.cat([x, torch.zeros_like(t)], 1)) + torch.sin(math.pi * x)).square()
    rim = network(torch.cat([x.sign(), t], 1)).square()
    initial, boundary = start[:, 0], rim[:, 0]
    return {"loss": pde + initial + boundary, "pde": pde, "initial": initial, "boundary": boundary}
