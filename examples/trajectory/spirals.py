"""Two spirals, and a small network that tells them apart."""

import numpy as np
from torch import nn


def load(split, noise=0.02):
    random = np.random.default_rng({"train": 0, "test": 1}[split])
    label = np.arange(256) % 2
    turn = 3 * np.pi * np.sqrt(random.random(256))
    angle = turn + np.pi * label
    x = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1) / (3 * np.pi)
    x += noise * random.standard_normal(x.shape)
    return x.astype("float32"), label


def load_noisy(split):
    """They touch: no network gets all of them right, and training never comes to rest."""
    return load(split, noise=0.08)


def build(width=32):
    return nn.Sequential(
        nn.Linear(2, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 2),
    )
