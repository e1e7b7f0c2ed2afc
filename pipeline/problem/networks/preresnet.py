"""The pre-activation CIFAR ResNets of the mode-connectivity papers."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional


class PreResNet(nn.Module):
    """A pre-activation CIFAR ResNet with 1×1 convolution shortcuts.

    From depth 44 on the blocks are bottlenecks wherever the depth is 9n + 2 (56, 110, 164), as
    in the code of the paper; below, and for 44, they are basic blocks (depth 6n + 2).

    Forward: float32 (n, channels, height, width) → logits float32 (n, classes).

    Args:
        depth: weight layers.
        classes: how many logits.
        channels: input channels.

    Source: He et al. 2016, arXiv:1603.05027; Garipov et al. 2018, arXiv:1802.10026, §A.
    """

    def __init__(self, depth: int, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        block = Bottleneck if depth >= 44 and (depth - 2) % 9 == 0 else BasicBlock
        blocks, rest = divmod(depth - 2, 9 if block is Bottleneck else 6)
        if blocks < 1 or rest:
            raise ValueError(f"depth {depth}; wanted 6n + 2 (basic) or 9n + 2 (bottleneck)")
        features = 64 * block.expansion
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.layer1 = _stage(block, 16, 16, blocks, stride=1)
        self.layer2 = _stage(block, 16 * block.expansion, 32, blocks, stride=2)
        self.layer3 = _stage(block, 32 * block.expansion, 64, blocks, stride=2)
        self.bn = nn.BatchNorm2d(features)
        self.fc = nn.Linear(features, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        x = functional.relu(self.bn(x), inplace=True)
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Norm, ReLU and 3×3 convolution, twice."""

    expansion = 1

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.downsample = _downsample(inputs, filters, stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1(functional.relu(self.bn1(x), inplace=True))
        out = self.conv2(functional.relu(self.bn2(out), inplace=True))
        shortcut = x if self.downsample is None else self.downsample(x)
        return shortcut + out


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, each behind norm and ReLU."""

    expansion = 4

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        outputs = filters * self.expansion
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, filters, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(filters)
        self.conv3 = nn.Conv2d(filters, outputs, 1, bias=False)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1(functional.relu(self.bn1(x), inplace=True))
        out = self.conv2(functional.relu(self.bn2(out), inplace=True))
        out = self.conv3(functional.relu(self.bn3(out), inplace=True))
        shortcut = x if self.downsample is None else self.downsample(x)
        return shortcut + out


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, filters: int, blocks: int, stride: int
) -> nn.Sequential:
    rest = (block(filters * block.expansion, filters, 1) for _ in range(blocks - 1))
    return nn.Sequential(block(inputs, filters, stride), *rest)
