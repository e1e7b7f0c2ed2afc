"""A checkpoint's tensors, found by a network's own names.

Names in a file are turned into the network's (`pipeline.problem.renaming`). Those of a curve
checkpoint end in the numbers of its points.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import nn

from pipeline.checkpoints import nests
from pipeline.problem import checkpoint
from pipeline.problem.checkpoint import CheckpointError, State
from pipeline.problem.layout import Layout, Shape, flattened, persistent_buffers, separated
from pipeline.problem.renaming import (
    Renaming,
    held_under,
    is_counter,
    nearest,
    renaming,
    without_wrappers,
)

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# What the `Bezier` and `PolyChain` of the curves of Garipov et al. keep.
_CONSTANTS = ("coeff_layer.binom", "coeff_layer.range", "coeff_layer.rev_range")
_CURE = "Check network.factory, or the checkpoint"


def load(path: str, layout: Layout) -> State:
    """Read a checkpoint as `checkpoint.load` does; of several nests, the one that fits a network.

    Args:
        path: of the checkpoint; `#nest` behind it names the nest.
        layout: of the network that the weights are meant for.

    Raises:
        CheckpointError, RoomError: as `checkpoint.load`; or several nests fit.
    """
    return checkpoint.load(path, lambda state: fits(state, layout))


def fits(state: State, layout: Layout) -> bool:
    """Whether `state` holds the weights of a network, or the points of a curve of it."""
    if is_curve(state, layout) or bends_alone(state, layout):
        return True
    return _difference(_by_own_names(state, layout), layout) is None


def told(state: State, layout: Layout) -> str:
    """Where in its file the weights were, and what was taken off their names.

    Empty where they were in a usual place, by the network's own names. For example
    `taken from ema.model, names without module.`
    """
    nest, others = getattr(state, "nest", ""), getattr(state, "others", ())
    also = f" (also there: {', '.join(f'#{name}' for name in others)})" if others else ""
    is_worth_saying = others or (nest and not nests.is_usual(nest))
    taken = f"taken from {nest or 'the outermost dict'}{also}" if is_worth_saying else ""
    renamed = "" if is_curve(state, layout) else _found(state, layout)[0].told(state)
    return ", ".join(filter(None, (taken, renamed)))


def match(state: State, layout: Layout, where: str, buffers: bool = True) -> None:
    """Check that `state` holds every parameter and buffer of a network, and nothing else.

    The running statistics of batch norms may be missing: `batch_norm: recompute` does not use them
    (`missing_statistic` finds what `frozen` lacks). A norm's `num_batches_tracked` may be missing
    too: no forward pass in eval mode reads it.

    Args:
        state: as `checkpoint.load` gives it.
        layout: of the network that the weights are meant for.
        where: what the message calls the checkpoint, such as `plane.weights[1]`.
        buffers: whether the buffers have to be there; a direction has none.

    Raises:
        CheckpointError: with both counts of values, the first tensor that differs, and what is
            nearest to it on the other side.
    """
    if layout.extra:
        raise CheckpointError(
            f"{where}: the network keeps {layout.extra[0]} beside its tensors, which is not read; "
            "wanted all that its outputs depend on as parameters and buffers. Register a buffer "
            "instead of get_extra_state"
        )
    if is_curve(state, layout):
        raise CheckpointError(
            f"{where} is a curve checkpoint; wanted one set of weights. Use plane.kind: curve, or "
            "one point of the curve"
        )
    renamed = _by_own_names(state, layout)
    difference = _difference(renamed, layout, buffers)
    if difference is None:
        return
    found = sum(
        tensor.numel()
        for name, tensor in renamed.items()
        if name not in layout.buffers and not name.endswith(_STATISTICS)
    )
    raise CheckpointError(_mismatch(where, found, layout, difference, _cure(state, layout)))


def weights(state: State, layout: Layout) -> np.ndarray:
    """The parameters as one vector (P,), in the order of the layout and in its dtype: float32.

    The state has to `match`.
    """
    state = _by_own_names(state, layout)
    return _flat((_present(_of(state, layout, name)) for name in layout.parameters), layout)


def weights_or_bend(state: State, layout: Layout, where: str) -> np.ndarray:
    """The weights of a checkpoint, or the bend of a curve checkpoint: float32 (P,).

    Raises:
        CheckpointError: it is of another network, or of a curve with several bends.
    """
    bends = bends_alone(state, layout)
    if is_curve(state, layout):
        points = curve_points(state, layout, where)
        bends, bend = len(points) - 2, points[1]
    elif not bends:
        match(state, layout, where)
        return weights(state, layout)
    if bends != 1:
        raise CheckpointError(
            f"{where} is of a curve with {bends} bends; wanted one set of weights, or a curve with "
            "one bend"
        )
    return bend


def buffers(state: State, network: nn.Module) -> dict[str, torch.Tensor]:
    """The persistent buffers by the network's own names, in the dtypes of the network.

    The state has to `match`. A statistic that the checkpoint lacks is the network's own.
    """
    state = _by_own_names(state, Layout.of(network))
    return {
        name: state.get(name, own).detach().to(own.dtype, copy=True)
        for name, own in persistent_buffers(network).items()
    }


def own_buffers(state: State, layout: Layout) -> dict[str, torch.Tensor]:
    """The buffers that `state` holds, by the network's own names.

    The state has to `match`, or to be a curve checkpoint.
    """
    named = _by_own_names(state, layout)
    return {name: named[name] for name in layout.buffers if name in named}


def state_for(state: State, network: nn.Module) -> dict[str, torch.Tensor]:
    """`state` by the network's own names, complete, for `load_state_dict`.

    The state has to `match`. What the checkpoint may lack is the network's own.
    """
    layout = Layout.of(network)
    state = _by_own_names(state, layout)
    first = {alias: name for name, names in layout.aliases.items() for alias in names}
    found = {}
    for name, tensor in network.state_dict().items():
        saved = _of(state, layout, first.get(name, name))
        found[name] = tensor if saved is None else saved
    return found


def missing_statistic(state: State, layout: Layout) -> str | None:
    """The first running statistic of a norm that `state` lacks."""
    state = _by_own_names(state, layout)
    names = (n for n in layout.buffers if n.endswith(("running_mean", "running_var")))
    return next((name for name in names if name not in state), None)


def named(flat: np.ndarray, layout: Layout) -> dict[str, torch.Tensor]:
    """The inverse of `weights`: (P,) → name → tensor of the parameter's shape."""
    return separated(torch.tensor(flat, dtype=layout.dtype), layout)


def is_curve(state: State, layout: Layout) -> bool:
    """Whether `state` is a curve checkpoint: every parameter ends in _0, _1, …, point by point.

    If the network's own parameters have such names, the network's names decide.

    Source: the layout of the code of Garipov et al. 2018, arXiv:1802.10026.
    """
    numbers = _numbers(state, layout)
    return len(numbers) > 1 and numbers == tuple(range(len(numbers)))


def bends_alone(state: State, layout: Layout) -> int:
    """How many bends a frame of a curve with several bends holds; 0 for anything else."""
    numbers = _numbers(state, layout)
    is_frame = len(numbers) > 1 and numbers == tuple(range(1, len(numbers) + 1))
    return len(numbers) if is_frame else 0


def constants(state: State) -> set[str]:
    """The names of a curve's own buffers in `state`, without wrappers."""
    return {without_wrappers(name) for name in state} & set(_CONSTANTS)


def curve_points(state: State, layout: Layout, where: str) -> list[np.ndarray]:
    """The weights of a curve checkpoint: start, bends in order, end; each float32 (P,).

    Parameters are found by name. The curve's code may name its modules otherwise than the network
    (`downsample.weight` for `downsample.0.weight`). Then they are paired in order, as that code
    does, if the file has an order and all kinds and shapes agree.

    Raises:
        CheckpointError: not a curve checkpoint, or one of another network.
    """
    if not is_curve(state, layout):
        raise CheckpointError(
            f"{where} is one set of weights; wanted a curve checkpoint, whose parameters end in "
            "_0, _1, _2. Give start, bend and end as three checkpoints"
        )
    points, shapes = _points(state, layout), layout.parameters
    stems = _stems(state, list(points), list(shapes))
    present = {name: points[stem][0] for name, stem in stems.items()}
    left = {stem: of[0] for stem, of in points.items() if stem not in stems.values()}
    first = next(_differences(present, shapes, (), left), None)
    if first is not None:
        found = sum(of_stem[0].numel() for of_stem in points.values())
        raise CheckpointError(_mismatch(where, found, layout, first, _CURE))
    return [
        _flat((points[stems[name]][point] for name in shapes), layout)
        for point in range(len(next(iter(points.values()))))
    ]


def _by_own_names(state: State, layout: Layout) -> State:
    """`state` by the network's own names; those of a curve with their numbers."""
    named = _found(state, layout)[0]
    return {named(name): tensor for name, tensor in state.items()}


def _points(state: State, layout: Layout) -> dict[str, dict[int, torch.Tensor]]:
    """A curve's parameters: name without number → number → tensor, in the order of `state`."""
    return _found(state, layout)[1]


def _found(state: State, layout: Layout) -> tuple[Renaming, dict[str, dict[int, torch.Tensor]]]:
    """How to rename `state`, and the points of a curve; none if it is no curve checkpoint."""
    plain = renaming(state, layout.names, layout.buffers)
    numbered = {name: match for name in state if (match := re.fullmatch(r"(.+)_(\d+)", name))}
    stems = dict.fromkeys(m[1] for m in numbered.values())
    named = renaming(stems, layout.names, layout.buffers)
    points: dict[str, dict[int, torch.Tensor]] = defaultdict(dict)
    for name, match in numbered.items():
        if named(name) not in layout.buffers:
            points[named(match[1])][int(match[2])] = state[name]
    alike = all(len({p.shape for p in of_stem.values()}) == 1 for of_stem in points.values())
    counted = sum(len(of_stem) for of_stem in points.values())
    others = sum(name.endswith(_STATISTICS) or named(name) in layout.buffers for name in state)
    whole = bool(constants(state)) or counted + others == len(state)
    if not points or not alike or not whole or named.agreeing < plain.agreeing:
        return plain, {}
    return named, dict(points)


def _numbers(state: State, layout: Layout) -> tuple[int, ...]:
    """The numbers of a curve's points in `state`, where all its parameters have the same."""
    numbers = {tuple(sorted(of_stem)) for of_stem in _points(state, layout).values()}
    return numbers.pop() if len(numbers) == 1 else ()


def _of(state: State, layout: Layout, name: str) -> torch.Tensor | None:
    """The tensor of `name` in `state`, under whichever of its names it was saved."""
    names = layout.aliases.get(name, (name,))
    return next((state[n] for n in names if n in state), None)


def _present(tensor: torch.Tensor | None) -> torch.Tensor:
    if tensor is None:
        raise CheckpointError(f"a parameter is missing from the checkpoint. {_CURE}")
    return tensor


def _flat(tensors: Iterable[torch.Tensor], layout: Layout) -> np.ndarray:
    named = dict(zip(layout.parameters, tensors, strict=True))
    for name, tensor in named.items():
        if tensor.is_complex() and name not in layout.complex_:
            raise CheckpointError(f"{name} is complex, and real in the network. {_CURE}")
    return flattened(named, layout).numpy()


def _difference(state: State, layout: Layout, buffers: bool = True) -> str | None:
    """The first difference between `state`, by the network's own names, and a network."""
    shapes = {**layout.parameters, **layout.buffers}
    present = {name: _of(state, layout, name) for name in shapes}
    known = {*shapes, *layout.names}
    left = {
        name: tensor
        for name, tensor in state.items()
        if name not in known and not is_counter(name) and not name.endswith(_STATISTICS[2])
    }
    optional = layout.statistics | layout.step_counts
    if not buffers:
        optional |= frozenset(layout.buffers)
    differing = next(_differences(present, shapes, optional, left), None)
    return differing or next(_untied(state, layout), None)


def _differences(
    present: Mapping[str, torch.Tensor | None],
    shapes: Mapping[str, Shape],
    optional: Collection[str],
    left: State,
) -> Iterator[str]:
    """Each difference, with the nearest names and shapes on both sides.

    Args:
        present: the network's name → the tensor in the checkpoint; names may be missing.
        shapes: the network's name → shape.
        optional: names that the checkpoint may lack.
        left: what the checkpoint holds besides.
    """
    for name, wanted in shapes.items():
        tensor = present.get(name)
        if tensor is not None and tuple(tensor.shape) != wanted:
            yield f"the checkpoint has {name} {_shape(tensor)}, the network {name} {_text(wanted)}"
        elif tensor is None and name not in optional:
            others = {n: tuple(t.shape) for n, t in (left or _there(present)).items()}
            near = _nearest(name, wanted, others)
            yield f"the network has {name} {_text(wanted)}, the checkpoint not{near}"
    for name, tensor in left.items():
        shape = tuple(tensor.shape)
        near = _nearest(name, shape, shapes)
        yield f"the checkpoint has {name} {_text(shape)}, the network not{near}"


def _there(present: Mapping[str, torch.Tensor | None]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in present.items() if tensor is not None}


def _nearest(name: str, shape: Shape, others: Mapping[str, Shape]) -> str:
    near = nearest(name, shape, others)
    return "" if near is None else f"; nearest there: {near} {_text(others[near])}"


def _cure(state: State, layout: Layout) -> str:
    """What to do about a checkpoint of another network, which may hold this one among others."""
    parts = []
    for beginning in held_under(list(state), list(layout.parameters)):
        begun = {n.removeprefix(beginning): t for n, t in state.items() if n.startswith(beginning)}
        if _difference(begun, layout) is None:
            parts.append(f"#{beginning.rstrip('.')}")
    if not parts:
        return _CURE
    return f"The network alone is in its part {' or '.join(parts)}: write that after the path"


def _untied(state: State, layout: Layout) -> Iterator[str]:
    for first, *others in layout.aliases.values():
        for other in others:
            if first in state and other in state and not torch.equal(state[first], state[other]):
                yield f"{first} and {other} differ, and are one tensor in the network"


def _mismatch(where: str, found: int, layout: Layout, first: str, cure: str) -> str:
    return (
        f"{where} has {found:,} values and the network {layout.size:,}: not the same network "
        f"(first difference: {first}). {cure}"
    )


def _shape(tensor: torch.Tensor) -> str:
    return _text(tuple(tensor.shape))


def _text(shape: tuple[int, ...]) -> str:
    return f"({','.join(map(str, shape))})"


def _stems(state: State, stems: list[str], names: list[str]) -> dict[str, str]:
    """Network's name → curve's name, by name, and otherwise by position."""
    same = {name: name for name in names if name in stems}
    if len(same) == len(names) or len(stems) != len(names) or list(state) == sorted(state):
        return same  # Sorted names (safetensors) say nothing about the order of the modules.
    pairs = dict(zip(names, stems, strict=True))
    for name, stem in pairs.items():
        in_place = stem == name or (stem not in same and name not in same)
        if not in_place or stem.rpartition(".")[2] != name.rpartition(".")[2]:
            return same
    return pairs
