"""What is predicted, what audits say of it, and which step may begin."""

from __future__ import annotations

from tests.mutations.fault import of

AUDIT = "tests/pipeline/test_audit.py"
SCHEDULE = "tests/pipeline/test_schedule.py"
PROMISES = "tests/cluster/test_promises.py"
STEPS = "tests/cluster/test_step_queue.py"

FAULTS = (
    *of(
        "pipeline/audit.py",
        (
            "audit: the bound at one minus the confidence",
            "> 1 - confidence:",
            "> confidence:",
            AUDIT,
        ),
        (
            "audit: the share found is the bound",
            "low, high = beyond / audited, 1.0",
            "return beyond / audited",
            AUDIT,
        ),
        ("audit: drawn with replacement", "replace=False", "replace=True", AUDIT),
        (
            "audit: everything evaluated, and still a bound",
            "if audited >= predicted:",
            "if not predicted:",
            AUDIT,
        ),
    ),
    *of(
        "pipeline/refinement/scale.py",
        (
            "audit: a result that is no number is passed over",
            "np.where(np.isnan(found) | ~np.isfinite(one) | ~np.isfinite(other), np.inf, found)",
            "np.nan_to_num(found)",
            "tests/pipeline/test_scale.py",
        ),
    ),
    *of(
        "pipeline/refinement/step.py",
        (
            "refinement: a step counts without its composed tile",
            "if s.number != schedule.last or s.tile in tiles",
            "if s.number != schedule.last or tiles is not None",
            PROMISES,
        ),
        (
            "refinement: nobody asks for composed tiles",
            'if schedule is None or schedule.passes[-1].kind != "compose":',
            "if True:",
            PROMISES,
        ),
        (
            "audit: drawn from what was evaluated",
            "places = np.flatnonzero(level < 0)[ranks]",
            "places = np.flatnonzero(level >= 0)[ranks]",
            (STEPS, "tests/test_refinement.py"),
        ),
        (
            "refinement: a step sees steps beside it",
            "self.records.evaluated(frame, *part, number, self._committed)",
            "self.records.evaluated(frame, *part, number + 1, self.records.committed())",
            STEPS,
        ),
    ),
    *of(
        "pipeline/refinement/sample.py",
        (
            "audit: evaluated points count as predicted",
            "grid.size(tile) - int(row.sum())",
            "grid.size(tile)",
            (STEPS, "tests/test_refinement.py"),
        ),
    ),
    *of(
        "pipeline/refinement/schedule.py",
        (
            "schedule: the copy last",
            "for name in (_COPY, _NOTE):",
            "for name in (_NOTE, _COPY):",
            STEPS,
        ),
        (
            "schedule: half a note is taken",
            'if not note or note.get("digest") != _digest(note):',
            "if not note:",
            (STEPS, SCHEDULE),
        ),
    ),
    *of(
        "cluster/scheduling/step_queue.py",
        (
            "steps: frames predicted from other frames are composed as they are",
            "not schedule.satisfies(wanted) or bool(schedule.void(final=self._is_final))",
            "not schedule.satisfies(wanted)",
            STEPS,
        ),
        (
            "steps: a tile does not wait for those around it",
            "return self._hand_out(following, at, unfinished[at] == 0)",
            "return self._hand_out(following, at, unfinished[at] >= 0)",
            STEPS,
        ),
        (
            "steps: an audit does not wait for all",
            "if number and self._tiles_left[number - 1]:",
            "if False:",
            STEPS,
        ),
        (
            "steps: two drivers decide at once",
            "if found is not None and (self._schedule is None or",
            "if False and (self._schedule is None or",
            STEPS,
        ),
        (
            "steps: more is decided before tiles are withdrawn",
            "require_room(self._store, more)  # before",
            "self._decide(more)  # before",
            STEPS,
        ),
        ("steps: composing is not given up", "        self._skip_composing()\n", "", STEPS),
    ),
)
