"""The best-fit plane of checkpoints. Each file is read once, and one at a time is in memory."""

from __future__ import annotations

from collections import Counter
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
# What to do with fewer checkpoints than `_LEAST`, by their number.
_FOR_FEW = (
    "Name some",
    "Use kind: random around it, or checkpoints that differ",
    "Use kind: interpolation for two",
)


class FitPlanesError(LossatlasError):
    """The checkpoints of a best-fit plane are too few, too many, or named twice."""


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
        FitPlanesError: fewer than three, more than 4,096, fewer than `last`, or one named twice.
    """
    paths = files.listed(weights, key)
    if last is not None and last > len(paths):
        raise FitPlanesError(
            f"plane.last is {last:,} and {key} has {len(paths):,} checkpoints; wanted no more than "
            "that. Use a smaller one, or leave it out"
        )
    paths = paths[-last:] if last is not None else paths
    if not _LEAST <= len(paths) <= _MOST:
        found = f"{len(paths):,} {'checkpoint' if len(paths) == 1 else 'checkpoints'}"
        cure = _FOR_FEW[len(paths)] if len(paths) < _LEAST else "Use plane.last"
        raise FitPlanesError(f"{key} has {found}; kind: fit wants {_LEAST} to {_MOST:,}. {cure}")
    twice = next((path for path, count in Counter(paths).items() if count > 1), None)
    if twice is not None:
        raise FitPlanesError(f"{key} names {twice} twice; wanted each once. Leave one out")
    return paths


def survey(
    paths: Sequence[str],
    read: Read,
    size: int,
    centre: Literal["mean", "last"],
    components: tuple[int, int],
    key: str = "plane.weights",
) -> FitSurvey:
    """Read every checkpoint once, and fit their plane.

    Weights that several files hold count once: runs often have their fresh weights in common.

    Args:
        paths: from `listing`.
        read: a checkpoint.
        size: P, how many values each has.
        centre, components: as for `best_fit`.
        key: of the spec that names them, for messages.

    Raises:
        FitPlanesError: they hold fewer than three different weights.
        BestFitError: they span no such plane.
        LossatlasError: one cannot be read, or the scratch table has no room.
    """
    rows: dict[str, int] = {}
    digests, kept = [], []
    with WeightTable(len(paths), size) as table:
        for place, path in enumerate(paths):
            state, weights = read(path, f"{key}[{place}] ({Path(path).name})")
            digests.append(digest_of_array(weights))
            if digests[-1] not in rows:
                table.write(len(rows), weights)
                rows[digests[-1]] = len(rows)
            if place in (0, len(paths) - 1):
                kept.append((state, weights))
        if len(rows) < _LEAST:
            raise FitPlanesError(
                f"the {len(paths)} checkpoints of {key} hold {len(rows)} different "
                f"{'set' if len(rows) == 1 else 'sets'} of weights; wanted at least {_LEAST}. "
                f"{_FOR_FEW[len(rows)]}"
            )
        order = [rows[digest] for digest in sorted(rows)]
        fit = best_fit(table, order, (0, rows[digests[-1]]), centre, components)
    (first, w_first), (last, w_last) = kept
    return FitSurvey(fit, tuple(digests), (first, last), (w_first, w_last))
