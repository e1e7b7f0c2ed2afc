"""Which of the dicts in a checkpoint holds the weights."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.checkpoints.place import CheckpointError

# Where trainings keep the weights. The first of these that a dict has is taken.
_USUAL = ("state_dict", "model_state_dict", "model_state", "model", "net")
_TRAINER = ("optim", "scheduler", "lr_", "scaler", "callbacks", "loops")
_NAMED = 6
_DEEPEST = 8

Named = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Nest:
    """A dict of tensors in a checkpoint.

    Attributes:
        name: of the nested dict, with dots; empty for the file's own.
        state: its tensors.
        others: names of the nests that could serve as well.
    """

    name: str
    state: Named
    others: tuple[str, ...] = ()


def named(content: Any, asked: str, path: str) -> Nest:
    """The nest that a path asks for, as in `last.ckpt#ema`.

    It may also be the beginning of names: `last.ckpt#student` takes `student.conv.weight` and the
    like, without the beginning.

    Raises:
        CheckpointError: there is none of this name, or it holds no tensors; the message lists what
            there is.
    """
    for inner in _descents(content, asked):
        within = _usual(inner, path)
        if within.state:
            return Nest(f"{asked}.{within.name}".rstrip("."), within.state)
    usual = _usual(content, path) if isinstance(content, Mapping) else None
    for nest in (*([usual] if usual else []), *_all(content)):
        beginning = f"{asked.removeprefix(f'{nest.name}.')}."
        begun = {n: t for n, t in nest.state.items() if n.startswith(beginning)}
        if begun:
            return Nest(asked, {name.removeprefix(beginning): t for name, t in begun.items()})
    there = [nest.name for nest in _all(content) if nest.name]
    there += [name for nest in _all(content) for name in _beginnings(nest.state)]
    near = difflib.get_close_matches(asked, there, n=_NAMED, cutoff=0) or there
    listed = ", ".join(f"#{name}" for name in dict.fromkeys(near[:_NAMED]))
    raise CheckpointError(
        f"{path} holds no tensors under {asked}; wanted "
        f"{f'one of {listed}' if listed else 'no part of it: its tensors are in no nested dict'}"
    )


def chosen(content: Any, path: str, fits: Callable[[Named], bool] | None) -> Nest:
    """The nest with the weights, where the path does not say which.

    The usual one is taken, as it always was; if it does not fit the network, the only one that
    does.

    Args:
        content: of a checkpoint.
        path: for messages.
        fits: whether tensors are those of the network; None if it is not known.

    Raises:
        CheckpointError: no tensors, or several nests that could be meant; the message lists them.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds {type(content).__name__}; wanted named tensors. Save "
            "network.state_dict()"
        )
    usual = _usual(content, path)
    nests = [nest for nest in _all(content) if not _is_trainers(nest.name)]
    if fits is None:
        fitting = [] if usual.state else nests
    else:
        fitting = [nest for nest in nests if fits(nest.state)]
    if usual.state and (not fitting or usual.name in (nest.name for nest in fitting)):
        others = tuple(nest.name for nest in fitting if nest.name != usual.name)
        return Nest(usual.name, usual.state, others)
    fitting = fitting or nests
    if len(fitting) > 1:
        listed = ", ".join(f"{path.rpartition('/')[2]}#{nest.name}" for nest in fitting[:_NAMED])
        more = f" and {len(fitting) - _NAMED} more" if len(fitting) > _NAMED else ""
        raise CheckpointError(
            f"{path} holds tensors in {len(fitting)} places; wanted one of them. Write {listed}"
            f"{more}"
        )
    if not fitting:
        raise CheckpointError(
            f"{path} holds no tensors under {', '.join(map(str, content)) or 'no name'}; wanted a "
            "state dict. Save network.state_dict()"
        )
    return fitting[0]


def is_usual(name: str) -> bool:
    """Whether a nest is where trainings usually keep the weights."""
    return all(part in _USUAL for part in name.split("."))


def _usual(content: Mapping[Any, Any], path: str) -> Nest:
    """The dict that is reached by the usual names; it may hold no tensors."""
    met, names = [content], []
    while name := next((n for n in _USUAL if isinstance(met[-1].get(n), Mapping)), None):
        names.append(name)
        if any(met[-1][name] is each for each in met):
            raise CheckpointError(
                f"{path} holds a dict that contains itself, under {name}; wanted a state dict. "
                "Save network.state_dict()"
            )
        met.append(met[-1][name])
    return Nest(".".join(names), _tensors(met[-1]))


def _all(content: Any) -> list[Nest]:
    """Every dict in `content` that holds tensors, the outer ones first."""
    found: list[Nest] = []
    front: list[tuple[str, Any]] = [("", content)]
    met: set[int] = set()
    for name, inner in front:  # which grows
        if not isinstance(inner, Mapping) or id(inner) in met or name.count(".") > _DEEPEST:
            continue
        met.add(id(inner))
        state = _tensors(inner)
        if state:
            found.append(Nest(name, state))
        front += [(f"{name}.{key}".lstrip("."), each) for key, each in inner.items()]
    return found


def _tensors(content: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {str(name): t for name, t in content.items() if isinstance(t, torch.Tensor)}


def _descents(content: Any, asked: str) -> Iterator[Mapping[Any, Any]]:
    """The dicts that `asked` leads to in nested dicts, whose keys may have dots themselves."""
    for key, inner in content.items() if isinstance(content, Mapping) else ():
        if str(key) == asked and isinstance(inner, Mapping):
            yield inner
        elif asked.startswith(f"{key}."):
            yield from _descents(inner, asked.removeprefix(f"{key}."))


def _is_trainers(name: str) -> bool:
    """Whether a nest holds the state of an optimizer or the like, by its name."""
    return any(part.startswith(_TRAINER) for part in name.split("."))


def _beginnings(state: Named) -> list[str]:
    """The first parts of the tensors' names, where there are several."""
    return list(dict.fromkeys(name.partition(".")[0] for name in state if "." in name))
