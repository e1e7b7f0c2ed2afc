"""Checkpoints: trained weights from a file, held against a network."""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline import memory
from pipeline.errors import LossatlasError, one_line
from pipeline.problem.norms import running_statistics, step_counts
from pipeline.url import UnreachableError, reached

State = Mapping[str, torch.Tensor]

_NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net")
_WRAPPERS = ("module.", "_orig_mod.")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_AVERAGED = "n_averaged"  # the counter of torch's AveragedModel
# The modules of the curves of Garipov et al., and what their `Bezier` and `PolyChain` keep.
_NET = "net."
_CONSTANTS = ("coeff_layer.binom", "coeff_layer.range", "coeff_layer.rev_range")
_EXTRA = "_extra_state"
_CURE = "Check network.factory, or the checkpoint"


class CheckpointError(LossatlasError):
    """A checkpoint cannot be read, or does not belong to the network."""


def load(path: str) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint: floats as float32, on the CPU.

    Args:
        path: a local path or an fsspec URL of a .safetensors, .pt, .pth, .th or .ckpt file. The
            pickled kinds are read with `weights_only=True`: no code in them can run.

    Returns:
        Name → tensor, in the file's order. Nesting (`state_dict`, `model_state`, …) is undone. The
        names stay as they are: the functions below that are given the network find it under the
        prefixes of wrappers (`module.`, `_orig_mod.`; `net.` in a curve checkpoint) too.

    Raises:
        CheckpointError: no such file, not a checkpoint, truncated, holding more than tensors,
            or holding a value that is not finite; the message names the tensor.
        RoomError: it would unpack to more than the memory that is free.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in (".safetensors", ".pt", ".pth", ".th", ".ckpt"):
        raise CheckpointError(
            f"{path} ends in {suffix or 'no suffix'}; wanted .safetensors, .pt, .pth, .th or "
            ".ckpt. Check the path, or save the weights as safetensors"
        )
    content = _content(path)
    read = _read_safetensors if suffix == ".safetensors" else _read_pickle
    state = _unnest(read(content, path), path)
    # A tensor may say that its one value is there a billion times.
    _require_room(4 * sum(tensor.numel() for tensor in state.values()), path)
    return {name: _usable(tensor, name, path) for name, tensor in state.items()}


def match(state: State, network: nn.Module, where: str) -> None:
    """Check that `state` holds every parameter and buffer of `network`, and nothing else.

    The running statistics of batch norms may be missing: `batch_norm: recompute` has no use for
    them (`missing_statistic` finds what `frozen` lacks). So may a norm's `num_batches_tracked`: it
    has no part in a forward pass in eval mode.

    Args:
        state: as `load` gives it.
        network: the network that the weights are meant for.
        where: what the message calls the checkpoint, such as `plane.weights[1]`.

    Raises:
        CheckpointError: with both counts of values, the first tensor that differs, both shapes.
    """
    extra = [name for name in network.state_dict() if name.endswith(_EXTRA)]
    if extra:
        raise CheckpointError(
            f"{where}: the network keeps {extra[0]} beside its tensors, which is not read; wanted "
            "all that its outputs depend on as parameters and buffers. Register a buffer instead "
            "of get_extra_state"
        )
    if is_curve(state, network):
        raise CheckpointError(
            f"{where} is a curve checkpoint; wanted one set of weights. Use plane.kind: curve, or "
            "one point of the curve"
        )
    state = _by_own_names(state, network)
    parameters, buffers_ = _parameters(network), _buffers(network)
    shapes = {name: tuple(p.shape) for name, (p, _) in parameters.items()}
    shapes |= {name: tuple(buffer.shape) for name, buffer in buffers_.items()}
    aliases = {alias for _, names in parameters.values() for alias in names}
    present = {name: _of(state, parameters, name) for name in shapes}
    optional = running_statistics(network) | step_counts(network)
    first = next(_differences(present, shapes, optional), None)
    if first is None:
        first = next(_untied(state, parameters), None)
    if first is None:
        left = [n for n in state if n not in shapes and n not in aliases and n != _AVERAGED]
        left = [n for n in left if not n.endswith(_STATISTICS[2])]
        first = f"{left[0]} {_shape(state[left[0]])} is not in the network" if left else None
    if first is None:
        return
    found = sum(
        tensor.numel()
        for name, tensor in state.items()
        if name not in buffers_ and not name.endswith(_STATISTICS)
    )
    raise CheckpointError(_mismatch(where, found, network, first))


def weights(state: State, network: nn.Module) -> np.ndarray:
    """The parameters as one vector, float32 (P,), in `named_parameters()` order.

    `match` is taken for granted.
    """
    state, parameters = _by_own_names(state, network), _parameters(network)
    return _flat(_present(_of(state, parameters, name)) for name in parameters)


def buffers(state: State, network: nn.Module) -> dict[str, torch.Tensor]:
    """The persistent buffers by the network's own names, in the dtypes of the network.

    `match` is taken for granted. A statistic that the checkpoint lacks is the network's own.
    """
    state = _by_own_names(state, network)
    return {
        name: state.get(name, own).detach().to(own.dtype, copy=True)
        for name, own in _buffers(network).items()
    }


def state_for(state: State, network: nn.Module) -> dict[str, torch.Tensor]:
    """`state` by the network's own names, complete, for `load_state_dict`.

    `match` is taken for granted. What the checkpoint lacks all the same is the network's own.
    """
    state, parameters = _by_own_names(state, network), _parameters(network)
    aliases = {alias: name for name, (_, names) in parameters.items() for alias in names}
    found = {}
    for name, tensor in network.state_dict().items():
        saved = _of(state, parameters, aliases.get(name, name))
        found[name] = tensor if saved is None else saved
    return found


def missing_statistic(state: State, network: nn.Module) -> str | None:
    """The first running statistic of a norm that `state` lacks."""
    state = _by_own_names(state, network)
    names = (n for n in _buffers(network) if n.endswith(("running_mean", "running_var")))
    return next((name for name in names if name not in state), None)


def named(flat: np.ndarray, network: nn.Module) -> dict[str, torch.Tensor]:
    """The inverse of `weights`: float32 (P,) → name → tensor of the parameter's shape."""
    parameters = dict(network.named_parameters())
    sizes = [parameter.numel() for parameter in parameters.values()]
    parts = torch.split(torch.from_numpy(np.array(flat, dtype=np.float32)), sizes)
    return {
        name: part.view(parameter.shape)
        for (name, parameter), part in zip(parameters.items(), parts, strict=True)
    }


def is_curve(state: State, network: nn.Module) -> bool:
    """Whether `state` is a curve checkpoint: every parameter ends in _0, _1, …, point by point.

    Where the network's own parameters end so, its own names decide.

    Source: the layout of the code of Garipov et al. 2018, arXiv:1802.10026.
    """
    numbers = _numbers(state, network)
    return len(numbers) > 1 and numbers == tuple(range(len(numbers)))


def bends_alone(state: State, network: nn.Module) -> int:
    """How many bends a frame of a curve with several bends holds; 0 for anything else."""
    numbers = _numbers(state, network)
    is_frame = len(numbers) > 1 and numbers == tuple(range(1, len(numbers) + 1))
    return len(numbers) if is_frame else 0


def constants(state: State) -> set[str]:
    """The names that a curve's own buffers have in `state`, without wrappers."""
    wrapper = _prefixes(state, _WRAPPERS)[0]
    return {name.removeprefix(wrapper) for name in state} & set(_CONSTANTS)


def curve_points(state: State, network: nn.Module, where: str) -> list[np.ndarray]:
    """The weights of a curve checkpoint: start, bends in order, end; each float32 (P,).

    Parameters are found by name. Where the curve's code names its modules otherwise than the
    network (`downsample.weight` for `downsample.0.weight`), they are paired in order, as that
    code does, if the file has an order, and all kinds and shapes agree.

    Raises:
        CheckpointError: not a curve checkpoint, or one of another network.
    """
    if not is_curve(state, network):
        raise CheckpointError(
            f"{where} is one set of weights; wanted a curve checkpoint, whose parameters end in "
            "_0, _1, _2. Give start, bend and end as three checkpoints"
        )
    points, parameters = _points(state, network), _parameters(network)
    stems = _stems(state, list(points), list(parameters))
    shapes = {name: tuple(parameter.shape) for name, (parameter, _) in parameters.items()}
    present = {name: points[stem][0] for name, stem in stems.items()}
    first = next(_differences({name: present.get(name) for name in shapes}, shapes), None)
    left = [stem for stem in points if stem not in stems.values()]
    if first is None and left:
        first = f"{left[0]} {_shape(points[left[0]][0])} is not in the network"
    if first is not None:
        found = sum(of_stem[0].numel() for of_stem in points.values())
        raise CheckpointError(_mismatch(where, found, network, first))
    return [
        _flat(points[stems[name]][point] for name in parameters)
        for point in range(len(next(iter(points.values()))))
    ]


def save(path: str, state: State) -> None:
    """Write name → tensor as safetensors, whole or not at all.

    Args:
        path: a local path ending in .safetensors; its folder exists.
        state: any tensors; shared memory is written once a name.

    Raises:
        CheckpointError: another suffix, a URL, or a place that cannot be written.
    """
    import safetensors.torch

    if "://" in path or not path.endswith(".safetensors"):
        raise CheckpointError(f"cannot save to {path}; wanted a local path ending in .safetensors")
    target = Path(path)
    temporary = target.with_name(f".{target.name}.partial")
    tensors = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in state.items()}
    try:
        temporary.write_bytes(safetensors.torch.save(tensors))
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror}); wanted a folder with room"
        ) from None


def _content(path: str) -> bytes:
    import fsspec

    try:
        with reached(path):
            filesystem, location = fsspec.core.url_to_fs(path)
            if filesystem.isdir(location):
                raise CheckpointError(
                    f"{path} is a folder; wanted a checkpoint file. Name the file"
                )
            with filesystem.open(location, "rb") as file:
                _require_room(getattr(file, "size", None) or 0, path)
                content: bytes = file.read()
                return content
    except UnreachableError:
        raise
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file; wanted a checkpoint. Check the path"
        ) from None
    except (OSError, ImportError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({one_line(error)}); wanted a checkpoint"
        ) from None


def _require_room(bytes_: int, path: str) -> None:
    memory.require(bytes_, path, "Check where the file is from, or use a machine with more memory")


def _read_safetensors(content: bytes, path: str) -> Any:
    import safetensors.torch

    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); wanted one. Copy it again"
        ) from None


def _declared(content: bytes) -> int:
    """What a zip file says that its members unpack to, in bytes; 0 where it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError):
        return 0


def _read_pickle(content: bytes, path: str) -> Any:
    _require_room(_declared(content), path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that torch reads all the same
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no one type for "this is not a checkpoint"
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise CheckpointError(
                f"{path} holds {refused[1]}, which could run code, and was refused; wanted tensors "
                "alone. Save network.state_dict(), best as safetensors"
            ) from None
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
        raise CheckpointError(
            f"{path} cannot be read as a torch checkpoint ({reason[:120] or type(error).__name__});"
            " wanted a whole file of tensors. Copy it again, or save it as safetensors"
        ) from None


def _unnest(content: Any, path: str) -> dict[str, torch.Tensor]:
    met = []
    while isinstance(content, Mapping):
        met.append(content)
        name = next((n for n in _NESTS if isinstance(content.get(n), Mapping)), None)
        if name is None:
            break
        content = content[name]
        if any(content is each for each in met):
            raise CheckpointError(
                f"{path} holds a dict that contains itself, under {name}; wanted a state dict. "
                "Save network.state_dict()"
            )
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds {type(content).__name__}; wanted named tensors. Save "
            "network.state_dict()"
        )
    state = {str(n): value for n, value in content.items() if isinstance(value, torch.Tensor)}
    if not state:
        raise CheckpointError(
            f"{path} holds no tensors under {', '.join(map(str, content)) or 'no name'}; wanted a "
            "state dict. Save network.state_dict()"
        )
    return state


@dataclass(frozen=True)
class _Naming:
    """From a name in a file to the network's own, and how many names agree after that."""

    strip: str
    add: str
    agreeing: int

    def __call__(self, name: str) -> str:
        return self.add + name.removeprefix(self.strip)


def _naming(names: Iterable[str], own: Collection[str], wrappers: tuple[str, ...]) -> _Naming:
    """Wrappers taken off `names`, or the network's put on, so that most of them are its `own`.

    What in a name is a wrapper, and what a module that its author called so, no name tells by
    itself.
    """
    names = [name for name in names if name != _AVERAGED]
    ways = (
        _Naming(strip, add, sum(add + name.removeprefix(strip) in own for name in names))
        for strip in _prefixes(names, wrappers)
        for add in _prefixes(own, _WRAPPERS)[::-1]
    )
    return max(ways, key=lambda way: way.agreeing)


def _prefixes(names: Collection[str], wrappers: tuple[str, ...]) -> list[str]:
    """The prefixes of wrappers that all of `names` share, the longest first, none last."""
    prefixes = [""]
    while names:
        longer = [prefixes[0] + w for w in wrappers]
        shared = [p for p in longer if all(name.startswith(p) for name in names)]
        if not shared:
            break
        prefixes.insert(0, shared[0])
    return prefixes


def _by_own_names(state: State, network: nn.Module) -> State:
    """`state` by the network's own names; those of a curve with their numbers."""
    named = _layout(state, network)[0]
    return {named(name): tensor for name, tensor in state.items()}


def _points(state: State, network: nn.Module) -> dict[str, dict[int, torch.Tensor]]:
    """A curve's parameters: name without number → number → tensor, in the order of `state`."""
    return _layout(state, network)[1]


def _layout(state: State, network: nn.Module) -> tuple[_Naming, dict[str, dict[int, torch.Tensor]]]:
    """How `state` names what the network has, and the points of a curve; none if it is not one."""
    own = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    plain = _naming(state, own, _WRAPPERS)
    numbered = {name: match for name in state if (match := re.fullmatch(r"(.+)_(\d+)", name))}
    named = _naming({m[1] for m in numbered.values()}, own, (*_WRAPPERS, _NET))
    buffers_ = _buffers(network)
    points: dict[str, dict[int, torch.Tensor]] = defaultdict(dict)
    for name, match in numbered.items():
        if named(name) not in buffers_:
            points[named(match[1])][int(match[2])] = state[name]
    alike = all(len({p.shape for p in of_stem.values()}) == 1 for of_stem in points.values())
    counted = sum(len(of_stem) for of_stem in points.values())
    others = sum(name.endswith(_STATISTICS) or named(name) in buffers_ for name in state)
    whole = bool(constants(state)) or counted + others == len(state)
    if not points or not alike or not whole or named.agreeing < plain.agreeing:
        return plain, {}
    return named, dict(points)


def _numbers(state: State, network: nn.Module) -> tuple[int, ...]:
    """The numbers of a curve's points in `state`, where all its parameters have the same."""
    numbers = {tuple(sorted(of_stem)) for of_stem in _points(state, network).values()}
    return numbers.pop() if len(numbers) == 1 else ()


def _usable(tensor: torch.Tensor, name: str, path: str) -> torch.Tensor:
    if tensor.is_meta:
        raise CheckpointError(
            f"{path}: {name} is a meta tensor, which has a shape and no values; wanted weights. "
            "Save the network after its weights were loaded"
        )
    layout = "nested" if tensor.is_nested else tensor.layout
    if layout is not torch.strided or tensor.is_complex() or tensor.is_quantized:
        raise CheckpointError(
            f"{path}: {name} is {tensor.dtype}, {layout}; wanted a dense real tensor"
        )
    if not tensor.is_floating_point():
        return tensor.detach()
    tensor = tensor.detach().to(torch.float32)
    # Not torch's: on small tensors its threads cost more than the work (a film has 600 × 243).
    if not np.isfinite(tensor.numpy()).all():
        raise CheckpointError(
            f"{path}: {name} holds NaN or inf; wanted finite float32 weights. Take a checkpoint "
            "from before the training diverged"
        )
    return tensor


def _parameters(network: nn.Module) -> dict[str, tuple[nn.Parameter, list[str]]]:
    """Name → parameter and all its names (tied weights have several)."""
    aliases: dict[int, list[str]] = defaultdict(list)
    for name, parameter in network.named_parameters(remove_duplicate=False):
        aliases[id(parameter)].append(name)
    return {
        name: (parameter, aliases[id(parameter)]) for name, parameter in network.named_parameters()
    }


def _buffers(network: nn.Module) -> dict[str, torch.Tensor]:
    """Name → persistent buffer."""
    saved = network.state_dict()
    return {name: buffer for name, buffer in network.named_buffers() if name in saved}


def _of(
    state: State, parameters: Mapping[str, tuple[nn.Parameter, list[str]]], name: str
) -> torch.Tensor | None:
    """The tensor of `name` in `state`, under whichever of its names it was saved."""
    names = parameters[name][1] if name in parameters else [name]
    return next((state[n] for n in names if n in state), None)


def _present(tensor: torch.Tensor | None) -> torch.Tensor:
    if tensor is None:
        raise CheckpointError(f"a parameter is missing from the checkpoint. {_CURE}")
    return tensor


def _flat(tensors: Iterable[torch.Tensor]) -> np.ndarray:
    return torch.cat([tensor.reshape(-1).to(torch.float32) for tensor in tensors]).numpy()


def _differences(
    present: Mapping[str, torch.Tensor | None],
    shapes: Mapping[str, tuple[int, ...]],
    optional: Collection[str] = (),
) -> Iterator[str]:
    for name, wanted in shapes.items():
        tensor = present[name]
        if tensor is None and name not in optional:
            yield f"{name} {_text(wanted)} is not in the checkpoint"
        elif tensor is not None and tuple(tensor.shape) != wanted:
            yield f"{name} {_shape(tensor)} against {_text(wanted)}"


def _untied(
    state: State, parameters: Mapping[str, tuple[nn.Parameter, list[str]]]
) -> Iterator[str]:
    for _, (first, *others) in parameters.values():
        for other in others:
            if first in state and other in state and not torch.equal(state[first], state[other]):
                yield f"{first} and {other} differ, and are one tensor in the network"


def _mismatch(where: str, found: int, network: nn.Module, first: str) -> str:
    wanted = sum(parameter.numel() for parameter in network.parameters())
    return (
        f"{where} has {found:,} values and the network {wanted:,}: not the same network "
        f"(first difference: {first}). {_CURE}"
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
