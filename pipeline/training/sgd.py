"""One step of SGD or Adam, and its random numbers: pure functions of seed, epoch and step.

No generator keeps a state, so a training that was killed goes on with the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.problem.criterion import Criterion, criterion_of
from pipeline.problem.forward import Inputs
from pipeline.problem.layout import shaped
from pipeline.problem.losses import LossFunction
from pipeline.training.spec import TrainSpec

_PADDING_PX = 4
_BETA_2, _EPSILON = 0.999, 1e-8
_PURPOSES = ("order", "curve", "augment", "torch", "weights")


def learning_rate(recipe: TrainSpec, epoch: int) -> float:
    """The learning rate of `epoch`, from 1.

    lr until half of the epochs; from there linearly to lr/100 at nine tenths; then constant.

    Source: `learning_rate_schedule` in the code of Garipov et al. 2018, arXiv:1802.10026.
    """
    done = epoch / recipe.epochs
    if done <= 0.5:
        return recipe.lr
    return recipe.lr * (1 - (min(done, 0.9) - 0.5) / 0.4 * 0.99)


def generator(
    seed: int,
    epoch: int,
    step: int,
    purpose: Literal["order", "curve", "augment", "torch", "weights"],
) -> np.random.Generator:
    """Random numbers for one purpose in one step; they depend on the arguments alone."""
    entropy = [seed, epoch, step, _PURPOSES.index(purpose)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def batches(count: int, size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """A permutation of `count` examples in ⌈count/size⌉ pieces of nearly equal size.

    A last batch of a few examples would have noisy batch statistics.
    """
    order = generator(seed, epoch, 0, "order").permutation(count)
    return np.array_split(order, -(-count // size))


def crop_flip(inputs: Tensor, fill: Tensor, random: np.random.Generator) -> Tensor:
    """Pad images by 4 pixels, crop them at a random place, mirror half of them at random.

    Args:
        inputs: (n, channels, height, width).
        fill: what the padding holds, (channels,).
        random: gives each image its own place and side.

    Source: the training transform of Garipov et al. 2018 for CIFAR.
    """
    count, channels, height, width = inputs.shape
    shape = (count, channels, height + 2 * _PADDING_PX, width + 2 * _PADDING_PX)
    padded = fill.view(-1, 1, 1).expand(shape).clone()
    padded[:, :, _PADDING_PX:-_PADDING_PX, _PADDING_PX:-_PADDING_PX] = inputs
    top, left = random.integers(0, 2 * _PADDING_PX + 1, (2, count, 1))
    rows, columns = top + np.arange(height), left + np.arange(width)
    mirrored = random.random((count, 1)) < 0.5
    columns = np.where(mirrored, columns[:, ::-1], columns)
    device = inputs.device
    return padded[
        torch.arange(count, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[:, None, None],
        torch.from_numpy(rows).to(device)[:, None, :, None],
        torch.from_numpy(columns).to(device)[:, None, None, :],
    ]


def views(theta: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """θ (P,) as name → tensor of the parameter's shape; differentiable.

    Filters of images are channels-last: convolutions are faster in that order.
    """
    sizes = [p.numel() * (2 if p.is_complex() else 1) for p in parameters.values()]
    return {
        name: channels_last(shaped(part, tuple(p.shape), p.is_complex()))
        for (name, p), part in zip(parameters.items(), torch.split(theta, sizes), strict=True)
    }


class _BatchLoss(nn.Module):
    """The mean loss of a batch as a module, so that it can be called with other weights."""

    def __init__(self, network: nn.Module, criterion: Criterion) -> None:
        super().__init__()
        self.network = network
        self._criterion = criterion

    def forward(self, inputs: Inputs, targets: Tensor) -> Tensor:
        return self._criterion.of_batch(self.network, inputs, targets)


def penalised_loss(
    network: nn.Module,
    theta: Tensor,
    buffers: Mapping[str, Tensor],
    inputs: Inputs,
    targets: Tensor,
    loss: LossFunction | Criterion,
    weight_decay: float,
) -> tuple[Tensor, Tensor]:
    """Mean loss of a batch at θ plus weight_decay · ½‖θ‖², and the mean loss alone.

    ‖θ‖² is over all parameters, biases and norm scales included, as in the code of Garipov et
    al. 2018 (`l2_regularizer`; for a single network it is SGD's `weight_decay`).

    Args:
        network: in the mode (train or eval) that is wanted; its own weights play no part.
        theta: (P,), in `named_parameters()` order.
        buffers: by name; a batch norm in train mode updates its own in place.
        inputs, targets: (n, …).
        loss: outputs, targets → one value an example (n,); or a criterion.
        weight_decay: at least 0.
    """
    named = {**views(theta, dict(network.named_parameters())), **buffers}
    state = {f"network.{name}": each for name, each in named.items()}
    mean = functional_call(_BatchLoss(network, criterion_of(loss)), state, (inputs, targets))
    return mean + 0.5 * weight_decay * theta.square().sum(), mean.detach()


def sgd_step(
    trained: Tensor, momentum: Tensor, gradient: Tensor, lr: float, recipe: TrainSpec
) -> None:
    """One step of SGD with momentum, in place; the same as `torch.optim.SGD`."""
    momentum.mul_(recipe.momentum).add_(gradient)
    step = gradient.add(momentum, alpha=recipe.momentum) if recipe.nesterov else momentum
    trained.sub_(step, alpha=lr)


def adam_step(
    trained: Tensor,
    momentum: Tensor,
    squares: Tensor,
    gradient: Tensor,
    lr: float,
    recipe: TrainSpec,
    step: int,
) -> None:
    """One step of Adam, in place; the same as `torch.optim.Adam`.

    β₁ is the recipe's momentum, β₂ 0.999 and ε 1e-8.

    Args:
        trained, momentum, squares, gradient: of one shape.
        lr, recipe: of the training.
        step: its number, from 1.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
    """
    first, second = recipe.momentum, _BETA_2
    momentum.mul_(first).add_(gradient, alpha=1 - first)
    squares.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    spread = squares.sqrt().div_((1 - second**step) ** 0.5).add_(_EPSILON)
    trained.addcdiv_(momentum, spread, value=-lr / (1 - first**step))


@contextmanager
def private_random_numbers(device: torch.device) -> Iterator[None]:
    """torch's generators are as they were before, however they are seeded inside."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's generators of the CPU and of `device`."""
    # Not torch.manual_seed: that would seed every accelerator.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def channels_last(tensor: Tensor) -> Tensor:
    """Images in channels-last order, the fastest for convolutions; other tensors as they are."""
    if tensor.ndim != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)
