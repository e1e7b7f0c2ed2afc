"""The schedule of a refinement: its passes, what they compare by, and what their audits found.

It is a note in the store that only the driver writes and that only grows: whoever renders a step,
now or after a mishap, finds what was decided when the step's pass began. Steps mean nothing without
it, so that it has a copy, written first, and both a digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pipeline.audit import Certificate
from pipeline.geometry.grid import Grid
from pipeline.refinement.lattice import Lattice, coarsest_step
from pipeline.refinement.scale import Range, Scale, Space, scales
from pipeline.spec import RefineSpec, stored_refine
from pipeline.store.reader import StoreReader
from pipeline.store.store import Store

_NOTE, _COPY = "refine.json", "refine/copy.json"
# Steps look at what lies within five of the coarsest lattice's steps around their tile. From here
# on a wider one would save less than a thousandth of the points, and grow what every step reads.
_LARGEST_STEP = 64
# An audit that finds errors far beyond what was expected has found what the lattice does not see.
UNRESOLVED = 4.0
_CLAMPED = (
    "an earlier version compared predictions by logarithms that values of 0 or less do not have"
)


@dataclass(frozen=True)
class Pass:
    """One pass over all tiles.

    Attributes:
        kind: `lattice` evaluates the coarsest lattice, `refine` what cannot be predicted, `audit`
            the sample, and `compose` writes what is left as predicted.
        asked: which of the schedule's `asked` it works for.
        level: refine: the last level whose points may be evaluated.
        base: refine: the last level all of whose points are.
        strict: refine: by how much less than usual predictions are trusted.
        centres: refine: of the last level, only the centres of cells.
        part, parts: refine, where everything is: which of how many equal parts of a tile's points.
        logs: on a log scale, what takes the place of logarithms that there are not. `exact`:
            nothing, and a quantity whose lattice has values of 0 or less is on a linear scale.
            `left`: all are on a linear scale, since such values were found later on. `clamped`:
            see `pipeline.refinement.scale`; of passes that earlier versions decided on.
    """

    kind: Literal["lattice", "refine", "audit", "compose"]
    asked: int = 0
    level: int = 0
    base: int = 0
    strict: float = 1.0
    centres: bool = False
    part: int = 0
    parts: int = 1
    logs: Literal["clamped", "exact", "left"] = "exact"


@dataclass(frozen=True)
class Schedule:
    """Everything decided so far; immutable.

    Attributes:
        step: of the coarsest lattice.
        asked: what was asked for, the last one counts; None is a full evaluation.
        ranges: of quantities and splits, known after the first pass.
        passes: in order; a pass's number is its place.
        certificates: one an audit that is finished, in order.
        stride: above 1 in stores of earlier versions that predicted frames from other frames.
    """

    step: int
    asked: tuple[RefineSpec | None, ...]
    ranges: tuple[Range, ...]
    passes: tuple[Pass, ...]
    certificates: tuple[Certificate, ...]
    stride: int = 1

    @classmethod
    def begin(cls, grid: Grid, asked: RefineSpec) -> Schedule:
        """A schedule of which nothing is done.

        Args:
            grid: of the render.
            asked: how it is to be refined.
        """
        step = min(_LARGEST_STEP, coarsest_step(grid.height, grid.width))
        return cls(step, (asked,), (), (Pass("lattice"),), ())._append_round(1.0, 0)

    @classmethod
    def read(cls, store: StoreReader) -> Schedule | None:
        """The schedule of a store; None where it is not refined, not begun, or lost."""
        return cls._of(store.read_note(_NOTE)) or cls._of(store.read_note(_COPY))

    @classmethod
    def _of(cls, note: Mapping[str, Any] | None) -> Schedule | None:
        """What a note says, if it is whole."""
        if not note or note.get("digest") != _digest(note):
            return None
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            found = cls(
                step=note["step"],
                stride=note["stride"],
                asked=tuple(a and stored_refine(a) for a in note["asked"]),
                ranges=tuple(map(Range.from_dict, note["ranges"])),
                passes=tuple(Pass(**{"logs": "clamped", **each}) for each in note["passes"]),
                certificates=tuple(map(Certificate.from_dict, note["certificates"])),
            )
            if found.passes and all(0 <= p.asked < len(found.asked) for p in found.passes):
                return found
        return None

    def write(self, store: Store) -> None:
        plain: dict[str, Any] = {
            "step": self.step,
            "stride": self.stride,
            "asked": [each and each.model_dump(mode="json") for each in self.asked],
            "ranges": [each.as_dict() for each in self.ranges],
            "passes": [asdict(each) for each in self.passes],
            "certificates": [each.as_dict() for each in self.certificates],
        }
        plain["digest"] = _digest(plain)
        for name in (_COPY, _NOTE):
            store.write_note(name, plain)

    @property
    def last(self) -> int:
        """The number of the last pass."""
        return len(self.passes) - 1

    def lattice(self, grid: Grid) -> Lattice:
        return Lattice(grid.height, grid.width, self.step)

    def scales(self, number: int) -> tuple[Scale, ...]:
        """What pass `number` compares by, one a quantity and split."""
        asked = self.asked[self.passes[number].asked]
        asked = asked or next(each for each in reversed(self.asked) if each)
        logs = self.passes[number].logs
        ranges = [replace(each, space=_space(each, asked, logs)) for each in self.ranges]
        return scales(ranges, asked.share, asked.nats, asked.error)

    @property
    def without_log(self) -> tuple[tuple[str, str], ...]:
        """The quantities and splits that a log scale was asked for and is not used for, now."""
        asked = self.asked[-1]
        if asked is None or asked.space != "log" or not self.ranges:
            return ()
        return tuple(
            (each.range.quantity, each.range.split)
            for each in self.scales(self.last)
            if each.range.space == "linear" and each.range.quantity != "error"
        )

    def void(self, final: bool) -> str:
        """Why the audits of an earlier version say nothing of the predictions; empty if they do.

        Args:
            final: whether every tile is composed.
        """
        if self.asked[-1] is None:
            return ""
        if self.stride > 1 and not final:
            return "an earlier version predicted frames of this film from other frames"
        return _CLAMPED if self._is_clamped else ""

    @property
    def _is_clamped(self) -> bool:
        """Whether the last audit clamped a loss that is zero or negative before it compared it."""
        last = self.asked[-1]
        return (
            last is not None
            and last.space == "log"
            and self.passes[-1].kind == "compose"
            and self.passes[-1].logs == "clamped"
            and not self.certificates[-1].of_values
            and any(each.low <= 0 for each in self.ranges if each.quantity != "error")
        )

    def with_ranges(self, ranges: Sequence[Range]) -> Schedule:
        return replace(self, ranges=tuple(ranges))

    def after_audit(
        self, certificate: Certificate, worst: int, leave_log: bool = False
    ) -> Schedule:
        """What follows an audit: composing where it passed, and another round where not.

        Args:
            certificate: of the last pass.
            leave_log: that values of 0 or less were found, which a log scale has no place for:
                begin again on a linear one, whatever the audit says.
            worst: how many audited points were off by more than four tolerances. Where few are,
                predictions are trusted less; where many are, something lies between the points of
                the lattice, and a finer one is evaluated as a whole.
        """
        then = replace(self, certificates=(*self.certificates, certificate))
        now = self.passes[-1]
        if leave_log and now.logs != "left":
            return then._append_round(1.0, 0, "left")
        if certificate.passed:
            return then._append(Pass("compose", now.asked, logs=now.logs))
        before = next(each for each in reversed(self.passes) if each.kind == "refine")
        share = worst / max(1, certificate.audited)
        if share > certificate.allowed:
            return then._append_round(before.strict, before.base + 1)
        return then._append_round(2 * before.strict, before.base)

    def satisfies(self, asked: RefineSpec | None) -> bool:
        """Whether what is asked for already now is at least as strict."""
        last = self.asked[-1]
        if last is None or asked is None:
            return last is None
        return (
            last.space == asked.space
            and (last.share is None) == (asked.share is None)
            and (last.share or 0.0) <= (asked.share or 0.0)
            and (last.nats or 0.0) <= (asked.nats or 0.0)
            and last.error <= asked.error
            and last.beyond <= asked.beyond
            and last.confidence >= asked.confidence
            and last.audit >= asked.audit
        )

    def with_request(self, asked: RefineSpec | None, parts: int = 1) -> Schedule:
        """What follows where something tighter is asked for, or None: everything.

        Args:
            asked: what.
            parts: in how many steps a tile's points are evaluated, where all of them are.
        """
        then = replace(self, asked=(*self.asked, asked), stride=1)
        if asked is not None:
            return then._append_round(1.0, 0)
        last, number = self.step.bit_length() - 1, len(then.asked) - 1
        whole = Pass("refine", number, last, base=last, parts=parts, logs=self._logs)
        of_parts = [replace(whole, part=part) for part in range(parts)]
        return then._append(*of_parts, Pass("compose", number, logs=self._logs))

    @property
    def _logs(self) -> Literal["exact", "left"]:
        """Of the next round: a scale that was left is not come back to."""
        return "left" if self.passes[-1].logs == "left" else "exact"

    def _append(self, *passes: Pass) -> Schedule:
        return replace(self, passes=(*self.passes, *passes))

    def _append_round(
        self, strict: float, base: int, logs: Literal["exact", "left"] | None = None
    ) -> Schedule:
        """Level by level, centres first, once more for what the last level showed, and an audit."""
        logs = logs or self._logs
        asked, last = len(self.asked) - 1, self.step.bit_length() - 1
        base = min(base, last)
        made = [
            Pass("refine", asked, level, base, strict, centres, logs=logs)
            for level in range(max(1, base), last + 1)
            for centres in (True, False)
        ]
        again = [Pass("refine", asked, last, base, strict, logs=logs)] if last else []
        return self._append(*made, *again, Pass("audit", asked, logs=logs))


def _space(of: Range, asked: RefineSpec, logs: Literal["clamped", "exact", "left"]) -> Space:
    """What a quantity is predicted and compared in, in passes of such logarithms."""
    if of.quantity == "error" or asked.space == "linear" or logs == "left":
        return "linear"
    if logs == "clamped":
        return "clamped"
    return "log" if of.low > 0 else "linear"


def _digest(note: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in note.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
