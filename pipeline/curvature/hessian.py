"""Products of vectors with the Hessian of the mean loss, at the present weights of a network.

A product is the derivative of the gradient along a vector: torch differentiates twice, chunk by
chunk, and keeps no graph from one chunk to the next. On the two networks that were measured, this
is faster than forward over reverse mode (`torch.func.jvp` of `torch.func.grad`): docs/log.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.evaluation.examples import Examples
from pipeline.evaluation.precision import arithmetic
from pipeline.problem.criterion import Criterion
from pipeline.problem.forward import forwarded
from pipeline.problem.means import totals

# What torch puts behind a derivative that has none (`once_differentiable`).
_CUT = "torch::autograd::Error"


class Hessian:
    """The Hessian of the mean loss over some examples, by all parameters of a network.

    Vectors have the parameters' values in the order of `network.parameters()`. The parameters may
    change between calls.

    Args:
        network: in eval mode.
        chunks: the examples, in pieces whose graphs fit into memory.
        criterion: the loss, and how it is averaged.
        before: called before the forward pass of every chunk.
    """

    def __init__(
        self,
        network: nn.Module,
        chunks: Sequence[Examples],
        criterion: Criterion,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._network = network
        self._parameters = list(network.parameters())
        self._chunks = chunks
        self._criterion = replace(criterion, metrics={}, heard=None)
        self._before = before
        self.size = sum(each.numel() for each in self._parameters)

    def gradient(self) -> Tensor:
        """The gradient of the mean loss, float64 (P,)."""
        total = self._zeros(1)
        with self._differentiable():
            counts = [self._add_gradient(chunk, total) for chunk in self._chunks]
        return total[0] / sum(counts)

    def product(self, vector: Tensor) -> Tensor:
        """The Hessian times a vector, float64 (P,)."""
        return self.products(vector[None])[0]

    def products(self, vectors: Tensor) -> Tensor:
        """The Hessian times each of some vectors (k, P), float64 (k, P).

        All of them share one graph a chunk.
        """
        total = self._zeros(len(vectors))
        with self._differentiable():
            counts = [self._add_products(chunk, vectors, total) for chunk in self._chunks]
        return total / sum(counts)

    def matrix(self) -> Tensor:
        """The whole Hessian, float64 (P, P), symmetric."""
        found = self.products(torch.eye(self.size, dtype=torch.float64))
        return (found + found.T) / 2

    def graph_bytes(self, examples: int | None = 2) -> int:
        """What torch keeps of the largest chunk between its forward pass and its last derivative.

        One product is taken with a few examples, and measured; the rest is in proportion.

        Args:
            examples: how many; None for the whole chunk.

        Raises:
            RuntimeError: of torch's: the loss cannot be differentiated twice.
        """
        largest = max(self._chunks, key=len)
        some = largest.first(examples)
        own = {each.untyped_storage().data_ptr() for each in self._parameters}
        kept: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            place = tensor.untyped_storage().data_ptr()
            if place not in own:
                kept[place] = tensor  # alive, so that no place is counted twice
            return tensor

        one = torch.ones((1, self.size), dtype=torch.float64)
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept)
        with self._differentiable(), hooks:
            gradients, _ = self._gradients(some, True)
            _require_whole(gradients)
            self._add_along(gradients, one, self._zeros(1))
        bytes_ = sum(each.untyped_storage().nbytes() for each in kept.values())
        return bytes_ * len(largest) // len(some)

    # Inside

    def _add_gradient(self, chunk: Examples, total: Tensor) -> float:
        gradients, count = self._gradients(chunk, False)
        total[0] += _flat(gradients)
        return count

    def _add_products(self, chunk: Examples, vectors: Tensor, total: Tensor) -> float:
        gradients, count = self._gradients(chunk, True)
        self._add_along(gradients, vectors, total)
        return count

    def _add_along(self, gradients: Sequence[Tensor], vectors: Tensor, total: Tensor) -> None:
        """Add the derivatives of a gradient along vectors (k, P) to `total`."""
        curved = [place for place, each in enumerate(gradients) if each.requires_grad]
        for vector, row in zip(vectors if curved else (), total, strict=False):
            along = self._shaped(vector)
            found = torch.autograd.grad(
                [gradients[place] for place in curved],
                self._parameters,
                [along[place] for place in curved],
                retain_graph=True,
                materialize_grads=True,
            )
            row += _flat(found)

    def _gradients(self, chunk: Examples, twice: bool) -> tuple[tuple[Tensor, ...], float]:
        """The gradient of the sum of a chunk's losses, and how much the chunk counts."""
        self._before()
        criterion, network = self._criterion, self._network
        forward = partial(forwarded, network)
        if criterion.takes_network:
            found = criterion.of_network(network, forward, chunk.inputs, chunk.targets)
        else:
            outputs = criterion.outputs(forward(chunk.inputs))
            found = criterion.of_outputs(outputs, chunk.targets, ())
        total, count = totals(found["loss"], criterion.mean)
        gradients = torch.autograd.grad(
            total, self._parameters, create_graph=twice, materialize_grads=True
        )
        return gradients, count

    @contextmanager
    def _differentiable(self) -> Iterator[None]:
        """Torch's derivatives by the parameters, which the evaluator leaves without them."""
        for each in self._parameters:
            each.requires_grad_()
        try:
            # Fused attention has no second derivative.
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), arithmetic("float32"):
                yield
        finally:
            for each in self._parameters:
                each.requires_grad_(False)

    def _shaped(self, vector: Tensor) -> list[Tensor]:
        """A vector (P,) as tensors like the parameters."""
        parts = torch.split(vector, [each.numel() for each in self._parameters])
        pairs = zip(parts, self._parameters, strict=True)
        return [part.to(each.device, each.dtype).view(each.shape) for part, each in pairs]

    def _zeros(self, count: int) -> Tensor:
        device = self._parameters[0].device
        return torch.zeros((count, self.size), dtype=torch.float64, device=device)


def _require_whole(gradients: Sequence[Tensor]) -> None:
    """Raises RuntimeError where a part of the graph has no second derivative.

    Torch leaves such a part out where the weights are reached on other ways, without a word.
    """
    seen, ahead = set(), [each.grad_fn for each in gradients]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if node.name() == _CUT:
            raise RuntimeError("an operator of the network or the loss is differentiable once only")
        seen.add(node)
        ahead += [following for following, _ in node.next_functions]


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().reshape(-1) for part in parts]).double()
