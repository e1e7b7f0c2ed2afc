"""The content of a checkpoint, whatever kind of file or folder it is."""

from __future__ import annotations

from typing import Any

from pipeline.checkpoints import distributed, tensors
from pipeline.checkpoints.place import CheckpointError, located

# What a folder of Hugging Face holds, the first choice first.
_MODELS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors",
    "adapter_model.safetensors",
)


def read(path: str) -> Any:
    """What a checkpoint holds: usually nested dicts of tensors, on the CPU.

    Args:
        path: a file or a folder, local or a URL, without `#nest`.

    Raises:
        CheckpointError: there is no checkpoint that can be read.
        RoomError: it would unpack to more than the memory that is free.
    """
    with located(path) as (files, location):
        names = _names(files, location) if files.isdir(location) else None
    if names is None:
        return tensors.read_file(path)
    folder = path.rstrip("/")
    if distributed.METADATA in names:
        return distributed.read(folder)
    model = next((name for name in _MODELS if name in names), None)
    if model is None:
        held = ", ".join(sorted(names)[:5]) or "nothing"
        raise CheckpointError(
            f"{path} is a folder; wanted a checkpoint file, a folder with {_MODELS[0]} or "
            f"{_MODELS[2]}, or one of torch.distributed.checkpoint. It holds {held}. Name the file"
        )
    return tensors.read_file(f"{folder}/{model}")


def _names(files: Any, location: str) -> set[str]:
    return {str(name).rstrip("/").rpartition("/")[2] for name in files.ls(location, detail=False)}
