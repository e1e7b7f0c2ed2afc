"""The best-fit plane of checkpoints. Each file is read once, and one at a time is in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoints import files
from pipeline.errors import LossatlasError
from pipeline.fingerprint import digest_of_array
from pipeline.geometry.best_fit import BestFit, best_fit
from pipeline.geometry.weight_table import WeightTable
from pipeline.problem.checkpoint import State

# A path and what messages call it → its state, and its weights (P,).
Read = Callable[[str, str], tuple[State, NDArray[np.float32]]]

_LEAST, _MOST = 3, 4096


class FitPlanesError(LossatlasError):
    """The checkpoints of a best-fit plane are too few, too many, or twice the same."""


@dataclass(frozen=True)
class FitSurvey:
    """What one pass over the checkpoints finds.

    Attributes:
        fit: their plane.
        digests: of each one's weights.
        states: of the first and of the last.
        ends: their weights, float32 (P,).
    """

    fit: BestFit
    digests: tuple[str, ...]
    states: tuple[State, State]
    ends: tuple[NDArray[np.float32], NDArray[np.float32]]


def listing(weights: str | Sequence[str], key: str, last: int | None = None) -> tuple[str, ...]:
    """The checkpoints that a spec names, in order.

    Args:
        weights: a folder, a pattern, or a list of paths and patterns. A folder's and a pattern's
            are in the order of the numbers in their names.
        key: of the spec, for messages.
        last: how many of the last to use; None for all.

    Raises:
        CheckpointFilesError: a pattern matches nothing.
        FitPlanesError: fewer than three, more than 4,096, or fewer than `last`.
    """
    paths: tuple[str, ...] = ()
    for place in (weights,) if isinstance(weights, str) else weights:
        is_one = not isinstance(weights, str) and "*" not in place
        paths += (place,) if is_one else files.matching(place, key)
    if last is not None and last > len(paths):
        raise FitPlanesError(
            f"plane.last is {last} and {key} has {len(paths)} checkpoints; wanted no more than that"
        )
    paths = paths[-last:] if last is not None else paths
    if not _LEAST <= len(paths) <= _MOST:
        cure = "Use kind: interpolation for two" if len(paths) < _LEAST else "Use plane.last"
        raise FitPlanesError(
            f"{key} has {len(paths):,} checkpoints; kind: fit wants {_LEAST} to {_MOST:,}. {cure}"
        )
    return paths


def survey(
    paths: Sequence[str],
    read: Read,
    size: int,
    centre: Literal["mean", "last"],
    components: tuple[int, int],
) -> FitSurvey:
    """Read every checkpoint once, and fit their plane.

    Args:
        paths: from `listing`.
        read: a checkpoint.
        size: P, how many values each has.
        centre, components: as for `best_fit`.

    Raises:
        FitPlanesError: two have the same weights.
        BestFitError: they span no such plane.
        LossatlasError: one cannot be read, or the scratch table has no room.
    """
    found: dict[str, str] = {}
    kept: list[tuple[State, NDArray[np.float32]]] = []
    with WeightTable(len(paths), size) as table:
        for row, path in enumerate(paths):
            state, weights = read(path, f"plane.weights[{row}] ({Path(path).name})")
            digest = digest_of_array(weights)
            if digest in found:
                raise FitPlanesError(
                    f"{path} and {found[digest]} hold the same weights; wanted each once in "
                    "plane.weights. Leave one out"
                )
            found[digest] = path
            table.write(row, weights)
            if row in (0, len(paths) - 1):
                kept.append((state, weights))
        digests = tuple(found)
        order = sorted(range(len(digests)), key=lambda row: digests[row])
        fit = best_fit(table, order, centre, components)
    (first, w_first), (last, w_last) = kept
    return FitSurvey(fit, digests, (first, last), (w_first, w_last))
