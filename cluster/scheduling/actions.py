"""What the scheduler decides, for the event loop to do."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.geometry.grid import Work


@dataclass(frozen=True)
class Start:
    """Start a worker under this new number."""

    worker: int


@dataclass(frozen=True)
class Render:
    """Give `tile` to an idle worker."""

    worker: int
    tile: Work


@dataclass(frozen=True)
class Kill:
    """End a worker that took too long; the scheduler no longer counts it."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Quarantine:
    """Note that `tile` is given up in this session."""

    tile: Work
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Warn:
    """Warn the user, once."""

    text: str


@dataclass(frozen=True)
class Stalled:
    """Warn the user that no tile is finished; the workers may know why."""

    text: str


Action = Start | Render | Kill | Quarantine | Warn | Stalled
