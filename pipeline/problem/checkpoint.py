"""Checkpoint files: reading and writing trained weights."""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from pipeline import memory
from pipeline.errors import LossatlasError, one_line
from pipeline.url import UnreachableError, reached

State = Mapping[str, torch.Tensor]

_DOUBLE = (torch.float64, torch.complex128)
_NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net")


class CheckpointError(LossatlasError):
    """A checkpoint cannot be read, or does not belong to the network."""


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


def load(path: str) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint: floats as float32, on the CPU.

    Args:
        path: a local path or an fsspec URL of a .safetensors, .pt, .pth, .th or .ckpt file. The
            pickled kinds are read with `weights_only=True`: no code in them can run.

    Returns:
        Name → tensor, in the file's order. Nesting (`state_dict`, `model_state`, …) is undone. The
        names stay as they are; `state_dict` finds a network's own among them.

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
    # A tensor of one value may be expanded to a billion.
    _require_room(4 * sum(tensor.numel() for tensor in state.values()), path)
    return {name: _usable(tensor, name, path) for name, tensor in state.items()}


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
    except Exception as error:  # torch raises many types for a file that is no checkpoint
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
