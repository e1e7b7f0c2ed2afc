"""A multilayer perceptron and a small convolutional network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class MLP(nn.Module):
    """Linear layers with an activation between them; no hidden layer makes a linear model.

    Forward: float32 (n, …) with `inputs` values an example, flattened → float32 (n, classes).

    Args:
        inputs: values an example.
        hidden: units of each hidden layer.
        classes: outputs: logits, or the values of a regression.
        bias: whether the layers have one.
        activation: relu or tanh.
    """

    def __init__(
        self,
        inputs: int = 784,
        hidden: Sequence[int] = (100,),
        classes: int = 10,
        bias: bool = True,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if activation not in ("relu", "tanh"):
            raise ValueError(f"activation {activation!r}; wanted relu or tanh")
        widths = (inputs, *hidden, classes)
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=bias) for a, b in pairwise(widths))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for index, layer in enumerate(self.layers):
            if index:
                x = torch.relu(x) if self.activation == "relu" else torch.tanh(x)
            x = layer(x)
        return x


class CNN(nn.Module):
    """Three 3×3 convolutions, pooled to one value a filter: fits any image of 8×8 or more.

    Forward: float32 (n, channels, height, width) → logits float32 (n, classes).

    Args:
        classes: how many logits.
        channels: input channels: 1 for grey images, 3 for colour.
        width: filters of the first convolution; the others have twice and four times as many.
        batch_norm: whether a batch normalisation follows each convolution.
    """

    def __init__(
        self, classes: int = 10, channels: int = 3, width: int = 16, batch_norm: bool = False
    ) -> None:
        super().__init__()
        bias = not batch_norm
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=bias)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.bn2 = nn.BatchNorm2d(2 * width) if batch_norm else nn.Identity()
        self.bn3 = nn.BatchNorm2d(4 * width) if batch_norm else nn.Identity()
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 2)
        x = functional.max_pool2d(functional.relu(self.bn2(self.conv2(x))), 2)
        x = functional.relu(self.bn3(self.conv3(x)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits
