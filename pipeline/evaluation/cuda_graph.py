"""CUDA graphs: a GPU's kernels are captured once and then replayed without Python in between.

A point of a ResNet-20 takes about eighty operators, and Python needs longer to start most of them
than a fast GPU needs to run them. A CUDA graph holds them all: the next point is one write of the
weights and one launch. Computations that cannot be captured, or whose replay differs by a bit, run
without a graph.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Compute = Callable[[], Tensor]
# Runs a computation and captures its kernels: what replays them, and where their output then is.
Capture = Callable[[Compute], tuple[Callable[[], None], Tensor]]

_TRIALS = 2


class GraphReplay:
    """Calls `compute`, or replays its graph once the replay is known to give the same.

    The first call is computed: libraries set themselves up in it. The next two are computed and
    replayed. If a bit differs, or capturing fails (a forward pass that reads a number on the host
    cannot be in a graph), all later calls are computed.

    Args:
        compute: reads what changes between calls from tensors that stay where they are, and gives
            a tensor of one shape.
        capture: as `capture_on` gives it; None to compute every call.
    """

    def __init__(self, compute: Compute, capture: Capture | None) -> None:
        self._compute = compute
        self._capture = capture
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
        if self._capture is not None and self._calls:
            self._try(self._capture, computed)
        self._calls += 1
        return computed

    def _try(self, capture: Capture, computed: Tensor) -> None:
        """Capture, replay and compare with `computed`; give up where they differ."""
        try:
            if self._replay is None:
                self._replay, self._output = capture(self._compute)
            self._replay()
            if torch.allclose(self._output, computed, rtol=0.0, atol=0.0, equal_nan=True):
                return
        except RuntimeError:  # whatever torch raises, out of memory included
            pass
        self._capture = self._replay = None
        self._output = torch.empty(0)


def capture_on(device: torch.device) -> Capture | None:
    """Captures a computation on `device` as a CUDA graph; None where there are no such graphs."""
    if device.type != "cuda":
        return None

    def capture(compute: Compute) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # Where capturing fails, torch leaves its stream in place; the outer one puts ours back.
        with (
            torch.cuda.device(device),
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, stream=aside),
        ):
            output = compute()
        return graph.replay, output

    return capture
