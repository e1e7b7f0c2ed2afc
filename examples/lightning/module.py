"""A LightningModule, but for its base class: with Lightning installed, derive from it instead."""

from torch import nn
from torch.nn import functional as F


class Classifier(nn.Module):  # lightning.LightningModule
    def __init__(self, width=32):
        super().__init__()
        self.model = nn.Sequential(
            *(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width)),
            *(nn.Tanh(), nn.Linear(width, 2)),
        )

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_index):
        x, y = batch
        return F.cross_entropy(self(x), y)
