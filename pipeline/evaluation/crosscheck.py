"""The evaluator compared with plain torch at every checkpoint of the plane, before a render begins.

The evaluator moves all weights through one network and cuts the data into chunks. A network that
keeps something made from its weights, that draws random numbers, or whose outputs depend on which
examples share a batch gets wrong numbers that way. So a fresh network loads each checkpoint and
takes the data in one ordinary forward pass. A difference beyond rounding ends the render with one
line.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import memory
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.plain_torch import (
    CrosscheckError,
    PlainLosses,
    PlainTorch,
)
from pipeline.evaluation.precision import arithmetic
from pipeline.problem import state_dict
from pipeline.problem.checkpoint import Known
from pipeline.problem.forward import examples, mapped
from pipeline.problem.layout import Layout, flattened

# How many examples of each split are compared: the first of the subsample. Plain torch takes them
# in one batch, which has to fit into memory.
_MOST_EXAMPLES = 512
_MOST_BYTES = 256 << 20
# The batch was found to take up to 19 times its largest activations; other programs need some too.
_TIMES_ACTIVATIONS = 40
# A difference is rounding where it is below this share of the loss, or below a few times what
# changing each weight by one part in 10⁵ does.
_ROUNDING = 1e-4
_WEIGHTS_MOVED = 1e-5
_TIMES_MOVED = 3.0
# How often a network that draws random numbers is called to see whether they matter.
_DRAWS = 100
_CHANCE = (
    "the network or the loss draws random numbers, or remembers earlier calls; wanted one number "
    "for one point. Pass training=self.training to functional dropout, and leave noise out of "
    "evaluation"
)


def crosscheck(plain: PlainTorch, checkpoints: Sequence[Known], example_bytes: int) -> None:
    """Hold the evaluator to plain torch at `checkpoints`.

    Args:
        plain: of the problem.
        checkpoints: of the plane, that of the render's buffers first.
        example_bytes: the largest activation of one example.

    Raises:
        CrosscheckError: the numbers would be wrong; the message says why and what to do.
    """
    most_bytes = min(_MOST_BYTES, memory.available() / _TIMES_ACTIVATIONS)
    count = min(_MOST_EXAMPLES, max(2, int(most_bytes // max(1, example_bytes))))
    with arithmetic("float32"):
        _compare(plain.of_first(count), checkpoints)


def _compare(plain: PlainTorch, checkpoints: Sequence[Known]) -> None:
    calibrating = examples(plain.problem.splits[plain.calibrate][0])
    # In two chunks at least: plain torch takes all in one.
    halves = plain.evaluator(chunk=-(-calibrating // 2))
    for number, known in enumerate(checkpoints):
        weights = state_dict.weights(known.state, halves.layout)
        found = halves.at(weights)["loss"].astype("f8")
        if number == 0:
            _refuse_chance(plain, known, found, halves.at(weights)["loss"])
            _refuse_rare_chance(plain, known)
        if calibrating == 1 and halves.recomputes:
            return  # plain batch norm refuses to normalise over a single value
        wanted = plain.evaluate(known)
        if number == 0:
            _refuse_constant(plain, known, wanted)
            _refuse_random_parts(plain, known, wanted)
        if _agree(found, wanted.losses, _ROUNDING * np.abs(found)):
            continue
        allowed = _rounding(halves, weights, found)
        if not _agree(found, wanted.losses, allowed):
            raise CrosscheckError(_reason(plain, known, weights, found, wanted.losses, allowed))


def _refuse_chance(
    plain: PlainTorch, known: Known, found: NDArray[np.float64], again: NDArray[np.floating]
) -> None:
    if np.array_equal(found, again, equal_nan=True):
        return
    raise CrosscheckError(
        f"{known}: two evaluations of the same weights give the losses "
        f"{_numbers(plain, found)} and {_numbers(plain, again)}: {_CHANCE}"
    )


def _refuse_rare_chance(plain: PlainTorch, known: Known) -> None:
    """Raises CrosscheckError where random numbers change the outputs now and then.

    Some networks draw in eval mode, and use the numbers only in training.
    """
    network, criterion = plain.network(known.state), plain.problem.criterion()
    inputs, targets = plain.of_first(2).problem.splits[plain.calibrate]
    x, y = mapped(inputs, torch.tensor), torch.tensor(targets)

    def values() -> list[Tensor]:
        found, tensors = criterion.evaluated(network, x, y, known.file)
        return [*tensors, *(each.sums.detach() for each in found.values())]

    with torch.no_grad():
        before = _random_states()
        first = values()
        if _random_states() == before:
            return
        for _ in range(_DRAWS):
            if not _same(values(), first):
                raise CrosscheckError(f"{known}: {_CHANCE}")


def _random_states() -> tuple[bytes, str, int]:
    """The states of the global generators."""
    state = np.random.get_state(legacy=False)
    return torch.get_rng_state().numpy().tobytes(), repr(state), hash(random.getstate())


def _refuse_random_parts(plain: PlainTorch, known: Known, found: PlainLosses) -> None:
    """Raises CrosscheckError where the constructor draws numbers that no checkpoint holds."""
    if not _same(plain.evaluate(known, seed=1).tensors, found.tensors):
        raise CrosscheckError(
            f"{known}: the outputs depend on random numbers that the network's constructor "
            "draws and no checkpoint holds; wanted all that they depend on in the checkpoint. "
            "Register it as a persistent buffer, or seed it in the constructor"
        )


def _same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Whether outputs are the same, to the bit."""
    return len(first) == len(second) and all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, second, strict=True)
    )


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
    found: NDArray[np.floating], wanted: NDArray[np.floating], allowed: NDArray[np.float64]
) -> bool:
    compared = ~np.isnan(wanted)
    with np.errstate(invalid="ignore"):
        close = (found == wanted) | (np.abs(found - wanted) <= allowed)
    return bool(close[compared].all())


def _refuse_constant(plain: PlainTorch, known: Known, found: PlainLosses) -> None:
    """Raises CrosscheckError where the outputs do not depend on the checkpoint's weights."""
    initial = plain.problem.network(in_eval=False)
    layout = Layout.of(initial)
    before = flattened(dict(initial.named_parameters()), layout).numpy()
    if np.array_equal(before, state_dict.weights(known.state, layout)):
        return
    if _same(plain.evaluate(None).tensors, found.tensors):
        raise CrosscheckError(
            f"{known}: the network's outputs are the same, to the bit, with its initial "
            "weights: they do not depend on its parameters; wanted a network whose forward uses "
            "them. Compute in forward what the constructor computes from weights"
        )


def _reason(
    plain: PlainTorch,
    known: Known,
    weights: NDArray[np.float32],
    found: NDArray[np.float64],
    wanted: NDArray[np.float64],
    allowed: NDArray[np.float64],
) -> str:
    """Why the evaluator and plain torch differ, as far as trials tell, and what to do."""
    differ = (
        f"{known}: the evaluator finds the loss {_numbers(plain, found)} where plain "
        f"torch finds {_numbers(plain, wanted)}"
    )
    whole = plain.evaluator()
    if np.isnan(found).all() and whole.recomputes:
        return (
            f"{differ}: the network reads a batch norm's running statistics by itself; wanted them "
            "used by the batch norm alone, whose statistics are recomputed. Use "
            "evaluate.batch_norm: frozen"
        )
    if not _agree(whole.at(weights)["loss"], found, allowed):
        return (
            f"{differ}: what the network gives for one example depends on which others are in the "
            "batch; wanted each example by itself. Normalise over an example, or with "
            "torch.nn.BatchNorm"
        )
    loaded = plain.evaluator(known.state).at(weights)["loss"]
    if _agree(loaded, wanted, allowed):
        return (
            f"{differ}: the network keeps something that it made from its weights, and does not "
            "make it anew; wanted outputs that follow the weights. Compute it in forward, or in "
            "train() and eval(), which are called at every point"
        )
    return f"{differ}; wanted the same. Compute in forward whatever depends on weights or data"


def _numbers(plain: PlainTorch, losses: NDArray[np.floating]) -> str:
    if len(losses) == 1:
        return f"{losses[0]:.4g}"
    told = zip(plain.problem.splits, losses, strict=True)
    return ", ".join(f"{loss:.4g} on {split}" for split, loss in told if not np.isnan(loss))
