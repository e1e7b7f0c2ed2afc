"""Finding checkpoint files in a folder or by a pattern, ordered by the numbers in their names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

import fsspec

from pipeline.checkpoints.place import ENDINGS, Place, stem, with_nest
from pipeline.errors import LossatlasError, one_line
from pipeline.url import UnreachableError, is_url, reached

# What `fit` and `connect` leave in their folder: what they go on from, and the last weights, which
# are also the last of the checkpoints that `keep` asks for.
_OF_A_TRAINING = "training.json"
_TO_GO_ON = ("state.safetensors", "ends.safetensors")
_RESULTS = ("mode.safetensors", "curve.safetensors")


class CheckpointFilesError(LossatlasError):
    """A folder or a pattern holds no checkpoints, or cannot be read."""


def listed(places: str | Sequence[str], key: str) -> tuple[str, ...]:
    """The checkpoints that a spec names, in order.

    Args:
        places: a file, a folder or a pattern; or a list of files and patterns. Those of a folder
            and of a pattern are in the order of `matching`.
        key: of the spec, for messages.

    Raises:
        CheckpointFilesError: a folder or a pattern holds no checkpoint.
    """
    if isinstance(places, str):
        is_one = "*" not in places and Place.of(places).path.endswith(ENDINGS)
        return (places,) if is_one else matching(places, key)
    paths: tuple[str, ...] = ()
    for place in places:
        paths += matching(place, key) if "*" in place else (place,)
    return paths


def matching(place: str, key: str) -> tuple[str, ...]:
    """The checkpoints of a folder or a pattern, by the last numbers in their names, then by name.

    Args:
        place: a folder, or a pattern such as `run/bezier-*.pt`; a path or a URL. `#nest` behind it
            names the same part of each. Of the folder of a `fit` with `keep` only what it kept
            is taken.
        key: of the spec that names it, for messages.

    Raises:
        CheckpointFilesError: no such folder, or no checkpoint in it.
    """
    paths = tuple(sorted(_checkpoints(place, key), key=_number_key))
    if not paths:
        raise CheckpointFilesError(
            f"{key}: no checkpoint in {place}; wanted {', '.join(ENDINGS)}. Check the path"
        )
    return paths


def number(path: str) -> int | None:
    """The last number in a file's name: its epoch, or its place."""
    numbers = re.findall(r"\d+", stem(path))
    return int(numbers[-1]) if numbers else None


def stem_before_number(path: str) -> str:
    """What comes before the number at the end of a file's name."""
    return re.split(r"\d+$", stem(path))[0]


def epochs(paths: Sequence[str]) -> tuple[float, ...] | None:
    """The epochs that `fit` or `connect` noted in the headers of files; None where not in all."""
    found = []
    for path in paths:
        epoch = _epoch(path)
        if epoch is None:
            return None
        found.append(epoch)
    return tuple(found)


def _epoch(path: str) -> float | None:
    path = Place.of(path).path
    if not path.lower().endswith(".safetensors"):
        return None
    with reached(path), fsspec.open(path, "rb") as file:
        content = file.read(int.from_bytes(file.read(8), "little"))
    try:
        epoch = float(json.loads(json.loads(content)["__metadata__"]["facts"])["epoch"])
    except (ValueError, KeyError, TypeError):
        return None
    return epoch if math.isfinite(epoch) else None


def _checkpoints(place: str, key: str) -> list[str]:
    folder, nest = Place.of(place).path, Place.of(place).nest
    pattern = "*" in folder
    try:
        with reached(folder):
            files, root = fsspec.core.url_to_fs(folder)
            if not pattern and not files.isdir(root):
                raise CheckpointFilesError(
                    f"{key}: {place} is no folder; wanted one with checkpoints"
                )
            paths = files.glob(root) if pattern else files.ls(root, detail=False)
            paths = list(map(str, paths))
            found = [p for p in paths if p.endswith(ENDINGS) or (pattern and files.isdir(p))]
            if not pattern and any(_name(path) == _OF_A_TRAINING for path in paths):
                found = _of_trajectory(found)
    except UnreachableError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointFilesError(
            f"{key}: {place} cannot be read ({one_line(error)}); wanted a folder of checkpoints, "
            "or a pattern of them. Check the path and its permissions"
        ) from None
    found = [files.unstrip_protocol(path) for path in found] if is_url(folder) else found
    return [with_nest(path, nest) for path in found]


def _of_trajectory(paths: Sequence[str]) -> list[str]:
    """The checkpoints that `keep` asked for; the result of the training where it did not."""
    weights = [path for path in paths if _name(path) not in _TO_GO_ON]
    return [path for path in weights if _name(path) not in _RESULTS] or weights


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _number_key(path: str) -> tuple[int, str]:
    found = number(path)
    return (-1 if found is None else found, path)
