"""Networks as people use them, small, each with its loss the obvious way in float64 beside it.

`python -m tests.pipeline.zoo` prints how far the evaluator is from that, at some points of a plane.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.evaluation.evaluator import Evaluator
from pipeline.geometry.directions import random_directions
from pipeline.problem.criterion import Criterion, criterion_of, named
from pipeline.problem.forward import forwarded, leaves, mapped
from pipeline.problem.layout import Layout, flattened, separated
from pipeline.problem.norms import has_batch_norm
from tests.pipeline.naive import calibrate

POINTS = np.array([[0.0, 0.0], [0.3, -0.2], [-0.5, 0.4], [1.0, 1.0]])


@dataclass(frozen=True)
class Case:
    """A network with data and a loss.

    `exact` is the loss over all examples of a float64 copy of the network, in plain torch.
    """

    network: nn.Module
    inputs: Any
    targets: np.ndarray
    exact: Callable[[nn.Module, Any, Tensor], Tensor]
    criterion: Criterion = field(default_factory=lambda: named("cross_entropy"))


def worst(case: Case, chunk: int | None = 7) -> float:
    """The largest relative difference of a loss from that in float64, over the points."""
    network = case.network
    layout = Layout.of(network)
    origin = flattened(dict(network.named_parameters()), layout).double().numpy()
    plane = random_directions(origin, layout.reals, 0)
    evaluator = Evaluator(
        copy.deepcopy(network),
        {"train": (case.inputs, case.targets)},
        ["loss"],
        case.criterion,
        chunk=chunk,
    )
    found = evaluator.evaluate(plane, POINTS)["loss"][0]
    inputs, targets = mapped(case.inputs, _exactly), _exactly(case.targets)
    off = 0.0
    for at, loss in zip(POINTS, found, strict=True):
        copied = _in_float64(network)
        copied.train()
        flat = torch.tensor(plane.weights(*at)).to(layout.dtype).double()
        with torch.no_grad():
            for name, value in separated(flat, Layout.of(copied)).items():
                copied.get_parameter(name).copy_(value)
        copied.eval()
        if has_batch_norm(copied):
            calibrate(copied, lambda net: forwarded(net, inputs))
        exact = float(case.exact(copied, inputs, targets).detach())
        off = max(off, abs(float(loss) - exact) / abs(exact))
    return off


def _in_float64(network: nn.Module) -> nn.Module:
    copied = copy.deepcopy(network).double()
    for parameter in copied.parameters():
        if parameter.is_complex():
            parameter.data = parameter.data.to(torch.complex128)
    return copied


def _exactly(array: np.ndarray) -> Tensor:
    tensor = torch.tensor(array)
    return tensor.double() if tensor.is_floating_point() else tensor


def _images(size: int = 16, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.standard_normal((count, 3, size, size)).astype("f4")
    return x, random.integers(0, 5, count)


def _classes(network: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
    return F.cross_entropy(forwarded(network, inputs), targets)


# Images


class BiasedAttention(nn.Module):
    """Attention with a bias for each distance, gathered once for evaluation as in LeViT."""

    def __init__(self, width: int, heads: int, edge: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.biases = nn.Parameter(torch.randn(heads, edge * edge))
        places = torch.stack(torch.meshgrid(*[torch.arange(edge)] * 2, indexing="ij"), -1)
        places = places.reshape(-1, 2)
        apart = (places[:, None] - places[None]).abs()
        self.register_buffer("index", apart[..., 0] * edge + apart[..., 1])
        self.gathered: Tensor | None = None

    @torch.no_grad()
    def train(self, mode: bool = True) -> BiasedAttention:
        super().train(mode)
        self.gathered = None if mode else self.biases[:, self.index]
        return self

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.project(x).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.biases[:, self.index] if self.gathered is None else self.gathered
        weights = (q @ k.transpose(-1, -2) * self.scale + bias).softmax(-1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).reshape(n, length, width))
        return mixed


class VisionTransformer(nn.Module):
    def __init__(self, width: int = 16, edge: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.places = nn.Parameter(torch.randn(1, edge * edge, width) * 0.1)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(4)])
        self.mix = nn.ModuleList([BiasedAttention(width, 2, edge) for _ in range(2)])
        self.think = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width)) for _ in range(2)]
        )
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        for k in range(2):
            x = x + self.mix[k](self.norms[2 * k](x))
            x = x + self.think[k](self.norms[2 * k + 1](x))
        outputs: Tensor = self.head(x.mean(1))
        return outputs


class Residual(nn.Module):
    """A block of ResNet-18."""

    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, width, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inner, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class InvertedResidual(nn.Module):
    """A block of MobileNet: wider, depthwise, narrower."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 3 * width
        self.layers = nn.Sequential(
            *(nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()),
            *(nn.Conv2d(wide, wide, 3, 1, 1, groups=wide, bias=False), nn.BatchNorm2d(wide)),
            *(nn.ReLU6(), nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.layers(x)
        return added


class Pooled(nn.Sequential):
    """Blocks between a stem and a head over the mean of all places."""

    def __init__(self, blocks: list[nn.Module], width: int, last: int) -> None:
        stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(last, 5)]
        super().__init__(*stem, *blocks, *head)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.norm, self.up = nn.GroupNorm(4, 16), nn.ConvTranspose2d(16, 8, 2, 2)
        self.last = nn.Conv2d(16, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.silu(self.down1(x))
        back = self.up(F.silu(self.norm(self.down2(first))))
        outputs: Tensor = self.last(torch.cat([first, back], 1))
        return outputs


def vision_transformer() -> Case:
    return Case(VisionTransformer(), *_images(), _classes)


def resnet18() -> Case:
    blocks = [Residual(8, 8, 1), Residual(8, 16, 2), Residual(16, 32, 2)]
    return Case(Pooled(list(blocks), 8, 32), *_images(), _classes)


def mobilenet() -> Case:
    return Case(Pooled([InvertedResidual(8), InvertedResidual(8)], 8, 8), *_images(), _classes)


def unet() -> Case:
    x, _ = _images()
    return Case(UNet(), x, x[::-1].copy(), lambda n, x, y: F.mse_loss(n(x), y), named("mse"))


# Sequences

_LENGTH, _TOKENS = 9, 40


def _words(count: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (n, length), a mask of those that count, and the lengths."""
    random = np.random.default_rng(0)
    lengths = random.integers(2, _LENGTH + 1, count)
    mask = (np.arange(_LENGTH) < lengths[:, None]).astype("i8")
    return random.integers(1, _TOKENS, (count, _LENGTH)) * mask, mask, lengths


@dataclass
class Output:
    """What libraries of language models return."""

    logits: Tensor
    hidden_states: tuple[Tensor, ...] = ()
    loss: Tensor | None = None


class Bert(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(_TOKENS, width), nn.Embedding(_LENGTH, width)
        self.layers = nn.ModuleList(
            [nn.TransformerEncoderLayer(width, 2, 32, batch_first=True) for _ in range(2)]
        )
        self.head = nn.Linear(width, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Output:
        x = self.words(input_ids) + self.places.weight
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=attention_mask == 0)
        return Output(self.head(x[:, 0]), (x,))


class GPT(nn.Module):
    """Causal, its output layer tied to the embedding."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(_TOKENS, width), nn.Embedding(_LENGTH, width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, _TOKENS, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Output:
        x = self.words(ids) + self.places.weight[: ids.shape[1]]
        q, k, v = self.mix(self.norm(x)).chunk(3, -1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return Output(self.head(x))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.mix = nn.Embedding(_TOKENS, 12), nn.LSTM(12, 12, 2, batch_first=True)
        self.head = nn.Linear(12, _TOKENS)

    def forward(self, ids: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden, state = self.mix(self.words(ids))
        return self.head(hidden), state


def bert() -> Case:
    ids, mask, lengths = _words()
    return Case(
        Bert(),
        {"input_ids": ids, "attention_mask": mask},
        lengths % 3,
        lambda n, x, y: F.cross_entropy(n(**x).logits, y),
    )


def gpt2() -> Case:
    ids, mask, _ = _words()
    targets = np.where(np.roll(mask, -1, 1) * mask == 1, np.roll(ids, -1, 1), -100)
    return Case(
        GPT(),
        ids,
        targets,
        lambda n, x, y: F.cross_entropy(n(x).logits.reshape(-1, _TOKENS), y.reshape(-1)),
        Criterion("cross_entropy", named("cross_entropy").function, mean="token"),
    )


def lstm() -> Case:
    ids, _, _ = _words()
    return Case(
        Recurrent(),
        ids,
        np.roll(ids, -1, 1),
        lambda n, x, y: F.cross_entropy(n(x)[0].transpose(1, 2), y),
    )


# Derivatives, other networks, graphs


class Field(nn.Module):
    """u(x, t)."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(2, 16, dtype=dtype), nn.Tanh(), nn.Linear(16, 16, dtype=dtype)),
            *(nn.Tanh(), nn.Linear(16, 1, dtype=dtype)),
        )

    def forward(self, x: Tensor) -> Tensor:
        u: Tensor = self.layers(x)
        return u


def burgers(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The squared residual of u_t + u·u_x = ν·u_xx at each point."""
    u = network(inputs)[:, 0]
    (slope,) = torch.autograd.grad(u.sum(), inputs, create_graph=True)
    (bend,) = torch.autograd.grad(slope[:, 0].sum(), inputs, create_graph=True)
    return (slope[:, 1] + u * slope[:, 0] - 0.01 / math.pi * bend[:, 0]).square()


def _burgers_by_hand(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The same by the chain rule, layer by layer, without autograd."""
    w1, b1, w2, b2, w3, b3 = (p.detach() for p in network.parameters())
    first = torch.tanh(inputs @ w1.T + b1)
    d1 = (1 - first**2)[..., None] * w1
    dd1 = -2 * first * (1 - first**2) * w1[:, 0] ** 2
    second = torch.tanh(first @ w2.T + b2)
    inner, curved = torch.einsum("jk,nkd->njd", w2, d1), dd1 @ w2.T
    d2 = (1 - second**2)[..., None] * inner
    dd2 = (1 - second**2) * curved - 2 * second * (1 - second**2) * inner[..., 0] ** 2
    u, slope, bend = second @ w3[0] + b3, torch.einsum("k,nkd->nd", w3[0], d2), dd2 @ w3[0]
    residual = slope[:, 1] + u * slope[:, 0] - 0.01 / math.pi * bend
    return residual.square().mean()


def pinn() -> Case:
    points = np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype("f4")
    none = np.zeros(20, "f4")
    return Case(Field(), points, none, _burgers_by_hand, criterion_of(burgers))


def pinn_float64() -> Case:
    points = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    field_ = Field(torch.float64)
    return Case(field_, points, np.zeros(20), _burgers_by_hand, criterion_of(burgers))


class QNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, state: Tensor) -> Tensor:
        values: Tensor = self.layers(state)
        return values


def dqn() -> Case:
    """The temporal difference against a frozen network, actions by the moving one (double DQN)."""
    random, count = np.random.default_rng(0), 20
    frozen = QNetwork()
    inputs = {
        "state": random.standard_normal((count, 4)).astype("f4"),
        "next": random.standard_normal((count, 4)).astype("f4"),
        "action": random.integers(0, 3, count),
        "done": random.integers(0, 2, count),
    }

    def difference(
        network: nn.Module, inputs: dict[str, Tensor], targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        target = frozen if inputs["state"].dtype == torch.float32 else _in_float64(frozen)
        best = network(inputs["next"]).argmax(1, keepdim=True)
        ahead = target(inputs["next"]).gather(1, best)[:, 0] * (1 - inputs["done"])
        own = network(inputs["state"]).gather(1, inputs["action"][:, None])[:, 0]
        return own, (targets + 0.9 * ahead).detach()

    def loss(network: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        return F.smooth_l1_loss(*difference(network, inputs, targets), reduction="none")

    return Case(
        QNetwork(),
        inputs,
        random.standard_normal(count).astype("f4"),
        lambda n, x, y: F.huber_loss(*difference(n, x, y)),
        criterion_of(loss),
    )


class GraphNetwork(nn.Module):
    """Two rounds over dense neighbours, then the mean over nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 12), nn.Linear(12, 12)
        self.head = nn.Linear(12, 1)

    def forward(self, nodes: Tensor, neighbours: Tensor) -> Tensor:
        degree = neighbours.sum(-1, keepdim=True).clamp(min=1)
        x = F.relu(neighbours @ self.first(nodes) / degree)
        x = F.relu(neighbours @ self.second(x) / degree)
        outputs: Tensor = self.head(x.mean(1))
        return outputs


def graph() -> Case:
    random, count, nodes = np.random.default_rng(0), 20, 6
    edges = random.integers(0, 2, (count, nodes, nodes)).astype("f4")
    features = random.standard_normal((count, nodes, 5)).astype("f4")
    labels = random.integers(0, 2, count)
    return Case(
        GraphNetwork(),
        (features, edges),
        labels,
        lambda n, x, y: F.binary_cross_entropy_with_logits(n(*x)[:, 0], y.double()),
        named("bce_with_logits"),
    )


class ComplexNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3, dtype=torch.complex64)
        self.head = nn.Linear(4, 2, dtype=torch.complex64)

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        outputs: Tensor = self.head((z / (1 + z.abs())).mean(-1))
        return outputs


def complex_valued() -> Case:
    random = np.random.default_rng(0)
    x, y = (
        (random.standard_normal((20, *s)) + 1j * random.standard_normal((20, *s))).astype("c8")
        for s in ((2, 7), (2,))
    )
    return Case(
        ComplexNetwork(),
        x,
        y,
        lambda n, x, y: (n(x.to(torch.complex128)) - y).abs().square().mean(),
        named("mse"),
    )


ZOO: dict[str, Callable[[], Case]] = {
    "ViT, attention biases gathered in eval()": vision_transformer,
    "ResNet-18 blocks, batch norm recomputed": resnet18,
    "MobileNet blocks, depthwise": mobilenet,
    "U-Net, mse": unet,
    "BERT, dict of inputs, dataclass out": bert,
    "GPT-2, tied weights, -100 padding, mean over tokens": gpt2,
    "LSTM, two layers, a tuple out": lstm,
    "PINN of Burgers' equation": pinn,
    "the same in float64": pinn_float64,
    "double DQN, a frozen network, huber": dqn,
    "graph network on dense inputs, bce": graph,
    "complex-valued convolution, mse": complex_valued,
}


def seeded(make: Callable[[], Case]) -> Case:
    """The same case every time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return make()


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'network':<54} {'numbers':>8} {'worst of 4 points':>18}")
    for name, make in ZOO.items():
        case = seeded(make)
        size = Layout.of(case.network).size
        examples = len(next(iter(leaves(case.inputs))))
        assert examples == len(case.targets)
        print(f"{name:<54} {size:>8,} {worst(case):>18.1e}")


if __name__ == "__main__":
    main()
