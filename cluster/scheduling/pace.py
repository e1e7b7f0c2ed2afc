"""How long tiles take, as far as those that are done say it; without clocks or files."""

from __future__ import annotations

_FADING = 0.99  # what a tile counts for beside the next one


class Pace:
    """What tiles took; all times in seconds.

    Attributes:
        mean: of the last hundred or so; 0 before the first.
        longest: of all.
    """

    def __init__(self) -> None:
        self.mean = 0.0
        self.longest = 0.0
        self._count = 0
        self._seconds = self._points = 0.0
        self._most_points = 0

    def add(self, seconds: float, points: int) -> None:
        """A tile is done, of which so many points were evaluated."""
        self._count += 1
        self.mean += (seconds - self.mean) / min(self._count, 100)
        self.longest = max(self.longest, seconds)
        if points:
            self._seconds = _FADING * self._seconds + seconds
            self._points = _FADING * self._points + points
            self._most_points = max(self._most_points, points)

    @property
    def fullest(self) -> float:
        """What the one with most points would take as things go: of whole tiles, the mean.

        Steps of a refinement evaluate from none to all of their points. Their mean says nothing
        about one that is full of them.
        """
        if not self._most_points:
            return self.mean
        return self._seconds / self._points * self._most_points
