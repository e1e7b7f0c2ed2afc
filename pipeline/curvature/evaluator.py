"""The evaluator with quantities of curvature: a block of points in, all quantities out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import format, memory
from pipeline.curvature import lanczos
from pipeline.curvature.hessian import Hessian
from pipeline.curvature.trace import trace
from pipeline.curvature_spec import CurvatureSpec
from pipeline.errors import LossatlasError, is_out_of_memory, one_line
from pipeline.evaluation.batch_norm import statistics_of
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.modes import has_modes
from pipeline.evaluation.room import NoRoomError
from pipeline.geometry.eigenvectors import Eigenvectors
from pipeline.geometry.plane import Plane
from pipeline.problem.forward import forwarded
from pipeline.quantities import OF_ENDS

# With so few parameters all eigenvalues are computed, and none is estimated.
EXACT = 3000
# A graph of two derivatives takes many times the memory of a forward pass. On a CPU chunks are
# small already.
_SMALLER = {"cpu": 1, "cuda": 8}


class CurvatureError(LossatlasError):
    """The curvature of the loss cannot be computed."""


class CurvatureEvaluator:
    """Evaluates the loss and its curvature at points, one after the other.

    The Hessian is that of the mean loss over the first examples of a split, by all parameters.

    Args:
        evaluator: of the other quantities; it moves the weights.
        quantities: all that are wanted, in their order.
        asked: how the curvature is measured.
        calibrate: the split whose statistics batch norms use, where they are recomputed.

    Raises:
        CurvatureError: `asked` does not fit the network.
    """

    def __init__(
        self, evaluator: Evaluator, quantities: Sequence[str], asked: CurvatureSpec, calibrate: str
    ) -> None:
        _require_fitting(evaluator, asked)
        self._evaluator, self._asked = evaluator, asked
        self._quantities = tuple(quantities)
        self._device = next(evaluator.network.parameters()).device
        examples = evaluator.examples(asked.split or calibrate).first(asked.examples)
        self._statistics = statistics_of(evaluator.network) if evaluator.recomputes else None
        self._calibrating = evaluator.examples(calibrate)
        # Derivatives through the statistics go through all examples that calibrate.
        is_through = asked.statistics == "through"
        size = len(examples) if is_through else max(1, evaluator.chunk // self._smaller)
        chunks = examples.chunks(size)
        self._hessian = Hessian(evaluator.network, chunks, evaluator.criterion, self._before)

    def evaluate(
        self, plane: Plane, coordinates: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float32]]:
        """Every quantity at points (n, 2) of a plane.

        Returns:
            quantity → float32 (splits, n), of curvature (1, n). NaN and inf are results.

        Raises:
            CurvatureError: torch cannot differentiate the loss twice.
            NoRoomError: the device's memory is full.
        """
        found = []
        for point in coordinates:
            plain = self._evaluator.evaluate(plane, point[None])
            found.append(plain | self._at_present())
        return {q: np.concatenate([each[q] for each in found], axis=1) for q in self._quantities}

    def at(self, weights: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
        """Every quantity at given weights (P,): quantity → float32 (splits,), of curvature (1,)."""
        plain = {q: values[:, None] for q, values in self._evaluator.at(weights).items()}
        found = plain | self._at_present()
        return {q: found[q][:, 0] for q in self._quantities}

    def eigenvectors(self, weights: NDArray[np.floating], which: Sequence[int]) -> Eigenvectors:
        """Eigenvectors of the Hessian at weights (P,).

        Args:
            weights: where.
            which: 1 for the largest eigenvalue, 2 for the second, −1 for the smallest, and so on.

        Returns:
            Unit vectors, whose largest entry in size is positive.

        Raises:
            CurvatureError: they do not converge, do not fit into memory, or torch cannot
                differentiate the loss twice.
        """
        asked, size = self._asked, self._hessian.size
        _require_room(asked.steps, size)
        self._evaluator.at(weights)
        self._hold()
        with self._explained():
            found = lanczos.extremes(
                self._hessian.product,
                lanczos.start(size, asked.seed).to(self._device),
                asked.steps,
                asked.tolerance,
                largest=max(0, *which),
                smallest=max(0, *(-place for place in which)),
            )
        chosen = [_chosen(found, place) for place in which]
        scale = found.scale or 1.0
        for place, (_, residual, _) in zip(which, chosen, strict=True):
            if not residual <= asked.tolerance * found.scale:
                raise CurvatureError(
                    f"plane.eigen has {place}, whose residual after {found.steps:,} products is "
                    f"{residual / scale:.1e} of the largest eigenvalue; wanted "
                    f"{asked.tolerance:g}. Use more evaluate.curvature.steps, or a larger tolerance"
                )
        return Eigenvectors(
            tuple(which),
            tuple(value for value, _, _ in chosen),
            tuple(residual / scale for _, residual, _ in chosen),
            np.stack([_turned(vector) for _, _, vector in chosen]),
        )

    def graph_bytes(self, weights: NDArray[np.floating]) -> int:
        """What the graph of a chunk takes, measured at weights (P,).

        Raises:
            CurvatureError: torch cannot differentiate the loss twice.
        """
        self._evaluator.at(weights)
        self._hold()
        with self._explained():
            # All calibrating examples are in the graph, however few others there are.
            return self._hessian.graph_bytes(None if self._asked.statistics == "through" else 2)

    @property
    def is_exact(self) -> bool:
        """Whether all eigenvalues are computed."""
        return self._hessian.size <= EXACT and bool({*self._quantities} & {"trace", *OF_ENDS})

    @property
    def steps(self) -> int:
        """The most Lanczos vectors that it keeps at once."""
        lanczos_too = self._hessian.size > EXACT and bool({*self._quantities} & {*OF_ENDS})
        return self._asked.steps if lanczos_too else 0

    # Inside

    def _at_present(self) -> dict[str, NDArray[np.float32]]:
        """The quantities of curvature at the weights that were evaluated last, (1, 1) each."""
        self._hold()
        with self._explained():
            found = self._measured()
        return {name: np.full((1, 1), value, "f4") for name, value in found.items()}

    def _measured(self) -> Mapping[str, float]:
        wanted, found = set(self._quantities), dict[str, float]()
        if "gradient_norm" in wanted:
            found["gradient_norm"] = float(self._hessian.gradient().norm())
        if self._hessian.size <= EXACT:
            return found | (self._exact() if wanted & {"trace", *OF_ENDS} else {})
        if wanted & set(OF_ENDS):
            found |= self._ends(wanted)
        if "trace" in wanted:
            asked = self._asked
            own = trace(self._hessian.products, self._hessian.size, asked.probes, asked.seed)
            found |= {"trace": own.value, "trace_stderr": own.error}
        return found

    def _exact(self) -> dict[str, float]:
        """From all eigenvalues."""
        matrix = self._hessian.matrix().cpu()
        values = torch.full((2,), math.nan)
        if matrix.isfinite().all():
            values = torch.linalg.eigvalsh(matrix)
        no_error = 0.0 if bool(values[0].isfinite()) else math.nan
        return {
            **_of_ends(float(values[-1]), float(values[0])),
            "lambda_max_residual": no_error,
            "lambda_min_residual": no_error,
            "lanczos_steps": 0.0,
            "trace": float(matrix.trace()),
            "trace_stderr": no_error,
        }

    def _ends(self, wanted: set[str]) -> dict[str, float]:
        """From Lanczos."""
        found = lanczos.extremes(
            self._hessian.product,
            lanczos.start(self._hessian.size, self._asked.seed).to(self._device),
            self._asked.steps,
            self._asked.tolerance,
            largest=int("lambda_max" in wanted),
            smallest=int("lambda_min" in wanted),
        )
        scale = found.scale or 1.0
        return {
            **_of_ends(_only(found.largest), _only(found.smallest)),
            "lambda_max_residual": _only(found.largest_residuals) / scale,
            "lambda_min_residual": _only(found.smallest_residuals) / scale,
            "lanczos_steps": float(found.steps),
        }

    def _hold(self) -> None:
        if self._statistics is not None:
            self._statistics.hold()

    def _before(self) -> None:
        """What batch norms need before every forward pass."""
        if self._statistics is None:
            return
        if self._asked.statistics == "through":
            self._statistics.calibrate_through()
            forwarded(self._evaluator.network, self._calibrating.inputs)
            self._statistics.apply_through()
        else:
            self._statistics.apply()

    @property
    def _smaller(self) -> int:
        return _SMALLER.get(self._device.type, 1)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn torch's errors into one line."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, LossatlasError):
                raise
            if is_out_of_memory(error):
                raise NoRoomError(
                    f"{self._device} has no room for second derivatives ({one_line(error, 200)}); "
                    "wanted memory for the graph of a chunk and the Lanczos vectors. Use a smaller "
                    "evaluate.curvature.steps, or fewer workers (--workers)"
                ) from None
            raise CurvatureError(
                f"torch cannot differentiate the loss twice ({one_line(error, 300)}); wanted a "
                "network and a loss with second derivatives. Leave quantities of curvature out, or "
                "write the part in operators of torch's"
            ) from error


def _require_fitting(evaluator: Evaluator, asked: CurvatureSpec) -> None:
    """Raises CurvatureError where the network and what is asked do not go together."""
    if evaluator.recomputes and asked.statistics is None:
        raise CurvatureError(
            "evaluate.curvature.statistics is not given, and batch norms recompute theirs at every "
            "point; wanted held (they are constants of a point) or through (derivatives go through "
            "them). Name one, or use batch_norm: frozen"
        )
    if not evaluator.recomputes and asked.statistics is not None:
        raise CurvatureError(
            f"evaluate.curvature.statistics is {asked.statistics}, and no batch norm recomputes "
            "its statistics; wanted it with batch_norm: recompute and a network with batch norms. "
            "Leave it out"
        )
    if asked.statistics == "through" and evaluator.criterion.takes_network:
        raise CurvatureError(
            "evaluate.curvature.statistics is through with a loss that calls the network itself; "
            "wanted a loss of outputs. Use held"
        )
    if evaluator.layout.complex_:
        raise CurvatureError(
            f"the network has complex parameters ({min(evaluator.layout.complex_)}), and its "
            "Hessian is not computed; wanted real ones. Leave quantities of curvature out"
        )
    if has_modes(evaluator.network):
        raise CurvatureError(
            "the network has a train() or eval() of its own, which may make tensors of its weights "
            "that derivatives do not reach; wanted all of it in forward. Leave quantities of "
            "curvature out"
        )


def _chosen(found: lanczos.Found, place: int) -> tuple[float, float, NDArray[np.float64]]:
    """The eigenvalue, its residual and its vector at a place; NaN where there are too few."""
    is_largest, number = place > 0, abs(place) - 1
    values = found.largest if is_largest else found.smallest
    residuals = found.largest_residuals if is_largest else found.smallest_residuals
    if number >= len(values):
        return math.nan, math.nan, np.zeros(found.basis.shape[1])
    vector = found.vector(number, is_largest).cpu().numpy()
    return float(values[number]), float(residuals[number]), vector


def _turned(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """A vector or its opposite, whichever has a positive entry as its largest in size."""
    is_turned = vector[np.abs(vector).argmax()] < 0
    return -vector if is_turned else vector


def _require_room(steps: int, size: int) -> None:
    """Raises CurvatureError where Lanczos vectors do not fit into memory."""
    wanted, free = 8 * steps * size, memory.available()
    if wanted > free:
        raise CurvatureError(
            f"plane.eigen keeps up to {steps:,} vectors of {size:,} weights, "
            f"{format.size(wanted)}, and {format.size(free)} of memory are free; wanted what fits. "
            f"Use evaluate.curvature.steps: {int(free // (8 * size))}"
        )


def _only(values: NDArray[np.float64]) -> float:
    """The one value that was asked for; NaN where none was."""
    return float(values[0]) if len(values) else math.nan


def _of_ends(high: float, low: float) -> dict[str, float]:
    """The quantities that follow from the largest and the smallest eigenvalue."""
    negative = abs(low / high) if high else math.inf if low else math.nan
    return {"lambda_max": high, "lambda_min": low, "negative": negative}
