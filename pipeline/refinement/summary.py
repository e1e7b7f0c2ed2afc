"""The summary of a refined render: how much was evaluated, and what its audit found."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.audit import Certificate
from pipeline.caption import amount
from pipeline.refine_spec import RefineSpec
from pipeline.refinement.schedule import Schedule


@dataclass(frozen=True)
class Summary:
    """The summary of a whole render, or of one of its frames.

    Attributes:
        points, evaluated: how many points there are, and how many of them were evaluated.
        asked: the request for the predictions; None if everything is evaluated.
        certificate: of the last audit for `asked`; None before that audit is finished.
        final: whether every tile is composed; before that, predictions may change.
        unit: of the loss, empty if it has none.
        without_log: the quantities and splits that have a linear scale although log was requested.
        void: why audits of an earlier version do not apply to the predictions; usually empty. If it
            is not, `certificate` is None.
    """

    points: int
    evaluated: int
    asked: RefineSpec | None
    certificate: Certificate | None
    final: bool
    unit: str
    without_log: tuple[tuple[str, str], ...] = ()
    void: str = ""

    @classmethod
    def of(
        cls, schedule: Schedule | None, points: int, evaluated: int, final: bool, unit: str
    ) -> Summary:
        """The summary of a store's schedule; `final` if every tile is composed."""
        if schedule is None:
            return cls(points, evaluated, None, None, False, unit)
        audits = _audits(schedule)
        now = len(schedule.asked) - 1
        certificate = audits[-1][1] if audits and audits[-1][0] == now else None
        void = schedule.void(final)
        if void:
            certificate = None
        asked, without_log = schedule.asked[-1], schedule.without_log
        return cls(points, evaluated, asked, certificate, final, unit, without_log, void)

    @property
    def share(self) -> float:
        """The evaluated share of all points, in [0, 1]."""
        return self.evaluated / self.points

    def rows(self) -> list[tuple[str, str]]:
        """Lines for people, each with its name: the share evaluated, and what the audit found."""
        if self.evaluated == self.points:
            return [("points", f"all {self.points:,} evaluated, none predicted")]
        share = f"{self.evaluated:,} of {self.points:,} evaluated, {percent(self.share)}"
        out = [("points", f"{share}; the rest is predicted" if self.final else f"{share} so far")]
        if self.without_log:
            fields = ", ".join(" of ".join(each) for each in self.without_log)
            out.append(("scale", f"linear, not log: values of 0 or less were found ({fields})"))
        if self.certificate is not None:
            out.append(("audit", sentence(self.asked, self.certificate, self.unit)))
        if self.void:
            told = f"void: {self.void}; lossatlas resume refines further and audits again"
            out.append(("audit", told))
        return out

    def small_print(self) -> str:
        """One phrase for the foot of a picture; empty if all points were evaluated."""
        if self.evaluated == self.points:
            return ""
        share = f"{percent(self.share)} of points evaluated"
        if not self.final:
            return f"preview: {share} so far, the rest predicted and not audited"
        if self.certificate is None or not self.certificate.passed:
            return f"{share}, the rest predicted and not audited"
        found = self.certificate
        sound = math.floor(1e4 * (1 - found.bound)) / 100
        within = _allowed(self.asked, found, self.unit)
        return (
            f"{share}, the rest predicted: {sound:g} % of them within {within} "
            f"(audited, {100 * found.confidence:g} % confidence)"
        )

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON."""
        return {
            "points": self.points,
            "points_evaluated": self.evaluated,
            "share_evaluated": self.share,
            "asked": self.asked and self.asked.model_dump(mode="json"),
            "certificate": self.certificate and self.certificate.as_dict(),
            "final": self.final,
            "without_log": [" of ".join(each) for each in self.without_log],
            "void": bool(self.void),
        }


def tolerated(asked: RefineSpec | None, unit: str) -> str:
    """The tolerance of a loss: `0.2 % of the colour range`, `0.01 nats`; empty without `asked`."""
    if asked is None:
        return ""
    if asked.nats is not None:
        return amount(asked.nats, unit)
    return f"{100 * (asked.share or 0.0):g} % of the colour range"


def sentences(schedule: Schedule, unit: str) -> list[str]:
    """A sentence on each finished audit; a render with several had several chances to pass."""
    return [sentence(schedule.asked[asked], found, unit) for asked, found in _audits(schedule)]


def _audits(schedule: Schedule) -> list[tuple[int, Certificate]]:
    """The certificates of the finished audits, each with the index of its request.

    The pass after a finished audit has the same request. An audit without a certificate is followed
    by the passes of a stricter request.
    """
    finished = [
        this.asked
        for this, following in itertools.pairwise(schedule.passes)
        if this.kind == "audit" and following.asked == this.asked
    ]
    return list(zip(finished, schedule.certificates, strict=False))


def sentence(asked: RefineSpec | None, found: Certificate, unit: str) -> str:
    """What one audit found."""
    if not found.audited:
        return "nothing was predicted"
    told = (
        f"{'passed' if found.passed else 'failed'}; at {100 * found.confidence:g} % confidence at "
        f"most {at_most(found.bound)} of the predicted points are off by more than "
        f"{_allowed(asked, found, unit)}; worst of {found.audited:,} audited "
        f"{_worst(asked, found, unit)}"
    )
    if found.passed:
        return told
    return f"{told}. At most {100 * found.allowed:g} % was asked for: refined further"


def _allowed(asked: RefineSpec | None, found: Certificate, unit: str) -> str:
    error = found.tolerance.get("error")
    if set(found.tolerance) == {"error"}:
        return f"{error:g}"
    return tolerated(asked, unit) + ("" if error is None else f" (error: {error:g})")


def _worst(asked: RefineSpec | None, found: Certificate, unit: str) -> str:
    def worst(of_error: bool) -> float:
        return max(
            own["1"]
            for quantity, splits in found.quantiles.items()
            for own in splits.values()
            if (quantity == "error") == of_error
        )

    error = f"{worst(True):.2g}" if "error" in found.tolerance else ""
    if set(found.tolerance) == {"error"}:
        return error
    absolute = asked is not None and asked.nats is not None
    told = amount(worst(False), unit, ".2g") if absolute else at_most(worst(False))
    return told + (f" (error: {error})" if error else "")


def percent(share: float) -> str:
    """Two digits of a share: `6.1 %`, `0.11 %`; 100 % only if it is 1."""
    if 0.99 < share < 1:
        return f"{math.floor(1000 * share) / 10:.1f} %"
    return f"{_two_digits(100 * share, round)} %"


def at_most(share: float) -> str:
    """Two digits of a share, rounded up."""
    return f"{_two_digits(100 * share, math.ceil)} %" if math.isfinite(share) else "infinitely far"


def _two_digits(value: float, to_whole: Callable[[float], int]) -> str:
    if value <= 0:
        return "0"
    digits = 1 - math.floor(math.log10(value))
    # Errors of binary fractions must not round a number up.
    rounded = to_whole(round(value * 10**digits, 6)) / 10**digits
    digits = max(0, 1 - math.floor(math.log10(rounded)))
    return f"{rounded:.{digits}f}"
