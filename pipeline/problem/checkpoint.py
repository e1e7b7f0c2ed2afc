"""Checkpoint files: reading and writing trained weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.checkpoints import content, nests
from pipeline.checkpoints.place import CheckpointError as CheckpointError
from pipeline.checkpoints.place import Place, require_room

State = Mapping[str, torch.Tensor]

_DOUBLE = (torch.float64, torch.complex128)


class Tensors(dict[str, torch.Tensor]):
    """Name → tensor, as `load` gives it.

    Attributes:
        nest: the nested dict of the file that it was; empty for the file's own.
        others: nests of the file that hold weights of the same network.
    """

    def __init__(self, tensors: State, nest: str = "", others: tuple[str, ...] = ()) -> None:
        super().__init__(tensors)
        self.nest = nest
        self.others = others


@dataclass(frozen=True)
class Known:
    """One checkpoint of a plane.

    Attributes:
        anchor: its name on the plane.
        file: where it is from, without folders.
        state: parameters and buffers by the names that `load` gives.
    """

    anchor: str
    file: str
    state: State

    def __str__(self) -> str:
        return f"{self.anchor} ({self.file})"


def load(path: str, fits: Callable[[State], bool] | None = None) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint: floats as float32, on the CPU.

    Args:
        path: a local path or an fsspec URL of a file of torch or of safetensors, or a folder of
            Hugging Face or of `torch.distributed.checkpoint`. `#nest` behind it names a part of the
            content. Pickles are read with a closed list of classes: no code in them can run.
        fits: whether tensors are those of the network. It decides between several nests.

    Returns:
        `Tensors`, in the file's order. Nesting (`state_dict`, `model_state`, …) is undone. The
        names stay as they are; `state_dict` finds a network's own among them.

    Raises:
        CheckpointError: no such file, not a checkpoint, truncated, holding more than tensors,
            or holding a value that is not finite; the message names the tensor.
        RoomError: it would unpack to more than the memory that is free.
    """
    place = Place.of(path)
    found = content.read(place.path)
    if place.nest:
        nest = nests.named(found, place.nest, place.path)
    else:
        nest = nests.chosen(found, place.path, fits)
    # A tensor of one value may be expanded to a billion.
    require_room(4 * sum(tensor.numel() for tensor in nest.state.values()), path)
    usable = {name: _usable(tensor, name, path) for name, tensor in nest.state.items()}
    return Tensors(usable, "" if place.nest else nest.name, nest.others)


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


def _usable(tensor: torch.Tensor, name: str, path: str) -> torch.Tensor:
    if tensor.is_meta:
        raise CheckpointError(
            f"{path}: {name} is a meta tensor, which has a shape and no values; wanted weights. "
            "Save the network after its weights were loaded"
        )
    layout = "nested" if tensor.is_nested else tensor.layout
    if layout is not torch.strided or tensor.is_quantized:
        raise CheckpointError(
            f"{path}: {name} is {tensor.dtype}, {layout}; wanted a dense tensor of plain numbers"
        )
    if not tensor.is_floating_point() and not tensor.is_complex():
        return tensor.detach()
    tensor = tensor.detach()
    # A network whose parameters are float64 keeps all their digits.
    kept = tensor if tensor.dtype in _DOUBLE or tensor.is_complex() else tensor.to(torch.float32)
    tensor = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).to(torch.float32)
    # numpy's isfinite: torch's threads cost more than the work on small tensors (a film has
    # 600 × 243 of them).
    if not np.isfinite(tensor.numpy()).all():
        raise CheckpointError(
            f"{path}: {name} holds NaN or inf; wanted finite float32 weights. Take a checkpoint "
            "from before the training diverged"
        )
    return kept
