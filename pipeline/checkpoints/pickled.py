"""Checkpoints that torch saved. No code in them can run."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import IO, Any

import torch

from pipeline.checkpoints.place import CheckpointError, require_room

_CURE = "Save network.state_dict(), best as safetensors"


class Inert:
    """Stands for an object of a class that trainings save beside weights. It holds nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass


def _a_dict(*_: Any) -> dict[Any, Any]:
    """Stands for a dict with a default, which the tensors may be in."""
    return {}


# What `weights_only` may meet besides tensors and plain containers. The classes themselves are
# never imported or called: an inert object stands for each.
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_BUILTINS = ("int", "float", "str", "bool", "list", "dict", "tuple", "slice", "range")
_NODES = ("AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "PathNode")
_INERT = {
    "argparse": ("Namespace",),
    "builtins": _BUILTINS,
    "collections": ("deque",),
    "datetime": ("datetime", "date", "timedelta"),
    "functools": ("partial",),
    "numpy": ("dtype", "ndarray", "float64", "float32", "int64", "int32", "bool_"),
    "numpy.core.multiarray": ("scalar", "_reconstruct"),
    "numpy._core.multiarray": ("scalar", "_reconstruct"),
    "omegaconf.base": ("ContainerMetadata", "Metadata"),
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.nodes": _NODES,
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,
    "pytorch_lightning.callbacks.early_stopping": ("EarlyStopping",),
    "pytorch_lightning.callbacks.lr_monitor": ("LearningRateMonitor",),
    "pytorch_lightning.callbacks.model_checkpoint": ("ModelCheckpoint",),
    "torch.torch_version": ("TorchVersion",),
    "types": ("SimpleNamespace",),
    "typing": ("Any",),
}
# Dicts of Lightning, which the tensors may be in.
_DICTS = (
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((Inert, f"{module}.{name}") for module, names in _INERT.items() for name in names),
    *((dict, name) for name in _DICTS),
    (_a_dict, "collections.defaultdict"),
]


def read(file: IO[bytes], path: str) -> Any:
    """The content of a file that `torch.save` wrote, with tensors on the CPU.

    Args:
        file: open at its beginning.
        path: for messages.

    Raises:
        CheckpointError: it is no such file, is not whole, or holds what could run code.
        RoomError: it would unpack to more than the memory that is free.
    """
    declared, names = _members(file)
    require_room(declared, path)
    _refuse_others(names, path)
    file.seek(0)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")  # of pickle protocols that torch reads all the same
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a file that is no checkpoint
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise CheckpointError(
                f"{path} holds {refused[1]}, which could run code, and was refused; wanted tensors "
                f"alone. {_CURE}"
            ) from None
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
        raise CheckpointError(
            f"{path} cannot be read as a torch checkpoint ({reason[:120] or type(error).__name__});"
            " wanted a whole file of tensors. Copy it again, or save it as safetensors"
        ) from None


def _members(file: IO[bytes]) -> tuple[int, Sequence[str]]:
    """Of a zip file: bytes that it says its members unpack to, and their names; else nothing."""
    try:
        with zipfile.ZipFile(file) as archive:
            return sum(member.file_size for member in archive.infolist()), archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError):
        return 0, ()


def _refuse_others(names: Sequence[str], path: str) -> None:
    """Raises CheckpointError where the members of a zip file show that torch.save is not its
    writer."""
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript archive, which holds a program; wanted tensors alone. Save "
            f"torch.jit.load({path.rpartition('/')[2]!r}).state_dict() with torch.save"
        )
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(
            f"{path} holds numpy arrays; wanted a checkpoint of tensors. Save them as safetensors"
        )
    if names and not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a zip archive of {names[0]} and others; wanted a checkpoint of tensors. "
            "Unpack it, and name the file in it"
        )
