"""The pace of a render: how long its tiles take, from those that are done. No clocks, no files."""

from __future__ import annotations

_FADING = 0.99  # the weight of a tile, relative to the next one


class Pace:
    """The times of tiles, in seconds.

    Attributes:
        mean: of about the last hundred; 0 before the first.
        longest: of all.
    """

    def __init__(self) -> None:
        self.mean = 0.0
        self.longest = 0.0
        self._count = 0
        self._seconds = self._points = 0.0
        self._most_points = 0

    def add(self, seconds: float, points: int) -> None:
        """Add a finished tile, of which `points` were evaluated."""
        self._count += 1
        self.mean += (seconds - self.mean) / min(self._count, 100)
        self.longest = max(self.longest, seconds)
        if points:
            self._seconds = _FADING * self._seconds + seconds
            self._points = _FADING * self._points + points
            self._most_points = max(self._most_points, points)

    @property
    def fullest(self) -> float:
        """The time that a tile with as many points as any so far would take now.

        For whole tiles that is the mean. Steps of a refinement evaluate between none and all of
        their points, so the mean says nothing about a step that evaluates all.
        """
        if not self._most_points:
            return self.mean
        return self._seconds / self._points * self._most_points
