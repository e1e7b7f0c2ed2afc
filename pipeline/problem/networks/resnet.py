"""The CIFAR ResNets: three stages of basic blocks, shortcuts without parameters."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ResNet(nn.Module):
    """A CIFAR ResNet of depth 6n + 2 with option-A shortcuts, or with none.

    Forward: float32 (n, channels, height, width) → logits float32 (n, classes).

    Args:
        depth: 6n + 2 weight layers; n blocks a stage, of 16, 32 and 64 filters.
        classes: how many logits.
        skip: False leaves every shortcut out: the same parameters under the same names.
        channels: input channels.

    Source: He et al. 2016, arXiv:1512.03385, §4.2; without shortcuts: Li et al. 2018,
        arXiv:1712.09913, §5.
    """

    def __init__(self, depth: int, classes: int = 10, skip: bool = True, channels: int = 3) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise ValueError(f"depth {depth}; wanted 6n + 2")
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1, skip=skip)
        self.layer2 = _stage(16, 32, blocks, stride=2, skip=skip)
        self.layer3 = _stage(32, 64, blocks, stride=2, skip=skip)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3×3 convolutions; the option-A shortcut strides and pads with zero channels."""

    def __init__(self, inputs: int, outputs: int, stride: int, skip: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.skip = skip
        self.stride = stride
        self.pad = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.skip:
            out = out + self._shortcut(x)
        return functional.relu(out, inplace=True)

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.pad:
            x = functional.pad(x, (0, 0, 0, 0, self.pad, self.pad))
        return x


def _stage(inputs: int, outputs: int, blocks: int, stride: int, skip: bool) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, skip)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1, skip) for _ in range(blocks - 1)))
