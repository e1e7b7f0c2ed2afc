"""The evaluator: a block of grid points in, loss and error of every split out. torch alone.

Examples go through the network in chunks that fit in the cache. The size of a chunk follows from
the network alone, and sums over examples are taken in a fixed order in float64, so the
numbers at a point depend neither on its tile nor on the worker. There is one exception, in the last
bits: where a GPU's memory does not hold a whole chunk, chunks are halved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pipeline.errors import is_out_of_memory, one_line
from pipeline.evaluation.barrier import Barrier, run_with_barrier
from pipeline.evaluation.batch_norm import (
    Statistics,
    check_frozen,
    register_barrier,
    use_population_statistics,
)
from pipeline.evaluation.chunks import chunk_size
from pipeline.evaluation.compiled import Compiled
from pipeline.evaluation.cuda_graph import Capture, GraphReplay, capture_on
from pipeline.evaluation.examples import Examples, tried
from pipeline.evaluation.grouped import group_size, values_of_points
from pipeline.evaluation.modes import has_modes
from pipeline.evaluation.precision import Precision, arithmetic, lowered
from pipeline.evaluation.room import NoRoomError, give_back_memory, keep_freed_memory
from pipeline.evaluation.weights import NetworkWeights
from pipeline.geometry.plane import Plane
from pipeline.problem.criterion import Criterion, criterion_of
from pipeline.problem.forward import Arrays, Inputs, forwarded
from pipeline.problem.layout import Layout
from pipeline.problem.losses import LossFunction, cross_entropy
from pipeline.problem.means import Values, joined, over_examples
from pipeline.problem.norms import has_batch_norm, running_statistics

T = TypeVar("T")
Measured = dict[str, Values]


class Evaluator:
    """A network, its data and the loss, on one device.

    Args:
        network: any module whose forward takes the data's inputs; taken over, and changed.
        splits: name → inputs (n, …) and targets (n, …). Inputs are an array, a tuple of arrays for
            forward(*inputs), or a mapping of them for forward(**inputs).
        quantities: loss, error, loss_stderr, and what a user's own functions give.
        loss: outputs, targets → one value an example (n,); or all that is measured.
        batch_norm: `recompute`: at every point each batch norm uses the exact population mean
            and variance over the split `calibrate` at those weights. `frozen`: its running
            statistics.
        device: `cpu`, `cuda` or `cuda:1`.
        calibrate: the calibrating split; by default the first of `splits`.
        chunk: how many examples go through the network at once; by default as many as the cache
            holds.
        precision, compiled: what the network computes in, and whether torch compiles it
            (`pipeline.evaluation.compiled`). The caller checks whether the results are good
            enough (`pipeline.evaluation.precision.compare`).
        cuda_graph: whether a GPU may replay points from a CUDA graph
            (`pipeline.evaluation.cuda_graph`).

    Raises:
        EvaluateError: the network does not take the inputs, or the loss not its outputs.
    """

    _chunks: list[list[Examples]]
    _threads: ThreadPoolExecutor

    def __init__(
        self,
        network: nn.Module,
        splits: Mapping[str, tuple[Arrays, NDArray[np.generic]]],
        quantities: Sequence[str] = ("loss", "error", "loss_stderr"),
        loss: LossFunction | Criterion = cross_entropy,
        batch_norm: Literal["recompute", "frozen"] = "recompute",
        device: str = "cpu",
        chunk: int | None = None,
        calibrate: str | None = None,
        precision: Precision = "float32",
        compiled: bool = False,
        cuda_graph: bool = True,
    ) -> None:
        keep_freed_memory()
        self._device = torch.device(device)
        self._precision: Precision = precision
        self._may_replay = cuda_graph
        self._quantities = tuple(quantities)
        self._criterion = criterion_of(loss)
        self._splits = [
            Examples.of(name, inputs, targets, self._device)
            for name, (inputs, targets) in splits.items()
        ]
        self._calibrating = list(splits).index(calibrate) if calibrate is not None else 0
        self._statistics = Statistics(self._device)
        self.layout = Layout.of(network)
        self._recompute = batch_norm == "recompute" and has_batch_norm(network)
        network = network.eval().requires_grad_(False).to(self._device)
        if self._recompute:
            use_population_statistics(network, self._statistics)
        elif batch_norm == "frozen":
            check_frozen(network)
        self._network: Callable[..., Any] = network
        self._module = network
        self._weights = NetworkWeights(network, self._device)
        self._has_modes = has_modes(network)
        with arithmetic(precision):
            self.example_bytes = self._check(network)
        if compiled:
            register_barrier()
            self._network = Compiled(network)
        self._cut(chunk or chunk_size(self.example_bytes, self._device.type))

    def evaluate(
        self, plane: Plane, coordinates: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float32]]:
        """Every quantity at every point.

        Args:
            plane: over the network's P parameters.
            coordinates: x and y, float64 (points, 2).

        Returns:
            quantity → float32 (splits, points). NaN and inf are results.

        Raises:
            CompileError: the network cannot be compiled.
            NoRoomError: not even one example fits into the device's memory; or, on a CPU, not
                all the chunks that wait at a barrier, or their threads.
        """
        shape = len(self._quantities), len(self._splits), len(coordinates)
        # On the device: copying numbers from it at every point would wait for it.
        values = torch.empty(shape, dtype=torch.float64, device=self._device)
        self._weights.load(plane)
        group = self.group
        with arithmetic(self._precision):
            for begin in range(0, len(coordinates), group):
                part = slice(begin, begin + group)
                values[:, :, part] = self._measure_in_room(coordinates[part].tolist())
        return dict(zip(self._quantities, values.float().cpu().numpy(), strict=True))

    def at(self, weights: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
        """Every quantity at given weights (P,): quantity → float32 (splits,)."""
        zero = np.zeros(1)
        plane = Plane(np.asarray(weights, "float64"), zero, zero, "euclidean")
        return {q: values[:, 0] for q, values in self.evaluate(plane, np.zeros((1, 2))).items()}

    def use_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Evaluate with `buffers`, by the network's names, from now on; other buffers stay.

        Where batch norms recompute their statistics, their running ones are left out.
        """
        own = running_statistics(self._module) if self._recompute else ()
        for name, buffer in self._module.named_buffers():
            if name in buffers and name not in own:
                buffer.copy_(buffers[name])

    def rest(self) -> None:
        """Free the memory that is needed only during an evaluation."""
        self._threads.shutdown()
        self._threads = _pool(self._chunks[self._calibrating])
        give_back_memory(self._device)

    def examples(self, split: str) -> Examples:
        """A split on the device, its targets as the loss wants them."""
        return next(each for each in self._splits if each.name == split)

    @property
    def network(self) -> nn.Module:
        """The network, at the weights of the point that was evaluated last."""
        return self._module

    @property
    def criterion(self) -> Criterion:
        """What is computed of each example, as the data showed it to be."""
        return self._criterion

    @property
    def recomputes(self) -> bool:
        """Whether batch norms take their statistics from the calibrating split, at every point."""
        return self._recompute

    @property
    def is_replayed(self) -> bool:
        """Whether points are replayed from a CUDA graph by now."""
        return self._at_point.is_replayed

    def _cut(self, size: int) -> None:
        """From now on, at most `size` examples go through the network at once."""
        self.chunk = size
        self.group = self._group_size(size)
        self._chunks = [split.chunks(size) for split in self._splits]
        self._threads = _pool(self._chunks[self._calibrating])
        self._at_point = GraphReplay(self._at_weights_in_place, self._capture())

    def _capture(self) -> Capture | None:
        # A loss of the user's may do more than compute, and chunks that wait at a barrier have
        # threads of their own, which a graph does not follow.
        criterion = self._criterion
        is_ours = criterion.is_built_in and not criterion.metrics and criterion.heard is None
        has_barrier = self._recompute and len(self._chunks[self._calibrating]) > 1
        # A network with modes may make new tensors at every point; a graph reads the old ones.
        if not self._may_replay or not is_ours or has_barrier or self._has_modes:
            return None
        return capture_on(self._device)

    def _group_size(self, chunk: int) -> int:
        # On CUDA, how a sum of many rows is taken may depend on how many there are.
        if self._device.type != "cpu":
            return 1
        targets = [split.targets.shape for split in self._splits]
        outputs = self._splits[0].output_shape or torch.Size()
        return group_size(self._criterion, outputs, targets, chunk)

    def _measure_in_room(self, points: list[list[float]]) -> Tensor:
        """`_measure`; where the device's memory does not hold a chunk, in smaller ones."""
        while True:
            try:
                return self._measure(points)
            except torch.OutOfMemoryError as error:
                told = one_line(error, 300)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                calibrating = self._splits[self._calibrating]
                raise NoRoomError(
                    f"{self._device} has no memory or no threads for the "
                    f"{len(calibrating):,} examples of {calibrating.name} "
                    f"({one_line(error, 200)}); wanted both. Use fewer examples in data.splits, or "
                    "fewer workers (--workers)"
                ) from None
            # After the handler: the error's traceback keeps the tensors that fill the memory.
            largest = max(len(chunk) for chunks in self._chunks for chunk in chunks)
            if largest == 1:
                raise NoRoomError(
                    f"{self._device} has no room for one example at a time ({told}); wanted "
                    "memory for the network, the data and one example's activations. Use a larger "
                    "device, or fewer examples in data.splits"
                )
            self._threads.shutdown()
            self._cut(largest // 2)
            give_back_memory(self._device)

    def _measure(self, points: list[list[float]]) -> Tensor:
        """The quantities, float64 (quantities, splits, points), at a group of points x, y."""
        with self._without_graph():
            if self.group > 1 and len(points) > 1:
                return self._together(points)
            return torch.cat([self._alone(x, y) for x, y in points], dim=-1)

    def _alone(self, x: float, y: float) -> Tensor:
        """The quantities at one point, float64 (quantities, splits, 1)."""
        self._move(x, y)
        return self._at_point().clone()  # which the next replay overwrites

    def _move(self, x: float, y: float) -> None:
        """Put θ(x, y) into the network."""
        # eval() comes last: what a network fuses in eval() is made from its weights.
        if self._has_modes:
            self._module.train()
        self._weights.move(x, y)
        if self._has_modes:
            self._module.eval()

    def _at_weights_in_place(self) -> Tensor:
        """The quantities, float64 (quantities, splits, 1)."""
        return self._of_examples(
            {name: values.at_one_point() for name, values in joined(parts).items()}
            for parts in self._pass(self._forward)
        )

    def _together(self, points: list[list[float]]) -> Tensor:
        """The quantities at several points, with one call for the losses of all of them."""
        found = []
        for x, y in points:
            self._move(x, y)
            found.append([kept for (kept,) in self._pass(self._kept)])
        return self._of_examples(
            values_of_points(of_points, split.targets, "error" in self._quantities)
            for of_points, split in zip(zip(*found, strict=True), self._splits, strict=True)
        )

    def _of_examples(self, measured: Iterable[Measured]) -> Tensor:
        """The quantities from those of each split's examples, (points, n) each."""
        splits, mean = list(measured), self._criterion.mean
        rows = [[over_examples(q, each, mean) for each in splits] for q in self._quantities]
        return torch.stack([torch.stack(row) for row in rows])

    def _pass(self, each: Callable[[Examples], T]) -> list[list[T]]:
        """The results of `each` for every chunk, in one list a split, at the present weights."""
        first = self._calibrating
        calibrated = self._calibrate(self._chunks[first], each) if self._recompute else None
        return [
            calibrated if calibrated is not None and place == first else self._apply(chunks, each)
            for place, chunks in enumerate(self._chunks)
        ]

    def _calibrate(self, chunks: list[Examples], each: Callable[[Examples], T]) -> list[T]:
        def task(chunk: Examples, barrier: Barrier) -> T:
            # Inference mode is per thread, and a calibrating chunk has a thread of its own.
            with self._statistics.calibrate(barrier), self._without_graph():
                return each(chunk)

        self._statistics.clear()
        at_once = takes_moments_at_once(self._device) and not self._criterion.takes_network
        if len(chunks) == 1 and at_once:
            self._statistics.calibrate_at_once()
            return [each(chunks[0])]
        return run_with_barrier([partial(task, chunk) for chunk in chunks], self._threads)

    def _apply(self, chunks: list[Examples], each: Callable[[Examples], T]) -> list[T]:
        found = []
        for chunk in chunks:
            self._statistics.apply()
            found.append(each(chunk))
        return found

    def _forward(self, chunk: Examples) -> Measured:
        """Each quantity of each example, (n,)."""
        criterion = self._criterion
        if criterion.takes_network:
            found = criterion.of_network(self._module, self._returned, chunk.inputs, chunk.targets)
            return {name: values.detached() for name, values in found.items()}
        outputs = self._outputs(chunk.inputs)
        return criterion.of_outputs(outputs, chunk.targets, self._quantities)

    def _kept(self, chunk: Examples) -> Tensor:
        # A copy: a network may return its own weights, which move, or the same buffer each time.
        outputs: Tensor = self._outputs(chunk.inputs).clone()
        return outputs

    def _outputs(self, inputs: Inputs) -> Any:
        return self._criterion.outputs(self._returned(inputs))

    def _returned(self, inputs: Inputs) -> Any:
        """What the network gives, in float32 or better."""
        with lowered(self._precision, self._device):
            returned = forwarded(self._network, inputs)
        return tree_map_only(Tensor, _float, returned) if self._precision == "bf16" else returned

    def _without_graph(self) -> AbstractContextManager[object]:
        # A tensor of inference mode can never have derivatives, which a loss may ask for.
        return torch.no_grad() if self._criterion.takes_network else torch.inference_mode()

    def _check(self, network: nn.Module) -> int:
        """Try two examples of each split, so that a misfit is found before anything is computed.

        Returns the bytes of the largest activation of one example.
        """
        sizes = [0]
        hooks = [
            module.register_forward_hook(lambda _m, _i, output: sizes.append(_bytes(output)))
            for module in network.modules()
        ]
        try:
            with self._statistics.calibrate(lambda value, combine: combine([value])):
                for place, split in enumerate(self._splits):
                    sizes.append(split.example_bytes)
                    self._splits[place], self._criterion = tried(
                        split, network, self._returned, self._criterion, self._quantities
                    )
                    self._statistics.apply()
        finally:
            for hook in hooks:
                hook.remove()
        return max(sizes)


def takes_moments_at_once(device: torch.device) -> bool:
    """Whether torch's batch norm computes the moments of a calibration set that is one chunk."""
    return device.type == "cuda"


def _pool(chunks: Sequence[Examples]) -> ThreadPoolExecutor:
    """One thread for each chunk of a calibrating split; they start when they are used."""
    return ThreadPoolExecutor(max_workers=len(chunks))


def _bytes(output: object) -> int:
    if isinstance(output, Tensor) and output.ndim:
        return output.nbytes // len(output)
    return 0


def _float(outputs: Tensor) -> Tensor:
    return outputs.float()
