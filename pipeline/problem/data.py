"""Data: a fixed, seeded subsample of each split, ready for a forward pass."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.loss_names import OF_CLASSES
from pipeline.problem import conversion
from pipeline.problem.forward import Arrays, leaves
from pipeline.problem.source import opener
from pipeline.problem.split import DataError, Split, first_few
from pipeline.problem.usercode import UserCode

if TYPE_CHECKING:
    from pipeline.spec import DataSpec

# Losses by which images may be reproduced.
_REPRODUCING = ("mse", "l1", "huber")


@dataclass(frozen=True)
class Subsample:
    """The examples of one split that are used.

    Attributes:
        name: the split.
        inputs: (n, …) float32 images CHW, normalised, or vectors; or int64 token ids; or several
            such arrays, in a tuple or by name.
        targets: int64 classes (n,), or whole numbers of another shape; or float32 (n, …).
        indices: int64 (n,), rows of the source in the order drawn.
        digest: sha256 (hex) over indices, inputs before normalisation, and targets.
        select: how they were chosen: head, stratified, or seeded where the targets have no classes.
        bytes_of_targets: what became of targets that are bytes, in words; empty for others.
        classes: how many classes a source with named classes has, and the first of their names.
        inputs_told: how the axes of arrays were read and what was scaled, in words; empty where
            nothing was changed, and for image files.
    """

    name: str
    inputs: Arrays
    targets: np.ndarray
    indices: np.ndarray
    digest: str
    select: Literal["head", "stratified", "seeded"]
    bytes_of_targets: str = ""
    classes: str = ""
    inputs_told: str = ""


def load(
    spec: DataSpec,
    code: UserCode | None = None,
    loss: str = "cross_entropy",
    reals: type[np.floating] = np.float32,
) -> tuple[Subsample, ...]:
    """Select and decode the examples of every split, in the order of `spec.splits`.

    Images are uint8 (scaled to [0, 1]) or floats, channels first or last; other unsigned bytes
    are taken for pixels too; other whole numbers are token ids. Only selected images are decoded.
    Targets stay as they are, with one exception: bytes in the shape of inputs that are bytes too,
    for `mse`, `l1` or `huber`, are images to be reproduced, and are treated as the inputs are.

    Args:
        spec: where the examples are, and how many are wanted.
        code: the source behind `file.py:callable`; the path itself is then never opened.
        loss: its name in the spec.
        reals: what floats become: float32, or float64 for a network whose parameters are.

    Raises:
        DataError: no such source or split, a malformed file or image, a missing column, fewer
            examples than asked for, values that are not finite, images of different sizes, or
            a normalisation for another number of channels.
        UserCodeError: the user's file cannot be read or imported.
    """
    open_split = opener(spec, code)
    return tuple(_subsample(open_split(name), name, spec, loss, reals) for name in spec.splits)


def by_split(facts: Mapping[str, Mapping[str, Any]], key: str) -> str:
    """The facts of all splits under `key`, in one line; empty where there are none."""
    found = {split: of_split[key] for split, of_split in facts.items() if key in of_split}
    if len(found) == len(facts) and len(set(found.values())) == 1:
        return str(next(iter(found.values())))
    return "; ".join(f"{split}: {text}" for split, text in found.items())


def ordered(subsamples: Sequence[Subsample], first: str) -> tuple[Subsample, ...]:
    """The split `first`, then the others by name: the order in a YAML mapping does not count."""
    return tuple(sorted(subsamples, key=lambda each: (each.name != first, each.name)))


def draw(labels: np.ndarray, count: int, seed: int, split: str) -> np.ndarray:
    """A seeded draw of `count` rows whose first n rows are the draw of n.

    With one whole number an example it is class-proportional: among the first n, every class of
    fraction p has more than np − 1 and fewer than np + 1. Each class is taken in an order of its
    own; its k-th element (from 0) has the window of steps in which that bound allows it, and the
    element whose window closes first is next (ties: the window's middle, then a seeded order of
    the classes). Any other targets give a seeded permutation.

    Args:
        labels: (N,) classes, or other targets (N, …).
        count: how many rows, at most N.
        seed: of the draw, together with the name of the split.
        split: name of the split.

    Returns:
        Distinct rows, int64 (count,).

    Source: that the windows can all be kept, Tijdeman 1980, Discrete Math. 32:323; that earliest
        deadline first then keeps them, Horn 1974, Naval Res. Logist. Q. 21:177.
    """
    name = int.from_bytes(hashlib.sha256(split.encode()).digest()[:8], "little")
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, name])))
    total = len(labels)
    if not has_classes(labels):
        return generator.permutation(total)[:count].astype(np.int64)
    _, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(class_of, kind="stable")
    parts = np.split(order, np.cumsum(counts)[:-1])
    members = [generator.permutation(part) for part in parts]
    sizes = counts.tolist()
    ties = generator.permutation(len(sizes)).tolist()
    waiting = [(1, c) for c in range(len(sizes))]  # (first step of its window, class)
    ready: list[tuple[int, float, int, int]] = []  # (last step of its window, middle, tie, class)
    taken = [0] * len(sizes)
    rows = np.empty(count, dtype=np.int64)
    for step in range(1, count + 1):
        while waiting and waiting[0][0] <= step:
            _, c = heapq.heappop(waiting)
            last, middle = -(-(taken[c] + 1) * total // sizes[c]), (taken[c] + 0.5) / sizes[c]
            heapq.heappush(ready, (last, middle, ties[c], c))
        *_, c = heapq.heappop(ready)
        rows[step - 1] = members[c][taken[c]]
        taken[c] += 1
        if taken[c] < sizes[c]:
            heapq.heappush(waiting, (taken[c] * total // sizes[c] + 1, c))
    return rows


def has_classes(targets: np.ndarray) -> bool:
    """Whether targets (N, …) are one whole number an example, so that a draw can go by class."""
    is_whole = np.issubdtype(targets.dtype, np.integer) or targets.dtype == np.bool_
    return targets.ndim == 1 and is_whole


def positions(targets: np.ndarray) -> int:
    """Axes of targets (n, …) with more than one position an example: 1 for a sequence."""
    return sum(length > 1 for length in targets.shape[1:])


def _subsample(
    split: Split, name: str, spec: DataSpec, loss: str, reals: type[np.floating]
) -> Subsample:
    count = spec.splits[name]
    given = split.targets()
    what = f"the targets of {split.where}"
    conversion.require_numbers(given, what)
    total = len(given)
    if not total:
        raise DataError(f"{split.where} holds no examples; wanted {count:,}. Check data.source")
    if count > total:
        raise DataError(
            f"data.splits.{name} asks for {count:,} examples and {split.where} has {total:,}; "
            f"wanted at most as many. Lower data.splits.{name}"
        )
    select, rows = _chosen(given, count, spec, name)
    chosen = given[rows]
    targets = conversion.numbers(chosen, what, reals)
    conversion.check_finite(targets, rows, what)
    raw, of_targets = split.inputs(rows), ""
    if chosen.dtype == np.uint8 and loss not in OF_CLASSES:
        of_targets = f"bytes from {targets.min()} to {targets.max()}, not scaled"
        if loss in _REPRODUCING and _are_images(raw, targets):
            targets = conversion.prepared(chosen, rows, spec.normalise, what, reals)
            of_targets = "bytes, treated as the inputs are: scaled to [0, 1]"
            of_targets += ", normalised" if spec.normalise else ""
    inputs = conversion.inputs(raw, rows, spec, f"the inputs of {split.where}", reals)
    classes = f"{len(split.classes)} classes: {first_few(split.classes)}" if split.classes else ""
    return Subsample(
        name=name,
        inputs=inputs,
        targets=targets,
        indices=rows,
        digest=_digest(rows, raw, targets),
        select=select,
        bytes_of_targets=of_targets,
        classes=classes,
        inputs_told="" if split.decoded else conversion.told(raw),
    )


def _are_images(raw: Arrays, targets: np.ndarray) -> bool:
    """Whether inputs are bytes in the shape of the targets: images to be reproduced."""
    return (
        isinstance(raw, np.ndarray)
        and raw.dtype == np.uint8
        and raw.ndim > 1
        and raw.shape == targets.shape
    )


def _chosen(
    targets: np.ndarray, count: int, spec: DataSpec, split: str
) -> tuple[Literal["head", "stratified", "seeded"], np.ndarray]:
    """How `count` examples are chosen, and their rows, int64 (count,)."""
    if spec.select == "head":
        return "head", np.arange(count, dtype=np.int64)
    how: Literal["stratified", "seeded"] = "stratified" if has_classes(targets) else "seeded"
    return how, draw(targets, count, spec.seed, split)


def _digest(rows: np.ndarray, raw: Arrays, targets: np.ndarray) -> str:
    sha256 = hashlib.sha256()
    if isinstance(raw, Mapping):
        sha256.update(repr(list(raw)).encode())
    for array in (rows, *leaves(raw), targets):
        array = np.ascontiguousarray(array)
        sha256.update(f"{array.dtype.str}{array.shape}".encode())
        sha256.update(array.tobytes())
    return sha256.hexdigest()
