"""Safetensors: single files, and models that are divided into several files."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from typing import IO, Any

import torch

from pipeline.checkpoints import pickled
from pipeline.checkpoints.place import CheckpointError, opened, require_room
from pipeline.checkpoints.signature import HEAD_BYTES, kind_of
from pipeline.url import is_url


def read(file: IO[bytes], path: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Args:
        file: open at its beginning.
        path: of it; a local one is mapped, so that there is never a second copy in memory.

    Raises:
        CheckpointError: it is not whole.
    """
    import safetensors
    import safetensors.torch

    try:
        if is_url(path) or isinstance(file, io.BytesIO):
            return dict(safetensors.torch.load(file.read()))
        with safetensors.safe_open(path, "pt") as mapped:
            return {name: mapped.get_tensor(name).clone() for name in mapped.offset_keys()}
    except (safetensors.SafetensorError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); wanted one. Copy it again"
        ) from None


def read_file(path: str) -> Any:
    """The content of one file, by its first bytes.

    Raises:
        CheckpointError: it is no checkpoint, or not whole.
        RoomError: it would unpack to more than the memory that is free.
    """
    with opened(path) as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        match kind_of(head, path):
            case "safetensors":
                return read(file, path)
            case "torch":
                return pickled.read(file, path)
            case "index":
                return _read_index(file.read(), path)


def _read_index(content: bytes, path: str) -> dict[str, torch.Tensor]:
    """The tensors of all files that an index names, one file after another."""
    try:
        shards = json.loads(content)["weight_map"]
        names = sorted({shard for shard in shards.values() if _is_name(shard)})
        if len(names) != len(set(shards.values())):
            raise ValueError("a file outside its folder")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(
            f"{path} is JSON and no index of a model in several files; wanted a checkpoint. Name "
            "the file with the tensors"
        ) from None
    folder = path.rpartition("/")[0]
    paths = [f"{folder}/{name}" if folder else name for name in names]
    require_room(sum(map(_declared, paths)), path)
    state: dict[str, torch.Tensor] = {}
    for shard in paths:
        content_of_shard = read_file(shard)
        if not isinstance(content_of_shard, Mapping):
            raise CheckpointError(f"{shard} holds no named tensors; wanted a part of {path}")
        state |= {name: _float32(tensor) for name, tensor in content_of_shard.items()}
    missing = next((name for name in shards if name not in state), None)
    if missing is not None:
        raise CheckpointError(
            f"{path} says that {shards[missing]} holds {missing}, and it does not; wanted all "
            "files of one model. Copy them again"
        )
    return state


def _is_name(shard: Any) -> bool:
    return isinstance(shard, str) and bool(shard) and not set(shard) & set("/\\#")


def _declared(path: str) -> int:
    """Bytes that a file's tensors take in float32, by its header; 0 where it has none."""
    if not path.endswith(".safetensors") or is_url(path):
        return 0
    with opened(path) as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(length, 100 * 2**20)))
            shapes = [of["shape"] for name, of in header.items() if name != "__metadata__"]
            return 4 * sum(int(math.prod(shape)) for shape in shapes)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return 0  # reading it says what is wrong


def _float32(tensor: Any) -> Any:
    """A dense tensor of floats in the type that is kept; halves are not needed twice."""
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        return tensor
    plain = tensor.layout is torch.strided and not tensor.is_meta and not tensor.is_nested
    return tensor.to(torch.float32) if plain and tensor.dtype != torch.float64 else tensor
