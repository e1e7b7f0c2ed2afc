"""What a network returns, taken apart: a tensor, or a tuple, a mapping or an object with tensors.

Renders, trainings, reports and the check at the start all take the outputs from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from pipeline.errors import LossatlasError

Key = str | int

_LOGITS = "logits"


class OutputError(LossatlasError):
    """What a network returns has no part that is its output, or several that may be."""


def key_of(returned: Any, examples: int, split: str) -> Key | None:
    """Which part of what a network returned is its output; None where it is one tensor.

    `logits` by itself; else the only tensor with a row an example.

    Args:
        returned: for some examples.
        examples: how many.
        split: of the data, for the message.

    Raises:
        OutputError: no part is, or several may be.
    """
    if isinstance(returned, Tensor):
        return None
    parts = _parts(returned)
    if isinstance(parts.get(_LOGITS), Tensor):
        return _LOGITS
    fitting = [
        key
        for key, each in parts.items()
        if isinstance(each, Tensor) and each.ndim and len(each) == examples
    ]
    if len(fitting) == 1:
        return fitting[0]
    found = f"the network gives {_told(returned)} for {examples} examples of data split {split}"
    if fitting:
        names = " or ".join(map(str, fitting))
        raise OutputError(f"{found}; wanted one of them. Name it: network.output: {names}")
    raise OutputError(
        f"{found}; wanted a tensor with a row an example. Check forward, or use "
        "evaluate.loss: file.py:callable"
    )


def part(returned: Any, key: Key | None) -> Tensor:
    """The part `key` of what a network returned; all of it where `key` is None.

    Args:
        returned: a tensor, a tuple, a mapping, or an object with attributes.
        key: as `network.output` names it, or `key_of` finds it.

    Raises:
        OutputError: there is no such part, or it is no tensor.
    """
    if key is None:
        found = returned
    else:
        parts = _parts(returned)
        if key not in parts and isinstance(key, int) and isinstance(returned, tuple):
            parts = dict(enumerate(returned))  # a named tuple
        found = parts.get(key)
    if isinstance(found, Tensor):
        return found
    named = "no network.output is given" if key is None else f"network.output is {key!r}"
    raise OutputError(
        f"{named} and the network gives {_told(returned)}; wanted the name or the place of a "
        "tensor among them. Mend network.output"
    )


def tensors_of(returned: Any) -> list[Tensor]:
    """The tensors that a network gives, however it nests them."""
    return list(_tensors(returned, 0))


def _tensors(returned: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(returned, Tensor):
        yield returned
    elif depth < 8:  # objects may hold each other
        for each in _parts(returned).values():
            yield from _tensors(each, depth + 1)


def _parts(returned: Any) -> dict[Key, Any]:
    """What `returned` holds, by name or place; empty where it holds nothing."""
    match returned:
        case Tensor() | str() | bytes() | type() | None:
            return {}
        case Mapping():
            return dict(returned)
        case tuple() if hasattr(returned, "_asdict"):
            return dict(returned._asdict())
        case tuple() | list():
            return dict(enumerate(returned))
    if dataclasses.is_dataclass(returned):
        return {field.name: getattr(returned, field.name) for field in dataclasses.fields(returned)}
    held = getattr(returned, "__dict__", {})
    return {name: each for name, each in held.items() if not name.startswith("_")}


def _told(returned: Any) -> str:
    """What it is in words: `tuple of 0: (2, 5), 1: (1, 2, 8)`."""
    if isinstance(returned, Tensor):
        return str(tuple(returned.shape))
    name = type(returned).__name__
    parts = {key: each for key, each in _parts(returned).items() if each is not None}
    if not parts:
        return name
    shown = ", ".join(
        f"{key}: {tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__}"
        for key, each in list(parts.items())[:6]
    )
    return f"{name} of {shown}{', …' if len(parts) > 6 else ''}"
