"""Networks that are evaluated rightly only with care. Each takes inputs (n, 4), has 3 classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Plain(nn.Module):
    """One hidden layer; what is between the layers is for others to say."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.between(torch.tanh(self.first(x))))

    def between(self, hidden):
        return hidden


class GathersWhenEvaluating(Plain):
    """Biases gathered once in `train(False)`, as LeViT of timm had it."""

    def __init__(self):
        super().__init__()
        self.biases = nn.Parameter(torch.randn(4))
        self.register_buffer("indices", torch.arange(8) % 4)

    @torch.no_grad()
    def train(self, mode=True):
        super().train(mode)
        self.gathered = None if mode else self.biases[self.indices]
        return self

    def between(self, hidden):
        return hidden + (self.biases[self.indices] if self.training else self.gathered)


class CachesWhenEvaluating(Plain):
    """Biases kept from the first forward pass until `train()`, as timm has it now."""

    def __init__(self):
        super().__init__()
        self.biases = nn.Parameter(torch.randn(8))
        self.cache = {}

    def train(self, mode=True):
        super().train(mode)
        if mode:
            self.cache = {}
        return self

    def between(self, hidden):
        if self.training:
            return hidden + self.biases
        if "biases" not in self.cache:
            self.cache["biases"] = self.biases.clone()
        return hidden + self.cache["biases"]


class KeepsAProduct(Plain):
    """A product of its weights, made at the first forward pass and kept."""

    product = None

    def forward(self, x):
        if self.product is None:
            self.product = (self.last.weight @ self.first.weight).detach()
        return x @ self.product.T


class ProductOfTheConstructor(Plain):
    """A product of the initial weights."""

    def __init__(self):
        super().__init__()
        self.product = (self.last.weight @ self.first.weight).detach()

    def forward(self, x):
        return x @ self.product.T


class KeepsAView(Plain):
    """A transposed view of a weight, which follows it only where it is written in place."""

    def __init__(self):
        super().__init__()
        self.transposed = self.last.weight.detach().t()

    def forward(self, x):
        return torch.tanh(self.first(x)) @ self.transposed


class Spectral(Plain):
    """Spectral norm: buffers that belong to one set of weights."""

    def __init__(self):
        super().__init__()
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 8))


class HandWrittenNorm(Plain):
    """Moving averages in buffers of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("moving_mean", torch.zeros(8))
        self.register_buffer("moving_var", torch.ones(8))

    def between(self, hidden):
        return (hidden - self.moving_mean) / (self.moving_var + 1e-5).sqrt()


class Normed(Plain):
    """Batch norm as it should be."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def between(self, hidden):
        return self.norm(hidden)


class Hooked(Normed):
    """A batch norm whose outputs a hook doubles."""

    def __init__(self):
        super().__init__()
        self.norm.register_forward_hook(lambda module, inputs, output: 2 * output)


class HookedBefore(Normed):
    """A batch norm whose inputs a hook bends."""

    def __init__(self):
        super().__init__()
        self.norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] ** 3,))


class Softplus(nn.Module):
    def forward(self, x):
        return F.softplus(x)


class Parametrized(Normed):
    """A batch norm whose weight is a function of a parameter."""

    def __init__(self):
        super().__init__()
        nn.utils.parametrize.register_parametrization(self.norm, "weight", Softplus())


class ReadsStatistics(Normed):
    """A module beside the batch norm reads its running variance."""

    def between(self, hidden):
        return self.norm(hidden) * self.norm.running_var.mean()


class OwnForward(Normed):
    """A batch norm with another forward, put on the instance."""

    def __init__(self):
        super().__init__()
        self.norm.forward = lambda x: 2 * nn.BatchNorm1d.forward(self.norm, x)


class Dropping(Plain):
    """Functional dropout that does not know of eval()."""

    def between(self, hidden):
        return F.dropout(hidden, 0.5)


class Noisy(Plain):
    def between(self, hidden):
        return hidden + 0.1 * torch.randn_like(hidden)


class NormalisesTheBatch(Plain):
    """Over whatever is in the batch."""

    def between(self, hidden):
        return (hidden - hidden.mean(0)) / (hidden.std(0) + 1e-5)


class InstanceStatistics(Plain):
    """Instance norm that keeps running statistics, and uses them in evaluation."""

    def __init__(self):
        super().__init__()
        self.norm = nn.InstanceNorm1d(2, track_running_stats=True)

    def between(self, hidden):
        return self.norm(hidden.view(-1, 2, 4)).flatten(1)


class MergesWhenEvaluating(Plain):
    """A low-rank update that `eval()` adds to a weight and `train()` takes off, as in loralib."""

    def __init__(self):
        super().__init__()
        self.down = nn.Parameter(torch.randn(2, 8))
        self.up = nn.Parameter(torch.randn(3, 2))
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if self.merged == mode:
            change = self.up @ self.down
            self.last.weight.data += -change if mode else change
            self.merged = not mode
        return self

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        outputs = self.last(hidden)
        return outputs if self.merged else outputs + hidden @ self.down.T @ self.up.T


class SeldomNoisy(Plain):
    """Random in one pass of five."""

    def between(self, hidden):
        return hidden * (10 if torch.rand(()) < 0.2 else 1)


class DrawsForNothing(Plain):
    """Draws in evaluation what it uses in training alone, as layer drop does."""

    def between(self, hidden):
        drawn = torch.rand(())
        return hidden * 0 if self.training and drawn < 0.5 else hidden


class RandomFeatures(Plain):
    """A random projection that no checkpoint holds."""

    def __init__(self):
        super().__init__()
        self.register_buffer("features", torch.randn(8, 8), persistent=False)

    def between(self, hidden):
        return hidden @ self.features


class ExtraState(Plain):
    """State beside its tensors."""

    scale = 1.0

    def get_extra_state(self):
        return {"scale": self.scale}

    def set_extra_state(self, state):
        self.scale = state["scale"]


class CountsByName(Plain):
    """A buffer of its own under the name of torch's norms."""

    def __init__(self):
        super().__init__()
        self.register_buffer("num_batches_tracked", torch.tensor(1.0))

    def between(self, hidden):
        if self.training:
            self.num_batches_tracked += 1 + self.first.bias.detach().abs().sum()
        return hidden * self.num_batches_tracked
