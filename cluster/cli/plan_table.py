"""What `plan` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import shell
from cluster.cli.info_table import LISTED_OWN_LOSSES
from pipeline import caption, format
from renders.page.caveats import coarse

if TYPE_CHECKING:
    from pipeline.plan import Plan


def plan_lines(plan: Plan) -> list[str]:
    """A plan as lines of a table."""
    frames = f"{plan.frames:,} frames of " if plan.frames > 1 else ""
    rows = {
        "grid": f"{frames}{plan.width:,} × {plan.height:,} points ({plan.points:,} in all)",
        "coarse": coarse(plan.height, plan.width),
        "tiles": f"{plan.tiles:,} of up to {plan.tile:,} × {plan.tile:,} points",
        "marks": f"{format.plural(plan.marks, 'evaluation')} more: {', '.join(plan.mark_groups)}"
        if plan.marks
        else "",
        "remarks": "; ".join(plan.mark_remarks),
        "network": f"{plan.parameters:,} parameters"
        + (f", computes in {plan.precision}" if plan.precision != "float32" else "")
        + (f"; batch norm {plan.batch_norm}" if plan.batch_norm else ""),
        "checkpoints": plan.checkpoints,
        "buffers": plan.buffers or "",
        "own losses": caption.shortened(plan.own_losses, LISTED_OWN_LOSSES),
        "a point": f"{plan.examples:,} examples, {', '.join(plan.quantities)}, "
        f"{format.duration(plan.seconds_a_point)} on one worker",
        "curvature": plan.curvature,
        "inputs": plan.inputs,
        "targets": plan.targets,
        "workers": f"{plan.workers:,} on {plan.device}",
        "time": f"{'at most' if plan.refined else 'about'} {format.duration(plan.seconds)}",
        "refine": "points and time are the most it can take; it evaluates only what it cannot "
        "predict, as a rule a small share"
        if plan.refined
        else "",
        "memory": f"{format.size(plan.worker_bytes)} a worker and "
        f"{format.size(plan.driver_bytes)} the driver, {format.size(plan.memory_bytes)} together",
        "disk": f"{'about' if plan.refined else 'at most'} {format.size(plan.disk_bytes)}",
        "store": shell.place(plan.store),
    }
    return format.table(plan.name, rows)
