"""Where a checkpoint is: a file or a folder, and which part of its content is meant."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from pipeline import memory
from pipeline.errors import LossatlasError, one_line
from pipeline.url import UnreachableError, is_url, reached

ENDINGS = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".tar", ".bin", ".t7")


class CheckpointError(LossatlasError):
    """A checkpoint cannot be read, or does not belong to the network."""


@dataclass(frozen=True)
class Place:
    """A checkpoint and a part of its content, as in `run/last.ckpt#ema`.

    Attributes:
        path: of a file or folder, or its URL.
        nest: the part: names of nested dicts, or the beginning of the tensors' names, with dots
            between them; empty where none is named.
    """

    path: str
    nest: str

    @staticmethod
    def of(path: str) -> Place:
        """Read a path as a spec has it. A local path that exists is never divided."""
        file, _, nest = path.rpartition("#")
        in_a_folder = "/" in nest or nest.endswith(ENDINGS)
        if not file or not nest or in_a_folder or (not is_url(path) and os.path.exists(path)):
            return Place(path, "")
        return Place(file, nest)


def stem(path: str) -> str:
    """What a checkpoint is called: its file's name without suffixes, folders and `#nest`."""
    name = PurePosixPath(Place.of(path).path).name
    while name.lower().endswith(ENDINGS):
        name = name.rpartition(".")[0]
    return name


def with_nest(path: str, nest: str) -> str:
    """The path of a part of a checkpoint; `path` itself where `nest` is empty."""
    return f"{path}#{nest}" if nest else path


@contextlib.contextmanager
def located(path: str) -> Iterator[tuple[Any, str]]:
    """The file system and the location of a checkpoint; what fails inside is one error.

    Raises:
        CheckpointError: no such file, or it cannot be read.
        UnreachableError: a remote file system does not answer.
    """
    import fsspec

    try:
        with reached(path):
            yield fsspec.core.url_to_fs(path)
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


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """A checkpoint's file, open at its beginning; a remote one is read as a whole first.

    Raises:
        CheckpointError, UnreachableError: as for `located`.
        RoomError: the file is larger than the memory that is free.
    """
    with located(path) as (filesystem, location), filesystem.open(location, "rb") as file:
        require_room(getattr(file, "size", None) or 0, path)
        whole = io.BytesIO(file.read()) if is_url(path) else None
        if whole is None and hasattr(file, "f"):  # fsspec's wrapper of a local file
            yield file.f
        else:
            yield whole or file


def require_room(bytes_: int, path: str) -> None:
    """See that `bytes_` that a checkpoint unpacks to fit into the free memory.

    Raises:
        RoomError: they do not.
    """
    memory.require(bytes_, path, "Check where the file is from, or use a machine with more memory")
