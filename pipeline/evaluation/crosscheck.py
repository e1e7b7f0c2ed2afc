"""Before a render begins: the evaluator against plain torch, at every checkpoint of the plane.

The evaluator moves all weights through one network and cuts the data into chunks. A network that
keeps something made from its weights, that draws random numbers, or whose outputs depend on which
examples share a batch gets wrong numbers that way. So at each checkpoint a fresh network loads it
and takes the data in one ordinary forward pass. A difference beyond rounding ends the render with
one line. A loss that differs only because a checkpoint's buffers are not those of the render is
reported with both numbers (decision 021).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from pipeline import memory
from pipeline.errors import LossatlasError, is_out_of_memory, one_line
from pipeline.evaluation.evaluator import Evaluator, NoRoomError
from pipeline.evaluation.precision import arithmetic
from pipeline.problem import checkpoint
from pipeline.problem.losses import LossFunction, fitted
from pipeline.problem.norms import has_batch_norm, running_statistics, step_counts

Splits = Mapping[str, tuple[NDArray[np.generic], NDArray[np.generic]]]

# The examples of each split that both ways evaluate: the first of the subsample, which are a
# subsample themselves. Plain torch takes them in one batch, which has to fit into memory.
_MOST_EXAMPLES = 512
_MOST_BYTES = 256 << 20
# What that takes of memory in all was up to 19 times the largest activations; some is for others.
_TIMES_ACTIVATIONS = 40
# A difference is rounding where it is below this share of the loss, or below a few times what
# changing each weight by one part in 10⁵ does.
_ROUNDING = 1e-4
_WEIGHTS_MOVED = 1e-5
_TIMES_MOVED = 3.0
# How often a network that draws random numbers is asked whether they matter.
_DRAWS = 100
_CHANCE = (
    "the network or the loss draws random numbers, or remembers earlier calls; wanted one number "
    "for one point. Pass training=self.training to functional dropout, and leave noise out of "
    "evaluation"
)
# How many buffers a sentence names.
_NAMED = 3


class CrosscheckError(LossatlasError):
    """The network cannot be evaluated as it is: its numbers would be wrong."""


@dataclass(frozen=True)
class Known:
    """One checkpoint of a plane.

    Attributes:
        anchor: its name on the plane.
        file: where it is from, without folders.
        state: parameters and buffers by the names that `checkpoint.load` gives.
    """

    anchor: str
    file: str
    state: checkpoint.State


@dataclass(frozen=True)
class OwnLoss:
    """A checkpoint whose loss on the plane is not its own, because of its buffers.

    Attributes:
        anchor, file: the checkpoint.
        split: of the data.
        loss: with the buffers of the render, as the picture has it.
        own: with its own buffers.
    """

    anchor: str
    file: str
    split: str
    loss: float
    own: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Findings:
    """What the buffers of the first checkpoint, which the render uses everywhere, change.

    Attributes:
        own_losses: where a checkpoint's own loss differs from that on the plane.
        buffers: the buffers that are used everywhere though they belong to the weights of one
            checkpoint, in words; None where there are none. Without batch norms' statistics.
    """

    own_losses: tuple[OwnLoss, ...]
    buffers: str | None


@dataclass(frozen=True)
class Problem:
    """What is evaluated.

    Attributes:
        build: makes the network with initial weights of `seed`, 0 where it is not given, anew at
            each call, and not yet in eval mode.
        buffers: of the render, by the network's own names.
        splits: name → inputs (n, …) and targets (n, …).
        calibrate: the split whose statistics batch norms use, where they are recomputed.
        loss: outputs, targets → one value an example (n,).
        batch_norm: as for the evaluator.
    """

    build: Callable[..., nn.Module]
    buffers: Mapping[str, Tensor]
    splits: Splits
    calibrate: str
    loss: LossFunction
    batch_norm: Literal["recompute", "frozen"]

    def evaluator(
        self, state: checkpoint.State | None = None, chunk: int | None = None
    ) -> Evaluator:
        """An evaluator of the loss alone; its network may start from the weights of `state`."""
        net = self.build()
        if state is not None:
            _load(net, state)
        own = dict(net.named_buffers())
        for name, buffer in self.buffers.items():
            own[name].copy_(buffer)
        return Evaluator(
            net,
            self.splits,
            ("loss",),
            self.loss,
            self.batch_norm,
            chunk=chunk,
            calibrate=self.calibrate,
        )


def crosscheck(
    problem: Problem,
    evaluator: Evaluator,
    checkpoints: Sequence[Known],
    before_all: Callable[[], None] = lambda: None,
) -> Findings:
    """Hold the evaluator to plain torch at `checkpoints`.

    Args:
        problem: what `evaluator` evaluates.
        evaluator: on the CPU. Used for the losses that are reported; its buffers are those of the
            render again afterwards.
        checkpoints: of the plane, that of the render's buffers first.
        before_all: called before `evaluator` evaluates all of the data; may raise.

    Returns:
        What is not wrong, but has to be said.

    Raises:
        CrosscheckError: the numbers would be wrong; the message says why and what to do.
    """
    most_bytes = min(_MOST_BYTES, memory.available() / _TIMES_ACTIVATIONS)
    examples = min(_MOST_EXAMPLES, max(2, int(most_bytes // max(1, evaluator.example_bytes))))
    first = {name: (x[:examples], y[:examples]) for name, (x, y) in problem.splits.items()}
    sample = replace(problem, splits=first)
    with arithmetic("float32"):
        _compare(sample, checkpoints)
    network = problem.build()
    matter = _buffers_that_matter(problem, network)
    return Findings(
        tuple(_own_losses(problem, evaluator, checkpoints, network, matter, before_all)),
        _in_words(problem, checkpoints, network, matter),
    )


def _compare(problem: Problem, checkpoints: Sequence[Known]) -> None:
    network = problem.build()
    calibrating = problem.splits[problem.calibrate][0]
    # In two chunks at least: plain torch takes all in one.
    halves = problem.evaluator(chunk=-(-len(calibrating) // 2))
    for number, known in enumerate(checkpoints):
        weights = checkpoint.weights(known.state, network)
        found = halves.at(weights)["loss"].astype("f8")
        if number == 0:
            _refuse_chance(problem, known, found, halves.at(weights)["loss"])
            _refuse_rare_chance(problem, known)
        if len(calibrating) == 1 and problem.batch_norm == "recompute" and has_batch_norm(network):
            return  # plain batch norm refuses to normalise over a single value
        plain = _plain(problem, known)
        if number == 0:
            _refuse_constant(problem, known, plain)
            _refuse_random_parts(problem, known, plain)
        if _agree(found, plain.losses, _ROUNDING * np.abs(found)):
            continue
        allowed = _rounding(halves, weights, found)
        if not _agree(found, plain.losses, allowed):
            raise CrosscheckError(_reason(problem, known, weights, found, plain.losses, allowed))


def _refuse_chance(
    problem: Problem, known: Known, found: NDArray[np.float64], again: NDArray[np.floating]
) -> None:
    if np.array_equal(found, again, equal_nan=True):
        return
    raise CrosscheckError(
        f"{_where(known)}: two evaluations of the same weights give the losses "
        f"{_numbers(problem, found)} and {_numbers(problem, again)}: {_CHANCE}"
    )


def _refuse_rare_chance(problem: Problem, known: Known) -> None:
    """Raises CrosscheckError where random numbers are drawn that matter now and then.

    Some networks draw in eval mode and use what they drew in training alone.
    """
    network = _loaded(problem, known)
    inputs, targets = (torch.tensor(each[:2]) for each in problem.splits[problem.calibrate])

    def values() -> list[Tensor]:
        outputs = network(inputs)
        losses = problem.loss(outputs, fitted(targets, _shape(outputs), problem.loss, known.file))
        return [*_tensors(outputs), losses]

    with torch.no_grad():
        before = _random_states()
        first = values()
        if _random_states() == before:
            return
        for _ in range(_DRAWS):
            if not _same(values(), first):
                raise CrosscheckError(f"{_where(known)}: {_CHANCE}")


def _random_states() -> tuple[bytes, str, int]:
    """Of the generators that code draws from without one of its own."""
    state = np.random.get_state(legacy=False)
    return torch.get_rng_state().numpy().tobytes(), repr(state), hash(random.getstate())


def _refuse_random_parts(problem: Problem, known: Known, plain: _Plain) -> None:
    """Raises CrosscheckError where the constructor draws what no checkpoint holds."""
    if not _same(_tensors(_plain(problem, known, seed=1).outputs), _tensors(plain.outputs)):
        raise CrosscheckError(
            f"{_where(known)}: the outputs depend on random numbers that the network's constructor "
            "draws and no checkpoint holds; wanted all that they depend on in the checkpoint. "
            "Register it as a persistent buffer, or seed it in the constructor"
        )


def _tensors(outputs: Any) -> list[Tensor]:
    return [each for each in tree_leaves(outputs) if isinstance(each, Tensor)]


def _same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Whether outputs are the same, to the bit."""
    return len(first) == len(second) and all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, second, strict=True)
    )


def _shape(outputs: Any) -> torch.Size:
    """Of outputs that are one tensor; a loss of the user's own may take others."""
    return outputs.shape if isinstance(outputs, Tensor) else torch.Size()


@dataclass(frozen=True)
class _Plain:
    """What plain torch finds: the mean loss of each split (NaN where it cannot say), float64, and
    the outputs of the calibrating split."""

    losses: NDArray[np.float64]
    outputs: Any


def _loaded(problem: Problem, known: Known | None, seed: int = 0) -> nn.Module:
    """A fresh network in eval mode with the weights of `known`, or initial ones; the buffers are
    the render's."""
    network = problem.build(seed=seed)
    if known is not None:
        _load(network, known.state)
    own = dict(network.named_buffers())
    for name, buffer in problem.buffers.items():
        own[name].copy_(buffer)
    return network.eval()


def _plain(problem: Problem, known: Known | None, seed: int = 0) -> _Plain:
    """A fresh network, `load_state_dict`, `eval()`, and one forward pass over each split."""
    network = _loaded(problem, known, seed)
    losses = dict.fromkeys(problem.splits, np.nan)
    first = None
    try:
        with torch.no_grad():
            norms = _Calibration(network) if problem.batch_norm == "recompute" else None
            for split in sorted(problem.splits, key=lambda name: name != problem.calibrate):
                inputs, targets = problem.splits[split]
                outputs = network(torch.tensor(inputs))
                first = outputs if first is None else first
                wanted = fitted(torch.tensor(targets), _shape(outputs), problem.loss, split)
                losses[split] = float(problem.loss(outputs, wanted).double().mean())
                if norms is not None and not norms.keep():
                    break
    except Exception as error:
        if is_out_of_memory(error):
            raise NoRoomError(
                f"plain torch has no memory for {len(next(iter(problem.splits.values()))[0]):,} "
                f"examples in one batch ({one_line(error, 200)}); wanted it, to hold the evaluator "
                "to it. Use a machine with more memory, or fewer examples in data.splits"
            ) from None
        raise CrosscheckError(
            f"{_where(known) if known else 'the network'}: plain torch cannot evaluate it in one "
            f"batch ({one_line(error, 300)}); wanted a network that takes the data in eval mode. "
            "Check the network and the data"
        ) from error
    assert first is not None
    return _Plain(np.array(list(losses.values())), first)


class _Calibration:
    """Batch norms of plain torch in training mode for one pass, then with what that pass found."""

    def __init__(self, network: nn.Module) -> None:
        self._norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
        self._counts: dict[nn.Module, list[int]] = {norm: [] for norm in self._norms}
        self._hooks = []
        for norm in self._norms:
            if norm.running_mean is None:
                norm.running_mean = torch.zeros(norm.num_features)
                norm.running_var = torch.ones(norm.num_features)
                norm.num_batches_tracked = torch.tensor(0)
                norm.track_running_stats = True
            norm.momentum = 1.0
            norm.train()
            self._hooks.append(norm.register_forward_pre_hook(self._count))

    def _count(self, norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._counts[norm].append(inputs[0].numel() // inputs[0].shape[1])

    def keep(self) -> bool:
        """Use the statistics of the first pass from now on; False where there are several each."""
        for hook in self._hooks:
            hook.remove()
        if not self._hooks:
            return True
        self._hooks = []
        for norm, counts in self._counts.items():
            if len(counts) > 1:
                return False
            if counts and isinstance(norm.running_var, Tensor):
                norm.running_var *= (counts[0] - 1) / counts[0]  # of the population, not a sample
            norm.eval()
        return True


def _load(network: nn.Module, state: checkpoint.State) -> None:
    network.load_state_dict(checkpoint.state_for(state, network))


def _rounding(
    evaluator: Evaluator, weights: NDArray[np.float32], found: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How large a difference rounding can make, for each split."""
    generator = np.random.default_rng(0)
    moved = np.zeros(len(found))
    for _ in range(2):
        signs = generator.choice((-1.0, 1.0), len(weights))
        near = evaluator.at(weights.astype("f8") * (1 + _WEIGHTS_MOVED * signs))["loss"]
        moved = np.fmax(moved, np.abs(near - found))
    allowed: NDArray[np.float64] = _ROUNDING * np.abs(found)
    return allowed + _TIMES_MOVED * np.nan_to_num(moved)


def _agree(
    found: NDArray[np.floating], plain: NDArray[np.floating], allowed: NDArray[np.float64]
) -> bool:
    compared = ~np.isnan(plain)
    with np.errstate(invalid="ignore"):
        close = (found == plain) | (np.abs(found - plain) <= allowed)
    return bool(close[compared].all())


def _refuse_constant(problem: Problem, known: Known, plain: _Plain) -> None:
    """Raises CrosscheckError where even plain torch does not see the weights of a checkpoint."""
    initial = problem.build()
    before = nn.utils.parameters_to_vector(initial.parameters()).detach().numpy()
    if np.array_equal(before, checkpoint.weights(known.state, initial)):
        return
    untouched = _plain(problem, None)
    if _same(_tensors(untouched.outputs), _tensors(plain.outputs)):
        raise CrosscheckError(
            f"{_where(known)}: the network's outputs are the same, to the bit, with its initial "
            "weights: they do not depend on its parameters; wanted a network whose forward uses "
            "them. Compute in forward what the constructor computes from weights"
        )


def _reason(
    problem: Problem,
    known: Known,
    weights: NDArray[np.float32],
    found: NDArray[np.float64],
    plain: NDArray[np.float64],
    allowed: NDArray[np.float64],
) -> str:
    """Why the evaluator and plain torch differ, as far as trying tells, and what to do."""
    differ = (
        f"{_where(known)}: the evaluator finds the loss {_numbers(problem, found)} where plain "
        f"torch finds {_numbers(problem, plain)}"
    )
    if (
        np.isnan(found).all()
        and has_batch_norm(problem.build())
        and problem.batch_norm == "recompute"
    ):
        return (
            f"{differ}: the network reads a batch norm's running statistics by itself; wanted them "
            "used by the batch norm alone, whose statistics are recomputed. Use "
            "evaluate.batch_norm: frozen"
        )
    whole = problem.evaluator().at(weights)["loss"]
    if not _agree(whole, found, allowed):
        return (
            f"{differ}: what the network gives for one example depends on which others are in the "
            "batch; wanted each example by itself. Normalise over an example, or with "
            "torch.nn.BatchNorm"
        )
    loaded = problem.evaluator(known.state).at(weights)["loss"]
    if _agree(loaded, plain, allowed):
        return (
            f"{differ}: the network keeps something that it made from its weights, and does not "
            "make it anew; wanted outputs that follow the weights. Compute it in forward, or in "
            "train() and eval(), which are called at every point"
        )
    return f"{differ}; wanted the same. Compute in forward whatever depends on weights or data"


def _buffers_that_matter(problem: Problem, network: nn.Module) -> list[str]:
    """The names of the render's buffers that have a part in a forward pass."""
    unused = step_counts(network)
    if problem.batch_norm == "recompute":
        unused |= running_statistics(network)
    return [name for name in problem.buffers if name not in unused]


def _own_losses(
    problem: Problem,
    evaluator: Evaluator,
    checkpoints: Sequence[Known],
    network: nn.Module,
    matter: Sequence[str],
    before_all: Callable[[], None],
) -> Iterator[OwnLoss]:
    """Where a checkpoint's buffers differ from the render's: its loss with either."""
    for known in checkpoints:
        if checkpoint.missing_statistic(known.state, network) in matter:
            continue  # a bend without statistics has no loss of its own
        buffers = checkpoint.buffers(known.state, network)
        if all(torch.equal(buffers[name], problem.buffers[name]) for name in matter):
            continue
        before_all()
        weights = checkpoint.weights(known.state, network)
        found = evaluator.at(weights)["loss"].astype("f8")
        evaluator.use_buffers(buffers)
        own = evaluator.at(weights)["loss"].astype("f8")
        evaluator.use_buffers(problem.buffers)
        for split, here, by_itself in zip(problem.splits, found, own, strict=True):
            if not np.isclose(here, by_itself, rtol=_ROUNDING, atol=0.0, equal_nan=True):
                yield OwnLoss(known.anchor, known.file, split, float(here), float(by_itself))


def _in_words(
    problem: Problem, checkpoints: Sequence[Known], network: nn.Module, matter: Sequence[str]
) -> str | None:
    """Which buffers of the first checkpoint are used where they do not belong."""
    statistics = running_statistics(network)
    others = [checkpoint.buffers(known.state, network) for known in checkpoints[1:]]
    if not others:  # a plane around one checkpoint: what its training changed belongs to it
        others = [dict(network.named_buffers())]
    names = [
        name
        for name in matter
        if name not in statistics
        and any(not torch.equal(each[name], problem.buffers[name]) for each in others)
    ]
    if not names:
        return None
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"buffers of {checkpoints[0].file} everywhere: {', '.join(names[:_NAMED])}{more}"


def _where(known: Known) -> str:
    return f"{known.anchor} ({known.file})"


def _numbers(problem: Problem, losses: NDArray[np.floating]) -> str:
    if len(losses) == 1:
        return f"{losses[0]:.4g}"
    told = zip(problem.splits, losses, strict=True)
    return ", ".join(f"{loss:.4g} on {split}" for split, loss in told if not np.isnan(loss))
