"""The schedule of a refinement: its passes, its colour ranges, and the results of its audits.

The schedule is a note in the store. Only the driver writes it, and passes are only added. So a
worker that renders a step, also again after a fault, reads what was decided when the step's pass
began. The steps are useless without the schedule, so there is a copy, which is written first, and
both have a digest.
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
from pipeline.quantities import COMPANIONS
from pipeline.refine_spec import RefineSpec, stored_refine
from pipeline.refinement.lattice import Lattice, coarsest_step
from pipeline.refinement.scale import Range, Scale, Space, scales
from pipeline.store.reader import StoreReader
from pipeline.store.store import Store

_NOTE, _COPY = "refine.json", "refine/copy.json"
# A step reads what lies within five steps of the coarsest lattice around its tile. A larger step of
# the lattice would save less than a thousandth of the points, and every step would read more.
_LARGEST_STEP = 64
# An audited error above so many tolerances shows a feature that the lattice misses.
UNRESOLVED = 4.0
_CLAMPED = (
    "an earlier version compared predictions by logarithms that values of 0 or less do not have"
)


@dataclass(frozen=True)
class Pass:
    """One pass over all tiles.

    Attributes:
        kind: `lattice` evaluates the coarsest lattice, `refine` the points that cannot be
            predicted, and `audit` the sample. `compose` writes the finished tile.
        asked: the index of the pass's request in the schedule's `asked`.
        level: of `refine`: the last level whose points may be evaluated.
        base: of `refine`: the last level all of whose points are evaluated.
        strict: of `refine`: thresholds are divided by this.
        centres: of `refine`: evaluate only the centres of cells of the last level.
        part, parts: of `refine` if all points are evaluated: this part of a tile's points, and the
            number of equal parts.
        logs: on a log scale, what replaces missing logarithms. `exact`: nothing does; a quantity
            with values of 0 or less on the coarsest lattice has a linear scale. `left`: all
            quantities have a linear scale, because such values were found later. `clamped`: see
            `pipeline.refinement.scale`; in passes of earlier versions.
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
    """The decisions so far; immutable.

    Attributes:
        step: of the coarsest lattice.
        asked: the requests in order; the last one applies; None is a full evaluation.
        ranges: of quantities and splits, known after the first pass.
        passes: in order; a pass's number is its index.
        certificates: one for each finished audit, in order.
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
        """The schedule of a new refinement.

        Args:
            grid: of the render.
            asked: how it is to be refined.
        """
        step = min(_LARGEST_STEP, coarsest_step(grid.height, grid.width))
        return cls(step, (asked,), (), (Pass("lattice"),), ())._append_round(1.0, 0)

    @classmethod
    def read(cls, store: StoreReader) -> Schedule | None:
        """The schedule of a store; None if it is not refined, not begun, or its notes are lost."""
        return cls._of(store.read_note(_NOTE)) or cls._of(store.read_note(_COPY))

    @classmethod
    def _of(cls, note: Mapping[str, Any] | None) -> Schedule | None:
        """The schedule in a note; None if the note is damaged."""
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
        """The scale of each quantity and split in pass `number`."""
        asked = self.asked[self.passes[number].asked]
        asked = asked or next(each for each in reversed(self.asked) if each)
        logs = self.passes[number].logs
        ranges = [replace(each, space=_space(each, asked, logs)) for each in self.ranges]
        return scales(ranges, asked.share, asked.nats, asked.error)

    @property
    def without_log(self) -> tuple[tuple[str, str], ...]:
        """The quantities and splits that have a linear scale although log was requested."""
        asked = self.asked[-1]
        if asked is None or asked.space != "log" or not self.ranges:
            return ()
        return tuple(
            (each.range.quantity, each.range.split)
            for each in self.scales(self.last)
            if each.range.space == "linear" and each.range.quantity not in ("error", *COMPANIONS)
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
        """The schedule after an audit: composing follows if it passed, another round if it failed.

        Args:
            certificate: of the last pass.
            worst: how many audited points were off by more than `UNRESOLVED` tolerances. If they
                are few, thresholds become lower. If they are many, the lattice misses a feature,
                and all of the next lattice is evaluated.
            leave_log: whether values of 0 or less were found on a log scale. Then the refinement
                begins again on a linear scale, whatever the audit says.
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
        """Whether the last request of the schedule is at least as strict as `asked`."""
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
        """The schedule with the passes that a stricter request adds.

        Args:
            asked: the request; None for a full evaluation.
            parts: of a full evaluation: in how many steps a tile's points are evaluated.
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
        """`logs` of the next round; once log scales were left, they are not used again."""
        return "left" if self.passes[-1].logs == "left" else "exact"

    def _append(self, *passes: Pass) -> Schedule:
        return replace(self, passes=(*self.passes, *passes))

    def _append_round(
        self, strict: float, base: int, logs: Literal["exact", "left"] | None = None
    ) -> Schedule:
        """Add a round: each level, centres first; the last level once more; and an audit."""
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
    """The space of a quantity in passes with these `logs`."""
    if of.quantity in ("error", *COMPANIONS) or asked.space == "linear" or logs == "left":
        return "linear"
    if logs == "clamped":
        return "clamped"
    return "log" if of.low > 0 else "linear"


def _digest(note: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in note.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
