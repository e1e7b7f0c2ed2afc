"""Loss and error along a curve and along the straight line between its ends, with a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import format
from pipeline.geometry.plane import Vector


@dataclass(frozen=True)
class Profile:
    """Distances, losses and errors along one path from the start to the end.

    Attributes:
        distance: from the start, Euclidean in weight space, float64 (T,).
        length: of the path, measured from point to point.
        values: quantity → float64 (splits, T). `loss`, and `error` where the loss has one; where
            targets are classes, `ensemble_loss` and `ensemble_error` of the averaged softmax.
    """

    distance: Vector
    length: float
    values: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class CurveReport:
    """A curve and the straight line between its ends, at the same t.

    Attributes:
        kind, bends: of the curve.
        splits: their names, in the order of the values.
        t: even steps from 0 to 1, float64 (T,).
        curve, line: the values along each.
        batch_norm: how it was treated, in words; None where the network has none.
        network: its name; empty where it is not known.
        measures: quantity → its unit, or what its numbers are.
    """

    kind: str
    bends: int
    splits: tuple[str, ...]
    t: Vector
    curve: Profile
    line: Profile
    batch_norm: str | None
    network: str = ""
    measures: Mapping[str, str] = field(default_factory=dict)

    def summary(self, profile: Profile, quantity: str, split: str) -> dict[str, float]:
        """max (and the t where it is), min and mean over the points; NaN if any value is."""
        values = profile.values[quantity][self.splits.index(split)]
        return {
            "max": float(values.max()),
            "max_t": float(self.t[values.argmax()]),
            "min": float(values.min()),
            "mean": float(values.mean()),
        }

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain lists and numbers. NaN and inf stay what they are."""
        return {
            "kind": self.kind,
            "bends": self.bends,
            "batch_norm": self.batch_norm,
            "network": self.network,
            "measures": dict(self.measures),
            "t": self.t.tolist(),
            "curve": self._profile(self.curve),
            "line": self._profile(self.line),
        }

    def table(self) -> str:
        """Plain text: a row a point, then max, min and mean of the curve and of the line."""
        title = (
            f"{self.kind} curve with {format.plural(self.bends, 'bend')}, "
            f"length {self.curve.length:.4g}; "
            f"line: the straight line between its ends, length {self.line.length:.4g}"
        )
        columns = [(split, *column) for split in self.splits for column in self._columns()]
        heads = ["t", "distance", *(head for _, head, _, _ in columns)]
        groups = ["", "", *(split for split, _, _, _ in columns)]
        rows = [
            [f"{t:.4f}", f"{self.curve.distance[i]:.4f}"]
            + [f"{self._of(split, p, q)[i]:.4f}" for split, _, p, q in columns]
            for i, t in enumerate(self.t)
        ]
        feet = [
            [name, ""] + [f"{fold(self._of(split, p, q)):.4f}" for split, _, p, q in columns]
            for name, fold in (("max", np.max), ("min", np.min), ("mean", np.mean))
        ]
        return "\n".join([title, "", *_aligned([groups, heads], rows, feet)])

    def _profile(self, profile: Profile) -> dict[str, Any]:
        return {
            "length": profile.length,
            "distance": profile.distance.tolist(),
            "splits": {
                split: {
                    quantity: {"values": values[index].tolist()}
                    | self.summary(profile, quantity, split)
                    for quantity, values in profile.values.items()
                }
                for index, split in enumerate(self.splits)
            },
        }

    def _columns(self) -> list[tuple[str, Profile, str]]:
        """The columns of each split: head, profile and quantity."""
        columns = [("loss", self.curve, "loss"), ("line loss", self.line, "loss")]
        if "error" in self.curve.values:
            columns += [("error", self.curve, "error"), ("line error", self.line, "error")]
        if "ensemble_error" in self.curve.values:
            columns += [("ensemble", self.curve, "ensemble_error")]
        return columns

    def _of(self, split: str, profile: Profile, quantity: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = profile.values[quantity][self.splits.index(split)]
        return values


def _aligned(heads: list[list[str]], rows: list[list[str]], feet: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in heads + rows + feet) for i in range(len(heads[0]))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    head, body, foot = (
        ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in part]
        for part in (heads, rows, feet)
    )
    return [*head, rule, *body, rule, *foot]
