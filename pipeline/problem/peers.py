"""Directions in the files of Li et al. 2018: a list of tensors for each direction, in HDF5.

Their code writes the lists `xdirection` and `ydirection`, of all parameters in their order, or of
the whole state dict. One of the lists is named as `directions.h5:xdirection`.

Source: `h5_util.py` and `net_plotter.py` in the code of arXiv:1712.09913.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import fsspec
import numpy as np
import torch
from torch import nn

from pipeline import memory
from pipeline.errors import LossatlasError, one_line
from pipeline.problem.checkpoint import State
from pipeline.url import UnreachableError, reached

_LISTS = ("xdirection", "ydirection")


class PeersError(LossatlasError):
    """A file of directions cannot be read, or is of another network."""


def is_theirs(path: str) -> bool:
    """Whether `path` names an HDF5 file, or a list in one."""
    return path.lower().endswith(".h5") or path.lower().rpartition(":")[0].endswith(".h5")


def name_of(path: str) -> str:
    """What pictures call a direction: its file's name without ending, or the list's."""
    return path.rpartition(":")[2] if is_theirs(path) else PurePath(path).stem


def load_direction(path: str, network: nn.Module) -> State:
    """One direction: parameter's name → tensor, float32.

    Args:
        path: a local path or a URL, and the name of the list: `directions.h5:xdirection`.
        network: that it is of, with any weights.

    Raises:
        PeersError: no such file or list, h5py is not installed, or another number of tensors or
            another shape than the network has.
        RoomError: it takes more memory than is free.
    """
    file, colon, name = path.rpartition(":")
    if not colon or not file.lower().endswith(".h5"):
        raise PeersError(
            f"{path} may hold two directions; wanted the name of one. Write {path}:{_LISTS[0]}, "
            f"or {path}:{_LISTS[1]}"
        )
    arrays = _read(file, name)
    return _named(arrays, network, path)


def _read(file: str, name: str) -> list[np.ndarray]:
    """The arrays of a list in an HDF5 file, in their order."""
    try:
        import h5py
    except ImportError:
        raise PeersError(
            f"{file} is HDF5, which h5py reads; wanted it installed. Use pip install "
            "'lossatlas[peers]'"
        ) from None
    try:
        with reached(file), fsspec.open(file, "rb") as opened:
            content = io.BytesIO(opened.read())
        with h5py.File(content, "r") as found:
            if not isinstance(found.get(name), h5py.Group):
                raise PeersError(
                    f"{file} holds no list {name}; wanted {' or '.join(_LISTS)}. It has "
                    f"{', '.join(found) or 'nothing'}"
                )
            return [_array(found[name], str(place), file) for place in range(len(found[name]))]
    except UnreachableError:
        raise
    except FileNotFoundError:
        raise PeersError(f"{file}: no such file; wanted directions. Check the path") from None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise PeersError(
            f"{file} cannot be read as HDF5 ({one_line(error)}); wanted directions. Copy it again"
        ) from None


def _array(group: Any, name: str, file: str) -> np.ndarray:
    found = group[name]
    # Neither links into other files nor raw data in them: the file may be a stranger's.
    if found.file != group.file or getattr(found, "external", None):
        raise PeersError(
            f"{file} refers to other files; wanted all of it in this one. Copy it whole"
        )
    memory.require(4 * int(found.size), file, "Use a machine with more memory")
    return np.asarray(found, "f4")


def _named(arrays: list[np.ndarray], network: nn.Module, path: str) -> dict[str, torch.Tensor]:
    """The parameters' arrays by name, whether the list is of parameters or of the state dict."""
    parameters: Mapping[str, torch.Tensor] = dict(network.named_parameters())
    states: Mapping[str, torch.Tensor] = network.state_dict()
    wanted = parameters if len(arrays) == len(parameters) else states
    if len(arrays) != len(wanted):
        raise PeersError(
            f"{path} has {len(arrays)} tensors and the network {len(parameters)} parameters, "
            f"{len(states)} with buffers: not the same network. Check network.factory, or the file"
        )
    for (name, own), array in zip(wanted.items(), arrays, strict=True):
        if tuple(own.shape) != array.shape:
            raise PeersError(
                f"{path} is not of the same network (first difference: {array.shape} against "
                f"{name} {tuple(own.shape)}). Check network.factory, or the file"
            )
        if not np.isfinite(array).all():
            raise PeersError(f"{path}: {name} holds NaN or inf; wanted finite numbers")
    named = zip(wanted, arrays, strict=True)
    return {name: torch.from_numpy(array) for name, array in named if name in parameters}
