"""Names in a checkpoint turned into the network's own.

Names in a file may have the parts of wrappers (`module`, `_orig_mod`) anywhere, and a beginning of
their own: `model.` where the network was part of a larger one, `net.` in a curve checkpoint.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]

AVERAGED = "n_averaged"  # the counter of torch's AveragedModel
_WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
_SIMILAR = 0.3  # how alike a name must be to be called the nearest


@dataclass(frozen=True)
class Renaming:
    """Turns a name in a file into the network's own.

    Attributes:
        bare: whether the parts of wrappers are taken out of both before they are compared.
        strip: what names in the file begin with.
        add: what the network's own begin with.
        own: the network's own names, by what they are compared as.
        agreeing: how many names of parameters then agree.
    """

    bare: bool
    strip: str
    add: str
    own: Mapping[str, str]
    agreeing: int

    def __call__(self, name: str) -> str:
        compared = self.add + _compared(name, self.bare).removeprefix(self.strip)
        return self.own.get(compared, compared)

    def told(self, names: Iterable[str]) -> str:
        """What it changes in `names`, in words; empty where nothing."""
        changed = [(name, self(name)) for name in names if not is_counter(name)]
        changed = [(name, own) for name, own in changed if name != own]
        if not changed:
            return ""
        beginnings = {name.removesuffix(own) for name, own in changed if name.endswith(own)}
        if len(beginnings) == 1 and all(name.endswith(own) for name, own in changed):
            return f"names without {beginnings.pop()}"
        return f"{changed[0][0]} as {changed[0][1]}"


def renaming(
    names: Iterable[str], parameters: Collection[str], buffers: Iterable[str] = ()
) -> Renaming:
    """The renaming that makes most of `names` those of a network.

    A single name does not tell a wrapper from a module with the same name, so a renaming holds for
    all of them, or for none.

    Args:
        names: in a file.
        parameters, buffers: the network's own names.
    """
    names = [name for name in names if not is_counter(name)]
    ways = _ways(names, parameters, [*parameters, *buffers])
    return max(ways, key=lambda way: way.agreeing)


def _ways(
    names: Sequence[str], parameters: Collection[str], own: Sequence[str]
) -> Iterator[Renaming]:
    """Every renaming that could be meant; the one that changes nothing comes first."""
    for bare in (False, True):
        found = [_compared(name, bare) for name in names]
        of_own = {_compared(name, bare): name for name in own}
        if len(set(found)) < len(found) or len(of_own) < len(set(own)):
            continue
        wanted = {_compared(name, bare) for name in parameters}
        strips, adds = _beginnings(found), _beginnings(list(of_own))
        for strip, add in [("", ""), *((s, "") for s in strips), *(("", a) for a in adds)]:
            agreeing = sum(add + name.removeprefix(strip) in wanted for name in found)
            yield Renaming(bare, strip, add, of_own, agreeing)


def held_under(names: Collection[str], own: Collection[str]) -> list[str]:
    """The beginnings, with their dots, under which `names` have every one of `own`."""
    first = next(iter(own), "")
    beginnings = [name.removesuffix(first) for name in names if name.endswith(f".{first}")]
    known = set(names)
    return [b for b in beginnings if all(b + name in known for name in own)]


def nearest(name: str, shape: Shape, others: Mapping[str, Shape]) -> str | None:
    """The name among `others` that is most like `name`; of the same shape, if one is."""
    alike = [other for other, of_other in others.items() if of_other == shape]
    for candidates in (alike, list(others)):
        near = difflib.get_close_matches(name, candidates, n=1, cutoff=_SIMILAR)
        if near:
            return near[0]
    return None


def is_counter(name: str) -> bool:
    """Whether a name in a file is that of the counter of averaged models."""
    return name.rpartition(".")[2] == AVERAGED


def without_wrappers(name: str) -> str:
    """`name` without the parts of wrappers."""
    *parts, leaf = name.split(".")
    return ".".join([*(part for part in parts if part not in _WRAPPERS), leaf])


def _compared(name: str, bare: bool) -> str:
    return without_wrappers(name) if bare else name


def _beginnings(names: Sequence[str]) -> list[str]:
    """The beginnings, with their dots, that all of `names` share."""
    if not names:
        return []
    *parts, _ = names[0].split(".")
    every = [f"{each}." for each in itertools.accumulate(parts, lambda a, b: f"{a}.{b}")]
    return [each for each in every if all(name.startswith(each) for name in names)]
