"""Folders that `torch.distributed.checkpoint` wrote, read without a process group.

Their `.metadata` is a pickle, which torch's own reader would simply load. Here it is read with a
closed list of classes, all of which only describe tensors, so no code in it can run. The parts of
the tensors are files of torch each.
"""

from __future__ import annotations

import importlib
import io
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from pipeline.checkpoints import pickled
from pipeline.checkpoints.pickled import Inert
from pipeline.checkpoints.place import CheckpointError, opened, require_room
from pipeline.errors import described

METADATA = ".metadata"

_DESCRIBING = {
    "torch": ("Size",),
    "torch.serialization": ("_get_layout",),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch.distributed.checkpoint.metadata": (
        "Metadata",
        "TensorStorageMetadata",
        "BytesStorageMetadata",
        "TensorProperties",
        "ChunkStorageMetadata",
        "MetadataIndex",
        "StorageMeta",
        "_MEM_FORMAT_ENCODING",
    ),
}


class _Unpickler(pickle.Unpickler):
    """Reads what describes tensors, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "pathlib":  # where the checkpoint was written
            return Inert
        if name in _DESCRIBING.get(module, ()):
            return getattr(importlib.import_module(module), name)
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")


def read(path: str) -> dict[str, Any]:
    """The tensors of such a folder, in the nested dicts that were saved; without optimizers.

    Raises:
        CheckpointError: it is not whole, or its metadata holds what could run code.
        RoomError: its tensors need more memory than is free.
    """
    metadata = _metadata(path)
    try:
        wanted = {
            name: of
            for name, of in metadata.state_dict_metadata.items()
            if hasattr(of, "chunks") and not str(_way(metadata, name)[0]).startswith("optim")
        }
        require_room(sum(4 * math.prod(of.size) for of in wanted.values()), path)
        state = {name: _unread(of.size, of.properties.dtype) for name, of in wanted.items()}
        for file, pieces in _by_file(metadata, wanted).items():
            with opened(f"{path}/{file}") as stream:
                for piece in pieces:
                    piece.read_into(state[piece.name], stream, f"{path}/{file}")
        return _nested({_way(metadata, name): tensor for name, tensor in state.items()})
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not hold what its {METADATA} says ({described(error, 120)}); wanted all "
            "files of one checkpoint. Copy it again"
        ) from None


@dataclass(frozen=True)
class _Piece:
    """A part of a tensor: where it belongs, and which bytes of a file hold it."""

    name: str
    window: tuple[slice, ...]
    offset: int
    length: int

    def read_into(self, tensor: torch.Tensor, file: IO[bytes], path: str) -> None:
        file.seek(self.offset)
        saved = pickled.read(io.BytesIO(file.read(self.length)), path)
        target = tensor[self.window]
        if saved.shape != target.shape:
            raise ValueError(f"{self.name} has a part of another shape")
        target.copy_(saved)


def _by_file(metadata: Any, wanted: dict[str, Any]) -> dict[str, list[_Piece]]:
    """The parts of the tensors that each file holds."""
    places = {(at.fqn, tuple(at.offset or ())): to for at, to in metadata.storage_data.items()}
    files: dict[str, list[_Piece]] = {}
    for name, of in wanted.items():
        for chunk in of.chunks:
            place = places[name, tuple(chunk.offsets)]
            if getattr(place, "transform_descriptors", None):
                raise ValueError(f"{name} is compressed by an extension")
            edges = zip(chunk.offsets, chunk.sizes, strict=True)
            window = tuple(slice(start, start + size) for start, size in edges)
            piece = _Piece(name, window, place.offset, place.length)
            files.setdefault(place.relative_path, []).append(piece)
    return files


def _metadata(path: str) -> Any:
    with opened(f"{path}/{METADATA}") as file:
        try:
            metadata = _Unpickler(file).load()
            within = all(
                Path(info.relative_path).name == info.relative_path
                for info in metadata.storage_data.values()
            )
        except pickle.UnpicklingError as error:
            found = str(error).removeprefix("GLOBAL ")
            raise CheckpointError(
                f"{path}/{METADATA} holds {found}, which could run code, and was refused; wanted "
                "tensors alone. Save the state dict of the network with torch.save"
            ) from None
        except Exception as error:  # whatever a damaged pickle raises
            raise CheckpointError(
                f"{path}/{METADATA} is not whole ({described(error, 120)}); wanted a folder of "
                "torch.distributed.checkpoint. Copy it again"
            ) from None
    if not within:
        raise CheckpointError(f"{path} names files outside itself; wanted its own alone")
    return metadata


def _way(metadata: Any, name: str) -> tuple[str, ...]:
    """The names of the dicts that a tensor was in, and its own."""
    ways = metadata.planner_data if isinstance(metadata.planner_data, dict) else {}
    way = ways.get(name) or (name,)
    return tuple(str(part) for part in way)


def _unread(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor to read into; values that no file holds stay NaN, which is refused later."""
    return torch.full(shape, math.nan if dtype.is_floating_point else 0, dtype=dtype)


def _nested(flat: dict[tuple[str, ...], torch.Tensor]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for (*folders, name), tensor in flat.items():
        at = nested
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = tensor
    return nested
