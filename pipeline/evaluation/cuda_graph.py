"""A computation on a GPU that is recorded once and then replayed, without Python in between.

A point of a ResNet-20 is some eighty operators, and Python needs longer to start most of them than
a fast GPU to run them. A CUDA graph holds them all: the next point is a write of the weights and
one launch. What cannot be recorded, or does not come back to the bit, is computed as ever.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Compute = Callable[[], Tensor]
# Runs a computation and takes down its kernels: what replays them, and where their output then is.
Record = Callable[[Compute], tuple[Callable[[], None], Tensor]]

_TRIALS = 2


class Recorded:
    """`compute`, replayed from the second call on where that gives the same.

    The first call is computed, for libraries to set themselves up. Two more are computed and
    replayed: if a bit differs, or recording fails (a forward that looks at its numbers asks the
    host, which a graph cannot), nothing is ever replayed.

    Args:
        compute: reads what changes between calls from tensors that stay where they are, and gives
            a tensor of one shape.
        record: `cuda_graph`, or None where there is nothing to record with.
    """

    def __init__(self, compute: Compute, record: Record | None) -> None:
        self._compute = compute
        self._record = record
        self._replay: Callable[[], None] | None = None
        self._output = torch.empty(0)
        self._calls = 0

    @property
    def is_replayed(self) -> bool:
        """Whether the next call is a replay."""
        return self._replay is not None and self._calls > _TRIALS

    def __call__(self) -> Tensor:
        """The output, which the next call may overwrite."""
        if self.is_replayed:
            assert self._replay is not None
            self._replay()
            return self._output
        computed = self._compute()
        if self._record is not None and self._calls:
            self._try(self._record, computed)
        self._calls += 1
        return computed

    def _try(self, record: Record, computed: Tensor) -> None:
        try:
            if self._replay is None:
                self._replay, self._output = record(self._compute)
            self._replay()
            if torch.allclose(self._output, computed, rtol=0.0, atol=0.0, equal_nan=True):
                return
        except RuntimeError:  # whatever torch raises, memory that does not suffice included
            pass
        self._record = self._replay = None
        self._output = torch.empty(0)


def cuda_graph(device: torch.device) -> Record:
    """Records a computation on `device` as a CUDA graph."""

    def record(compute: Compute) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # Where recording fails, torch leaves its stream in place; the outer one puts ours back.
        with (
            torch.cuda.device(device),
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, stream=aside),
        ):
            output = compute()
        return graph.replay, output

    return record
