"""What a user writes about refinement: which points may be predicted instead of evaluated."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from pipeline.audit import least_sample
from pipeline.spec_fields import SpecModel

# The context of a spec that comes from a store: an earlier version has accepted it.
STORED = "stored"


class RefineSpec(SpecModel):
    """When points may be predicted instead of evaluated, and how that is audited.

    Attributes:
        tolerance: the error a predicted loss may have, as a share of the colour range; 0.002 by
            default, half a step of an 8-bit picture.
        nats: the same as an absolute error, in place of `tolerance`.
        error: tolerated in the fraction misclassified.
        scale: the space that predictions are made and compared in, as the picture is coloured.
        audit: how many predicted points are evaluated in the end, to measure their errors.
        beyond: the share of predicted points that may have larger errors for the audit to pass.
        confidence: of the audit.
        seed: of the audit's sample.
    """

    tolerance: float | None = Field(default=None, gt=0, lt=1)
    nats: float | None = Field(default=None, gt=0)
    error: float = Field(default=0.02, gt=0, le=1)
    scale: Literal["log", "linear"] | None = None
    audit: int = Field(default=3000, ge=1)
    beyond: float = Field(default=0.002, gt=0, lt=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _complete(self, info: ValidationInfo) -> Self:
        if self.nats is not None and self.tolerance is not None:
            raise ValueError("refine has both tolerance and nats; wanted one of them")
        if self.nats is not None and self.scale == "log":
            raise ValueError("refine has nats with scale: log; wanted scale: linear, or tolerance")
        least = least_sample(self.beyond, self.confidence)
        if self.audit < least and not (info.context or {}).get(STORED):
            raise ValueError(
                f"refine.audit is {self.audit:,}: so few points can never show beyond: "
                f"{self.beyond:g} at {100 * self.confidence:g} % confidence, even if none of them "
                f"is off; wanted audit: {least:,} or more, or a larger beyond"
            )
        return self

    @property
    def space(self) -> Literal["log", "linear"]:
        return self.scale or ("linear" if self.nats is not None else "log")

    @property
    def share(self) -> float | None:
        """The tolerance as a share of the colour range, or None where it is in nats."""
        return None if self.nats is not None else self.tolerance or 0.002


def stored_refine(content: dict[str, Any]) -> RefineSpec:
    """The same of `evaluate.refine` alone."""
    return RefineSpec.model_validate(content, context={STORED: True})
