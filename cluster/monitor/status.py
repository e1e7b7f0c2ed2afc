"""The status of a render, read from its store alone, without torch, Ray or a cluster."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cluster import shell
from cluster.jobs.client import Note
from cluster.lease import Holder
from cluster.monitor import report
from cluster.scheduling import quarantine
from cluster.scheduling.refinement_progress import RefinementProgress, RefinementReader
from cluster.scheduling.work_queue import sample, seconds_of
from pipeline import format
from pipeline.geometry.grid import Tile, Work, work_named
from pipeline.store.convergence import phrases
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store
from renders.source.missing import cure, lost

_SAMPLE_TILES = 200
# After this time, a job without a driver counts as stopped.
_COMING_SECONDS = 600.0


@dataclass(frozen=True)
class Status:
    """One look at a store.

    `seconds_per_point` is of one worker, from a sample of committed tiles (NaN if there are none).
    `marks` are counted beside the tiles; a render is done when its tiles and its marks are.
    `frames_done` counts the committed tiles of each frame. `missing` are committed tiles without a
    chunk of the first quantity; they are looked for only if no driver runs. `unconverged` says of
    which quantities some eigenvalues are not as exact as asked.
    """

    name: str
    url: str
    tiles: int
    tiles_done: int
    points: int
    points_done: int
    frames_done: tuple[int, ...]
    quarantined: dict[Work, tuple[str, ...]]
    driver: Holder | None
    seconds_per_point: float
    sessions: tuple[dict[str, Any], ...] = ()
    job: Note | None = None
    looked: float = 0.0
    refinement: RefinementProgress | None = None
    missing: tuple[Tile, ...] = ()
    marks: int = 0
    marks_done: int = 0
    unconverged: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """`running`, `done`, `stopped`, or `submitted`: a job whose driver has not started yet."""
        if self.driver is not None:
            return "running"
        is_plane_done = self.tiles_done == self.tiles
        if self.refinement is not None:
            is_plane_done = is_plane_done and self.refinement.done
        if is_plane_done and self.marks_done == self.marks:
            return "done"
        return "submitted" if self._is_coming() else "stopped"

    def _is_coming(self) -> bool:
        job = self.job
        return (
            job is not None
            and self.looked - job.submitted < _COMING_SECONDS
            and all(entry.get("job") != job.id for entry in self.sessions)
        )

    @property
    def points_per_second(self) -> float:
        """The speed of all workers of the running driver; of one worker if no driver runs."""
        workers = self.driver.workers if self.driver is not None else 1
        return workers / self.seconds_per_point if self.seconds_per_point > 0 else math.nan

    @property
    def eta_seconds(self) -> float:
        """The time to the end; NaN for a refinement, whose number of points is not known."""
        if self.refinement is not None:
            return math.nan
        left = self.points - self.points_done + self.marks - self.marks_done
        return left / self.points_per_second

    @property
    def pass_eta_seconds(self) -> float:
        """The time to the end of the present pass, if its other steps take as long."""
        if self.refinement is None or self.driver is None:
            return math.nan
        left = self.refinement.pass_steps_left * self.refinement.seconds_a_step
        return left / max(1, self.driver.workers)

    def as_dict(self) -> dict[str, Any]:
        """The status as JSON; unknown values are null."""
        return {
            "name": self.name,
            "store": self.url,
            "state": self.state,
            "tiles": self.tiles,
            "tiles_done": self.tiles_done,
            "points": self.points,
            "points_done": self.points_done,
            "frames_tiles_done": list(self.frames_done),
            **({"marks": self.marks, "marks_done": self.marks_done} if self.marks else {}),
            "quarantined": {str(work): list(why) for work, why in self.quarantined.items()},
            "missing": [str(tile) for tile in self.missing],
            "driver": None
            if self.driver is None
            else {
                "host": self.driver.host,
                "pid": self.driver.pid,
                "workers": self.driver.workers,
                "beat": self.driver.beat,
            },
            "points_per_second": _known(self.points_per_second) if self.driver else None,
            "seconds_per_point": _known(self.seconds_per_point),
            "eta_seconds": _known(self.eta_seconds) if self.driver else None,
            "unconverged": list(self.unconverged),
            "job": None if self.job is None else {"id": self.job.id, "address": self.job.address},
            "report": list(self.sessions),
            "refinement": None
            if self.refinement is None
            else self.refinement.as_dict() | {"pass_eta_seconds": _known(self.pass_eta_seconds)},
        }


def read_status(
    store: Store, now: float | None = None, reader: RefinementReader | None = None
) -> Status:
    """Read the status of the render in `store`.

    Args:
        store: of the render.
        now: seconds since the epoch.
        reader: of its refinement, if the status is read repeatedly.
    """
    grid = store.grid
    now = time.time() if now is None else now
    # Read the notes before the tiles, so that every tile of a driver that just ended is counted.
    holder, sessions, job = Holder.read(store), report.read(store), Note.read(store)
    committed = store.committed()
    reader = reader or (RefinementReader(store) if store.refined else None)
    refinement = reader.read(committed) if reader is not None else None
    marks = StoredMarks(store)
    blocks = marks.committed()
    done: set[Work] = {*(committed if reader is None else reader.done), *blocks}
    alive = holder is not None and holder.alive(now)
    per_frame = Counter(tile.frame for tile in committed)
    return Status(
        name=store.attrs.get("spec", store.attrs).get("name", store.url),
        url=store.url,
        tiles=grid.tile_count,
        tiles_done=len(committed),
        points=grid.points,
        points_done=sum(grid.size(tile) for tile in committed),
        frames_done=tuple(per_frame[frame] for frame in range(grid.frames)),
        quarantined={w: why for w, why in quarantine.listed(store).items() if w not in done},
        driver=holder if alive else None,
        seconds_per_point=refinement.seconds_per_point
        if refinement is not None
        else _seconds_per_point(store, committed),
        sessions=tuple(sessions),
        job=job,
        looked=now,
        refinement=refinement,
        missing=() if alive else tuple(store.absent(store.quantities[0], committed)),
        marks=marks.count,
        marks_done=sum(block.stop - block.start for block in blocks),
        unconverged=tuple(phrases(store)),
    )


def lines(status: Status) -> list[str]:
    """The status for people."""
    place = shell.place(status.url)
    out = [f"{status.name}  {place}"]
    out += _tiles(status) if status.refinement is None else _steps(status.refinement)
    if status.marks:
        out.append(f"  marks    {status.marks_done:,}/{status.marks:,} evaluated")
    out += [f"  eigenvalues  {phrase}" for phrase in status.unconverged]
    match status.state:
        case "running":
            out.append(
                f"  running  {status.driver}, "
                f"{format.plural(status.driver.workers if status.driver else 0, 'worker')}"
            )
            if not math.isnan(status.points_per_second):
                out.append(f"  speed    {format.rate(status.points_per_second)}{_eta(status)}")
        case "done":
            out.append("  done")
        case "submitted":
            waited = format.duration(status.looked - (status.job.submitted if status.job else 0))
            out.append(f"  waiting  the job was submitted {waited} ago; its driver is not up yet")
        case _:
            out.append(f"  not running; go on with: lossatlas resume {place}")
            if not math.isnan(status.eta_seconds):
                out.append(f"  left     {format.duration(status.eta_seconds)} of one worker")
    if status.refinement is not None and status.refinement.shown and status.state != "done":
        picture = shell.file(f"{status.name}-preview.png")
        out.append(f"  preview  lossatlas export poster {place} {picture}")
    if status.job is not None:
        out.append(
            f"  job      {status.job.id} of {status.job.address}; its log: lossatlas logs {place}"
        )
    if status.state != "running":
        for number, line in enumerate(report.lines(list(status.sessions))):
            out.append(f"  {'cost' if number == 0 else '':<8} {line}")
    if status.missing:
        out.append(f"  missing  {lost(status.missing)}. {cure(place)}")
    if status.quarantined:
        out.append(f"  quarantined {len(status.quarantined):,}; the next resume tries them again")
        out += [
            f"    {work_named(work, 'tile')}: {why[-1] if why else 'no reason noted'}"
            for work, why in sorted(status.quarantined.items())
        ]
    return out


def _tiles(status: Status) -> list[str]:
    fraction = status.tiles_done / status.tiles
    out = [
        f"  {format.bar(fraction)} {format.percent(fraction)}  "
        f"{status.tiles_done:,}/{format.plural(status.tiles, 'tile')}, "
        f"{status.points_done:,}/{format.plural(status.points, 'point')}"
    ]
    if len(status.frames_done) > 1:
        out.append(f"  frames   {_frames(status)}")
    return out


def _steps(refinement: RefinementProgress) -> list[str]:
    fraction = refinement.steps_done / refinement.steps
    passes = f", pass {refinement.number + 1} of {refinement.passes}: {refinement.now}"
    return [
        f"  {format.bar(fraction)} {format.percent(fraction)}  "
        f"{refinement.steps_done:,}/{format.plural(refinement.steps, 'step')}"
        + (passes if refinement.now else ""),
        *(f"  {name:<8} {line}" for name, line in refinement.summary.rows()),
    ]


def _eta(status: Status) -> str:
    if status.refinement is None:
        return f", ETA {format.duration(status.eta_seconds)}"
    if math.isnan(status.pass_eta_seconds):
        return ""
    return f", this pass ends in about {format.duration(status.pass_eta_seconds)}"


def _frames(status: Status) -> str:
    a_frame = status.tiles // len(status.frames_done)
    done = sum(count == a_frame for count in status.frames_done)
    begun = sum(0 < count < a_frame for count in status.frames_done)
    rest = len(status.frames_done) - done - begun
    return f"{done:,} done, {begun:,} begun, {rest:,} to come"


def _seconds_per_point(store: Store, committed: set[Tile]) -> float:
    seconds = seconds_of(store, sample(committed, _SAMPLE_TILES))
    points = sum(store.grid.size(tile) for tile in seconds)
    return sum(seconds.values()) / points if points else math.nan


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
