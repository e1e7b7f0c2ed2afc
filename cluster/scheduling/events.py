"""What workers report to the event loop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Joined:
    """A worker is ready for its first tile."""

    worker: int


@dataclass(frozen=True)
class Done:
    """A worker committed its tile of `points` grid points in `seconds`, writing included."""

    worker: int
    points: int
    seconds: float
    write_seconds: float = 0.0


@dataclass(frozen=True)
class Failed:
    """The evaluation of a worker's tile raised an exception."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Unwritable:
    """The store could not be written or read for a worker's tile."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Lost:
    """A worker is gone; `preempted` if its machine was taken away."""

    worker: int
    reason: str
    preempted: bool = False


Event = Joined | Done | Failed | Unwritable | Lost
