"""Puts θ(x, y) = origin + x·u + y·v, of a patch + xy·w, into a network.

The sum is taken in float64 and rounded once to float32.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import LossatlasError
from pipeline.geometry.plane import Plane, Vector
from pipeline.problem.layout import is_double


class WeightsError(LossatlasError):
    """The plane belongs to another network."""


class NetworkWeights:
    """Puts θ(x, y) into a network whose parameters view one flat buffer, float32 or float64.

    The network is stored channels-last, so the plane's vectors are brought into the buffer's
    order once, and every point is one write of that buffer.

    Args:
        network: on `device`; its parameters become views.
        device: of the network.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        parameters = list(network.parameters())
        sizes = [_reals(p) for p in parameters]
        starts = [0, *np.cumsum(sizes)[:-1].tolist()]
        # Complex ones first: a view of pairs has to begin at an even place.
        order = sorted(range(len(parameters)), key=lambda k: not parameters[k].is_complex())
        self._device = device
        self._order = torch.cat(
            [_physical_order(parameters[k]) + starts[k] for k in order] or [torch.empty(0).long()]
        )
        dtype = torch.float64 if is_double(network) else torch.float32
        self._flat = torch.empty(len(self._order), device=device, dtype=dtype)
        self._exact = torch.empty_like(self._flat, dtype=torch.float64)
        self._plane: Plane | None = None
        start = 0
        for k in order:
            part = self._flat[start : start + sizes[k]]
            start += sizes[k]
            parameters[k].data = _viewed(part, parameters[k]).copy_(parameters[k].data)

    def load(self, plane: Plane) -> None:
        """Use `plane` from now on.

        Raises:
            WeightsError: it has another number of weights than the network.
        """
        if plane is self._plane:
            return
        if plane.origin.size != self._flat.numel():
            raise WeightsError(
                f"the plane has {plane.origin.size:,} values and the network "
                f"{self._flat.numel():,} parameters; wanted as many"
            )
        self._plane = plane
        self._origin, self._u, self._v = map(self._ordered, (plane.origin, plane.u, plane.v))
        self._w = None if plane.w is None else self._ordered(plane.w)

    def move(self, x: float, y: float) -> None:
        """Put θ(x, y) into the network."""
        torch.add(self._origin, self._u, alpha=x, out=self._exact)
        if self._w is not None:
            torch.add(self._exact, self._w, alpha=x * y, out=self._exact)
        torch.add(self._exact, self._v, alpha=y, out=self._flat)  # rounded as it is written

    def _ordered(self, vector: Vector) -> Tensor:
        """A plane's vector in the buffer's order; one that has no entry for each weight is zero."""
        if vector.size == self._flat.numel():
            return torch.tensor(vector)[self._order].to(self._device)
        return torch.zeros_like(self._flat, dtype=torch.float64)


def _reals(parameter: Tensor) -> int:
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def _viewed(part: Tensor, parameter: Tensor) -> Tensor:
    """`part` (reals,) in the shape of a parameter; images' filters channels-last."""
    shape = parameter.shape
    if parameter.is_complex():
        return torch.view_as_complex(part.view(*shape, 2))
    if len(shape) != 4:
        return part.view(shape)
    out, inner, height, width = shape
    return part.view(out, height, width, inner).permute(0, 3, 1, 2)


def _physical_order(parameter: Tensor) -> Tensor:
    if parameter.is_complex():
        return torch.arange(_reals(parameter))
    index = torch.arange(parameter.numel()).view(parameter.shape)
    return (index.permute(0, 2, 3, 1) if index.ndim == 4 else index).reshape(-1)
