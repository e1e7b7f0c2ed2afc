"""What the driver of a refinement decides about its schedule: to begin it, and to extend it."""

from __future__ import annotations

from cluster.errors import ClusterError
from cluster.scheduling.refinement_progress import RefinementProgress
from pipeline.geometry.grid import Tile
from pipeline.refine_spec import RefineSpec, stored_refine
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.summary import tolerated
from pipeline.store.layout import PASSES
from pipeline.store.store import Store

# A tile was made for steps that evaluate few of its points. If all of them are evaluated, they are
# divided into parts of about so many seconds, and into at most so many.
_PART_SECONDS, _MOST_PARTS = 15.0, 64


def first_schedule(
    store: Store, requested: RefineSpec | None, keep_schedule: bool, steps_committed: int
) -> Schedule:
    """The schedule to begin with.

    Args:
        store: that has no schedule.
        requested: what the spec says now; None asks for a full evaluation.
        keep_schedule: do not go beyond what the store's own spec says.
        steps_committed: their number, which should be 0.

    Raises:
        ClusterError: steps are committed, so the schedule was lost; or no spec says how to refine.
    """
    if steps_committed:
        raise ClusterError(
            f"{store.url} has {steps_committed:,} steps of a refinement, and what "
            "was decided for them (.lossatlas/refine.json) is missing or damaged; wanted both. "
            "Put the steps back to pending: lossatlas verify, then resume"
        )
    own = store.attrs.get("spec", {}).get("evaluate", {}).get("refine")
    first = requested or (stored_refine(own) if own else None)
    if first is None:
        raise ClusterError(
            f"{store.url} is to be refined and was not begun; wanted the spec with "
            "evaluate.refine, to begin it: lossatlas render"
        )
    schedule = Schedule.begin(store.grid, first)
    if keep_schedule or schedule.satisfies(requested):
        return schedule
    return schedule.with_request(requested)


def less_than_begun(store: Store, schedule: Schedule, requested: RefineSpec | None) -> str:
    """A warning for the user if the spec now asks for less than was begun; else empty.

    Passes are not removed from a schedule; their evaluations are used.
    """
    begun = schedule.asked[-1]
    if schedule.with_request(requested).satisfies(begun):
        return ""
    stricter = "every point evaluated"
    if begun:
        stricter = f"predictions within {tolerated(begun, store.words['unit'])}"
    return (
        f"the spec asks for less than was begun ({stricter}), which is finished all the same. "
        "For less, render it to another store"
    )


def parts_a_tile(store: Store, schedule: Schedule, progress: RefinementProgress) -> int:
    """In how many steps to evaluate all points of a tile."""
    seconds = progress.seconds_per_point * store.grid.size(Tile(0, 0, 0))
    room = PASSES - len(schedule.passes) - 1  # the last pass composes
    most = min(_MOST_PARTS, room)
    return max(1, min(most, round(seconds / _PART_SECONDS))) if seconds > 0 else 1


def require_room(store: Store, schedule: Schedule) -> None:
    """Refuse a schedule with more passes than a store has room for.

    Raises:
        ClusterError: it has.
    """
    if len(schedule.passes) > PASSES:
        raise ClusterError(
            f"the refinement of {store.url} would come to {len(schedule.passes):,} passes; wanted "
            f"at most {PASSES}, which is what a store has room for. Render it to another store"
        )
