"""What a user writes about curvature: of which examples, and how exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from pipeline.quantities import COMPANIONS, CURVATURE
from pipeline.spec_fields import SpecModel

# Products are taken in float32, and are good to about a millionth.
_LEAST_TOLERANCE = 1e-5


class CurvatureSpec(SpecModel):
    """How the curvature of the loss is measured.

    Attributes:
        split: of the data; by default the one that calibrates, or the first.
        examples: the first so many of it; by default all of them.
        tolerance: the residual that an eigenvalue may have, as a share of the largest in size.
        steps: the most products that finding the ends of a spectrum may take.
        seed: of the vectors that they begin with, and of the trace's probes.
        statistics: of batch norms, where they are recomputed: constants at each point (`held`), or
            functions of the weights that derivatives go through (`through`).
        probes: how many vectors the trace is estimated from.
    """

    split: str | None = None
    examples: int | None = Field(default=None, ge=1)
    tolerance: float = Field(default=1e-3, ge=_LEAST_TOLERANCE, lt=1)
    steps: int = Field(default=60, ge=2)
    seed: int = Field(default=0, ge=0)
    statistics: Literal["held", "through"] | None = None
    probes: int = Field(default=30, ge=2)


def check_curvature(
    asked: CurvatureSpec | None,
    quantities: Sequence[str],
    loss: str,
    unusable: Mapping[str, bool],
    splits: Mapping[str, int],
    has_eigenvectors: bool = False,
) -> None:
    """See that what a spec asks of curvature can be computed.

    Args:
        asked: evaluate.curvature.
        quantities: of the spec, as the user wrote them.
        loss: as the spec names it.
        unusable: other keys of `evaluate` that go with no curvature, and whether they are given.
        splits: name → examples.
        has_eigenvectors: whether the plane is spanned by some.

    Raises:
        ValueError: they do not; for pydantic.
    """
    wanted = [name for name in quantities if name in CURVATURE]
    companions = [name for name in quantities if name in COMPANIONS]
    if companions:
        raise ValueError(
            f"evaluate.quantities has {companions[0]}, which is stored with what it is of; wanted "
            f"some of {', '.join(CURVATURE)}. Leave it out"
        )
    if asked is not None and not wanted and not has_eigenvectors:
        raise ValueError(
            "evaluate.curvature is given and evaluate.quantities has nothing that it is for; "
            f"wanted some of {', '.join(CURVATURE)}. Add one, or leave curvature out"
        )
    if not wanted and not has_eigenvectors:
        return
    for key, is_given in unusable.items():
        if is_given and wanted:
            raise ValueError(
                f"evaluate.{key} is given with {wanted[0]}; wanted float32 without compiling, "
                "since second derivatives need its digits. Leave it out"
            )
    if loss == "l1":
        raise ValueError(
            f"{f'evaluate.quantities has {wanted[0]}' if wanted else 'plane.eigen is given'} with "
            "loss: l1, which has no second derivative; wanted a smooth loss, such as mse or huber"
        )
    _check_examples(asked or CurvatureSpec(), splits)


def _check_examples(asked: CurvatureSpec, splits: Mapping[str, int]) -> None:
    if asked.split is not None and asked.split not in splits:
        raise ValueError(
            f"evaluate.curvature.split is {asked.split}; wanted one of data.splits: "
            f"{', '.join(splits)}"
        )
    most = splits[asked.split] if asked.split else max(splits.values())
    if asked.examples is not None and asked.examples > most:
        raise ValueError(
            f"evaluate.curvature.examples is {asked.examples:,} and the split has {most:,}; "
            "wanted at most as many. Ask for fewer, or give data.splits more"
        )
