"""The one task of a render: evaluate a tile, write it, commit it."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline import network, usercode
from pipeline.evaluate import Evaluator, room_on
from pipeline.frames import Planes
from pipeline.grid import Tile
from pipeline.losses import LossFunction, loss_function
from pipeline.plane import Plane
from pipeline.store import Store
from pipeline.usercode import UserCode


@dataclass(frozen=True)
class RenderInputs:
    """Everything that evaluating needs, by value: shared once with all workers.

    Attributes:
        factory, kwargs, network_code: what `network.build` takes.
        buffers: the network's buffers, by name.
        splits: name → inputs (n, …) and targets (n, …), the calibrating split first.
        loss, loss_code: the name in the spec, and the user's code behind it.
        planes: of every frame.
    """

    factory: str
    kwargs: Mapping[str, Any]
    network_code: UserCode | None
    buffers: Mapping[str, NDArray[np.generic]]
    splits: Mapping[str, tuple[NDArray[np.generic], NDArray[np.generic]]]
    loss: str
    loss_code: UserCode | None
    quantities: tuple[str, ...]
    batch_norm: Literal["recompute", "frozen"]
    planes: Planes


@dataclass(frozen=True)
class TileFacts:
    """What a committed tile cost. `seconds` includes `write_seconds`."""

    tile: Tile
    points: int
    seconds: float
    write_seconds: float
    worker: int


def build_network(inputs: RenderInputs) -> nn.Module:
    """The render's network, with initial weights."""
    return network.build(inputs.factory, inputs.kwargs, inputs.network_code)


def evaluator(inputs: RenderInputs, device: str = "cpu") -> Evaluator:
    """The evaluator of a render's network and data on `device`.

    Raises:
        LossatlasError: network, data and loss do not fit together, or not into the memory.
    """
    net = build_network(inputs)
    for name, buffer in net.named_buffers():
        if name in inputs.buffers:
            buffer.copy_(torch.tensor(inputs.buffers[name]))
    loss = loss_function(inputs.loss, _custom_loss(inputs))
    with room_on(device):
        return Evaluator(net, inputs.splits, inputs.quantities, loss, inputs.batch_norm, device)


class TileRenderer:
    """A worker's inside: holds network, data and planes on one device, and renders tiles.

    Args:
        inputs: shared by all workers.
        store_url: where tiles are committed.
        device: `cpu`, `cuda` or `cuda:1`.
        worker: an id, noted with every tile.
        threads: torch's threads; one, so that the numbers do not depend on the machine's cores.
    """

    def __init__(
        self,
        inputs: RenderInputs,
        store_url: str,
        device: str = "cpu",
        worker: int = 0,
        threads: int | None = 1,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._worker = worker
        self._planes = inputs.planes
        self._network = build_network(inputs)
        # One frame at a time: a film's planes together may not fit.
        self._plane = functools.lru_cache(maxsize=1)(self._load_plane)
        self._store = Store.open(store_url, writable=True)
        self._evaluator = evaluator(inputs, device)

    def __call__(self, tile: Tile) -> TileFacts:
        """Evaluate `tile`, write its chunks and commit it.

        Raises:
            OSError: the store cannot be written.
        """
        began = time.perf_counter()
        grid = self._store.grid
        values = self._evaluator.evaluate(
            self._plane(tile.frame), grid.coordinates(tile, self._store.extent(tile.frame))
        )
        evaluated = time.perf_counter()
        shape = (len(self._store.splits), *grid.shape(tile))
        self._store.commit(
            tile,
            {quantity: array.reshape(shape) for quantity, array in values.items()},
            seconds=evaluated - began,
            worker=self._worker,
        )
        ended = time.perf_counter()
        return TileFacts(tile, grid.size(tile), ended - began, ended - evaluated, self._worker)

    def _load_plane(self, frame: int) -> Plane:
        return self._planes.of_frame(frame, self._network)


def _custom_loss(inputs: RenderInputs) -> LossFunction | None:
    if inputs.loss_code is None:
        return None
    return usercode.attribute(inputs.loss_code, inputs.loss.rpartition(":")[2])
