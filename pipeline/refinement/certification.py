"""The certificate of an audit: how far predictions are from the values of its sample.

The worker that evaluates a step of an audit notes the errors it finds. The driver reads these notes
when the audit is finished, and decides what follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline import audit
from pipeline.audit import Certificate
from pipeline.geometry.grid import Step
from pipeline.quantities import COMPANIONS
from pipeline.refinement import sample
from pipeline.refinement.records import Points
from pipeline.refinement.schedule import UNRESOLVED, Schedule
from pipeline.refinement.step import NO_LOG, Refinement
from pipeline.store.errors import StoreError


@dataclass(frozen=True)
class _Errors:
    """The note of a step of an audit: the error of each point, a list for each field.

    Earlier versions compared logarithms instead of values, and did not write `of_values`.
    """

    errors: list[list[float]]
    of_values: bool = False


_SHAPE = TypeAdapter(_Errors)


def note_errors(refinement: Refinement, schedule: Schedule, step: Step, points: Points) -> None:
    """Note how far the predictions of a step of an audit are from what it evaluated."""
    errors = _errors(refinement, schedule, step, points)
    content = {"errors": errors.tolist(), "of_values": True}
    refinement.store.write_note(_note(step), content)


def certify(refinement: Refinement, schedule: Schedule, number: int) -> Schedule:
    """The schedule after the audit of pass `number`, all of whose steps are committed.

    Raises:
        StoreError: the sample, or the record of one of its steps, is missing or damaged.
    """
    asked = schedule.asked[schedule.passes[number].asked]
    assert asked is not None  # a full evaluation has no audit
    drawn = sample.require(refinement.store, number)
    errors = _errors_of_sample(refinement, schedule, number, drawn)
    worst = errors.max(axis=0, initial=0.0)
    audited, beyond = errors.shape[1], int((worst > 1).sum())
    certificate = Certificate(
        predicted=drawn.left,
        audited=audited,
        beyond=beyond,
        bound=audit.bound(beyond, audited, drawn.left, asked.confidence),
        allowed=asked.beyond,
        confidence=asked.confidence,
        tolerance={
            quantity: asked.error if quantity == "error" else asked.nats or asked.share or 0.0
            for quantity in refinement.store.quantities
            if quantity not in COMPANIONS
        },
        quantiles=_quantiles(refinement, schedule, number, errors),
        of_values=True,
    )
    leave_log = bool(refinement.store.notes(NO_LOG))
    return schedule.after_audit(certificate, int((worst > UNRESOLVED).sum()), leave_log)


def _errors_of_sample(
    refinement: Refinement, schedule: Schedule, number: int, drawn: sample.Sample
) -> NDArray[np.float64]:
    """The errors of all points of a sample, in units of the tolerance: (fields, points)."""
    ranks = drawn.by_tile(refinement.grid)
    steps = [Step(number, *tile) for tile in sorted(ranks)]
    notes = refinement.records.map_steps(
        lambda step: refinement.store.read_note_as(_note(step), _SHAPE), steps
    )
    found = [
        _noted_errors(refinement, schedule, step, note, len(ranks[step.tile]))
        for step, note in zip(steps, notes, strict=True)
    ]
    return np.concatenate([np.empty((len(refinement.fields), 0)), *found], axis=1)


def _noted_errors(
    refinement: Refinement, schedule: Schedule, step: Step, note: _Errors | None, count: int
) -> NDArray[np.float64]:
    """The errors at the `count` points of a step of an audit: (fields, count).

    They are read from its note. If the note is lost, or of an earlier version, they are computed
    from the step's record.
    """
    noted = note.errors if note is not None and note.of_values else []
    if len(noted) == len(refinement.fields) and all(len(each) == count for each in noted):
        return np.array(noted).reshape(len(noted), count)
    points = refinement.records.points(step)
    if len(points.y) != count:
        raise StoreError(f"step {step}: its record has {len(points.y)} points, {count} drawn")
    return _errors(refinement, schedule, step, points)


def _errors(
    refinement: Refinement, schedule: Schedule, step: Step, points: Points
) -> NDArray[np.float64]:
    """How far predictions are from evaluated points, in units of the tolerance: (fields, n)."""
    rows, columns = refinement.grid.window(step.tile)
    region = refinement.region(schedule, step.number, step.frame, rows, columns)
    predicted = region.values[:, points.y - rows.start, points.x - columns.start]
    each = zip(schedule.scales(step.number), predicted, points.values, strict=True)
    return np.stack([scale.off(found, value) for scale, found, value in each])


def _quantiles(
    refinement: Refinement, schedule: Schedule, number: int, errors: NDArray[np.float64]
) -> dict[str, dict[str, dict[str, float]]]:
    """Quantiles of errors (fields, n), in the unit of the tolerance that the spec states."""
    asked = schedule.asked[schedule.passes[number].asked]
    table: dict[str, dict[str, dict[str, float]]] = {}
    for (quantity, split), scale, own in zip(
        refinement.fields, schedule.scales(number), errors, strict=True
    ):
        if quantity in COMPANIONS:
            continue
        width = scale.range.width or 1.0
        relative = quantity != "error" and asked is not None and asked.nats is None
        unit = scale.tolerance / width if relative else scale.tolerance
        table.setdefault(quantity, {})[split] = audit.quantiles(own * unit)
    return table


def _note(step: Step) -> str:
    return f"refine/audit-{step.number}/{step.frame}-{step.row}-{step.column}.json"
