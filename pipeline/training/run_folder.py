"""The folder of a training. One process at a time works in it, and its files are never partial.

Every file is written under another name, flushed and renamed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.errors import LossatlasError, one_line
from pipeline.fingerprint import differences


class TrainingError(LossatlasError):
    """A training cannot begin or go on, or its files cannot be written."""


@contextmanager
def locked(folder: Path, facts: Mapping[str, Any]) -> Iterator[None]:
    """Make or find the folder of a training, and lock it for this process.

    Args:
        folder: new, empty, or of the same training.
        facts: for training.json; `parts` among them decides whether the training is the same.

    Raises:
        TrainingError: the folder belongs to something else, another process is at work in it,
            or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be written ({error.strerror}); wanted a folder. Change out"
        ) from None
    with lock:  # However the process ends, the lock ends with it.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"another process is training in {folder}; wanted one at a time. Wait for it, or "
                "stop it"
            ) from None
        _match_or_write(folder, facts)
        yield


def described(folder: Path) -> dict[str, Any]:
    """What training.json in `folder` says.

    Raises:
        TrainingError: there is none, or it cannot be read.
    """
    path = folder / "training.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainingError(
            f"{folder} holds no training.json; wanted the folder of a training. Check the path"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(f"{path} cannot be read ({one_line(error)}); wanted JSON") from None
    wanted = ("spec", "parts", "code")
    if isinstance(content, dict) and all(isinstance(content.get(name), dict) for name in wanted):
        return content
    raise TrainingError(
        f"{path} is not what a training writes; wanted an object with {', '.join(wanted)}. Put the "
        "old one back, or train in a new folder"
    )


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
    """Write tensors as safetensors, with `facts` as JSON in the header; whole or not at all.

    Raises:
        TrainingError: the place cannot be written.
    """
    import safetensors.torch

    copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    metadata = None if facts is None else {"facts": json.dumps(facts)}
    write(path, safetensors.torch.save(copies, metadata))


def write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, even if the power fails.

    Raises:
        TrainingError: the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # such as a folder that is a file
            temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"{path} cannot be written ({error.strerror}); wanted a folder with room. Make room "
            "and run the same command again"
        ) from None


def _match_or_write(folder: Path, facts: Mapping[str, Any]) -> None:
    if (folder / "training.json").exists():
        changed = differences(described(folder)["parts"], facts["parts"])
        if changed:
            raise TrainingError(
                f"{folder} belongs to another training: {'; '.join(changed)}. Change out in the "
                "spec, or delete that folder"
            )
        return
    others = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    if others:
        raise TrainingError(
            f"{folder} holds {others[0]} and no training; wanted a new or empty folder. Change out"
        )
    write(folder / "training.json", json.dumps(facts, indent=1).encode())
