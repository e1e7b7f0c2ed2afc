"""How much memory the processes of a render will take, estimated before they start.

Where batch norms recompute their statistics, every chunk of the calibrating split waits at each of
them, in a thread of its own: memory grows with the examples. How much an example takes depends on
the network and on the allocator. Where the estimate is large, a short process evaluates some chunks
to measure it, and the whole split takes in proportion.

All figures are peaks of resident memory, in bytes: `VmHWM` of Linux.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pipeline import format, memory
from pipeline.errors import LossatlasError
from pipeline.problem.forward import bytes_of, first_of

if TYPE_CHECKING:
    from pipeline.evaluation.evaluator import Evaluator
    from pipeline.task import RenderInputs

# Memory of an example that waits, and of one in a chunk that is computed, as multiples of its
# largest activation. In seven networks waiting examples took 5 to 9.
_WAITING, _PASSING = 7.0, 8.0
# Bytes a weight in an evaluator: its values and index, the plane's three vectors, and θ in float64.
_WEIGHT_BYTES = 56
# Bytes a weight while a mark is read: its file, its tensors, and its vector in float32 and float64.
_MARK_BYTES = 20
# Vectors of all weights, in float64, that a Lanczos step or an estimate of a trace has besides.
_VECTORS_BESIDE = 12
# While torch differentiates the second time, it needs about as much again as the graph.
_TIMES_GRAPH = 2
# Libraries that the first evaluation of a process loads.
_FIRST_BYTES = 30 << 20
# Measuring takes seconds; a smaller estimate is not worth them.
_WORTH_BYTES = 64 << 20
_MOST_CHUNKS, _LEAST_CHUNKS = 32, 4
_POINTS = 4
_SECONDS = 120.0
# Ray 2.60: in the driver and in each worker, and in processes of its own.
_RUNTIME_BYTES, _RUNTIMES_OWN_BYTES = 70 << 20, 400 << 20

_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pipeline.footprint import answer; answer()"
)


class FootprintError(LossatlasError):
    """A render would take more memory than there is."""


@dataclass(frozen=True)
class _Took:
    """Memory that evaluating took in a process.

    `all_` is beyond what it held before the evaluator was made, `points` beyond what it held after;
    `fresh` is what it held without data, 0 if unknown.
    """

    all_: float
    points: float
    fresh: float = 0.0


class Footprint:
    """The memory of one render's processes.

    Args:
        inputs: of the render.
        evaluator: of them, on the CPU.
        begun: what this process held before anything of the render was loaded.
    """

    def __init__(self, inputs: RenderInputs, evaluator: Evaluator, begun: int) -> None:
        self._inputs = inputs
        self._splits = inputs.problem.splits
        self._begun = begun
        self._chunk = evaluator.chunk
        self._largest = evaluator.example_bytes
        self._weights = evaluator.layout.size
        self._waits = evaluator.recomputes
        self.split = inputs.calibrate
        self._examples = len(self._splits[self.split][1])
        self._held = 0
        self._derivatives = 0

    def differentiates(self, steps: int, graph: int) -> None:
        """Note what quantities of curvature take besides.

        Args:
            steps: how many Lanczos vectors are kept at once.
            graph: bytes of the largest graph of two derivatives.

        Raises:
            FootprintError: this machine has not so much memory; the line says how many steps fit.
        """
        a_vector = 8 * self._weights
        self._derivatives = a_vector * (steps + _VECTORS_BESIDE) + _TIMES_GRAPH * graph
        free = memory.available()
        if self._derivatives <= free:
            return
        beside = self._derivatives - a_vector * steps
        fit = int((free - beside) // a_vector)
        cure = f"Use steps: {fit}" if fit > 1 else "Use a machine with more memory"
        raise FootprintError(
            f"evaluate.curvature keeps {steps:,} vectors of {self._weights:,} weights and a graph: "
            f"{format.size(self._derivatives)} of memory, and {format.size(free)} are free; wanted "
            f"what fits. {cure}, or fewer evaluate.curvature.examples"
        )

    def prepared(self) -> None:
        """Note that this process now holds what it will hold while it renders.

        Evaluations before, for measuring, leave free memory, which is used again.
        """
        self._held = resident()

    def worker(self, device: str = "cpu") -> int:
        """A worker's memory; its inputs are shared with all workers of the machine."""
        took = self._took if device == "cpu" else self._estimate(0)
        mark = _MARK_BYTES * self._weights if self._inputs.marks.groups else 0
        own = took.all_ + mark + self._derivatives
        return round((took.fresh or self._begun) + _RUNTIME_BYTES + self.shared + own)

    @cached_property
    def shared(self) -> int:
        """The part of it that all workers of a machine share."""
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(self._inputs, protocol=5, buffer_callback=buffers.append)
        return len(head) + sum(buffer.raw().nbytes for buffer in buffers)

    def driver(self, device: str = "cpu", serial: bool = False) -> int:
        """This process, if it goes on to render: alone (`serial`), or with workers."""
        took = self._took if device == "cpu" else self._estimate(0)
        then = took.all_ + self._derivatives if serial else _RUNTIME_BYTES + self.shared
        return round(max(peak(), (self._held or resident()) + then))

    def require_driver(self) -> None:
        """See that this process may evaluate all of the data on the CPU.

        Raises:
            FootprintError: it may not; the line gives the cure.
        """
        wanted, free = self._took.points, memory.available()
        if wanted > free:
            raise FootprintError(
                f"evaluating the {self._examples:,} examples of {self.split} takes "
                f"{format.size(wanted)} of memory and {format.size(free)} are free; wanted "
                f"what fits. {self._fewer(free / wanted)}"
            )

    def require(self, workers: int, device: str = "cpu", serial: bool = False) -> None:
        """See that the processes of a render fit into this machine's memory, before they start.

        Raises:
            FootprintError: they do not; the line gives the cure.
        """
        free = memory.available()
        driver = max(0.0, self.driver(device, serial) - resident()) if serial else 0.0
        each = self.worker(device) - self.shared
        beside = self.shared + _RUNTIME_BYTES + _RUNTIMES_OWN_BYTES
        of_workers = 0.0 if serial else beside + workers * each
        if driver + of_workers <= free:
            return
        if serial:
            raise FootprintError(
                f"rendering takes {format.size(driver)} more of memory and {format.size(free)} are "
                f"free; wanted what fits. {self._fewer(free / driver)}"
            )
        fit = int((free - beside) // each)
        cure = f"Use fewer workers: --workers {fit}" if fit > 0 else self._fewer(free / of_workers)
        if fit > 0 and self._waits:
            cure += f", or fewer examples in data.splits.{self.split}"
        raise FootprintError(
            f"{format.plural(workers, 'worker')} of {format.size(each)} each take "
            f"{format.size(of_workers)} of memory with what they share and {format.size(free)} are "
            f"free; wanted what fits, or the machine swaps. {cure}"
        )

    # Inside

    def _fewer(self, share: float) -> str:
        if not self._waits:
            return "Use fewer examples in data.splits, or a machine with more memory"
        about = max(1, int(self._examples * share * 0.9))
        return (
            f"Use fewer examples in data.splits.{self.split} (about {about:,} fit), or "
            "evaluate.batch_norm: frozen"
        )

    @cached_property
    def _took(self) -> _Took:
        """Memory for evaluating all of the data on the CPU; measured where it may be large."""
        estimate = self._estimate(self._examples)
        if self._waiting(self._examples) < _WORTH_BYTES:
            return estimate
        most = _MOST_CHUNKS
        while most > _LEAST_CHUNKS and self._waiting(most * self._chunk) > memory.available() / 4:
            most //= 2
        if self._waiting(min(self._examples, most * self._chunk)) > memory.available() / 2:
            return estimate  # more than there is in any case
        examples = min(self._examples, most * self._chunk)
        took = _measured(_of_first(self._inputs, examples))
        if took is None:
            return estimate
        # In proportion: the difference of two measurements would be less certain.
        ahead = self._examples / examples - 1
        points = took.points + ahead * max(0.0, took.points - self._begins)
        # The other splits add only their data: their chunks are computed one by one.
        data = {name: bytes_of(x) for name, (x, _) in self._splits.items()}
        rest = sum(data.values()) - data[self.split] * examples / self._examples
        built = took.all_ - took.points + rest
        return _Took(built + points, points, took.fresh)

    @property
    def _begins(self) -> float:
        """What the first evaluation takes besides activations."""
        return _FIRST_BYTES + _WEIGHT_BYTES / 2 * self._weights

    def _estimate(self, waiting: int) -> _Took:
        data = [bytes_of(x) for x, _ in self._splits.values()]
        passing = min(self._chunk, max(len(y) for _, y in self._splits.values()))
        acts = self._waiting(waiting) + _PASSING * passing * self._largest
        points = self._begins + acts
        built = sum(data) + _WEIGHT_BYTES / 2 * self._weights
        return _Took(built + max(points, max(data)), points)

    def _waiting(self, examples: int) -> float:
        return _WAITING * examples * self._largest if self._waits else 0.0


def resident() -> int:
    """What this process holds, in bytes."""
    return _of_status("VmRSS") or peak()


def peak() -> int:
    """The most that it held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return _of_status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def answer() -> None:
    """The main function of the measuring process: evaluate a few points, print the memory."""
    sys.path[:] = pickle.load(sys.stdin.buffer)
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the user's code prints goes elsewhere
    import torch

    from pipeline.task import evaluator

    torch.set_num_threads(1)
    fresh = resident()
    inputs: RenderInputs = pickle.load(sys.stdin.buffer)
    before = resident()
    made = evaluator(inputs.uncompiled())
    built = resident()
    plane = inputs.planes.of_frame(0, made.layout)
    made.evaluate(plane, np.zeros((_POINTS, 2)))
    with told:
        json.dump([peak() - before, peak() - built, fresh], told)


def _measured(inputs: RenderInputs) -> _Took | None:
    """The memory that a process took to evaluate some inputs; None where it failed."""
    root = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-P", "-c", _CHILD, root]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    try:
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere)
    except OSError:
        return None
    try:
        assert child.stdin is not None
        _send(child.stdin, sys.path, inputs)
        numbers = json.loads(child.communicate(timeout=_SECONDS)[0])
        return _Took(*(float(number) for number in numbers))
    except (OSError, ValueError, TypeError, subprocess.TimeoutExpired):
        return None
    finally:
        child.kill()
        child.communicate()


def _send(to: IO[bytes], *values: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        for value in values:
            pickle.dump(value, to, protocol=5)
        to.flush()


def _of_first(inputs: RenderInputs, examples: int) -> RenderInputs:
    """The same with so many examples of the calibrating split, and two of each other."""
    splits = inputs.problem.splits
    most = {name: examples if name == inputs.calibrate else 2 for name in splits}
    first = {
        name: (first_of(inputs, most[name]), targets[: most[name]])
        for name, (inputs, targets) in splits.items()
    }
    return inputs.with_splits(first)


def _of_status(name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    return 0
