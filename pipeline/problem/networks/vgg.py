"""VGG-16 with batch normalisation."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class VGG16(nn.Module):
    """VGG-16 with batch normalisation, under the names of the usual `vgg16_bn`.

    The defaults are the CIFAR network (1×1 features, 512 hidden units); `pool=7, hidden=4096,
    classes=1000` is the ImageNet one.

    Forward: float32 (n, channels, height, width), sides of at least 32 → logits (n, classes).

    Args:
        classes: how many logits.
        channels: input channels.
        hidden: units of the two hidden layers of the classifier.
        pool: side of the feature map that the classifier reads.

    Source: Simonyan and Zisserman 2015, arXiv:1409.1556, configuration D.
    """

    def __init__(
        self, classes: int = 10, channels: int = 3, hidden: int = 512, pool: int = 1
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*_features(channels))
        self.avgpool = nn.AdaptiveAvgPool2d(pool)
        self.classifier = nn.Sequential(
            nn.Linear(512 * pool * pool, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits


def _features(channels: int) -> Iterator[nn.Module]:
    for filters, layers in _STAGES:
        for _ in range(layers):
            yield nn.Conv2d(channels, filters, 3, padding=1)
            yield nn.BatchNorm2d(filters)
            yield nn.ReLU(inplace=True)
            channels = filters
        yield nn.MaxPool2d(2)
