"""The checkpoints that the plane of a spec names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.errors import LossatlasError
from pipeline.geometry.plane import Vector
from pipeline.problem import peers, state_dict
from pipeline.problem.checkpoint import Known, State
from pipeline.problem.layout import Layout
from pipeline.spec import RenderSpec


class PlanesError(LossatlasError):
    """A checkpoint cannot be used for the plane that names it."""


class Checkpoints:
    """Reads the checkpoints that the plane of a spec names.

    Args:
        spec: of a render.
        network: that they are of, with initial weights.
    """

    def __init__(self, spec: RenderSpec, network: nn.Module) -> None:
        self._plane = spec.plane
        self._is_frozen = spec.evaluate.batch_norm == "frozen"
        self._network = network
        self.layout = Layout.of(network)

    def of_plane(self) -> list[tuple[str, State]]:
        """The file's name and the state of each of the plane's weights, one for each anchor.

        Raises:
            CheckpointError: one cannot be read, or belongs to another network.
            PlanesError: a single file that is no curve checkpoint.
        """
        paths = tuple(self._plane.weights)
        if self._plane.kind == "curve" and len(paths) == 1:
            where = f"plane.weights[0] ({Path(paths[0]).name})"
            state = state_dict.load(paths[0], self.layout)
            if not state_dict.is_curve(state, self.layout):
                raise PlanesError(
                    f"{where} is no curve checkpoint; wanted one, or start, bend and end as three"
                )
            return [(Path(paths[0]).name, each.state) for each in self._of_curve(state, where)]
        states = [state_dict.load(path, self.layout) for path in paths]
        for index, (path, state) in enumerate(zip(paths, states, strict=True)):
            where = f"plane.weights[{index}] ({Path(path).name})"
            state_dict.match(state, self.layout, where)
            self.require_statistics(state, where)
        return [(Path(path).name, state) for path, state in zip(paths, states, strict=True)]

    def of_frame(self, path: str) -> list[Known]:
        """The checkpoints that one frame's file holds: a bend, or a curve's three points."""
        state, file = state_dict.load(path, self.layout), Path(path).name
        if not state_dict.is_curve(state, self.layout):
            return [Known("bend", file, state)]
        return self._of_curve(state, file)

    def one(self, path: str, where: str) -> tuple[State, NDArray[np.float32]]:
        """The state and the weights (P,) of a checkpoint; of a curve checkpoint its bend.

        Raises:
            CheckpointError: it cannot be read, or belongs to another network.
        """
        state = state_dict.load(path, self.layout)
        weights = state_dict.weights_or_bend(state, self.layout, where)
        if state_dict.is_curve(state, self.layout):
            buffers = state_dict.buffers(state, self._network)
            state = {**state_dict.named(weights, self.layout), **buffers}
        return state, weights

    def direction(self, path: str, where: str) -> Vector:
        """A direction from a file, float64 (P,).

        Args:
            path: of a checkpoint, or of a list in an HDF5 file (`peers`).
            where: what messages call it.

        Raises:
            LossatlasError: it cannot be read, or belongs to another network.
        """
        if peers.is_theirs(path):
            return self.vector(peers.load_direction(path, self._network))
        state = state_dict.load(path, self.layout)
        state_dict.match(state, self.layout, where, buffers=False)
        return self.vector(state)

    def require_statistics(self, state: State, where: str) -> None:
        """See that a checkpoint holds the statistics that `frozen` uses.

        Raises:
            PlanesError: it does not.
        """
        missing = state_dict.missing_statistic(state, self.layout)
        if missing is not None and self._is_frozen:
            raise PlanesError(
                f"{where} holds no statistics of batch norms ({missing}), which "
                "evaluate.batch_norm: frozen wants. Use batch_norm: recompute"
            )

    def vector(self, state: State) -> Vector:
        """The weights of a checkpoint, float64 (P,)."""
        return state_dict.weights(state, self.layout).astype("f8")

    def buffers(self, known: Known) -> dict[str, NDArray[np.generic]]:
        """The buffers of a checkpoint, by the network's names."""
        found = state_dict.buffers(known.state, self._network)
        return {name: buffer.numpy() for name, buffer in found.items()}

    def _of_curve(self, state: State, where: str) -> list[Known]:
        """Each point of a curve checkpoint, with the file's buffers, which need not hold any."""
        self.require_statistics(state, where)
        points = state_dict.curve_points(state, self.layout, where)
        names = ("start", *("bend" for _ in points[2:]), "end")
        buffers = state_dict.buffers(state, self._network)
        return [
            Known(name, Path(where).name, {**state_dict.named(point, self.layout), **buffers})
            for name, point in zip(names, points, strict=True)
        ]
